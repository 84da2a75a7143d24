// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Queue pairs: create, modify, query, destroy.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "godwit.h"

#define GODWIT_MAX_LOG2_DEPTH		15	/* indices have 16 bits */
#define GODWIT_SQ_LOG2_STRIDE_MIN	6
#define GODWIT_RQ_LOG2_STRIDE_MIN	5

struct godwit_create_qp_cmd {
	struct ibv_create_qp ibv_cmd;
	struct godwit_ureq_create_qp drv;
};

struct godwit_create_qp_resp {
	struct ib_uverbs_create_qp_resp ibv_resp;
	struct godwit_uresp_create_qp drv;
};

_Static_assert(offsetof(struct godwit_create_qp_cmd, drv) == sizeof(struct ibv_create_qp),
	       "padding before driver data");
_Static_assert(offsetof(struct godwit_create_qp_resp, drv) ==
	       sizeof(struct ib_uverbs_create_qp_resp), "padding before driver data");

/* ------------------------------------------------ create */

static int godwit_qp_check(const struct ibv_qp_init_attr_ex *attr)
{
	uint32_t known = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS |
			 IBV_QP_INIT_ATTR_CREATE_FLAGS;

	if (attr->comp_mask & ~known || attr->qp_type != IBV_QPT_RC || attr->srq)
		return EOPNOTSUPP;
	if (attr->comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS && attr->create_flags)
		return EOPNOTSUPP;
	if (!(attr->comp_mask & IBV_QP_INIT_ATTR_PD) || !attr->pd || !attr->send_cq ||
	    !attr->recv_cq)
		return EINVAL;
	return 0;
}

static int godwit_qp_check_cap(const struct godwit_context *context, const struct ibv_qp_cap *cap)
{
	if (cap->max_send_wr > context->max_qp_wr || cap->max_recv_wr > context->max_qp_wr ||
	    cap->max_send_wr > 1U << GODWIT_MAX_LOG2_DEPTH ||
	    cap->max_recv_wr > 1U << GODWIT_MAX_LOG2_DEPTH ||
	    cap->max_send_sge > context->max_send_sge ||
	    cap->max_recv_sge > context->max_recv_sge ||
	    cap->max_inline_data > context->max_inline)
		return EINVAL;
	return 0;
}

/* What the ring holds is granted, as far as the device allows it. */
static uint32_t godwit_queue_size(struct godwit_queue *queue, uint32_t max_wr, uint32_t limit)
{
	uint32_t depth;

	queue->log2_depth = godwit_log2_up(max_wr);
	depth = 1U << queue->log2_depth;
	queue->max_wr = depth <= limit ? depth : max_wr;
	return queue->max_wr;
}

static void godwit_qp_size_sq(const struct godwit_context *context, struct godwit_qp *qp,
			      struct ibv_qp_cap *cap)
{
	uint32_t data;

	if (!cap->max_send_wr)
		cap->max_send_wr = 1;
	if (!cap->max_send_sge)
		cap->max_send_sge = 1;
	data = cap->max_send_sge * sizeof(struct godwit_sge);
	if (data < cap->max_inline_data)
		data = cap->max_inline_data;
	qp->sq.log2_stride = godwit_log2_up(sizeof(struct godwit_send_wqe) + data);
	if (qp->sq.log2_stride < GODWIT_SQ_LOG2_STRIDE_MIN)
		qp->sq.log2_stride = GODWIT_SQ_LOG2_STRIDE_MIN;
	qp->sq.max_sge = cap->max_send_sge;
	qp->max_inline = cap->max_inline_data;
	cap->max_send_wr = godwit_queue_size(&qp->sq, cap->max_send_wr, context->max_qp_wr);
}

static void godwit_qp_size_rq(const struct godwit_context *context, struct godwit_qp *qp,
			      struct ibv_qp_cap *cap)
{
	if (!cap->max_recv_wr) {
		cap->max_recv_sge = 0;
		return;
	}
	if (!cap->max_recv_sge)
		cap->max_recv_sge = 1;
	qp->rq.log2_stride = godwit_log2_up(sizeof(struct godwit_recv_wqe) +
					    cap->max_recv_sge * sizeof(struct godwit_sge));
	if (qp->rq.log2_stride < GODWIT_RQ_LOG2_STRIDE_MIN)
		qp->rq.log2_stride = GODWIT_RQ_LOG2_STRIDE_MIN;
	qp->rq.max_sge = cap->max_recv_sge;
	cap->max_recv_wr = godwit_queue_size(&qp->rq, cap->max_recv_wr, context->max_qp_wr);
}

