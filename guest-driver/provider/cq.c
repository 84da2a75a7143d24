// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Completion queues: create, destroy, arm; and which QPs complete to which.
 */
#include <errno.h>
#include <stdlib.h>

#include "godwit.h"

#define GODWIT_CQ_FIRST_BUCKETS	16

struct godwit_create_cq_cmd {
	struct ibv_create_cq ibv_cmd;
	struct godwit_ureq_create_cq drv;
};

struct godwit_create_cq_resp {
	struct ib_uverbs_create_cq_resp ibv_resp;
	struct godwit_uresp_create_cq drv;
};

_Static_assert(offsetof(struct godwit_create_cq_cmd, drv) == sizeof(struct ibv_create_cq),
	       "padding before driver data");
_Static_assert(offsetof(struct godwit_create_cq_resp, drv) ==
	       sizeof(struct ib_uverbs_create_cq_resp), "padding before driver data");

/* ------------------------------------------------ QPs by number */

static struct godwit_cq_link **godwit_cq_bucket(struct godwit_cq *cq, uint32_t qpn)
{
	/* QPNs are random: their low bits are as good as a hash. */
	return &cq->buckets[qpn & (cq->bucket_count - 1)];
}

/* Fails quietly: longer chains are slower, nothing else. */
static void godwit_cq_grow_buckets(struct godwit_cq *cq)
{
	struct godwit_cq_link **old = cq->buckets;
	struct godwit_cq_link *link, *next;
	uint32_t old_count = cq->bucket_count;
	uint32_t i;

	cq->buckets = calloc(old_count * 2, sizeof(*cq->buckets));
	if (!cq->buckets) {
		cq->buckets = old;
		return;
	}
	cq->bucket_count = old_count * 2;
	for (i = 0; i < old_count; i++) {
		for (link = old[i]; link; link = next) {
			struct godwit_cq_link **bucket =
				godwit_cq_bucket(cq, link->qp->vqp.qp.qp_num);

			next = link->next;
			link->next = *bucket;
			*bucket = link;
		}
	}
	free(old);
}

void godwit_cq_link(struct godwit_cq *cq, struct godwit_cq_link *link)
{
	struct godwit_cq_link **bucket;

	godwit_lock(&cq->lock);
	if (cq->qps >= cq->bucket_count)
		godwit_cq_grow_buckets(cq);
	bucket = godwit_cq_bucket(cq, link->qp->vqp.qp.qp_num);
	link->next = *bucket;
	*bucket = link;
	cq->qps++;
	godwit_unlock(&cq->lock);
}

void godwit_cq_unlink(struct godwit_cq *cq, struct godwit_cq_link *link)
{
	struct godwit_cq_link **at;

	godwit_lock(&cq->lock);
	for (at = godwit_cq_bucket(cq, link->qp->vqp.qp.qp_num); *at; at = &(*at)->next) {
		if (*at == link) {
			*at = link->next;
			cq->qps--;
			break;
		}
	}
	godwit_unlock(&cq->lock);
}

/* ------------------------------------------------ create and destroy */

static int godwit_cq_alloc(struct godwit_cq *cq, uint32_t log2_depth, bool single_threaded)
{
	size_t ring = sizeof(struct godwit_cqe) << log2_depth;
	int ret;

	cq->log2_depth = log2_depth;
	cq->bucket_count = GODWIT_CQ_FIRST_BUCKETS;
	cq->buckets = calloc(cq->bucket_count, sizeof(*cq->buckets));
	if (!cq->buckets)
		return ENOMEM;
	ret = godwit_buffer_alloc(&cq->buffer, ring + sizeof(*cq->record));
	if (ret)
		return ret;
	cq->entries = (struct godwit_cqe *)cq->buffer.start;
	cq->record = (struct godwit_cq_record *)(cq->buffer.start + ring);
	return godwit_lock_init(&cq->lock, single_threaded);
}

static void godwit_cq_free(struct godwit_cq *cq)
{
	godwit_buffer_free(&cq->buffer);
	free(cq->buckets);
	free(cq);
}

static int godwit_cq_command(struct ibv_context *context, struct godwit_cq *cq, int cqe,
			     struct ibv_comp_channel *channel, int comp_vector)
{
	struct godwit_create_cq_resp resp = {};
	struct godwit_create_cq_cmd cmd = {};
	int ret;

	cmd.drv.buffer = (uintptr_t)cq->buffer.start;
	cmd.drv.buffer_length = cq->buffer.length;
	cmd.drv.log2_depth = cq->log2_depth;
	cmd.drv.record_offset = sizeof(struct godwit_cqe) << cq->log2_depth;
	ret = ibv_cmd_create_cq(context, cqe, channel, comp_vector, &cq->vcq.cq, &cmd.ibv_cmd,
				sizeof(cmd), &resp.ibv_resp, sizeof(resp));
	if (!ret)
		cq->cqn = resp.drv.cqn;
	return ret;
}

