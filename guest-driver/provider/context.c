// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Registration with libibverbs; contexts, protection domains, memory regions,
 * queries. What is not in the table of operations is answered with EOPNOTSUPP by
 * libibverbs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "godwit.h"

struct godwit_get_context {
	struct ibv_get_context ibv_cmd;
	struct godwit_ureq_context drv;
};

struct godwit_get_context_resp {
	struct ib_uverbs_get_context_resp ibv_resp;
	struct godwit_uresp_context drv;
};

_Static_assert(offsetof(struct godwit_get_context, drv) == sizeof(struct ibv_get_context),
	       "padding before driver data");
_Static_assert(offsetof(struct godwit_get_context_resp, drv) ==
	       sizeof(struct ib_uverbs_get_context_resp), "padding before driver data");

static int godwit_query_device_ex(struct ibv_context *context,
				  const struct ibv_query_device_ex_input *input,
				  struct ibv_device_attr_ex *attr, size_t attr_size)
{
	struct ib_uverbs_ex_query_device_resp resp;
	size_t resp_size = sizeof(resp);
	uint64_t version;
	int ret;

	ret = ibv_cmd_query_device_any(context, input, attr, attr_size, &resp, &resp_size);
	if (ret)
		return ret;
	version = resp.base.fw_ver;
	snprintf(attr->orig_attr.fw_ver, sizeof(attr->orig_attr.fw_ver), "%u.%u.%u",
		 (unsigned int)(version >> 32 & 0xffff), (unsigned int)(version >> 16 & 0xffff),
		 (unsigned int)(version & 0xffff));
	return 0;
}

static int godwit_query_port(struct ibv_context *context, uint8_t port_num,
			     struct ibv_port_attr *attr)
{
	struct ibv_query_port cmd;

	return ibv_cmd_query_port(context, port_num, attr, &cmd, sizeof(cmd));
}

static struct ibv_pd *godwit_alloc_pd(struct ibv_context *context)
{
	struct ib_uverbs_alloc_pd_resp resp;
	struct ibv_alloc_pd cmd;
	struct ibv_pd *pd;
	int ret;

	pd = calloc(1, sizeof(*pd));
	if (!pd)
		return NULL;
	ret = ibv_cmd_alloc_pd(context, pd, &cmd, sizeof(cmd), &resp, sizeof(resp));
	if (!ret)
		return pd;
	free(pd);
	errno = ret;
	return NULL;
}

static int godwit_dealloc_pd(struct ibv_pd *pd)
{
	int ret = ibv_cmd_dealloc_pd(pd);

	if (!ret)
		free(pd);
	return ret;
}

static struct ibv_mr *godwit_reg_mr(struct ibv_pd *pd, void *addr, size_t length, uint64_t hca_va,
				    int access)
{
	struct ib_uverbs_reg_mr_resp resp;
	struct ibv_reg_mr cmd;
	struct verbs_mr *vmr;
	int ret;

	vmr = calloc(1, sizeof(*vmr));
	if (!vmr)
		return NULL;
	ret = ibv_cmd_reg_mr(pd, addr, length, hca_va, access, vmr, &cmd, sizeof(cmd), &resp,
			     sizeof(resp));
	if (!ret)
		return &vmr->ibv_mr;
	free(vmr);
	errno = ret;
	return NULL;
}

static int godwit_dereg_mr(struct verbs_mr *vmr)
{
	int ret = ibv_cmd_dereg_mr(vmr);

	if (!ret)
		free(vmr);
	return ret;
}

static void godwit_free_context(struct ibv_context *ibcontext)
{
	struct godwit_context *context = to_gcontext(ibcontext);

	munmap((void *)context->doorbells, GODWIT_DB_PAGE_SIZE);
	verbs_uninit_context(&context->vctx);
	free(context);
}

static const struct verbs_context_ops godwit_context_ops = {
	.alloc_pd = godwit_alloc_pd,
	.create_cq = godwit_create_cq,
	.create_cq_ex = godwit_create_cq_ex,
	.create_qp = godwit_create_qp,
	.create_qp_ex = godwit_create_qp_ex,
	.dealloc_pd = godwit_dealloc_pd,
	.dereg_mr = godwit_dereg_mr,
	.destroy_cq = godwit_destroy_cq,
	.destroy_qp = godwit_destroy_qp,
	.free_context = godwit_free_context,
	.modify_qp = godwit_modify_qp,
	.poll_cq = godwit_poll_cq,
	.post_recv = godwit_post_recv,
	.post_send = godwit_post_send,
	.query_device_ex = godwit_query_device_ex,
	.query_port = godwit_query_port,
	.query_qp = godwit_query_qp,
	.reg_mr = godwit_reg_mr,
	.req_notify_cq = godwit_req_notify_cq,
};

static int godwit_start_context(struct godwit_context *context, int cmd_fd)
{
	struct godwit_get_context_resp resp = {};
	struct godwit_get_context cmd = {};
	void *page;
	int ret;

	ret = ibv_cmd_get_context(&context->vctx, &cmd.ibv_cmd, sizeof(cmd), &resp.ibv_resp,
				  sizeof(resp));
	if (ret)
		return ret;
	if (resp.drv.page_size != GODWIT_DB_PAGE_SIZE)
		return EPROTO;
	page = mmap(NULL, GODWIT_DB_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, cmd_fd,
		    resp.drv.doorbell_offset);
	if (page == MAP_FAILED)
		return errno;
	context->doorbells = page;
	context->max_inline = resp.drv.max_inline;
	context->max_send_sge = resp.drv.max_send_sge;
	context->max_recv_sge = resp.drv.max_recv_sge;
	context->max_qp_wr = resp.drv.max_qp_wr;
	context->log2_max_cqe = resp.drv.log2_max_cqe;
	return 0;
}

static struct verbs_context *godwit_alloc_context(struct ibv_device *device, int cmd_fd,
						  void *private_data)
{
	struct godwit_context *context;
	int ret;

	(void)private_data;
	context = verbs_init_and_alloc_context(device, cmd_fd, context, vctx, GODWIT_DRIVER_ID);
	if (!context)
		return NULL;
	ret = godwit_start_context(context, cmd_fd);
	if (!ret) {
		verbs_set_ops(&context->vctx, &godwit_context_ops);
		return &context->vctx;
	}
	verbs_uninit_context(&context->vctx);
	free(context);
	errno = ret;
	return NULL;
}

static struct verbs_device *godwit_alloc_device(struct verbs_sysfs_dev *sysfs_dev)
{
	struct godwit_device *device = calloc(1, sizeof(*device));

	(void)sysfs_dev;
	return device ? &device->vdev : NULL;
}

static void godwit_uninit_device(struct verbs_device *vdev)
{
	free(container_of(vdev, struct godwit_device, vdev));
}

static const struct verbs_match_ent godwit_match_table[] = {
	VERBS_DRIVER_ID(GODWIT_DRIVER_ID),
	VERBS_PCI_MATCH(GODWIT_PCI_VENDOR_ID, GODWIT_PCI_DEVICE_ID, NULL),
	{},
};

static const struct verbs_device_ops godwit_device_ops = {
	.name = "godwit",
	.match_min_abi_version = GODWIT_UVERBS_ABI,
	.match_max_abi_version = GODWIT_UVERBS_ABI,
	.match_table = godwit_match_table,
	.alloc_device = godwit_alloc_device,
	.uninit_device = godwit_uninit_device,
	.alloc_context = godwit_alloc_context,
};

static __attribute__((constructor)) void godwit_register(void)
{
	verbs_register_driver(&godwit_device_ops);
}
