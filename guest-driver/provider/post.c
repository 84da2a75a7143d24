// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Work requests into queues: entry, then record, then doorbell.
 */
#include <errno.h>
#include <string.h>

#include "godwit.h"

/* ------------------------------------------------ send queue */

/* Before Ready To Send nothing may be posted; in Error it is flushed (IBTA 10.8.2). */
bool godwit_sq_closed(const struct ibv_qp *ibqp)
{
	return ibqp->state == IBV_QPS_RESET || ibqp->state == IBV_QPS_INIT ||
	       ibqp->state == IBV_QPS_RTR;
}

struct godwit_send_wqe *godwit_wqe_begin(struct godwit_qp *qp, uint16_t index, uint8_t opcode,
					 uint64_t wr_id)
{
	struct godwit_send_wqe *wqe = godwit_queue_entry(&qp->sq, index);

	memset(wqe, 0, sizeof(*wqe));
	wqe->opcode = opcode;
	godwit_queue_set_wr_id(&qp->sq, index, wr_id);
	return wqe;
}

int godwit_wqe_flags(struct godwit_send_wqe *wqe, unsigned int send_flags)
{
	unsigned int known = IBV_SEND_FENCE | IBV_SEND_SIGNALED | IBV_SEND_SOLICITED |
			     IBV_SEND_INLINE;

	if (send_flags & ~known)
		return EINVAL;
	if (send_flags & IBV_SEND_FENCE)
		wqe->flags |= GODWIT_WQE_FENCE_MASK;
	if (send_flags & IBV_SEND_SIGNALED)
		wqe->flags |= GODWIT_WQE_SIGNALED_MASK;
	if (send_flags & IBV_SEND_SOLICITED)
		wqe->flags |= GODWIT_WQE_SOLICITED_MASK;
	return 0;
}

void godwit_wqe_remote(struct godwit_send_wqe *wqe, uint32_t rkey, uint64_t remote_addr)
{
	wqe->u.rdma.remote_addr = htole64(remote_addr);
	wqe->u.rdma.rkey = htole32(rkey);
}

static void godwit_fill_sges(struct godwit_sge *to, const struct ibv_sge *from, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		to[i].addr = htole64(from[i].addr);
		to[i].length = htole32(from[i].length);
		to[i].lkey = htole32(from[i].lkey);
	}
}

int godwit_wqe_sges(struct godwit_qp *qp, struct godwit_send_wqe *wqe, const struct ibv_sge *sges,
		    size_t count)
{
	if (count > qp->sq.max_sge)
		return EINVAL;
	godwit_fill_sges((struct godwit_sge *)(wqe + 1), sges, count);
	wqe->num_sge = count;
	return 0;
}

static bool godwit_opcode_takes_inline(uint8_t opcode)
{
	return opcode == GODWIT_WR_SEND || opcode == GODWIT_WR_SEND_IMM ||
	       opcode == GODWIT_WR_WRITE || opcode == GODWIT_WR_WRITE_IMM;
}

/* Adds to what is in the WQE already. */
int godwit_wqe_inline(struct godwit_qp *qp, struct godwit_send_wqe *wqe, const void *data,
		      size_t length)
{
	uint32_t there = le32toh(wqe->inline_length);

	if (!godwit_opcode_takes_inline(wqe->opcode) || length > qp->max_inline - there)
		return EINVAL;
	if (length)
		memcpy((uint8_t *)(wqe + 1) + there, data, length);
	wqe->inline_length = htole32(there + length);
	wqe->flags |= GODWIT_WQE_INLINE_MASK;
	return 0;
}

void godwit_sq_publish(struct godwit_qp *qp, uint16_t producer)
{
	struct ibv_qp *ibqp = &qp->vqp.qp;

	if (qp->sq.producer == producer)
		return;
	qp->sq.producer = producer;
	godwit_to_device_barrier();
	__atomic_store_n(&qp->record->sq_producer, htole32(producer), __ATOMIC_RELEASE);
	godwit_ring(to_gcontext(ibqp->context), GODWIT_DB_SQ, ibqp->qp_num, producer);
}

static int godwit_wr_opcode(const struct ibv_send_wr *wr, uint8_t *opcode)
{
	switch (wr->opcode) {
	case IBV_WR_SEND:
		*opcode = GODWIT_WR_SEND;
		return 0;
	case IBV_WR_SEND_WITH_IMM:
		*opcode = GODWIT_WR_SEND_IMM;
		return 0;
	case IBV_WR_RDMA_WRITE:
		*opcode = GODWIT_WR_WRITE;
		return 0;
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		*opcode = GODWIT_WR_WRITE_IMM;
		return 0;
	case IBV_WR_RDMA_READ:
		*opcode = GODWIT_WR_READ;
		return 0;
	case IBV_WR_ATOMIC_CMP_AND_SWP:
		*opcode = GODWIT_WR_COMPARE_SWAP;
		return 0;
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		*opcode = GODWIT_WR_FETCH_ADD;
		return 0;
	default:
		return EOPNOTSUPP;
	}
}

