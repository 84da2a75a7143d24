// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * User contexts with their doorbell pages, and protection domains.
 */
#include <linux/capability.h>
#include <rdma/uverbs_ioctl.h>

#include "verbs.h"

bool godwit_cr_capable(void)
{
	return checkpoint_restore_ns_capable(&init_user_ns);
}

int godwit_udata_in(struct ib_udata *udata, void *request, size_t size)
{
	if (udata->inlen < size)
		return -EINVAL;
	if (udata->inlen > size && !ib_is_udata_cleared(udata, size, udata->inlen - size))
		return -EOPNOTSUPP;
	return ib_copy_from_udata(request, udata, size);
}

int godwit_udata_out(struct ib_udata *udata, const void *response, size_t size)
{
	return ib_copy_to_udata(udata, (void *)response, min(size, udata->outlen));
}

/*
 * To make or change an object. A context that is being restored takes only what
 * is restored; one that stands still for a dump takes nothing.
 */
int godwit_context_enter(struct godwit_ucontext *context, bool restore)
{
	int ret = 0;

	/* Also in a context that somebody with the right has made, and handed on. */
	if (restore && !godwit_cr_capable())
		return -EPERM;
	mutex_lock(&context->lock);
	if (restore && context->state != GODWIT_CONTEXT_RESTORING)
		ret = -EPERM;
	else if (!restore && context->state != GODWIT_CONTEXT_RUNNING)
		ret = -EBUSY;
	if (ret)
		mutex_unlock(&context->lock);
	return ret;
}

void godwit_context_leave(struct godwit_ucontext *context)
{
	mutex_unlock(&context->lock);
}

static void godwit_fill_uresp(struct godwit_ucontext *context, struct godwit_uresp_context *resp)
{
	const struct godwit_caps *caps = &context->dev->caps;

	resp->doorbell_offset = rdma_user_mmap_get_offset(&context->doorbell);
	resp->uctx = context->uctx;
	resp->page_size = GODWIT_DB_PAGE_SIZE;
	resp->max_inline = caps->max_inline;
	resp->max_send_sge = caps->max_send_sge;
	resp->max_recv_sge = caps->max_recv_sge;
	resp->max_qp_wr = caps->max_qp_wr;
	resp->log2_max_cqe = caps->log2_max_cqe;
}

static int godwit_ucontext_start(struct godwit_ucontext *context, struct ib_udata *udata)
{
	struct godwit_uresp_context resp = {};
	struct godwit_dev *dev = context->dev;
	int ret;

	ret = godwit_cmd_create_uctx(dev, context->uctx);
	if (ret)
		return ret;
	/* At most one page in the device has this offset: a mapping names its context. */
	ret = rdma_user_mmap_entry_insert_range(&context->ibuc, &context->doorbell, PAGE_SIZE,
						context->uctx, context->uctx);
	if (ret)
		goto err_uctx;
	godwit_fill_uresp(context, &resp);
	ret = godwit_udata_out(udata, &resp, sizeof(resp));
	if (!ret)
		return 0;
	godwit_cmd_destroy_uctx(dev, context->uctx);
	rdma_user_mmap_entry_remove(&context->doorbell);	/* gives the page back */
	return ret;
err_uctx:
	godwit_cmd_destroy_uctx(dev, context->uctx);
	ida_free(&dev->uctx_ida, context->uctx);
	return ret;
}

int godwit_alloc_ucontext(struct ib_ucontext *ibuc, struct ib_udata *udata)
{
	struct godwit_ucontext *context = to_gcontext(ibuc);
	struct godwit_dev *dev = to_gdev(ibuc->device);
	struct godwit_ureq_context req;
	int ret;

	BUILD_BUG_ON(PAGE_SIZE != GODWIT_DB_PAGE_SIZE);
	ret = godwit_udata_in(udata, &req, sizeof(req));
	if (ret)
		return ret;
	if (req.flags & ~GODWIT_UREQ_RESTORE || req.reserved_20)
		return -EINVAL;
	if (req.flags & GODWIT_UREQ_RESTORE) {
		if (!godwit_cr_capable())
			return -EPERM;
		if (!(dev->caps.flags & GODWIT_CAP_MIGRATION))
			return -EOPNOTSUPP;
		context->state = GODWIT_CONTEXT_RESTORING;
	}
	context->dev = dev;
	mutex_init(&context->lock);
	ida_init(&context->cqn_ida);
	INIT_LIST_HEAD(&context->pds);
	INIT_LIST_HEAD(&context->mrs);
	INIT_LIST_HEAD(&context->cqs);
	INIT_LIST_HEAD(&context->qps);
	INIT_LIST_HEAD(&context->notes);
	context->cookie = atomic64_inc_return(&dev->next_cookie);
	ret = ida_alloc_range(&dev->uctx_ida, 1, dev->caps.max_uctx - 1, GFP_KERNEL);
	if (ret < 0)
		return ret == -ENOSPC ? -ENOMEM : ret;
	context->uctx = ret;
	context->owner = get_task_pid(current, PIDTYPE_TGID);
	ret = godwit_ucontext_start(context, udata);
	if (ret)
		put_pid(context->owner);
	return ret;
}