static size_t godwit_queue_bytes(const struct godwit_queue *queue)
{
	return queue->max_wr ? (size_t)1 << (queue->log2_depth + queue->log2_stride) : 0;
}

static size_t godwit_align64(size_t offset)
{
	return (offset + 63) & ~(size_t)63;
}

/* Send queue, receive queue, record: each at a multiple of 64. */
static int godwit_qp_alloc(struct godwit_qp *qp, struct godwit_ureq_create_qp *req)
{
	size_t sq_bytes = godwit_queue_bytes(&qp->sq);
	size_t rq_bytes = godwit_queue_bytes(&qp->rq);
	size_t rq_offset = godwit_align64(sq_bytes);
	size_t record_offset = godwit_align64(rq_offset + rq_bytes);
	int ret;

	ret = godwit_buffer_alloc(&qp->buffer, record_offset + sizeof(*qp->record));
	if (ret)
		return ret;
	qp->sq.entries = qp->buffer.start;
	qp->rq.entries = qp->buffer.start + rq_offset;
	qp->record = (struct godwit_qp_record *)(qp->buffer.start + record_offset);
	qp->sq.wr_ids = calloc(1U << qp->sq.log2_depth, sizeof(*qp->sq.wr_ids));
	if (!qp->sq.wr_ids)
		return ENOMEM;
	if (rq_bytes) {
		qp->rq.wr_ids = calloc(1U << qp->rq.log2_depth, sizeof(*qp->rq.wr_ids));
		if (!qp->rq.wr_ids)
			return ENOMEM;
	}
	req->buffer = (uintptr_t)qp->buffer.start;
	req->buffer_length = qp->buffer.length;
	req->sq_offset = 0;
	req->rq_offset = rq_bytes ? rq_offset : 0;
	req->record_offset = record_offset;
	req->log2_sq_depth = qp->sq.log2_depth;
	req->log2_rq_depth = rq_bytes ? qp->rq.log2_depth : GODWIT_NO_RQ;
	req->log2_sq_stride = qp->sq.log2_stride;
	req->log2_rq_stride = rq_bytes ? qp->rq.log2_stride : 0;
	ret = godwit_lock_init(&qp->sq.lock, false);
	return ret ? ret : godwit_lock_init(&qp->rq.lock, false);
}

static void godwit_qp_free(struct godwit_qp *qp)
{
	godwit_buffer_free(&qp->buffer);
	free(qp->sq.wr_ids);
	free(qp->rq.wr_ids);
	free(qp);
}

static void godwit_qp_link(struct godwit_qp *qp)
{
	struct ibv_qp *ibqp = &qp->vqp.qp;

	qp->send_link.qp = qp;
	qp->recv_link.qp = qp;
	godwit_cq_link(to_gcq(ibqp->send_cq), &qp->send_link);
	if (ibqp->recv_cq != ibqp->send_cq)
		godwit_cq_link(to_gcq(ibqp->recv_cq), &qp->recv_link);
}

static void godwit_qp_clean(struct godwit_qp *qp)
{
	struct ibv_qp *ibqp = &qp->vqp.qp;

	godwit_cq_clean(to_gcq(ibqp->send_cq), qp);
	if (ibqp->recv_cq != ibqp->send_cq)
		godwit_cq_clean(to_gcq(ibqp->recv_cq), qp);
}

static void godwit_qp_unlink(struct godwit_qp *qp)
{
	struct ibv_qp *ibqp = &qp->vqp.qp;

	godwit_cq_unlink(to_gcq(ibqp->send_cq), &qp->send_link);
	if (ibqp->recv_cq != ibqp->send_cq)
		godwit_cq_unlink(to_gcq(ibqp->recv_cq), &qp->recv_link);
}

static int godwit_qp_command(struct ibv_context *context, struct godwit_qp *qp,
			     struct ibv_qp_init_attr_ex *attr,
			     const struct godwit_ureq_create_qp *req)
{
	struct ibv_qp_init_attr_ex core = *attr;
	struct godwit_create_qp_resp resp = {};
	struct godwit_create_qp_cmd cmd = {};
	int ret;

	cmd.drv = *req;
	core.comp_mask = IBV_QP_INIT_ATTR_PD;
	ret = ibv_cmd_create_qp_ex(context, &qp->vqp, &core, &cmd.ibv_cmd, sizeof(cmd),
				   &resp.ibv_resp, sizeof(resp));
	if (!ret)
		attr->cap = core.cap;
	return ret;
}

