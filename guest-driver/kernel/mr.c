// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Memory regions.
 */
#include <linux/slab.h>

#include "verbs.h"

#define GODWIT_MR_ACCESS	(IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE |	\
				 IB_ACCESS_REMOTE_READ | IB_ACCESS_REMOTE_ATOMIC |	\
				 IB_ACCESS_MW_BIND)

/* The memory is pinned. `restore`: under the key that it had. */
int godwit_mr_program(struct godwit_mr *mr, bool restore)
{
	struct godwit_dev *dev = mr->pd->context->dev;
	struct godwit_cmd_reg_mr cmd = {};
	struct godwit_page_list list;
	u32 key;
	int ret;

	ret = godwit_page_list_init(dev, &list, mr->memory.umem);
	if (ret)
		return ret;
	cmd.pdn = cpu_to_le32(mr->pd->pdn);
	cmd.access = cpu_to_le32(mr->memory.access & GODWIT_MR_ACCESS);
	cmd.iova = cpu_to_le64(mr->iova);
	cmd.length = cpu_to_le64(mr->memory.length);
	cmd.list = cpu_to_le64(list.addrs[0]);
	cmd.page_count = cpu_to_le32(list.page_count);
	cmd.page_shift = list.page_shift;
	cmd.first_offset = cpu_to_le32(list.first_offset);
	if (restore) {
		cmd.key = cpu_to_le32(mr->ibmr.lkey);
		cmd.flags = cpu_to_le32(GODWIT_REG_MR_KEY_MASK);
	}
	ret = godwit_cmd_reg_mr(dev, &cmd, &key);
	godwit_page_list_fini(dev, &list);
	if (ret)
		return ret;
	mr->ibmr.lkey = key;
	mr->ibmr.rkey = key;
	mr->programmed = true;
	return 0;
}

static int godwit_reg_mr_request(struct ib_udata *udata, struct godwit_ureq_reg_mr *req)
{
	int ret;

	memset(req, 0, sizeof(*req));
	if (udata->inlen) {
		ret = godwit_udata_in(udata, req, sizeof(*req));
		if (ret)
			return ret;
	}
	if (req->flags & ~GODWIT_UREQ_RESTORE || req->reserved_60)
		return -EINVAL;
	return 0;
}

static int godwit_mr_add(struct godwit_mr *mr, bool restore)
{
	struct godwit_ucontext *context = mr->pd->context;
	int ret;

	ret = godwit_context_enter(context, restore);
	if (ret)
		return ret;
	if (!restore)
		ret = godwit_mr_program(mr, false);
	if (!ret)
		list_add_tail(&mr->node, &context->mrs);
	godwit_context_leave(context);
	return ret;
}

struct ib_mr *godwit_reg_user_mr(struct ib_pd *ibpd, u64 start, u64 length, u64 iova, int access,
				 struct ib_udata *udata)
{
	struct godwit_dev *dev = to_gdev(ibpd->device);
	struct godwit_ureq_reg_mr req;
	struct godwit_mr *mr;
	bool restore;
	int ret;

	ret = godwit_reg_mr_request(udata, &req);
	if (ret)
		return ERR_PTR(ret);
	if (access & ~(GODWIT_MR_ACCESS | IB_ACCESS_HUGETLB | IB_ACCESS_OPTIONAL))
		return ERR_PTR(-EOPNOTSUPP);
	if (!length || length > dev->caps.max_mr_size)
		return ERR_PTR(-EINVAL);
	mr = kzalloc(sizeof(*mr), GFP_KERNEL);
	if (!mr)
		return ERR_PTR(-ENOMEM);
	restore = req.flags & GODWIT_UREQ_RESTORE;
	mr->pd = to_gpd(ibpd);
	mr->iova = iova;
	mr->memory.start = start;
	mr->memory.length = length;
	mr->memory.access = access;
	mr->memory.wanted_owner = req.owner;
	if (restore) {
		mr->ibmr.lkey = req.key;
		mr->ibmr.rkey = req.key;
	} else {
		ret = godwit_memory_pin(dev, &mr->memory);
	}
	if (!ret)
		ret = godwit_mr_add(mr, restore);
	if (!ret)
		return &mr->ibmr;
	godwit_memory_unpin(&mr->memory);
	kfree(mr);
	return ERR_PTR(ret);
}

int godwit_dereg_mr(struct ib_mr *ibmr, struct ib_udata *udata)
{
	struct godwit_mr *mr = to_gmr(ibmr);
	struct godwit_ucontext *context = mr->pd->context;
	int ret = 0;

	mutex_lock(&context->lock);
	if (mr->programmed)
		ret = godwit_cmd_dereg_mr(context->dev, mr->pd->pdn, ibmr->lkey);
	if (ret && godwit_dead(context->dev))
		ret = 0;
	if (!ret)
		list_del(&mr->node);
	mutex_unlock(&context->lock);
	if (ret)
		return ret;
	godwit_memory_unpin(&mr->memory);
	kfree(mr);
	return 0;
}