void godwit_dealloc_ucontext(struct ib_ucontext *ibuc)
{
	struct godwit_ucontext *context = to_gcontext(ibuc);
	struct godwit_dev *dev = context->dev;
	int ret;

	ret = godwit_cmd_destroy_uctx(dev, context->uctx);
	if (ret && !godwit_dead(dev))
		dev_warn(&dev->pdev->dev, "context %u cannot be destroyed: %d\n", context->uctx,
			 ret);
	rdma_user_mmap_entry_remove(&context->doorbell);
	put_pid(context->owner);
	ida_destroy(&context->cqn_ida);
	mutex_destroy(&context->lock);
}

/* The core has taken the mappings away; the objects go one by one. */
void godwit_disassociate_ucontext(struct ib_ucontext *ibuc)
{
}

int godwit_mmap(struct ib_ucontext *ibuc, struct vm_area_struct *vma)
{
	struct godwit_ucontext *context = to_gcontext(ibuc);
	struct rdma_user_mmap_entry *entry;
	phys_addr_t page;
	int ret;

	entry = rdma_user_mmap_entry_get(ibuc, vma);
	if (!entry)
		return -EINVAL;
	page = context->dev->doorbell_base + (phys_addr_t)context->uctx * GODWIT_DB_PAGE_SIZE;
	ret = rdma_user_mmap_io(ibuc, vma, PHYS_PFN(page), GODWIT_DB_PAGE_SIZE,
				pgprot_noncached(vma->vm_page_prot), entry);
	rdma_user_mmap_entry_put(entry);
	return ret;
}

void godwit_mmap_free(struct rdma_user_mmap_entry *entry)
{
	struct godwit_ucontext *context = container_of(entry, struct godwit_ucontext, doorbell);

	ida_free(&context->dev->uctx_ida, context->uctx);
}

int godwit_alloc_pd(struct ib_pd *ibpd, struct ib_udata *udata)
{
	struct godwit_ucontext *context;
	struct godwit_pd *pd = to_gpd(ibpd);
	struct godwit_dev *dev = to_gdev(ibpd->device);
	int ret;

	if (!udata)
		return -EOPNOTSUPP;
	context = rdma_udata_to_drv_context(udata, struct godwit_ucontext, ibuc);
	ret = ida_alloc_range(&dev->pd_ida, 1, dev->caps.max_pd - 1, GFP_KERNEL);
	if (ret < 0)
		return ret == -ENOSPC ? -ENOMEM : ret;
	pd->pdn = ret;
	pd->context = context;
	mutex_lock(&context->lock);
	if (context->state != GODWIT_CONTEXT_RUNNING && context->state != GODWIT_CONTEXT_RESTORING)
		ret = -EBUSY;
	else
		ret = godwit_cmd_create_pd(dev, context->uctx, pd->pdn);
	if (!ret)
		list_add_tail(&pd->node, &context->pds);
	mutex_unlock(&context->lock);
	if (ret)
		ida_free(&dev->pd_ida, pd->pdn);
	return ret;
}

int godwit_dealloc_pd(struct ib_pd *ibpd, struct ib_udata *udata)
{
	struct godwit_pd *pd = to_gpd(ibpd);
	struct godwit_ucontext *context = pd->context;
	struct godwit_dev *dev = context->dev;
	int ret;

	mutex_lock(&context->lock);
	ret = godwit_cmd_destroy_pd(dev, context->uctx, pd->pdn);
	if (ret && godwit_dead(dev))
		ret = 0;
	if (!ret)
		list_del(&pd->node);
	mutex_unlock(&context->lock);
	if (!ret)
		ida_free(&dev->pd_ida, pd->pdn);
	return ret;
}