static void godwit_wqe_operands(struct godwit_send_wqe *wqe, const struct ibv_send_wr *wr)
{
	switch (wqe->opcode) {
	case GODWIT_WR_SEND_IMM:
		wqe->imm_or_invalidate = wr->imm_data;
		break;
	case GODWIT_WR_WRITE_IMM:
		wqe->imm_or_invalidate = wr->imm_data;
		/* fall through */
	case GODWIT_WR_WRITE:
	case GODWIT_WR_READ:
		godwit_wqe_remote(wqe, wr->wr.rdma.rkey, wr->wr.rdma.remote_addr);
		break;
	case GODWIT_WR_COMPARE_SWAP:
		wqe->u.rdma.swap = htole64(wr->wr.atomic.swap);
		/* fall through */
	case GODWIT_WR_FETCH_ADD:
		wqe->u.rdma.compare_add = htole64(wr->wr.atomic.compare_add);
		godwit_wqe_remote(wqe, wr->wr.atomic.rkey, wr->wr.atomic.remote_addr);
		break;
	default:
		break;
	}
}

static int godwit_wqe_data(struct godwit_qp *qp, struct godwit_send_wqe *wqe,
			   const struct ibv_send_wr *wr)
{
	int ret = 0;
	int i;

	if (wr->num_sge < 0)
		return EINVAL;
	if (!(wr->send_flags & IBV_SEND_INLINE))
		return godwit_wqe_sges(qp, wqe, wr->sg_list, wr->num_sge);
	if (!wr->num_sge)
		return godwit_wqe_inline(qp, wqe, NULL, 0);
	for (i = 0; !ret && i < wr->num_sge; i++)
		ret = godwit_wqe_inline(qp, wqe, (const void *)(uintptr_t)wr->sg_list[i].addr,
					wr->sg_list[i].length);
	return ret;
}

static int godwit_post_one_send(struct godwit_qp *qp, const struct ibv_send_wr *wr,
				uint16_t index)
{
	struct godwit_send_wqe *wqe;
	uint8_t opcode;
	int ret;

	if (godwit_queue_full(&qp->sq, index))
		return ENOMEM;
	ret = godwit_wr_opcode(wr, &opcode);
	if (ret)
		return ret;
	wqe = godwit_wqe_begin(qp, index, opcode, wr->wr_id);
	godwit_wqe_operands(wqe, wr);
	ret = godwit_wqe_flags(wqe, wr->send_flags);
	return ret ? ret : godwit_wqe_data(qp, wqe, wr);
}

int godwit_post_send(struct ibv_qp *ibqp, struct ibv_send_wr *wr, struct ibv_send_wr **bad_wr)
{
	struct godwit_qp *qp = to_gqp(ibqp);
	uint16_t producer;
	int ret = 0;

	if (godwit_sq_closed(ibqp)) {
		*bad_wr = wr;
		return EINVAL;
	}
	godwit_lock(&qp->sq.lock);
	for (producer = qp->sq.producer; wr; wr = wr->next, producer++) {
		ret = godwit_post_one_send(qp, wr, producer);
		if (ret) {
			*bad_wr = wr;
			break;
		}
	}
	godwit_sq_publish(qp, producer);
	godwit_unlock(&qp->sq.lock);
	return ret;
}

/* ------------------------------------------------ receive queue */

static int godwit_post_one_recv(struct godwit_qp *qp, const struct ibv_recv_wr *wr,
				uint16_t index)
{
	struct godwit_recv_wqe *wqe;

	if (!qp->rq.max_wr || wr->num_sge < 0 || (uint32_t)wr->num_sge > qp->rq.max_sge)
		return EINVAL;
	if (godwit_queue_full(&qp->rq, index))
		return ENOMEM;
	wqe = godwit_queue_entry(&qp->rq, index);
	memset(wqe, 0, sizeof(*wqe));
	wqe->num_sge = wr->num_sge;
	godwit_fill_sges((struct godwit_sge *)(wqe + 1), wr->sg_list, wr->num_sge);
	godwit_queue_set_wr_id(&qp->rq, index, wr->wr_id);
	return 0;
}

/*
 * The doorbell is for a QP that has gone to Error without our knowledge: there a
 * receive that is posted has to be flushed. Otherwise the device looks at the
 * record when a message comes.
 */
static void godwit_rq_publish(struct godwit_qp *qp, uint16_t producer)
{
	struct ibv_qp *ibqp = &qp->vqp.qp;

	if (qp->rq.producer == producer)
		return;
	qp->rq.producer = producer;
	godwit_to_device_barrier();
	__atomic_store_n(&qp->record->rq_producer, htole32(producer), __ATOMIC_RELEASE);
	if (ibqp->state != IBV_QPS_INIT)
		godwit_ring(to_gcontext(ibqp->context), GODWIT_DB_RQ, ibqp->qp_num, producer);
}

int godwit_post_recv(struct ibv_qp *ibqp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr)
{
	struct godwit_qp *qp = to_gqp(ibqp);
	uint16_t producer;
	int ret = 0;

	if (ibqp->state == IBV_QPS_RESET) {
		*bad_wr = wr;
		return EINVAL;
	}
	godwit_lock(&qp->rq.lock);
	for (producer = qp->rq.producer; wr; wr = wr->next, producer++) {
		ret = godwit_post_one_recv(qp, wr, producer);
		if (ret) {
			*bad_wr = wr;
			break;
		}
	}
	godwit_rq_publish(qp, producer);
	godwit_unlock(&qp->rq.lock);
	return ret;
}
