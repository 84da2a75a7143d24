// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * ibv_wr_*: work requests built in place. The first error is kept until
 * wr_complete, and then nothing of the batch is posted.
 */
#include <errno.h>

#include "godwit.h"

#define GODWIT_SEND_OPS	(IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM | \
			 IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM | \
			 IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP | \
			 IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD)

static struct godwit_qp *to_gqp_ex(struct ibv_qp_ex *qp_ex)
{
	return container_of(qp_ex, struct godwit_qp, vqp.qp_ex);
}

static void godwit_wr_start(struct ibv_qp_ex *qp_ex)
{
	struct godwit_qp *qp = to_gqp_ex(qp_ex);

	godwit_lock(&qp->sq.lock);
	qp->next = qp->sq.producer;
	qp->wqe = NULL;
	qp->error = godwit_sq_closed(&qp->vqp.qp) ? EINVAL : 0;
}

static int godwit_wr_complete(struct ibv_qp_ex *qp_ex)
{
	struct godwit_qp *qp = to_gqp_ex(qp_ex);
	int ret = qp->error;

	if (!ret)
		godwit_sq_publish(qp, qp->next);
	qp->wqe = NULL;
	godwit_unlock(&qp->sq.lock);
	return ret;
}

static void godwit_wr_abort(struct ibv_qp_ex *qp_ex)
{
	struct godwit_qp *qp = to_gqp_ex(qp_ex);

	qp->wqe = NULL;
	godwit_unlock(&qp->sq.lock);
}

static void godwit_wr_fail(struct godwit_qp *qp, int error)
{
	if (!qp->error)
		qp->error = error;
	qp->wqe = NULL;
}

/* NULL: the batch has failed already */
static struct godwit_send_wqe *godwit_wr_begin(struct ibv_qp_ex *qp_ex, uint8_t opcode)
{
	struct godwit_qp *qp = to_gqp_ex(qp_ex);
	int ret;

	if (qp->error)
		return NULL;
	if (godwit_queue_full(&qp->sq, qp->next)) {
		godwit_wr_fail(qp, ENOMEM);
		return NULL;
	}
	qp->wqe = godwit_wqe_begin(qp, qp->next, opcode, qp_ex->wr_id);
	ret = godwit_wqe_flags(qp->wqe, qp_ex->wr_flags);
	if (ret) {
		godwit_wr_fail(qp, ret);
		return NULL;
	}
	qp->next++;
	return qp->wqe;
}

static void godwit_wr_send(struct ibv_qp_ex *qp_ex)
{
	godwit_wr_begin(qp_ex, GODWIT_WR_SEND);
}

static void godwit_wr_send_imm(struct ibv_qp_ex *qp_ex, __be32 imm_data)
{
	struct godwit_send_wqe *wqe = godwit_wr_begin(qp_ex, GODWIT_WR_SEND_IMM);

	if (wqe)
		wqe->imm_or_invalidate = imm_data;
}

static void godwit_wr_rdma_write(struct ibv_qp_ex *qp_ex, uint32_t rkey, uint64_t remote_addr)
{
	struct godwit_send_wqe *wqe = godwit_wr_begin(qp_ex, GODWIT_WR_WRITE);

	if (wqe)
		godwit_wqe_remote(wqe, rkey, remote_addr);
}

static void godwit_wr_rdma_write_imm(struct ibv_qp_ex *qp_ex, uint32_t rkey, uint64_t remote_addr,
				     __be32 imm_data)
{
	struct godwit_send_wqe *wqe = godwit_wr_begin(qp_ex, GODWIT_WR_WRITE_IMM);

	if (!wqe)
		return;
	godwit_wqe_remote(wqe, rkey, remote_addr);
	wqe->imm_or_invalidate = imm_data;
}

static void godwit_wr_rdma_read(struct ibv_qp_ex *qp_ex, uint32_t rkey, uint64_t remote_addr)
{
	struct godwit_send_wqe *wqe = godwit_wr_begin(qp_ex, GODWIT_WR_READ);

	if (wqe)
		godwit_wqe_remote(wqe, rkey, remote_addr);
}