static struct godwit_cq *godwit_cq_new(struct ibv_context *context, uint32_t cqe,
				       struct ibv_comp_channel *channel, int comp_vector,
				       bool single_threaded)
{
	uint32_t log2_max = to_gcontext(context)->log2_max_cqe;
	struct godwit_cq *cq;
	int ret;

	if (!cqe || log2_max > 31 || cqe > 1U << log2_max) {
		errno = EINVAL;
		return NULL;
	}
	cq = calloc(1, sizeof(*cq));
	if (!cq)
		return NULL;
	ret = godwit_cq_alloc(cq, godwit_log2_up(cqe), single_threaded);
	if (!ret)
		ret = godwit_cq_command(context, cq, cqe, channel, comp_vector);
	if (!ret)
		return cq;
	godwit_cq_free(cq);
	errno = ret;
	return NULL;
}

struct ibv_cq *godwit_create_cq(struct ibv_context *context, int cqe,
				struct ibv_comp_channel *channel, int comp_vector)
{
	struct godwit_cq *cq;

	cq = godwit_cq_new(context, cqe > 0 ? cqe : 0, channel, comp_vector, false);
	return cq ? &cq->vcq.cq : NULL;
}

#define GODWIT_CQ_WC_FLAGS	(IBV_WC_STANDARD_FLAGS | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP)

struct ibv_cq_ex *godwit_create_cq_ex(struct ibv_context *context,
				      struct ibv_cq_init_attr_ex *attr)
{
	uint32_t flags = 0;
	struct godwit_cq *cq;

	if (attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_FLAGS)
		flags = attr->flags;
	if (attr->comp_mask & ~(uint32_t)IBV_CQ_INIT_ATTR_MASK_FLAGS ||
	    attr->wc_flags & ~(uint64_t)GODWIT_CQ_WC_FLAGS ||
	    flags & ~(uint32_t)IBV_CREATE_CQ_ATTR_SINGLE_THREADED) {
		errno = EOPNOTSUPP;
		return NULL;
	}
	cq = godwit_cq_new(context, attr->cqe, attr->channel, attr->comp_vector,
			   flags & IBV_CREATE_CQ_ATTR_SINGLE_THREADED);
	if (!cq)
		return NULL;
	godwit_cq_set_poll_ops(cq, attr->wc_flags);
	return &cq->vcq.cq_ex;
}

static void godwit_cq_shift_events(struct ibv_cq *ibcq, const struct godwit_event_base *base,
				   bool back)
{
	pthread_mutex_lock(&ibcq->mutex);
	ibcq->comp_events_completed += back ? base->comp : -base->comp;
	ibcq->async_events_completed += back ? base->async : -base->async;
	pthread_mutex_unlock(&ibcq->mutex);
}

int godwit_destroy_cq(struct ibv_cq *ibcq)
{
	struct godwit_cq *cq = to_gcq(ibcq);
	struct godwit_event_base base;
	int ret;

	ret = godwit_event_base(ibcq->context, GODWIT_METHOD_USER_CQ_BASE, ibcq->handle, &base);
	if (ret)
		return ret;
	godwit_cq_shift_events(ibcq, &base, false);
	ret = ibv_cmd_destroy_cq(ibcq);
	if (ret) {
		godwit_cq_shift_events(ibcq, &base, true);	/* it lives on */
		return ret;
	}
	godwit_lock_fini(&cq->lock);
	godwit_cq_free(cq);
	return 0;
}

/* ------------------------------------------------ arm, clean */

int godwit_req_notify_cq(struct ibv_cq *ibcq, int solicited_only)
{
	struct godwit_cq *cq = to_gcq(ibcq);
	uint32_t value;

	value = __atomic_load_n(&cq->consumer, __ATOMIC_RELAXED) & GODWIT_DB_CQ_ARM_INDEX_MASK;
	if (solicited_only)
		value |= GODWIT_DB_CQ_ARM_SOLICITED_MASK;
	godwit_ring(to_gcontext(ibcq->context), GODWIT_DB_CQ_ARM, cq->cqn, value);
	return 0;
}

/*
 * Takes out the entries of a QP that is no more, or that begins anew: whoever
 * polls must not find them, and the ring must not stay full of them. The others
 * move up to the producer's end, each with the phase of its new place.
 */
void godwit_cq_clean(struct godwit_cq *cq, const struct godwit_qp *qp)
{
	uint32_t mask = (1U << cq->log2_depth) - 1;
	uint32_t qpn = qp->vqp.qp.qp_num;
	uint32_t end, index, freed = 0;

	godwit_lock(&cq->lock);
	for (end = cq->consumer; end - cq->consumer <= mask; end++)
		if (!godwit_cq_entry_ready(cq, end))
			break;
	for (index = end; index-- != cq->consumer;) {
		const struct godwit_cqe *from = &cq->entries[index & mask];
		struct godwit_cqe *to = &cq->entries[(index + freed) & mask];
		uint8_t phase = to->phase;

		if (le32toh(from->qpn) == qpn) {
			freed++;
		} else if (freed) {
			*to = *from;
			to->phase = phase;
		}
	}
	if (freed) {
		__atomic_store_n(&cq->consumer, cq->consumer + freed, __ATOMIC_RELAXED);
		godwit_cq_publish(cq);
	}
	godwit_unlock(&cq->lock);
}
