/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The part of libibverbs's private interface (IBVERBS_PRIVATE_34, rdma-core 44)
 * that this provider uses. No binary package ships its header. Names and layouts
 * are facts of that interface and are checked by layout.c, against rdma-core's
 * own headers too if they are at hand; operations that we do not implement are
 * declared as plain function pointers, for their place in the table.
 */
#ifndef GODWIT_COMPAT_DRIVER_H
#define GODWIT_COMPAT_DRIVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <infiniband/verbs.h>
#include <rdma/ib_user_verbs.h>

struct verbs_sysfs_dev;

#define container_of(member_ptr, type, member) \
	((type *)((char *)(member_ptr) - offsetof(type, member)))

/* ------------------------------------------------ requests of the kernel's verbs */

/* Driver data follows these directly, in a struct of the provider's. */
struct ibv_get_context {
	struct ib_uverbs_cmd_hdr hdr;
	struct ib_uverbs_get_context core_payload;
};

struct ibv_query_port {
	struct ib_uverbs_cmd_hdr hdr;
	struct ib_uverbs_query_port core_payload;
};

struct ibv_alloc_pd {
	struct ib_uverbs_cmd_hdr hdr;
	struct ib_uverbs_alloc_pd core_payload;
};

struct ibv_reg_mr {
	struct ib_uverbs_cmd_hdr hdr;
	struct ib_uverbs_reg_mr core_payload;
};

struct ibv_create_cq {
	struct ib_uverbs_cmd_hdr hdr;
	struct ib_uverbs_create_cq core_payload;
};

struct ibv_create_qp {
	struct ib_uverbs_cmd_hdr hdr;
	struct ib_uverbs_create_qp core_payload;
};

struct ibv_query_qp {
	struct ib_uverbs_cmd_hdr hdr;
	struct ib_uverbs_query_qp core_payload;
};

struct ibv_modify_qp {
	struct ib_uverbs_cmd_hdr hdr;
	struct ib_uverbs_modify_qp core_payload;
};

/* ------------------------------------------------ objects */

struct list_node {
	struct list_node *next, *prev;
};

enum ibv_mr_type {
	IBV_MR_TYPE_MR,
};

struct verbs_mr {
	struct ibv_mr ibv_mr;
	enum ibv_mr_type mr_type;
	int access;
};

enum verbs_qp_mask {
	VERBS_QP_EX = 1 << 1,
};

struct verbs_qp {
	union {
		struct ibv_qp qp;
		struct ibv_qp_ex qp_ex;
	};
	uint32_t comp_mask;
	struct verbs_xrcd *xrcd;
};

struct verbs_cq {
	union {
		struct ibv_cq cq;
		struct ibv_cq_ex cq_ex;
	};
};

/* ------------------------------------------------ devices and their providers */

enum {
	VERBS_MATCH_SENTINEL = 0,
	VERBS_MATCH_PCI = 1,
	VERBS_MATCH_DRIVER_ID = 3,
};

struct verbs_match_ent {
	void *driver_data;
	union {
		const char *modalias;
		uint64_t driver_id;
	} u;
	uint16_t vendor;
	uint16_t device;
	uint8_t kind;
};

#define VERBS_DRIVER_ID(id) \
	{ .u.driver_id = (id), .kind = VERBS_MATCH_DRIVER_ID }
#define VERBS_PCI_MATCH(vendor_id, device_id, data) \
	{ .driver_data = (data), .vendor = (vendor_id), .device = (device_id), \
	  .kind = VERBS_MATCH_PCI }

struct verbs_device_ops {
	const char *name;
	uint32_t match_min_abi_version;
	uint32_t match_max_abi_version;
	const struct verbs_match_ent *match_table;
	const struct verbs_device_ops **static_providers;
	bool (*match_device)(struct verbs_sysfs_dev *sysfs_dev);
	struct verbs_context *(*alloc_context)(struct ibv_device *device, int cmd_fd,
					       void *private_data);
	struct verbs_context *(*import_context)(struct ibv_device *device, int cmd_fd);
	struct verbs_device *(*alloc_device)(struct verbs_sysfs_dev *sysfs_dev);
	void (*uninit_device)(struct verbs_device *device);
};

