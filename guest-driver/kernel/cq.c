// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Completion queues: made and destroyed here, filled by the device, emptied by
 * the provider.
 */
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/uverbs_ioctl.h>
#include <rdma/uverbs_std_types.h>

#include "verbs.h"

#define GODWIT_CQN_MAX	0xffffff

/* ------------------------------------------------ events */

void godwit_cq_raise_comp(struct godwit_cq *cq)
{
	atomic_inc(&cq->comp_raised);
	if (cq->ibcq.comp_handler)
		cq->ibcq.comp_handler(&cq->ibcq, cq->ibcq.cq_context);
}

void godwit_cq_raise_async(struct godwit_cq *cq, enum ib_event_type type)
{
	struct ib_event event = { .device = cq->ibcq.device, .event = type };

	event.element.cq = &cq->ibcq;
	atomic_inc(&cq->async_raised);
	if (cq->ibcq.event_handler)
		cq->ibcq.event_handler(&event, cq->ibcq.cq_context);
}

void godwit_cq_completion(struct godwit_dev *dev, u32 event_number)
{
	struct godwit_cq *cq = xa_load(&dev->cqs, event_number);

	if (cq)
		godwit_cq_raise_comp(cq);
}

void godwit_cq_error(struct godwit_dev *dev, u32 event_number)
{
	struct godwit_cq *cq = xa_load(&dev->cqs, event_number);

	if (cq)
		godwit_cq_raise_async(cq, IB_EVENT_CQ_ERR);
}

/* ------------------------------------------------ create */

static int godwit_cq_check(struct godwit_dev *dev, const struct ib_cq_init_attr *attr,
			   const struct godwit_ureq_create_cq *req)
{
	u64 ring;

	if (attr->flags & ~IB_UVERBS_CQ_FLAGS_TIMESTAMP_COMPLETION)
		return -EOPNOTSUPP;
	if (req->flags & ~GODWIT_UREQ_RESTORE)
		return -EINVAL;
	if (req->log2_depth > dev->caps.log2_max_cqe || !attr->cqe ||
	    attr->cqe > 1U << req->log2_depth)
		return -EINVAL;
	ring = sizeof(struct godwit_cqe) << req->log2_depth;
	if (req->buffer & ~PAGE_MASK || req->record_offset % sizeof(struct godwit_cq_record) ||
	    req->record_offset < ring || req->buffer_length < sizeof(struct godwit_cq_record) ||
	    req->record_offset > req->buffer_length - sizeof(struct godwit_cq_record))
		return -EINVAL;
	return 0;
}

static int godwit_cq_command(struct godwit_cq *cq, bool restore)
{
	struct godwit_dev *dev = cq->context->dev;
	struct godwit_cmd_create_cq cmd = {};
	struct godwit_page_list list = {};
	int ret;

	cmd.uctx = cpu_to_le32(cq->context->uctx);
	cmd.cqn = cpu_to_le32(cq->cqn);
	cmd.eqn = cpu_to_le32(dev->comp_eqs[cq->comp_vector].eqn);
	cmd.event_number = cpu_to_le32(cq->event_number);
	cmd.log2_depth = cpu_to_le32(cq->log2_depth);
	cmd.record_offset = cpu_to_le32(cq->record_offset);
	if (restore) {
		cmd.flags = cpu_to_le32(GODWIT_CREATE_RESTORE_MASK);
	} else {
		ret = godwit_page_list_init(dev, &list, cq->memory.umem);
		if (ret)
			return ret;
		godwit_page_list_buffer(&list, cq->memory.length, &cmd.buffer);
	}
	ret = godwit_cmd_create_cq(dev, &cmd);
	godwit_page_list_fini(dev, &list);
	return ret;
}

static int godwit_cq_numbers(struct godwit_cq *cq, u32 wanted_cqn, bool restore)
{
	struct godwit_dev *dev = cq->context->dev;
	u32 first = restore ? wanted_cqn : 1;
	u32 last = restore ? wanted_cqn : GODWIT_CQN_MAX;
	int ret;

	if (first > GODWIT_CQN_MAX)
		return -EINVAL;
	ret = ida_alloc_range(&cq->context->cqn_ida, first, last, GFP_KERNEL);
	if (ret < 0)
		return ret == -ENOSPC ? (restore ? -EEXIST : -ENOMEM) : ret;
	cq->cqn = ret;
	/* Round: an entry of a destroyed CQ that still lies in an event queue finds nobody. */
	ret = xa_alloc_cyclic_irq(&dev->cqs, &cq->event_number, cq, xa_limit_31b,
				  &dev->next_event_number, GFP_KERNEL);
	if (ret < 0)
		ida_free(&cq->context->cqn_ida, cq->cqn);
	return min(ret, 0);
}

