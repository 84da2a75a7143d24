/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * RDMA objects. All belong to a user context: there are no kernel users.
 */
#ifndef GODWIT_VERBS_H
#define GODWIT_VERBS_H

#include <linux/mutex.h>
#include <linux/pid.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>
#include <rdma/uverbs_ioctl.h>

#include "godwit.h"
#include "godwit_uapi.h"

enum godwit_context_state {
	GODWIT_CONTEXT_RUNNING,
	GODWIT_CONTEXT_RESTORING,	/* born with RESTORE, silent until CR_RESUME */
	GODWIT_CONTEXT_FROZEN,		/* under a lease */
	GODWIT_CONTEXT_LEFT,		/* dumped, and its processes are being killed */
};

struct godwit_ucontext {
	struct ib_ucontext ibuc;
	struct godwit_dev *dev;
	struct rdma_user_mmap_entry doorbell;
	u32 uctx;			/* doorbell page */
	u64 cookie;
	struct pid *owner;		/* who made it */
	struct ida cqn_ida;
	struct mutex lock;		/* all below */
	enum godwit_context_state state;
	struct list_head pds;
	struct list_head mrs;
	struct list_head cqs;
	struct list_head qps;
	struct list_head notes;		/* events that the dump took out, oldest first */
};

/*
 * A piece of user memory that the device works on. While a context is being
 * restored the memory is not there yet: it is pinned by CR_PROGRAM.
 */
struct godwit_memory {
	u64 start;
	u64 length;
	int access;			/* IB_ACCESS_* */
	struct ib_umem *umem;
	struct pid *owner;		/* whose it is, once pinned */
	s32 wanted_owner;		/* restore: pid in its own namespace */
};

/* Page list of pinned memory, alive during one command: the device copies it. */
struct godwit_page_list {
	struct godwit_list_page **pages;
	dma_addr_t *addrs;
	u32 list_pages;
	u32 page_count;
	u32 page_shift;
	u32 first_offset;
};

struct godwit_pd {
	struct ib_pd ibpd;
	struct godwit_ucontext *context;
	struct list_head node;
	u32 pdn;
};

struct godwit_mr {
	struct ib_mr ibmr;
	struct godwit_pd *pd;
	struct list_head node;
	struct godwit_memory memory;
	u64 iova;
	bool programmed;
};

struct godwit_cq {
	struct ib_cq ibcq;
	struct godwit_ucontext *context;
	struct list_head node;
	struct godwit_memory memory;
	struct ib_uobject *channel;	/* the core holds it as long as the CQ */
	u32 cqn;
	u32 event_number;
	u32 log2_depth;
	u32 record_offset;
	u32 wanted_cqe;			/* as the application asked */
	u32 comp_vector;
	atomic_t comp_raised;
	atomic_t async_raised;
	u32 comp_base;
	u32 async_base;
	bool loaded;			/* restore */
	bool programmed;
};

struct godwit_qp {
	struct ib_qp ibqp;
	struct godwit_ucontext *context;
	struct list_head node;
	struct godwit_memory memory;
	struct godwit_cq *send_cq;	/* the core sets its own only when the QP is made */
	struct godwit_cq *recv_cq;
	struct ib_qp_cap cap;
	u32 sq_offset;
	u32 rq_offset;
	u32 record_offset;
	u8 log2_sq_depth;
	u8 log2_rq_depth;
	u8 log2_sq_stride;
	u8 log2_rq_stride;
	bool signal_all;
	enum ib_qp_state state;		/* as far as we were told */
	atomic_t async_raised;
	u32 async_base;
	bool loaded;			/* restore */
	bool programmed;
	bool tombstone;			/* the device's QP has left us */
	union ib_gid own_gid;		/* of its AV */
	u32 own_gid_index;
	/* restore: the checkpoint, and whom it spoke to when it was dumped */
	u64 move;
	bool had_av;
	union ib_gid peer_gid;
	u32 peer_qpn;
};