struct verbs_device {
	struct ibv_device device;
	const struct verbs_device_ops *ops;
	atomic_int refcount;
	struct list_node entry;
	struct verbs_sysfs_dev *sysfs;
	uint64_t core_support;
};

typedef void (*verbs_op_unused)(void);

struct verbs_context_ops {
	verbs_op_unused advise_mr;
	verbs_op_unused alloc_dm;
	verbs_op_unused alloc_mw;
	verbs_op_unused alloc_null_mr;
	verbs_op_unused alloc_parent_domain;
	struct ibv_pd *(*alloc_pd)(struct ibv_context *context);
	verbs_op_unused alloc_td;
	verbs_op_unused async_event;
	verbs_op_unused attach_counters_point_flow;
	verbs_op_unused attach_mcast;
	verbs_op_unused bind_mw;
	verbs_op_unused close_xrcd;
	verbs_op_unused cq_event;
	verbs_op_unused create_ah;
	verbs_op_unused create_counters;
	struct ibv_cq *(*create_cq)(struct ibv_context *context, int cqe,
				    struct ibv_comp_channel *channel, int comp_vector);
	struct ibv_cq_ex *(*create_cq_ex)(struct ibv_context *context,
					  struct ibv_cq_init_attr_ex *init_attr);
	verbs_op_unused create_flow;
	verbs_op_unused create_flow_action_esp;
	struct ibv_qp *(*create_qp)(struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
	struct ibv_qp *(*create_qp_ex)(struct ibv_context *context,
				       struct ibv_qp_init_attr_ex *init_attr);
	verbs_op_unused create_rwq_ind_table;
	verbs_op_unused create_srq;
	verbs_op_unused create_srq_ex;
	verbs_op_unused create_wq;
	verbs_op_unused dealloc_mw;
	int (*dealloc_pd)(struct ibv_pd *pd);
	verbs_op_unused dealloc_td;
	int (*dereg_mr)(struct verbs_mr *vmr);
	verbs_op_unused destroy_ah;
	verbs_op_unused destroy_counters;
	int (*destroy_cq)(struct ibv_cq *cq);
	verbs_op_unused destroy_flow;
	verbs_op_unused destroy_flow_action;
	int (*destroy_qp)(struct ibv_qp *qp);
	verbs_op_unused destroy_rwq_ind_table;
	verbs_op_unused destroy_srq;
	verbs_op_unused destroy_wq;
	verbs_op_unused detach_mcast;
	void (*free_context)(struct ibv_context *context);
	verbs_op_unused free_dm;
	verbs_op_unused get_srq_num;
	verbs_op_unused import_dm;
	verbs_op_unused import_mr;
	verbs_op_unused import_pd;
	verbs_op_unused modify_cq;
	verbs_op_unused modify_flow_action_esp;
	int (*modify_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int attr_mask);
	verbs_op_unused modify_qp_rate_limit;
	verbs_op_unused modify_srq;
	verbs_op_unused modify_wq;
	verbs_op_unused open_qp;
	verbs_op_unused open_xrcd;
	int (*poll_cq)(struct ibv_cq *cq, int num_entries, struct ibv_wc *wc);
	int (*post_recv)(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr);
	int (*post_send)(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad_wr);
	verbs_op_unused post_srq_ops;
	verbs_op_unused post_srq_recv;
	int (*query_device_ex)(struct ibv_context *context,
			       const struct ibv_query_device_ex_input *input,
			       struct ibv_device_attr_ex *attr, size_t attr_size);
	verbs_op_unused query_ece;
	int (*query_port)(struct ibv_context *context, uint8_t port_num,
			  struct ibv_port_attr *port_attr);
	int (*query_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int attr_mask,
			struct ibv_qp_init_attr *init_attr);
	verbs_op_unused query_qp_data_in_order;
	verbs_op_unused query_rt_values;
	verbs_op_unused query_srq;
	verbs_op_unused read_counters;
	verbs_op_unused reg_dm_mr;
	verbs_op_unused reg_dmabuf_mr;
	struct ibv_mr *(*reg_mr)(struct ibv_pd *pd, void *addr, size_t length, uint64_t hca_va,
				 int access);
	int (*req_notify_cq)(struct ibv_cq *cq, int solicited_only);
	verbs_op_unused rereg_mr;
	verbs_op_unused resize_cq;
	verbs_op_unused set_ece;
	verbs_op_unused unimport_dm;
	verbs_op_unused unimport_mr;
	verbs_op_unused unimport_pd;
};

/* ------------------------------------------------ functions of libibverbs */

/* The number is the private interface's version: the linker refuses another. */
void verbs_register_driver_34(const struct verbs_device_ops *ops);
#define verbs_register_driver verbs_register_driver_34

void *_verbs_init_and_alloc_context(struct ibv_device *device, int cmd_fd, size_t alloc_size,
				    struct verbs_context *context_offset, uint32_t driver_id);
#define verbs_init_and_alloc_context(ibdev, cmd_fd, context_ptr, member, driver_id) \
	((typeof(context_ptr))_verbs_init_and_alloc_context( \
		ibdev, cmd_fd, sizeof(*(context_ptr)), \
		&((typeof(context_ptr))NULL)->member, driver_id))
void verbs_uninit_context(struct verbs_context *context);
void verbs_set_ops(struct verbs_context *vctx, const struct verbs_context_ops *ops);

int ibv_cmd_get_context(struct verbs_context *context, struct ibv_get_context *cmd,
			size_t cmd_size, struct ib_uverbs_get_context_resp *resp,
			size_t resp_size);
int ibv_cmd_query_device_any(struct ibv_context *context,
			     const struct ibv_query_device_ex_input *input,
			     struct ibv_device_attr_ex *attr, size_t attr_size,
			     struct ib_uverbs_ex_query_device_resp *resp, size_t *resp_size);
int ibv_cmd_query_port(struct ibv_context *context, uint8_t port_num,
		       struct ibv_port_attr *port_attr, struct ibv_query_port *cmd,
		       size_t cmd_size);
int ibv_cmd_alloc_pd(struct ibv_context *context, struct ibv_pd *pd, struct ibv_alloc_pd *cmd,
		     size_t cmd_size, struct ib_uverbs_alloc_pd_resp *resp, size_t resp_size);
int ibv_cmd_dealloc_pd(struct ibv_pd *pd);
int ibv_cmd_reg_mr(struct ibv_pd *pd, void *addr, size_t length, uint64_t hca_va, int access,
		   struct verbs_mr *vmr, struct ibv_reg_mr *cmd, size_t cmd_size,
		   struct ib_uverbs_reg_mr_resp *resp, size_t resp_size);
int ibv_cmd_dereg_mr(struct verbs_mr *vmr);
int ibv_cmd_create_cq(struct ibv_context *context, int cqe, struct ibv_comp_channel *channel,
		      int comp_vector, struct ibv_cq *cq, struct ibv_create_cq *cmd,
		      size_t cmd_size, struct ib_uverbs_create_cq_resp *resp, size_t resp_size);
int ibv_cmd_destroy_cq(struct ibv_cq *cq);
int ibv_cmd_create_qp_ex(struct ibv_context *context, struct verbs_qp *qp,
			 struct ibv_qp_init_attr_ex *attr_ex, struct ibv_create_qp *cmd,
			 size_t cmd_size, struct ib_uverbs_create_qp_resp *resp,
			 size_t resp_size);
int ibv_cmd_query_qp(struct ibv_qp *qp, struct ibv_qp_attr *qp_attr, int attr_mask,
		     struct ibv_qp_init_attr *qp_init_attr, struct ibv_query_qp *cmd,
		     size_t cmd_size);
int ibv_cmd_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int attr_mask,
		      struct ibv_modify_qp *cmd, size_t cmd_size);
int ibv_cmd_destroy_qp(struct ibv_qp *qp);
int ibv_dontfork_range(void *base, size_t size);
int ibv_dofork_range(void *base, size_t size);

#endif /* GODWIT_COMPAT_DRIVER_H */
