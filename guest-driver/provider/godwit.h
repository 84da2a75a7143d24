/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The provider's objects. Everything that the device shares with it lies in
 * private anonymous memory, so that a checkpoint takes it along; of the device
 * only the doorbell page is mapped, which a restore puts back at its address.
 */
#ifndef GODWIT_PROVIDER_H
#define GODWIT_PROVIDER_H

#include <endian.h>
#include <pthread.h>

#include "godwit_queue.h"
#include "godwit_regs.h"
#include "godwit_uapi.h"
#include "rdma_core.h"

struct godwit_context {
	struct verbs_context vctx;
	volatile uint64_t *doorbells;
	uint32_t max_inline;
	uint32_t max_send_sge;
	uint32_t max_recv_sge;
	uint32_t max_qp_wr;
	uint32_t log2_max_cqe;
};

struct godwit_device {
	struct verbs_device vdev;
};

/* Not taken when the application has promised to be alone. */
struct godwit_lock {
	pthread_spinlock_t spin;
	bool unneeded;
};

struct godwit_buffer {
	uint8_t *start;
	size_t length;
};

/* A QP as a CQ finds it, by number. */
struct godwit_cq_link {
	struct godwit_qp *qp;
	struct godwit_cq_link *next;
};

struct godwit_cq {
	struct verbs_cq vcq;
	struct godwit_lock lock;
	struct godwit_buffer buffer;
	struct godwit_cqe *entries;
	struct godwit_cq_record *record;
	uint32_t log2_depth;
	uint32_t cqn;
	uint32_t consumer;		/* free running */
	const struct godwit_cqe *current;	/* of start_poll and next_poll */
	struct godwit_cq_link **buckets;
	uint32_t bucket_count;		/* a power of two */
	uint32_t qps;
};

struct godwit_queue {
	struct godwit_lock lock;
	uint8_t *entries;
	uint64_t *wr_ids;
	uint32_t log2_depth;
	uint32_t log2_stride;
	uint32_t max_wr;
	uint32_t max_sge;
	uint16_t producer;		/* free running, as the device knows it */
	uint16_t retired;		/* written by who polls, read by who posts */
};

struct godwit_qp {
	struct verbs_qp vqp;
	struct godwit_buffer buffer;
	struct godwit_qp_record *record;
	struct godwit_queue sq;
	struct godwit_queue rq;
	struct godwit_cq_link send_link;
	struct godwit_cq_link recv_link;
	uint32_t max_inline;
	/* ibv_wr_*: between wr_start and wr_complete */
	struct godwit_send_wqe *wqe;
	uint16_t next;
	int error;
};

static inline struct godwit_context *to_gcontext(struct ibv_context *context)
{
	return container_of(context, struct godwit_context, vctx.context);
}

static inline struct godwit_cq *to_gcq(struct ibv_cq *cq)
{
	return container_of(cq, struct godwit_cq, vcq.cq);
}

static inline struct godwit_qp *to_gqp(struct ibv_qp *qp)
{
	return container_of(qp, struct godwit_qp, vqp.qp);
}

static inline void godwit_lock(struct godwit_lock *lock)
{
	if (!lock->unneeded)
		pthread_spin_lock(&lock->spin);
}

static inline void godwit_unlock(struct godwit_lock *lock)
{
	if (!lock->unneeded)
		pthread_spin_unlock(&lock->spin);
}

/*
 * What was stored to memory must be there before the device hears of it. On x86
 * stores to memory and to uncached space stay in order, and only the compiler
 * has to be told; elsewhere a full barrier is always right.
 */
static inline void godwit_to_device_barrier(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__asm__ volatile("" ::: "memory");
#else
	__sync_synchronize();
#endif
}

static inline void godwit_ring(const struct godwit_context *context, unsigned int doorbell,
			       uint32_t number, uint32_t value)
{
	godwit_to_device_barrier();
	context->doorbells[doorbell / sizeof(uint64_t)] =
		htole64((uint64_t)value << 32 | number);
}

static inline void *godwit_queue_entry(const struct godwit_queue *queue, uint16_t index)
{
	uint32_t slot = index & ((1U << queue->log2_depth) - 1);

	return queue->entries + ((size_t)slot << queue->log2_stride);
}