static inline struct godwit_ucontext *to_gcontext(struct ib_ucontext *ibuc)
{
	return container_of(ibuc, struct godwit_ucontext, ibuc);
}

static inline struct godwit_pd *to_gpd(struct ib_pd *ibpd)
{
	return container_of(ibpd, struct godwit_pd, ibpd);
}

static inline struct godwit_mr *to_gmr(struct ib_mr *ibmr)
{
	return container_of(ibmr, struct godwit_mr, ibmr);
}

static inline struct godwit_cq *to_gcq(struct ib_cq *ibcq)
{
	return container_of(ibcq, struct godwit_cq, ibcq);
}

static inline struct godwit_qp *to_gqp(struct ib_qp *ibqp)
{
	return container_of(ibqp, struct godwit_qp, ibqp);
}

/* buffer.c */
int godwit_memory_pin(struct godwit_dev *dev, struct godwit_memory *memory);
int godwit_memory_pin_of(struct godwit_dev *dev, struct godwit_memory *memory,
			 struct mm_struct *mm, struct pid *owner);
void godwit_memory_unpin(struct godwit_memory *memory);
int godwit_page_list_init(struct godwit_dev *dev, struct godwit_page_list *list,
			  struct ib_umem *umem);
void godwit_page_list_fini(struct godwit_dev *dev, struct godwit_page_list *list);
void godwit_page_list_buffer(const struct godwit_page_list *list, u32 length,
			     struct godwit_buffer *buffer);

/* context.c */
int godwit_alloc_ucontext(struct ib_ucontext *ibuc, struct ib_udata *udata);
void godwit_dealloc_ucontext(struct ib_ucontext *ibuc);
void godwit_disassociate_ucontext(struct ib_ucontext *ibuc);
int godwit_mmap(struct ib_ucontext *ibuc, struct vm_area_struct *vma);
void godwit_mmap_free(struct rdma_user_mmap_entry *entry);
int godwit_alloc_pd(struct ib_pd *ibpd, struct ib_udata *udata);
int godwit_dealloc_pd(struct ib_pd *ibpd, struct ib_udata *udata);
int godwit_udata_in(struct ib_udata *udata, void *request, size_t size);
int godwit_udata_out(struct ib_udata *udata, const void *response, size_t size);
int godwit_context_enter(struct godwit_ucontext *context, bool restore);
void godwit_context_leave(struct godwit_ucontext *context);
bool godwit_cr_capable(void);

/* mr.c */
struct ib_mr *godwit_reg_user_mr(struct ib_pd *ibpd, u64 start, u64 length, u64 iova, int access,
				 struct ib_udata *udata);
int godwit_dereg_mr(struct ib_mr *ibmr, struct ib_udata *udata);
int godwit_mr_program(struct godwit_mr *mr, bool restore);

/* cq.c */
int godwit_create_cq(struct ib_cq *ibcq, const struct ib_cq_init_attr *attr,
		     struct ib_udata *udata);
int godwit_destroy_cq(struct ib_cq *ibcq, struct ib_udata *udata);
void godwit_cq_raise_comp(struct godwit_cq *cq);
void godwit_cq_raise_async(struct godwit_cq *cq, enum ib_event_type type);

/* qp.c */
int godwit_create_qp(struct ib_qp *ibqp, struct ib_qp_init_attr *attr, struct ib_udata *udata);
int godwit_modify_qp(struct ib_qp *ibqp, struct ib_qp_attr *attr, int mask,
		     struct ib_udata *udata);
int godwit_query_qp(struct ib_qp *ibqp, struct ib_qp_attr *attr, int mask,
		    struct ib_qp_init_attr *init);
int godwit_destroy_qp(struct ib_qp *ibqp, struct ib_udata *udata);
void godwit_qp_raise_async(struct godwit_qp *qp, enum ib_event_type type);

/* cr.c */
extern const struct uapi_definition godwit_uapi_definitions[];

/* cr_dump.c */
void godwit_notes_forget(struct godwit_ucontext *context, const void *object);

#endif /* GODWIT_VERBS_H */
