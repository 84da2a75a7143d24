// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Polling. Nothing here enters the kernel.
 */
#include <errno.h>

#include "godwit.h"

/* An entry is new when its phase is that of the pass over the ring. */
bool godwit_cq_entry_ready(const struct godwit_cq *cq, uint32_t index)
{
	const struct godwit_cqe *entry = &cq->entries[index & ((1U << cq->log2_depth) - 1)];
	uint8_t expected = index >> cq->log2_depth & 1 ? 0 : GODWIT_CQE_PHASE_MASK;

	return (__atomic_load_n(&entry->phase, __ATOMIC_ACQUIRE) & GODWIT_CQE_PHASE_MASK) ==
	       expected;
}

/* The device may write again to what has been consumed. */
void godwit_cq_publish(struct godwit_cq *cq)
{
	__atomic_store_n(&cq->record->consumer,
			 htole32(cq->consumer & GODWIT_DB_CQ_ARM_INDEX_MASK), __ATOMIC_RELEASE);
}

static struct godwit_qp *godwit_cq_find_qp(const struct godwit_cq *cq, uint32_t qpn)
{
	const struct godwit_cq_link *link;

	for (link = cq->buckets[qpn & (cq->bucket_count - 1)]; link; link = link->next)
		if (link->qp->vqp.qp.qp_num == qpn)
			return link->qp;
	return NULL;
}

/* The work request is done, and with it those before it that asked for no completion. */
static uint64_t godwit_retire(struct godwit_qp *qp, const struct godwit_cqe *entry)
{
	struct godwit_queue *queue = entry->flags & GODWIT_CQE_RECV_MASK ? &qp->rq : &qp->sq;
	uint16_t index = le32toh(entry->wqe_index);
	uint64_t wr_id = 0;

	if (queue->wr_ids)
		wr_id = queue->wr_ids[index & ((1U << queue->log2_depth) - 1)];
	__atomic_store_n(&queue->retired, index + 1, __ATOMIC_RELEASE);
	return wr_id;
}

/* The next entry, or NULL; the device cannot overwrite it before godwit_cq_publish(). */
static const struct godwit_cqe *godwit_cq_next(struct godwit_cq *cq, uint64_t *wr_id)
{
	const struct godwit_cqe *entry;
	struct godwit_qp *qp;

	while (godwit_cq_entry_ready(cq, cq->consumer)) {
		entry = &cq->entries[cq->consumer & ((1U << cq->log2_depth) - 1)];
		__atomic_store_n(&cq->consumer, cq->consumer + 1, __ATOMIC_RELAXED);
		qp = godwit_cq_find_qp(cq, le32toh(entry->qpn));
		if (!qp)
			continue;
		*wr_id = godwit_retire(qp, entry);
		return entry;
	}
	return NULL;
}

static enum ibv_wc_opcode godwit_wc_opcode(const struct godwit_cqe *entry)
{
	switch (entry->opcode) {
	case GODWIT_WR_WRITE:
	case GODWIT_WR_WRITE_IMM:
		return IBV_WC_RDMA_WRITE;
	case GODWIT_WR_READ:
		return IBV_WC_RDMA_READ;
	case GODWIT_WR_COMPARE_SWAP:
		return IBV_WC_COMP_SWAP;
	case GODWIT_WR_FETCH_ADD:
		return IBV_WC_FETCH_ADD;
	case GODWIT_WR_LOCAL_INV:
		return IBV_WC_LOCAL_INV;
	case GODWIT_WR_BIND_MW:
		return IBV_WC_BIND_MW;
	case GODWIT_CQE_OP_RECV:
		return IBV_WC_RECV;
	case GODWIT_CQE_OP_RECV_WRITE_IMM:
		return IBV_WC_RECV_RDMA_WITH_IMM;
	default:
		return IBV_WC_SEND;
	}
}

static unsigned int godwit_wc_flags(const struct godwit_cqe *entry)
{
	unsigned int flags = 0;

	if (entry->flags & GODWIT_CQE_IMM_MASK)
		flags |= IBV_WC_WITH_IMM;
	if (entry->flags & GODWIT_CQE_INV_MASK)
		flags |= IBV_WC_WITH_INV;
	if (entry->flags & GODWIT_CQE_GRH_MASK)
		flags |= IBV_WC_GRH;
	return flags;
}

/* Immediate data as it came; an R_Key as a number. */
static __be32 godwit_wc_imm(const struct godwit_cqe *entry)
{
	if (entry->flags & GODWIT_CQE_INV_MASK)
		return (__be32)be32toh(entry->imm_or_invalidated);
	return entry->imm_or_invalidated;
}

static void godwit_fill_wc(struct ibv_wc *wc, const struct godwit_cqe *entry, uint64_t wr_id)
{
	wc->wr_id = wr_id;
	wc->status = entry->status;
	wc->opcode = godwit_wc_opcode(entry);
	wc->vendor_err = entry->vendor_err;
	wc->byte_len = le32toh(entry->byte_len);
	wc->imm_data = godwit_wc_imm(entry);
	wc->qp_num = le32toh(entry->qpn);
	wc->src_qp = le32toh(entry->src_qpn);
	wc->wc_flags = godwit_wc_flags(entry);
	wc->pkey_index = le16toh(entry->pkey_index);
	wc->slid = 0;
	wc->sl = 0;
	wc->dlid_path_bits = 0;
}

