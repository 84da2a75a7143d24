// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Queue pairs: create, modify, query, destroy, and their events. The device
 * keeps a QP's state; what is here is what it was made of.
 */
#include <linux/capability.h>
#include <rdma/ib_addr.h>
#include <rdma/uverbs_ioctl.h>

#include "verbs.h"

/* ------------------------------------------------ events */

void godwit_qp_raise_async(struct godwit_qp *qp, enum ib_event_type type)
{
	struct ib_event event = { .device = qp->ibqp.device, .event = type };

	event.element.qp = &qp->ibqp;
	atomic_inc(&qp->async_raised);
	if (qp->ibqp.event_handler)
		qp->ibqp.event_handler(&event, qp->ibqp.qp_context);
}

static int godwit_qp_event_type(u8 subtype)
{
	switch (subtype) {
	case GODWIT_EQE_QP_FATAL:
		return IB_EVENT_QP_FATAL;
	case GODWIT_EQE_QP_REQUEST_ERROR:
		return IB_EVENT_QP_REQ_ERR;
	case GODWIT_EQE_QP_ACCESS_ERROR:
		return IB_EVENT_QP_ACCESS_ERR;
	case GODWIT_EQE_QP_COMM_EST:
		return IB_EVENT_COMM_EST;
	case GODWIT_EQE_QP_SQ_DRAINED:
		return IB_EVENT_SQ_DRAINED;
	case GODWIT_EQE_QP_LAST_WQE:
		return IB_EVENT_QP_LAST_WQE_REACHED;
	case GODWIT_EQE_QP_PATH_MIG:
		return IB_EVENT_PATH_MIG;
	default:			/* RESUMED is not for applications */
		return -1;
	}
}

void godwit_qp_event(struct godwit_dev *dev, u32 qpn, u8 subtype)
{
	struct godwit_qp *qp = xa_load(&dev->qps, qpn);
	int type = godwit_qp_event_type(subtype);

	if (!qp || type < 0)
		return;
	if (type == IB_EVENT_QP_FATAL || type == IB_EVENT_QP_REQ_ERR ||
	    type == IB_EVENT_QP_ACCESS_ERR)
		WRITE_ONCE(qp->state, IB_QPS_ERR);
	godwit_qp_raise_async(qp, type);
}

/*
 * The QP has learned a new GID of its peer without its MAC. Peers of this driver
 * always send the MAC along; the QP stays paused until its pause limit otherwise.
 */
void godwit_qp_address_event(struct godwit_dev *dev, u32 qpn)
{
	dev_warn_ratelimited(&dev->pdev->dev,
			     "QP %#x: the new address of its peer came without a MAC\n", qpn);
}

/* ------------------------------------------------ create */

static bool godwit_queue_fits(u32 offset, u8 log2_depth, u8 log2_stride, u32 length)
{
	u64 bytes;

	if (log2_depth > 16 || log2_stride > 16)
		return false;
	bytes = 1ULL << (log2_depth + log2_stride);
	return IS_ALIGNED(offset, 64) && offset + bytes <= length;
}