struct ibv_qp *godwit_create_qp_ex(struct ibv_context *ibcontext,
				   struct ibv_qp_init_attr_ex *attr)
{
	struct godwit_context *context = to_gcontext(ibcontext);
	struct godwit_ureq_create_qp req = {};
	struct ibv_qp_cap asked = attr->cap;
	struct godwit_qp *qp;
	int ret;

	ret = godwit_qp_check(attr);
	if (!ret)
		ret = godwit_qp_check_cap(context, &attr->cap);
	if (ret) {
		errno = ret;
		return NULL;
	}
	qp = calloc(1, sizeof(*qp));
	if (!qp)
		return NULL;
	godwit_qp_size_sq(context, qp, &attr->cap);
	godwit_qp_size_rq(context, qp, &attr->cap);
	if (attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS)
		ret = godwit_qp_set_wr_ops(qp, attr->send_ops_flags);
	if (!ret)
		ret = godwit_qp_alloc(qp, &req);
	if (!ret)
		ret = godwit_qp_command(ibcontext, qp, attr, &req);
	if (ret) {
		godwit_qp_free(qp);
		attr->cap = asked;
		errno = ret;
		return NULL;
	}
	if (attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS)
		qp->vqp.comp_mask |= VERBS_QP_EX;
	godwit_qp_link(qp);
	return &qp->vqp.qp;
}

struct ibv_qp *godwit_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	struct ibv_qp_init_attr_ex attr_ex = {
		.qp_context = attr->qp_context,
		.send_cq = attr->send_cq,
		.recv_cq = attr->recv_cq,
		.srq = attr->srq,
		.cap = attr->cap,
		.qp_type = attr->qp_type,
		.sq_sig_all = attr->sq_sig_all,
		.comp_mask = IBV_QP_INIT_ATTR_PD,
		.pd = pd,
	};
	struct ibv_qp *ibqp;

	ibqp = godwit_create_qp_ex(pd->context, &attr_ex);
	if (ibqp)
		attr->cap = attr_ex.cap;
	return ibqp;
}

/* ------------------------------------------------ modify, query, destroy */

/* The device has forgotten the queues, and so do we. */
static void godwit_qp_reset(struct godwit_qp *qp)
{
	godwit_qp_clean(qp);
	godwit_lock(&qp->sq.lock);
	godwit_lock(&qp->rq.lock);
	qp->sq.producer = 0;
	qp->sq.retired = 0;
	qp->rq.producer = 0;
	qp->rq.retired = 0;
	memset(qp->record, 0, sizeof(*qp->record));
	godwit_unlock(&qp->rq.lock);
	godwit_unlock(&qp->sq.lock);
}

int godwit_modify_qp(struct ibv_qp *ibqp, struct ibv_qp_attr *attr, int attr_mask)
{
	struct ibv_modify_qp cmd = {};
	int ret;

	ret = ibv_cmd_modify_qp(ibqp, attr, attr_mask, &cmd, sizeof(cmd));
	if (!ret && attr_mask & IBV_QP_STATE && attr->qp_state == IBV_QPS_RESET)
		godwit_qp_reset(to_gqp(ibqp));
	return ret;
}

int godwit_query_qp(struct ibv_qp *ibqp, struct ibv_qp_attr *attr, int attr_mask,
		    struct ibv_qp_init_attr *init_attr)
{
	struct ibv_query_qp cmd;

	return ibv_cmd_query_qp(ibqp, attr, attr_mask, init_attr, &cmd, sizeof(cmd));
}

static void godwit_qp_shift_events(struct ibv_qp *ibqp, const struct godwit_event_base *base,
				   bool back)
{
	pthread_mutex_lock(&ibqp->mutex);
	ibqp->events_completed += back ? base->async : -base->async;
	pthread_mutex_unlock(&ibqp->mutex);
}

int godwit_destroy_qp(struct ibv_qp *ibqp)
{
	struct godwit_qp *qp = to_gqp(ibqp);
	struct godwit_event_base base;
	int ret;

	ret = godwit_event_base(ibqp->context, GODWIT_METHOD_USER_QP_BASE, ibqp->handle, &base);
	if (ret)
		return ret;
	godwit_qp_shift_events(ibqp, &base, false);
	ret = ibv_cmd_destroy_qp(ibqp);
	if (ret) {
		godwit_qp_shift_events(ibqp, &base, true);	/* it lives on */
		return ret;
	}
	godwit_qp_clean(qp);
	godwit_qp_unlink(qp);
	godwit_lock_fini(&qp->sq.lock);
	godwit_lock_fini(&qp->rq.lock);
	godwit_qp_free(qp);
	return 0;
}
