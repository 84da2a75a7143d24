/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Checkpoint and restore: what cr.c (the uverbs methods), cr_dump.c and
 * cr_restore.c share. Meaning and sequence of the methods: docs/spec/uapi.md.
 */
#ifndef GODWIT_CR_H
#define GODWIT_CR_H

#include "verbs.h"

/* Room for the saved state of any one object */
#define GODWIT_STATE_ROOM	4096

/* A freeze. Lives as long as its descriptor, and decides at its end what becomes of the context. */
struct godwit_lease {
	struct ib_uobject uobj;
	struct godwit_ucontext *context;
	u64 move;
	struct pid **tasks;		/* the processes that are being dumped */
	u32 task_count;
	bool traced;			/* … because the caller traces them */
};

/* From RTR to SQE: it has a peer, unless it is of type UD. */
static inline bool godwit_is_connected(const struct godwit_qp_attr *attr)
{
	return attr->status >= GODWIT_QP_STATUS_RTR && attr->status <= GODWIT_QP_STATUS_SQE;
}

/* cr_dump.c */
int godwit_lease_begin(struct godwit_lease *lease, struct godwit_ucontext *context,
		       struct godwit_lease_info *info);
void godwit_lease_end(struct ib_uobject *uobj, enum rdma_remove_reason why);
int godwit_note_event(struct godwit_ucontext *context, struct godwit_cq *cq,
		      struct godwit_qp *qp, const struct godwit_event_in *in);
int godwit_cr_dump(struct godwit_ucontext *context, const struct godwit_dump_in *in,
		   struct godwit_dump_out *out);
int godwit_cr_status(struct godwit_ucontext *context, struct godwit_status_out *out);
u64 godwit_channel_cookie(struct godwit_dev *dev, struct ib_uobject *channel);

/* cr_restore.c */
int godwit_event_check(struct godwit_cq *cq, struct godwit_qp *qp,
		       const struct godwit_event_in *in);
void godwit_event_raise(struct godwit_ucontext *context, struct godwit_cq *cq,
			struct godwit_qp *qp, bool comp, enum ib_event_type type);
int godwit_inject_event(struct godwit_ucontext *context, struct godwit_cq *cq,
			struct godwit_qp *qp, const struct godwit_event_in *in);
int godwit_cr_set_qp(struct godwit_qp *qp, const struct godwit_set_state *in);
int godwit_cr_set_cq(struct godwit_cq *cq, const struct godwit_set_state *in);
int godwit_cr_program(struct godwit_ucontext *context, u32 pid, struct godwit_program_out *out);
int godwit_cr_resume(struct godwit_ucontext *context, const struct godwit_resume_in *in);

#endif /* GODWIT_CR_H */