int godwit_poll_cq(struct ibv_cq *ibcq, int num_entries, struct ibv_wc *wc)
{
	struct godwit_cq *cq = to_gcq(ibcq);
	const struct godwit_cqe *entry;
	uint32_t before;
	uint64_t wr_id;
	int n;

	godwit_lock(&cq->lock);
	before = cq->consumer;
	for (n = 0; n < num_entries; n++) {
		entry = godwit_cq_next(cq, &wr_id);
		if (!entry)
			break;
		godwit_fill_wc(&wc[n], entry, wr_id);
	}
	if (cq->consumer != before)
		godwit_cq_publish(cq);
	godwit_unlock(&cq->lock);
	return n;
}

/* ------------------------------------------------ ibv_start_poll and so on */

static struct godwit_cq *to_gcq_ex(struct ibv_cq_ex *cq_ex)
{
	return container_of(cq_ex, struct godwit_cq, vcq.cq_ex);
}

static int godwit_next_poll(struct ibv_cq_ex *cq_ex)
{
	struct godwit_cq *cq = to_gcq_ex(cq_ex);
	const struct godwit_cqe *entry;
	uint64_t wr_id;

	entry = godwit_cq_next(cq, &wr_id);
	if (!entry)
		return ENOENT;
	cq->current = entry;
	cq_ex->wr_id = wr_id;
	cq_ex->status = entry->status;
	return 0;
}

static void godwit_end_poll(struct ibv_cq_ex *cq_ex)
{
	struct godwit_cq *cq = to_gcq_ex(cq_ex);

	godwit_cq_publish(cq);
	godwit_unlock(&cq->lock);
}

static int godwit_start_poll(struct ibv_cq_ex *cq_ex, struct ibv_poll_cq_attr *attr)
{
	int ret;

	if (attr->comp_mask)
		return EINVAL;
	godwit_lock(&to_gcq_ex(cq_ex)->lock);
	ret = godwit_next_poll(cq_ex);
	if (ret)
		godwit_end_poll(cq_ex);
	return ret;
}

static enum ibv_wc_opcode godwit_read_opcode(struct ibv_cq_ex *cq_ex)
{
	return godwit_wc_opcode(to_gcq_ex(cq_ex)->current);
}

static uint32_t godwit_read_vendor_err(struct ibv_cq_ex *cq_ex)
{
	return to_gcq_ex(cq_ex)->current->vendor_err;
}

static unsigned int godwit_read_wc_flags(struct ibv_cq_ex *cq_ex)
{
	return godwit_wc_flags(to_gcq_ex(cq_ex)->current);
}

static uint32_t godwit_read_byte_len(struct ibv_cq_ex *cq_ex)
{
	return le32toh(to_gcq_ex(cq_ex)->current->byte_len);
}

static __be32 godwit_read_imm_data(struct ibv_cq_ex *cq_ex)
{
	return godwit_wc_imm(to_gcq_ex(cq_ex)->current);
}

static uint32_t godwit_read_qp_num(struct ibv_cq_ex *cq_ex)
{
	return le32toh(to_gcq_ex(cq_ex)->current->qpn);
}

static uint32_t godwit_read_src_qp(struct ibv_cq_ex *cq_ex)
{
	return le32toh(to_gcq_ex(cq_ex)->current->src_qpn);
}

/* RoCE has no LIDs. */
static uint32_t godwit_read_slid(struct ibv_cq_ex *cq_ex)
{
	(void)cq_ex;
	return 0;
}

static uint8_t godwit_read_zero(struct ibv_cq_ex *cq_ex)
{
	(void)cq_ex;
	return 0;
}

static uint64_t godwit_read_completion_ts(struct ibv_cq_ex *cq_ex)
{
	return le64toh(to_gcq_ex(cq_ex)->current->timestamp_ns);
}

void godwit_cq_set_poll_ops(struct godwit_cq *cq, uint64_t wc_flags)
{
	struct ibv_cq_ex *cq_ex = &cq->vcq.cq_ex;

	cq_ex->start_poll = godwit_start_poll;
	cq_ex->next_poll = godwit_next_poll;
	cq_ex->end_poll = godwit_end_poll;
	cq_ex->read_opcode = godwit_read_opcode;
	cq_ex->read_vendor_err = godwit_read_vendor_err;
	cq_ex->read_wc_flags = godwit_read_wc_flags;
	if (wc_flags & IBV_WC_EX_WITH_BYTE_LEN)
		cq_ex->read_byte_len = godwit_read_byte_len;
	if (wc_flags & IBV_WC_EX_WITH_IMM)
		cq_ex->read_imm_data = godwit_read_imm_data;
	if (wc_flags & IBV_WC_EX_WITH_QP_NUM)
		cq_ex->read_qp_num = godwit_read_qp_num;
	if (wc_flags & IBV_WC_EX_WITH_SRC_QP)
		cq_ex->read_src_qp = godwit_read_src_qp;
	if (wc_flags & IBV_WC_EX_WITH_SLID)
		cq_ex->read_slid = godwit_read_slid;
	if (wc_flags & IBV_WC_EX_WITH_SL)
		cq_ex->read_sl = godwit_read_zero;
	if (wc_flags & IBV_WC_EX_WITH_DLID_PATH_BITS)
		cq_ex->read_dlid_path_bits = godwit_read_zero;
	if (wc_flags & IBV_WC_EX_WITH_COMPLETION_TIMESTAMP)
		cq_ex->read_completion_ts = godwit_read_completion_ts;
}
