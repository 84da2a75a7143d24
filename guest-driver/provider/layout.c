// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What this provider believes of libibverbs's private structures, as numbers of
 * rdma-core 44 on a 64-bit machine. Compiled with each build against our own
 * declarations, and by check-layout against rdma-core's headers: both must agree.
 */
#include "rdma_core.h"

#define SIZE(type, bytes) \
	_Static_assert(sizeof(type) == (bytes), "size of " #type)
#define MEMBER(type, member, offset) \
	_Static_assert(offsetof(type, member) == (offset), #type "." #member)
#define VALUE(name, number) \
	_Static_assert((int)(name) == (number), #name)

SIZE(struct verbs_match_ent, 24);
MEMBER(struct verbs_match_ent, driver_data, 0);
MEMBER(struct verbs_match_ent, u, 8);
MEMBER(struct verbs_match_ent, vendor, 16);
MEMBER(struct verbs_match_ent, device, 18);
MEMBER(struct verbs_match_ent, kind, 20);

SIZE(struct verbs_device_ops, 72);
MEMBER(struct verbs_device_ops, name, 0);
MEMBER(struct verbs_device_ops, match_min_abi_version, 8);
MEMBER(struct verbs_device_ops, match_max_abi_version, 12);
MEMBER(struct verbs_device_ops, match_table, 16);
MEMBER(struct verbs_device_ops, static_providers, 24);
MEMBER(struct verbs_device_ops, match_device, 32);
MEMBER(struct verbs_device_ops, alloc_context, 40);
MEMBER(struct verbs_device_ops, import_context, 48);
MEMBER(struct verbs_device_ops, alloc_device, 56);
MEMBER(struct verbs_device_ops, uninit_device, 64);

SIZE(struct verbs_device, 712);
MEMBER(struct verbs_device, device, 0);
MEMBER(struct verbs_device, ops, 664);
MEMBER(struct verbs_device, refcount, 672);
MEMBER(struct verbs_device, entry, 680);
MEMBER(struct verbs_device, sysfs, 696);
MEMBER(struct verbs_device, core_support, 704);

SIZE(struct verbs_mr, 56);
MEMBER(struct verbs_mr, ibv_mr, 0);
MEMBER(struct verbs_mr, mr_type, 48);
MEMBER(struct verbs_mr, access, 52);

SIZE(struct verbs_qp, 368);
MEMBER(struct verbs_qp, qp, 0);
MEMBER(struct verbs_qp, qp_ex, 0);
MEMBER(struct verbs_qp, comp_mask, 352);
MEMBER(struct verbs_qp, xrcd, 360);

SIZE(struct verbs_cq, 288);
MEMBER(struct verbs_cq, cq, 0);
MEMBER(struct verbs_cq, cq_ex, 0);

SIZE(struct verbs_context, 648);
MEMBER(struct verbs_context, context, 320);

SIZE(struct ibv_get_context, 16);
MEMBER(struct ibv_get_context, hdr, 0);
MEMBER(struct ibv_get_context, core_payload, 8);

SIZE(struct ibv_query_port, 24);
MEMBER(struct ibv_query_port, hdr, 0);
MEMBER(struct ibv_query_port, core_payload, 8);

SIZE(struct ibv_alloc_pd, 16);
MEMBER(struct ibv_alloc_pd, hdr, 0);
MEMBER(struct ibv_alloc_pd, core_payload, 8);

SIZE(struct ibv_reg_mr, 48);
MEMBER(struct ibv_reg_mr, hdr, 0);
MEMBER(struct ibv_reg_mr, core_payload, 8);

SIZE(struct ibv_create_cq, 40);
MEMBER(struct ibv_create_cq, hdr, 0);
MEMBER(struct ibv_create_cq, core_payload, 8);

SIZE(struct ibv_create_qp, 64);
MEMBER(struct ibv_create_qp, hdr, 0);
MEMBER(struct ibv_create_qp, core_payload, 8);

SIZE(struct ibv_query_qp, 24);
MEMBER(struct ibv_query_qp, hdr, 0);
MEMBER(struct ibv_query_qp, core_payload, 8);

SIZE(struct ibv_modify_qp, 120);
MEMBER(struct ibv_modify_qp, hdr, 0);
MEMBER(struct ibv_modify_qp, core_payload, 8);

SIZE(struct ib_uverbs_get_context_resp, 8);
MEMBER(struct ib_uverbs_get_context_resp, driver_data, 8);

SIZE(struct ib_uverbs_create_cq_resp, 8);
MEMBER(struct ib_uverbs_create_cq_resp, driver_data, 8);

SIZE(struct ib_uverbs_create_qp_resp, 32);
MEMBER(struct ib_uverbs_create_qp_resp, driver_data, 32);

SIZE(struct ib_uverbs_ex_query_device_resp, 304);
MEMBER(struct ib_uverbs_ex_query_device_resp, base, 0);

SIZE(struct verbs_context_ops, 608);
MEMBER(struct verbs_context_ops, alloc_pd, 40);
MEMBER(struct verbs_context_ops, create_cq, 120);
MEMBER(struct verbs_context_ops, create_cq_ex, 128);
MEMBER(struct verbs_context_ops, create_qp, 152);
MEMBER(struct verbs_context_ops, create_qp_ex, 160);
MEMBER(struct verbs_context_ops, dealloc_pd, 208);
MEMBER(struct verbs_context_ops, dereg_mr, 224);
MEMBER(struct verbs_context_ops, destroy_cq, 248);
MEMBER(struct verbs_context_ops, destroy_qp, 272);
MEMBER(struct verbs_context_ops, free_context, 312);
MEMBER(struct verbs_context_ops, modify_qp, 376);
MEMBER(struct verbs_context_ops, poll_cq, 424);
MEMBER(struct verbs_context_ops, post_recv, 432);
MEMBER(struct verbs_context_ops, post_send, 440);
MEMBER(struct verbs_context_ops, query_device_ex, 464);
MEMBER(struct verbs_context_ops, query_port, 480);
MEMBER(struct verbs_context_ops, query_qp, 488);
MEMBER(struct verbs_context_ops, reg_mr, 544);
MEMBER(struct verbs_context_ops, req_notify_cq, 552);

VALUE(VERBS_MATCH_SENTINEL, 0);
VALUE(VERBS_MATCH_PCI, 1);
VALUE(VERBS_MATCH_DRIVER_ID, 3);
VALUE(VERBS_QP_EX, 2);
VALUE(IBV_MR_TYPE_MR, 0);

/* Our calls, whatever header declares the functions */
_Static_assert(__builtin_types_compatible_p(typeof(&ibv_cmd_create_qp_ex),
	int (*)(struct ibv_context *, struct verbs_qp *, struct ibv_qp_init_attr_ex *,
		struct ibv_create_qp *, size_t, struct ib_uverbs_create_qp_resp *, size_t)),
	"ibv_cmd_create_qp_ex");
_Static_assert(__builtin_types_compatible_p(typeof(&ibv_cmd_create_cq),
	int (*)(struct ibv_context *, int, struct ibv_comp_channel *, int, struct ibv_cq *,
		struct ibv_create_cq *, size_t, struct ib_uverbs_create_cq_resp *, size_t)),
	"ibv_cmd_create_cq");
_Static_assert(__builtin_types_compatible_p(typeof(&ibv_cmd_query_device_any),
	int (*)(struct ibv_context *, const struct ibv_query_device_ex_input *,
		struct ibv_device_attr_ex *, size_t, struct ib_uverbs_ex_query_device_resp *,
		size_t *)), "ibv_cmd_query_device_any");