static int godwit_qp_check_type(struct godwit_dev *dev, const struct ib_qp_init_attr *attr)
{
	u64 needed;

	switch (attr->qp_type) {
	case IB_QPT_RC:
		needed = GODWIT_CAP_RC;
		break;
	case IB_QPT_UC:
		needed = GODWIT_CAP_UC;
		break;
	case IB_QPT_UD:
		needed = GODWIT_CAP_UD;
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (!(dev->caps.flags & needed) || attr->srq || attr->create_flags || attr->rwq_ind_tbl)
		return -EOPNOTSUPP;
	return 0;
}

static int godwit_qp_check(struct godwit_dev *dev, const struct ib_qp_init_attr *attr,
			   const struct godwit_ureq_create_qp *req)
{
	const struct godwit_caps *caps = &dev->caps;
	const struct ib_qp_cap *cap = &attr->cap;

	if (req->flags & ~GODWIT_UREQ_RESTORE || req->reserved_1a0 || req->buffer & ~PAGE_MASK)
		return -EINVAL;
	if (!godwit_queue_fits(req->sq_offset, req->log2_sq_depth, req->log2_sq_stride,
			       req->buffer_length))
		return -EINVAL;
	if (req->log2_rq_depth != GODWIT_NO_RQ &&
	    !godwit_queue_fits(req->rq_offset, req->log2_rq_depth, req->log2_rq_stride,
			       req->buffer_length))
		return -EINVAL;
	if (!godwit_queue_fits(req->record_offset, 0, __ffs(sizeof(struct godwit_qp_record)),
			       req->buffer_length))
		return -EINVAL;
	if (cap->max_send_wr > 1U << req->log2_sq_depth || cap->max_send_wr > caps->max_qp_wr ||
	    cap->max_send_sge > caps->max_send_sge || cap->max_recv_sge > caps->max_recv_sge ||
	    cap->max_inline_data > caps->max_inline)
		return -EINVAL;
	if (req->log2_rq_depth == GODWIT_NO_RQ ? cap->max_recv_wr :
	    cap->max_recv_wr > 1U << req->log2_rq_depth || cap->max_recv_wr > caps->max_qp_wr)
		return -EINVAL;
	return 0;
}

static void godwit_qp_set_request(struct godwit_qp *qp, const struct ib_qp_init_attr *attr,
				  const struct godwit_ureq_create_qp *req)
{
	qp->send_cq = to_gcq(attr->send_cq);
	qp->recv_cq = to_gcq(attr->recv_cq);
	qp->cap = attr->cap;
	qp->signal_all = attr->sq_sig_type == IB_SIGNAL_ALL_WR;
	qp->state = IB_QPS_RESET;
	qp->sq_offset = req->sq_offset;
	qp->rq_offset = req->rq_offset;
	qp->record_offset = req->record_offset;
	qp->log2_sq_depth = req->log2_sq_depth;
	qp->log2_rq_depth = req->log2_rq_depth;
	qp->log2_sq_stride = req->log2_sq_stride;
	qp->log2_rq_stride = req->log2_rq_stride;
	qp->memory.start = req->buffer;
	qp->memory.length = req->buffer_length;
	qp->memory.access = IB_ACCESS_LOCAL_WRITE;
	if (req->flags & GODWIT_UREQ_RESTORE) {
		qp->memory.wanted_owner = req->owner;
		qp->async_base = req->async_base;
		qp->move = req->move;
	}
}

static void godwit_qp_fill_create(struct godwit_qp *qp, const struct ib_qp_init_attr *attr,
				  struct godwit_create_qp *create)
{
	create->uctx = cpu_to_le32(qp->context->uctx);
	create->pdn = cpu_to_le32(to_gpd(qp->ibqp.pd)->pdn);
	create->send_cqn = cpu_to_le32(qp->send_cq->cqn);
	create->recv_cqn = cpu_to_le32(qp->recv_cq->cqn);
	create->sq_offset = cpu_to_le32(qp->sq_offset);
	create->rq_offset = cpu_to_le32(qp->rq_offset);
	create->record_offset = cpu_to_le32(qp->record_offset);
	create->type = attr->qp_type;
	create->log2_sq_depth = qp->log2_sq_depth;
	create->log2_rq_depth = qp->log2_rq_depth;
	create->log2_sq_stride = qp->log2_sq_stride;
	create->log2_rq_stride = qp->log2_rq_stride;
	create->max_send_sge = attr->cap.max_send_sge;
	create->max_recv_sge = attr->cap.max_recv_sge;
	create->signal_all = qp->signal_all;
	create->max_inline = cpu_to_le32(attr->cap.max_inline_data);
}

static int godwit_qp_command(struct godwit_qp *qp, const struct ib_qp_init_attr *attr,
			     const struct godwit_ureq_create_qp *req)
{
	struct godwit_dev *dev = qp->context->dev;
	struct godwit_page_list list = {};
	struct godwit_create_qp create = {};
	u32 qpn;
	int ret;

	godwit_qp_fill_create(qp, attr, &create);
	if (req->flags & GODWIT_UREQ_RESTORE) {
		create.flags = cpu_to_le32(GODWIT_CREATE_RESTORE_MASK | GODWIT_CREATE_QPN_MASK);
		create.qpn = cpu_to_le32(req->qpn);
		create.move = cpu_to_le64(req->move);
	} else {
		ret = godwit_page_list_init(dev, &list, qp->memory.umem);
		if (ret)
			return ret;
		godwit_page_list_buffer(&list, qp->memory.length, &create.buffer);
	}
	ret = godwit_cmd_create_qp(dev, &create, &qpn);
	godwit_page_list_fini(dev, &list);
	if (ret)
		return ret;
	qp->ibqp.qp_num = qpn;
	ret = xa_insert_irq(&dev->qps, qpn, qp, GFP_KERNEL);
	if (ret)
		godwit_cmd_destroy_qp(dev, qpn);
	return ret == -EBUSY ? -EEXIST : ret;
}

static int godwit_qp_add(struct godwit_qp *qp, const struct ib_qp_init_attr *attr,
			 const struct godwit_ureq_create_qp *req)
{
	struct godwit_ucontext *context = qp->context;
	bool restore = req->flags & GODWIT_UREQ_RESTORE;
	int ret;

	ret = godwit_context_enter(context, restore);
	if (ret)
		return ret;
	ret = godwit_qp_command(qp, attr, req);
	if (!ret) {
		qp->programmed = !restore;
		list_add_tail(&qp->node, &context->qps);
	}
	godwit_context_leave(context);
	return ret;
}

int godwit_create_qp(struct ib_qp *ibqp, struct ib_qp_init_attr *attr, struct ib_udata *udata)
{
	struct godwit_dev *dev = to_gdev(ibqp->device);
	struct godwit_qp *qp = to_gqp(ibqp);
	struct godwit_uresp_create_qp resp = {};
	struct godwit_ureq_create_qp req;
	int ret;

	if (!udata)
		return -EOPNOTSUPP;
	ret = godwit_qp_check_type(dev, attr);
	if (!ret)
		ret = godwit_udata_in(udata, &req, sizeof(req));
	if (!ret)
		ret = godwit_qp_check(dev, attr, &req);
	if (ret)
		return ret;
	if (!attr->send_cq || !attr->recv_cq)
		return -EINVAL;
	qp->context = rdma_udata_to_drv_context(udata, struct godwit_ucontext, ibuc);
	godwit_qp_set_request(qp, attr, &req);
	if (!(req.flags & GODWIT_UREQ_RESTORE)) {
		ret = godwit_memory_pin(dev, &qp->memory);
		if (ret)
			return ret;
	}
	ret = godwit_qp_add(qp, attr, &req);
	if (ret)
		goto err_unpin;
	resp.qpn = ibqp->qp_num;
	ret = godwit_udata_out(udata, &resp, sizeof(resp));
	if (!ret)
		return 0;
	if (godwit_destroy_qp(ibqp, udata)) {	/* unpins it */
		godwit_fatal(dev, "a new QP cannot be destroyed");
		godwit_destroy_qp(ibqp, udata);	/* a dead device does not object */
	}
	return ret;
err_unpin:
	godwit_memory_unpin(&qp->memory);
	return ret;
}

int godwit_destroy_qp(struct ib_qp *ibqp, struct ib_udata *udata)
{
	struct godwit_qp *qp = to_gqp(ibqp);
	struct godwit_ucontext *context = qp->context;
	struct godwit_dev *dev = context->dev;
	int ret = 0;

	mutex_lock(&context->lock);
	if (!qp->tombstone)
		ret = godwit_cmd_destroy_qp(dev, ibqp->qp_num);
	if (ret && godwit_dead(dev))
		ret = 0;
	if (!ret) {
		/* A tombstone's number may be another QP's by now, restored on this NIC. */
		xa_cmpxchg_irq(&dev->qps, ibqp->qp_num, qp, NULL, 0);
		godwit_eq_barrier(&dev->async_eq);
		godwit_notes_forget(context, qp);
		list_del(&qp->node);
	}
	mutex_unlock(&context->lock);
	if (!ret)
		godwit_memory_unpin(&qp->memory);
	return ret;
}

/* ------------------------------------------------ modify and query */

static const struct {
	int ib;
	u32 godwit;
} godwit_qp_attr_bits[] = {
	{ IB_QP_STATE, GODWIT_QP_ATTR_STATUS },
	{ IB_QP_CUR_STATE, GODWIT_QP_ATTR_CUR_STATUS },
	{ IB_QP_EN_SQD_ASYNC_NOTIFY, GODWIT_QP_ATTR_SQD_ASYNC_NOTIFY },
	{ IB_QP_ACCESS_FLAGS, GODWIT_QP_ATTR_ACCESS },
	{ IB_QP_PKEY_INDEX, GODWIT_QP_ATTR_PKEY_INDEX },
	{ IB_QP_QKEY, GODWIT_QP_ATTR_QKEY },
	{ IB_QP_AV, GODWIT_QP_ATTR_AV },
	{ IB_QP_PATH_MTU, GODWIT_QP_ATTR_PATH_MTU },
	{ IB_QP_TIMEOUT, GODWIT_QP_ATTR_TIMEOUT },
	{ IB_QP_RETRY_CNT, GODWIT_QP_ATTR_RETRY_CNT },
	{ IB_QP_RNR_RETRY, GODWIT_QP_ATTR_RNR_RETRY },
	{ IB_QP_RQ_PSN, GODWIT_QP_ATTR_RQ_PSN },
	{ IB_QP_MAX_QP_RD_ATOMIC, GODWIT_QP_ATTR_MAX_RD_ATOMIC },
	{ IB_QP_MIN_RNR_TIMER, GODWIT_QP_ATTR_MIN_RNR_TIMER },
	{ IB_QP_SQ_PSN, GODWIT_QP_ATTR_SQ_PSN },
	{ IB_QP_MAX_DEST_RD_ATOMIC, GODWIT_QP_ATTR_MAX_DEST_RD_ATOMIC },
	{ IB_QP_DEST_QPN, GODWIT_QP_ATTR_DEST_QPN },
	{ IB_QP_PORT, 0 },		/* there is one */
};

static int godwit_qp_mask(int mask, u32 *godwit)
{
	unsigned int i;

	*godwit = 0;
	for (i = 0; i < ARRAY_SIZE(godwit_qp_attr_bits); i++)
		if (mask & godwit_qp_attr_bits[i].ib) {
			*godwit |= godwit_qp_attr_bits[i].godwit;
			mask &= ~godwit_qp_attr_bits[i].ib;
		}
	return mask ? -EOPNOTSUPP : 0;
}

static void godwit_qp_fill_av(const struct godwit_qp *qp, const struct ib_qp_attr *attr,
			      struct godwit_av *av)
{
	const struct rdma_ah_attr *ah = &attr->ah_attr;
	const struct ib_global_route *grh = rdma_ah_read_grh(ah);

	memcpy(av->dgid, grh->dgid.raw, sizeof(av->dgid));
	memcpy(av->dmac, ah->roce.dmac, sizeof(av->dmac));
	av->sgid_index = cpu_to_le16(grh->sgid_index);
	av->flow_label = cpu_to_le32(grh->flow_label & 0xfffff);
	av->udp_source_port = cpu_to_le16(rdma_get_udp_sport(grh->flow_label, qp->ibqp.qp_num,
							     attr->dest_qp_num));
	av->traffic_class = grh->traffic_class;
	av->hop_limit = grh->hop_limit;
	av->service_level = rdma_ah_get_sl(ah);
}

static void godwit_qp_fill_attr(const struct godwit_qp *qp, const struct ib_qp_attr *attr,
				int mask, struct godwit_qp_attr *to)
{
	to->status = attr->qp_state;
	to->cur_status = attr->cur_qp_state;
	if (mask & IB_QP_PATH_MTU)
		to->path_mtu = attr->path_mtu;
	if (mask & IB_QP_ACCESS_FLAGS)
		to->access = attr->qp_access_flags & (GODWIT_ACCESS_REMOTE_WRITE |
						      GODWIT_ACCESS_REMOTE_READ |
						      GODWIT_ACCESS_REMOTE_ATOMIC);
	to->timeout = attr->timeout;
	to->retry_cnt = attr->retry_cnt;
	to->rnr_retry = attr->rnr_retry;
	to->min_rnr_timer = attr->min_rnr_timer;
	to->max_rd_atomic = attr->max_rd_atomic;
	to->max_dest_rd_atomic = attr->max_dest_rd_atomic;
	to->sqd_async_notify = attr->en_sqd_async_notify;
	to->pkey_index = cpu_to_le16(attr->pkey_index);
	to->qkey = cpu_to_le32(attr->qkey);
	to->dest_qpn = cpu_to_le32(attr->dest_qp_num);
	to->sq_psn = cpu_to_le32(attr->sq_psn);
	to->rq_psn = cpu_to_le32(attr->rq_psn);
	if (mask & IB_QP_AV)
		godwit_qp_fill_av(qp, attr, &to->av);
}

static int godwit_qp_check_modify(struct godwit_qp *qp, const struct ib_qp_attr *attr, int mask)
{
	enum ib_qp_state cur = mask & IB_QP_CUR_STATE ? attr->cur_qp_state : READ_ONCE(qp->state);
	enum ib_qp_state next = mask & IB_QP_STATE ? attr->qp_state : cur;
	struct ib_port_attr port;
	int ret;

	if (!ib_modify_qp_is_ok(cur, next, qp->ibqp.qp_type, mask))
		return -EINVAL;
	if (mask & IB_QP_AV && attr->ah_attr.type != RDMA_AH_ATTR_TYPE_ROCE)
		return -EINVAL;
	if (mask & IB_QP_PATH_MTU) {
		ret = ib_query_port(qp->ibqp.device, GODWIT_PORT, &port);
		if (ret)
			return ret;
		if (attr->path_mtu < IB_MTU_256 || attr->path_mtu > port.active_mtu)
			return -EINVAL;
	}
	return 0;
}

int godwit_modify_qp(struct ib_qp *ibqp, struct ib_qp_attr *attr, int mask,
		     struct ib_udata *udata)
{
	struct godwit_qp *qp = to_gqp(ibqp);
	struct godwit_modify_qp modify = {};
	u32 godwit_mask;
	int ret;

	ret = godwit_qp_mask(mask, &godwit_mask);
	if (!ret)
		ret = godwit_qp_check_modify(qp, attr, mask);
	if (ret)
		return ret;
	modify.qpn = cpu_to_le32(ibqp->qp_num);
	modify.mask = cpu_to_le32(godwit_mask);
	godwit_qp_fill_attr(qp, attr, mask, &modify.attr);
	ret = godwit_context_enter(qp->context, false);
	if (ret)
		return ret;
	ret = godwit_cmd_modify_qp(qp->context->dev, &modify);
	if (!ret && mask & IB_QP_STATE)
		WRITE_ONCE(qp->state, attr->qp_state);
	if (!ret && mask & IB_QP_AV) {
		qp->own_gid = attr->ah_attr.grh.sgid_attr->gid;
		qp->own_gid_index = attr->ah_attr.grh.sgid_index;
	}
	godwit_context_leave(qp->context);
	return ret;
}

/* A tombstone's number may be another QP's by now: what the device has there is not ours. */
static int godwit_qp_query_device(struct godwit_qp *qp, struct godwit_qp_info *info)
{
	int ret = -EINVAL;

	mutex_lock(&qp->context->lock);
	if (!qp->tombstone)
		ret = godwit_cmd_query_qp(qp->context->dev, qp->ibqp.qp_num, info);
	mutex_unlock(&qp->context->lock);
	return ret;
}

static void godwit_qp_parse_av(const struct godwit_av *av, struct rdma_ah_attr *ah)
{
	union ib_gid dgid;

	memset(ah, 0, sizeof(*ah));
	memcpy(dgid.raw, av->dgid, sizeof(dgid.raw));
	ah->type = RDMA_AH_ATTR_TYPE_ROCE;
	rdma_ah_set_grh(ah, &dgid, le32_to_cpu(av->flow_label), le16_to_cpu(av->sgid_index),
			av->hop_limit, av->traffic_class);
	rdma_ah_set_sl(ah, av->service_level);
	rdma_ah_set_port_num(ah, GODWIT_PORT);
	memcpy(ah->roce.dmac, av->dmac, sizeof(ah->roce.dmac));
}

/*
 * Netlink shows every QP of the NIC to everybody who shares its RDMA namespace,
 * and asks with no mask. Who has the peer's QPN and the PSNs could speak for the
 * peer, so they are for those who ask for their own QP, and for administrators.
 */
static bool godwit_qp_shows_peer(int mask)
{
	return mask || capable(CAP_NET_ADMIN);
}

int godwit_query_qp(struct ib_qp *ibqp, struct ib_qp_attr *attr, int mask,
		    struct ib_qp_init_attr *init)
{
	struct godwit_qp *qp = to_gqp(ibqp);
	struct godwit_qp_info info;
	int ret;

	ret = godwit_qp_query_device(qp, &info);
	if (ret)
		return ret;
	memset(attr, 0, sizeof(*attr));
	attr->qp_state = info.attr.status;
	attr->cur_qp_state = info.attr.status;
	attr->path_mtu = info.attr.path_mtu;
	attr->path_mig_state = IB_MIG_MIGRATED;
	attr->qkey = le32_to_cpu(info.attr.qkey);
	if (godwit_qp_shows_peer(mask)) {
		attr->rq_psn = le32_to_cpu(info.attr.rq_psn);
		attr->sq_psn = le32_to_cpu(info.attr.sq_psn);
		attr->dest_qp_num = le32_to_cpu(info.attr.dest_qpn);
	}
	attr->qp_access_flags = info.attr.access;
	attr->cap = qp->cap;
	godwit_qp_parse_av(&info.attr.av, &attr->ah_attr);
	attr->pkey_index = le16_to_cpu(info.attr.pkey_index);
	attr->en_sqd_async_notify = info.attr.sqd_async_notify;
	attr->sq_draining = info.sq_draining;
	attr->max_rd_atomic = info.attr.max_rd_atomic;
	attr->max_dest_rd_atomic = info.attr.max_dest_rd_atomic;
	attr->min_rnr_timer = info.attr.min_rnr_timer;
	attr->port_num = GODWIT_PORT;
	attr->timeout = info.attr.timeout;
	attr->retry_cnt = info.attr.retry_cnt;
	attr->rnr_retry = info.attr.rnr_retry;
	init->event_handler = ibqp->event_handler;
	init->qp_context = ibqp->qp_context;
	init->send_cq = ibqp->send_cq;
	init->recv_cq = ibqp->recv_cq;
	init->cap = qp->cap;
	init->sq_sig_type = qp->signal_all ? IB_SIGNAL_ALL_WR : IB_SIGNAL_REQ_WR;
	init->qp_type = ibqp->qp_type;
	init->port_num = GODWIT_PORT;
	WRITE_ONCE(qp->state, attr->qp_state);
	return 0;
}