static void godwit_cq_forget(struct godwit_cq *cq)
{
	struct godwit_dev *dev = cq->context->dev;

	xa_erase_irq(&dev->cqs, cq->event_number);
	godwit_eq_barrier(&dev->comp_eqs[cq->comp_vector]);
	godwit_eq_barrier(&dev->async_eq);
	ida_free(&cq->context->cqn_ida, cq->cqn);
}

static int godwit_cq_add(struct godwit_cq *cq, const struct godwit_ureq_create_cq *req)
{
	struct godwit_ucontext *context = cq->context;
	bool restore = req->flags & GODWIT_UREQ_RESTORE;
	int ret;

	ret = godwit_context_enter(context, restore);
	if (ret)
		return ret;
	ret = godwit_cq_numbers(cq, req->cqn, restore);
	if (ret)
		goto leave;
	ret = godwit_cq_command(cq, restore);
	if (ret) {
		godwit_cq_forget(cq);
		goto leave;
	}
	cq->programmed = !restore;
	list_add_tail(&cq->node, &context->cqs);
leave:
	godwit_context_leave(context);
	return ret;
}

/* Only the ioctl path shows a driver which channel it is; a dump refuses CQs made otherwise. */
static struct ib_uobject *godwit_cq_channel(struct ib_udata *udata)
{
	struct uverbs_attr_bundle *attrs = rdma_udata_to_uverbs_attr_bundle(udata);
	struct ib_uobject *channel =
		uverbs_attr_get_uobject(attrs, UVERBS_ATTR_CREATE_CQ_COMP_CHANNEL);

	return IS_ERR(channel) ? NULL : channel;
}

int godwit_create_cq(struct ib_cq *ibcq, const struct ib_cq_init_attr *attr,
		     struct ib_udata *udata)
{
	struct godwit_dev *dev = to_gdev(ibcq->device);
	struct godwit_cq *cq = to_gcq(ibcq);
	struct godwit_uresp_create_cq resp = {};
	struct godwit_ureq_create_cq req;
	int ret;

	if (!udata)
		return -EOPNOTSUPP;
	ret = godwit_udata_in(udata, &req, sizeof(req));
	if (!ret)
		ret = godwit_cq_check(dev, attr, &req);
	if (ret)
		return ret;
	cq->context = rdma_udata_to_drv_context(udata, struct godwit_ucontext, ibuc);
	cq->channel = godwit_cq_channel(udata);
	cq->log2_depth = req.log2_depth;
	cq->record_offset = req.record_offset;
	cq->wanted_cqe = attr->cqe;
	cq->comp_vector = attr->comp_vector;
	cq->memory.start = req.buffer;
	cq->memory.length = req.buffer_length;
	cq->memory.access = IB_ACCESS_LOCAL_WRITE;
	ibcq->cqe = 1 << req.log2_depth;
	if (req.flags & GODWIT_UREQ_RESTORE) {
		cq->memory.wanted_owner = req.owner;
		cq->comp_base = req.comp_base;
		cq->async_base = req.async_base;
	} else {
		ret = godwit_memory_pin(dev, &cq->memory);
		if (ret)
			return ret;
	}
	ret = godwit_cq_add(cq, &req);
	if (ret)
		goto err_unpin;
	resp.cqn = cq->cqn;
	ret = godwit_udata_out(udata, &resp, sizeof(resp));
	if (!ret)
		return 0;
	if (godwit_destroy_cq(ibcq, udata)) {	/* unpins it */
		godwit_fatal(dev, "a new CQ cannot be destroyed");
		godwit_destroy_cq(ibcq, udata);	/* a dead device does not object */
	}
	return ret;
err_unpin:
	godwit_memory_unpin(&cq->memory);
	return ret;
}

int godwit_destroy_cq(struct ib_cq *ibcq, struct ib_udata *udata)
{
	struct godwit_cq *cq = to_gcq(ibcq);
	struct godwit_ucontext *context = cq->context;
	int ret;

	mutex_lock(&context->lock);
	ret = godwit_cmd_destroy_cq(context->dev, context->uctx, cq->cqn);
	if (ret && godwit_dead(context->dev))
		ret = 0;
	if (!ret) {
		godwit_cq_forget(cq);
		godwit_notes_forget(context, cq);
		list_del(&cq->node);
	}
	mutex_unlock(&context->lock);
	if (!ret)
		godwit_memory_unpin(&cq->memory);
	return ret;
}