static void godwit_wr_atomic_cmp_swp(struct ibv_qp_ex *qp_ex, uint32_t rkey, uint64_t remote_addr,
				     uint64_t compare, uint64_t swap)
{
	struct godwit_send_wqe *wqe = godwit_wr_begin(qp_ex, GODWIT_WR_COMPARE_SWAP);

	if (!wqe)
		return;
	godwit_wqe_remote(wqe, rkey, remote_addr);
	wqe->u.rdma.compare_add = htole64(compare);
	wqe->u.rdma.swap = htole64(swap);
}

static void godwit_wr_atomic_fetch_add(struct ibv_qp_ex *qp_ex, uint32_t rkey,
				       uint64_t remote_addr, uint64_t add)
{
	struct godwit_send_wqe *wqe = godwit_wr_begin(qp_ex, GODWIT_WR_FETCH_ADD);

	if (!wqe)
		return;
	godwit_wqe_remote(wqe, rkey, remote_addr);
	wqe->u.rdma.compare_add = htole64(add);
}

/* ------------------------------------------------ data of the last one begun */

static void godwit_wr_set_sge_list(struct ibv_qp_ex *qp_ex, size_t num_sge,
				   const struct ibv_sge *sg_list)
{
	struct godwit_qp *qp = to_gqp_ex(qp_ex);
	int ret;

	if (!qp->wqe)
		return;
	ret = godwit_wqe_sges(qp, qp->wqe, sg_list, num_sge);
	if (ret)
		godwit_wr_fail(qp, ret);
}

static void godwit_wr_set_sge(struct ibv_qp_ex *qp_ex, uint32_t lkey, uint64_t addr,
			      uint32_t length)
{
	struct ibv_sge sge = { .addr = addr, .length = length, .lkey = lkey };

	godwit_wr_set_sge_list(qp_ex, 1, &sge);
}

static void godwit_wr_set_inline_data_list(struct ibv_qp_ex *qp_ex, size_t num_buf,
					   const struct ibv_data_buf *buf_list)
{
	struct godwit_qp *qp = to_gqp_ex(qp_ex);
	size_t i;
	int ret;

	if (!qp->wqe)
		return;
	ret = num_buf ? 0 : godwit_wqe_inline(qp, qp->wqe, NULL, 0);
	for (i = 0; !ret && i < num_buf; i++)
		ret = godwit_wqe_inline(qp, qp->wqe, buf_list[i].addr, buf_list[i].length);
	if (ret)
		godwit_wr_fail(qp, ret);
}

static void godwit_wr_set_inline_data(struct ibv_qp_ex *qp_ex, void *addr, size_t length)
{
	struct ibv_data_buf buf = { .addr = addr, .length = length };

	godwit_wr_set_inline_data_list(qp_ex, 1, &buf);
}

int godwit_qp_set_wr_ops(struct godwit_qp *qp, uint64_t send_ops)
{
	struct ibv_qp_ex *qp_ex = &qp->vqp.qp_ex;

	if (send_ops & ~(uint64_t)GODWIT_SEND_OPS)
		return EOPNOTSUPP;
	qp_ex->wr_start = godwit_wr_start;
	qp_ex->wr_complete = godwit_wr_complete;
	qp_ex->wr_abort = godwit_wr_abort;
	qp_ex->wr_set_sge = godwit_wr_set_sge;
	qp_ex->wr_set_sge_list = godwit_wr_set_sge_list;
	qp_ex->wr_set_inline_data = godwit_wr_set_inline_data;
	qp_ex->wr_set_inline_data_list = godwit_wr_set_inline_data_list;
	if (send_ops & IBV_QP_EX_WITH_SEND)
		qp_ex->wr_send = godwit_wr_send;
	if (send_ops & IBV_QP_EX_WITH_SEND_WITH_IMM)
		qp_ex->wr_send_imm = godwit_wr_send_imm;
	if (send_ops & IBV_QP_EX_WITH_RDMA_WRITE)
		qp_ex->wr_rdma_write = godwit_wr_rdma_write;
	if (send_ops & IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM)
		qp_ex->wr_rdma_write_imm = godwit_wr_rdma_write_imm;
	if (send_ops & IBV_QP_EX_WITH_RDMA_READ)
		qp_ex->wr_rdma_read = godwit_wr_rdma_read;
	if (send_ops & IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP)
		qp_ex->wr_atomic_cmp_swp = godwit_wr_atomic_cmp_swp;
	if (send_ops & IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD)
		qp_ex->wr_atomic_fetch_add = godwit_wr_atomic_fetch_add;
	return 0;
}