static inline bool godwit_queue_full(const struct godwit_queue *queue, uint16_t producer)
{
	uint16_t retired = __atomic_load_n(&queue->retired, __ATOMIC_ACQUIRE);

	return (uint16_t)(producer - retired) >= queue->max_wr;
}

static inline void godwit_queue_set_wr_id(struct godwit_queue *queue, uint16_t index,
					  uint64_t wr_id)
{
	queue->wr_ids[index & ((1U << queue->log2_depth) - 1)] = wr_id;
}

/* The smallest n with 1 << n >= value */
static inline uint32_t godwit_log2_up(uint32_t value)
{
	return value <= 1 ? 0 : 32 - __builtin_clz(value - 1);
}

/* memory.c */
int godwit_lock_init(struct godwit_lock *lock, bool unneeded);
void godwit_lock_fini(struct godwit_lock *lock);
int godwit_buffer_alloc(struct godwit_buffer *buffer, size_t length);
void godwit_buffer_free(struct godwit_buffer *buffer);

/* base.c */
int godwit_event_base(struct ibv_context *context, uint16_t method, uint32_t handle,
		      struct godwit_event_base *base);

/* cq.c */
struct ibv_cq *godwit_create_cq(struct ibv_context *context, int cqe,
				struct ibv_comp_channel *channel, int comp_vector);
struct ibv_cq_ex *godwit_create_cq_ex(struct ibv_context *context,
				      struct ibv_cq_init_attr_ex *attr);
int godwit_destroy_cq(struct ibv_cq *ibcq);
int godwit_req_notify_cq(struct ibv_cq *ibcq, int solicited_only);
void godwit_cq_link(struct godwit_cq *cq, struct godwit_cq_link *link);
void godwit_cq_unlink(struct godwit_cq *cq, struct godwit_cq_link *link);
void godwit_cq_clean(struct godwit_cq *cq, const struct godwit_qp *qp);

/* poll.c */
int godwit_poll_cq(struct ibv_cq *ibcq, int num_entries, struct ibv_wc *wc);
void godwit_cq_set_poll_ops(struct godwit_cq *cq, uint64_t wc_flags);
bool godwit_cq_entry_ready(const struct godwit_cq *cq, uint32_t index);
void godwit_cq_publish(struct godwit_cq *cq);

/* qp.c */
struct ibv_qp *godwit_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
struct ibv_qp *godwit_create_qp_ex(struct ibv_context *context,
				   struct ibv_qp_init_attr_ex *attr);
int godwit_modify_qp(struct ibv_qp *ibqp, struct ibv_qp_attr *attr, int attr_mask);
int godwit_query_qp(struct ibv_qp *ibqp, struct ibv_qp_attr *attr, int attr_mask,
		    struct ibv_qp_init_attr *init_attr);
int godwit_destroy_qp(struct ibv_qp *ibqp);

/* post.c, wr.c */
int godwit_post_send(struct ibv_qp *ibqp, struct ibv_send_wr *wr, struct ibv_send_wr **bad_wr);
int godwit_post_recv(struct ibv_qp *ibqp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr);
int godwit_wqe_sges(struct godwit_qp *qp, struct godwit_send_wqe *wqe, const struct ibv_sge *sges,
		    size_t count);
int godwit_wqe_inline(struct godwit_qp *qp, struct godwit_send_wqe *wqe, const void *data,
		      size_t length);
int godwit_wqe_flags(struct godwit_send_wqe *wqe, unsigned int send_flags);
struct godwit_send_wqe *godwit_wqe_begin(struct godwit_qp *qp, uint16_t index, uint8_t opcode,
					 uint64_t wr_id);
void godwit_wqe_remote(struct godwit_send_wqe *wqe, uint32_t rkey, uint64_t remote_addr);
void godwit_sq_publish(struct godwit_qp *qp, uint16_t producer);
bool godwit_sq_closed(const struct ibv_qp *ibqp);
int godwit_qp_set_wr_ops(struct godwit_qp *qp, uint64_t send_ops);

#endif /* GODWIT_PROVIDER_H */
