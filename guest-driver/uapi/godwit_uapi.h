/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Kernel <-> provider <-> CRIU plugin: driver data of the standard verbs, and the
 * driver's own uverbs methods. Meaning and sequence: docs/spec/uapi.md.
 *
 * Native endian, 8-byte aligned, no padding. Reserved fields are zero and
 * checked. All methods but GODWIT_METHOD_USER_*, and the flag RESTORE of verbs,
 * need CAP_CHECKPOINT_RESTORE in the initial user namespace.
 */
#ifndef GODWIT_UAPI_H
#define GODWIT_UAPI_H

#include <linux/types.h>

#define GODWIT_DRIVER_ID	0x47445754	/* "GDWT" */
#define GODWIT_UVERBS_ABI	1

/* 1 << UVERBS_ID_NS_SHIFT: where a driver's own numbers begin */
#define GODWIT_UVERBS_NS	(1U << 12)

/* ------------------------------------------------ driver data of verbs */

/* flags of the request structs; RESTORE only in a context born with it */
#define GODWIT_UREQ_RESTORE	0x1

struct godwit_ureq_context {
	__u32 flags;			/* GODWIT_UREQ_RESTORE: born frozen, see docs/spec/uapi.md */
	__u32 reserved_20;
};

struct godwit_uresp_context {
	__aligned_u64 doorbell_offset;	/* for mmap of the doorbell page; unique in the device */
	__u32 uctx;			/* doorbell page number */
	__u32 page_size;
	__u32 max_inline;		/* bytes */
	__u32 max_send_sge;
	__u32 max_recv_sge;
	__u32 max_qp_wr;
	__u32 log2_max_cqe;
	__u32 reserved_120;
};

struct godwit_ureq_reg_mr {
	__u32 flags;
	__u32 key;			/* RESTORE: L_Key and R_Key */
	__s32 owner;			/* RESTORE: whose memory, pid in its own pid namespace */
	__u32 reserved_60;
};

struct godwit_ureq_create_cq {
	__aligned_u64 buffer;		/* user address, page aligned: CQEs, then struct godwit_cq_record */
	__u32 buffer_length;
	__u32 log2_depth;
	__u32 record_offset;
	__u32 flags;
	__u32 cqn;			/* RESTORE */
	__u32 comp_base;		/* RESTORE: completion events that the application has taken */
	__u32 async_base;		/* RESTORE: asynchronous events that it has taken */
	__s32 owner;			/* RESTORE: whose memory */
};

struct godwit_uresp_create_cq {
	__u32 cqn;
	__u32 reserved_20;
};

struct godwit_ureq_create_qp {
	__aligned_u64 buffer;		/* user address, page aligned: send queue, receive queue, record */
	__u32 buffer_length;
	__u32 sq_offset;
	__u32 rq_offset;
	__u32 record_offset;
	__u8 log2_sq_depth;
	__u8 log2_rq_depth;		/* 255: no receive queue */
	__u8 log2_sq_stride;
	__u8 log2_rq_stride;
	__u32 flags;
	__u32 qpn;			/* RESTORE */
	__u32 async_base;		/* RESTORE: asynchronous events that the application has taken */
	__aligned_u64 move;		/* RESTORE: the checkpoint, godwit_lease_info.move */
	__s32 owner;			/* RESTORE: whose memory */
	__u32 reserved_1a0;
};

struct godwit_uresp_create_qp {
	__u32 qpn;
	__u32 reserved_20;
};

/* ------------------------------------------------ own objects and methods */

/* The kernel allows 8 driver methods per object and 12 driver objects. */
enum godwit_uverbs_objects {
	GODWIT_OBJECT_CR = GODWIT_UVERBS_NS,	/* checkpoint and restore */
	GODWIT_OBJECT_PLACEHOLDER,		/* takes one handle, nothing else */
	GODWIT_OBJECT_USER,			/* for the provider */
	GODWIT_OBJECT_LEASE,			/* descriptor: a context is frozen while it is open */
	GODWIT_OBJECT_MOVE,			/* tombstones and reservations */
};

enum godwit_methods_cr {
	GODWIT_METHOD_CR_DUMP = GODWIT_UVERBS_NS,
	GODWIT_METHOD_CR_SET_QP,
	GODWIT_METHOD_CR_SET_CQ,
	GODWIT_METHOD_CR_PROGRAM,	/* pin and program what one process owns */
	GODWIT_METHOD_CR_RESUME,	/* point of no return */
	GODWIT_METHOD_CR_EVENT,		/* inject or note one event */
	GODWIT_METHOD_CR_IDENTIFY,	/* what is this event descriptor of this context? */
	GODWIT_METHOD_CR_STATUS,	/* how many QPs are still Resuming */
};

enum godwit_methods_placeholder {
	GODWIT_METHOD_PLACEHOLDER_ALLOC = GODWIT_UVERBS_NS,
	GODWIT_METHOD_PLACEHOLDER_FREE,
};

enum godwit_methods_user {
	GODWIT_METHOD_USER_CQ_BASE = GODWIT_UVERBS_NS,	/* struct godwit_event_base */
	GODWIT_METHOD_USER_QP_BASE,
	GODWIT_METHOD_USER_SRQ_BASE,
};

enum godwit_methods_lease {
	GODWIT_METHOD_LEASE_ALLOC = GODWIT_UVERBS_NS,
};

enum godwit_methods_move {
	GODWIT_METHOD_MOVE_RESERVE = GODWIT_UVERBS_NS,	/* QPNs, for some time */
	GODWIT_METHOD_MOVE_COMMIT,
	GODWIT_METHOD_MOVE_DROP,
	GODWIT_METHOD_MOVE_LIST,
};

enum godwit_attrs {
	GODWIT_ATTR_HANDLE = GODWIT_UVERBS_NS,	/* IDR or descriptor that the method is about */
	GODWIT_ATTR_IN,
	GODWIT_ATTR_OUT,
	GODWIT_ATTR_CHANNEL,			/* IDENTIFY: the descriptor as a completion channel, or */
	GODWIT_ATTR_ASYNC,			/* … as an asynchronous event descriptor */
	GODWIT_ATTR_CQ,				/* EVENT: one of these three, or none for the port's */
	GODWIT_ATTR_QP,
	GODWIT_ATTR_SRQ,
};

/* USER_*_BASE, out: what destroy must subtract from libibverbs's counts of taken events */
struct godwit_event_base {
	__u32 comp;
	__u32 async;
};

/*
 * LEASE_ALLOC: in and out. The context stands still when it returns. Refused with
 * -ETXTBSY if a process that the caller does not trace has the context open, with
 * -EOPNOTSUPP if memory belongs to such a process, with -EBUSY if it stands still already.
 */
struct godwit_lease_info {
	__aligned_u64 move;		/* in: identifies the checkpoint, random, not 0 */
	__aligned_u64 uctx_cookie;	/* out: identifies the context on this device */
	__aligned_u64 reserved_80;
};

#define GODWIT_RECORD_CONTEXT	1
#define GODWIT_RECORD_PD	2
#define GODWIT_RECORD_MR	3
#define GODWIT_RECORD_CQ	4
#define GODWIT_RECORD_QP	5
#define GODWIT_RECORD_SRQ	6
#define GODWIT_RECORD_MW	7
#define GODWIT_RECORD_AH	8

/*
 * One verbs object. CQs and QPs have a device state of state_length bytes at
 * state_offset of the dump's state area: opaque, abi/godwit_state.h.
 */
struct godwit_record {
	__u32 type;			/* GODWIT_RECORD_* */
	__u32 handle;			/* uverbs handle */
	__aligned_u64 user_handle;
	__u32 pd_handle;
	__u32 number;			/* context: doorbell page; MR: key; CQ: CQ number; QP: QPN */
	__s32 owner;			/* pid, in its own pid namespace, whose memory is pinned */
	__u32 access;			/* MR; QP: GODWIT_ACCESS_REMOTE_* */
	__aligned_u64 start;		/* MR, queue buffers: user address */
	__aligned_u64 length;		/* MR, queue buffers: bytes */
	__aligned_u64 iova;		/* MR */
	__aligned_u64 channel;		/* CQ: cookie of its completion channel, 0: none */
	__u32 comp_events;		/* CQ: completion events that were raised, unread ones included */
	__u32 async_events;		/* asynchronous events that were raised, unread ones included */
	__u32 send_cq_handle;		/* QP */
	__u32 recv_cq_handle;		/* QP */
	__u32 srq_handle;		/* QP with has_srq */
	__u32 cqe;			/* CQ: as the application asked */
	__u32 comp_vector;		/* CQ */
	__u32 record_offset;		/* CQ, QP */
	__u32 sq_offset;		/* QP */
	__u32 rq_offset;
	__u32 max_send_wr;		/* QP: capabilities as granted */
	__u32 max_recv_wr;
	__u32 max_send_sge;
	__u32 max_recv_sge;
	__u32 max_inline;
	__u8 qp_type;			/* IB_QPT_* */
	__u8 qp_state;			/* IB_QPS_* */
	__u8 sq_sig_all;
	__u8 has_srq;
	__u8 log2_sq_depth;		/* QP; CQ: its depth */
	__u8 log2_rq_depth;
	__u8 log2_sq_stride;
	__u8 log2_rq_stride;
	__u8 has_av;			/* QP: GIDs and addresses below are set */
	__u8 path_mtu;			/* IB_MTU_* */
	__u8 port;
	__u8 extended_peer;		/* the peer knows the extension */
	__u8 own_gid[16];
	__u8 peer_gid[16];
	__u32 own_gid_index;
	__u32 peer_qpn;
	__u32 state_offset;
	__u32 state_length;
	__u8 reserved_end[32];
};

/* CR_DUMP, in: where to; out: what there is. -ENOSPC, with `out` filled, if it does not fit. */
struct godwit_dump_in {
	__aligned_u64 records;		/* user address of struct godwit_record[] */
	__aligned_u64 state;		/* user address of the state area */
	__u32 max_records;
	__u32 state_room;		/* bytes */
};

struct godwit_dump_out {
	__u32 records;
	__u32 state_used;		/* bytes */
	__aligned_u64 uctx_cookie;
};

/* CR_SET_QP, CR_SET_CQ: handle, and this */
struct godwit_set_state {
	__aligned_u64 state;		/* user address of the device state */
	__u32 length;
	__u32 own_gid_index;		/* QP: where its own GID is here, if has_av; checked */
	struct godwit_record record;	/* QP: state, AV and so on, as dumped */
};

struct godwit_program_in {
	__u32 pid;			/* of the process, as the caller sees it */
	__u32 reserved_20;
};

struct godwit_program_out {
	__u32 programmed;		/* objects now */
	__u32 left;			/* objects of other owners still to come */
};

struct godwit_resume_in {
	__u32 attempt;			/* 1 …: never one that this image has used before */
	__u32 flags;
};

#define GODWIT_EVENT_INJECT	0	/* restore: as if it had just happened */
#define GODWIT_EVENT_NOTE	1	/* dump: taken out of the queue; given back if the lease ends in a thaw */
#define GODWIT_EVENT_COMP	0x100	/* with CQ: a completion event, not an asynchronous one */

struct godwit_event_in {
	__u32 what;			/* GODWIT_EVENT_* */
	__u32 event_type;		/* IB_EVENT_* of an asynchronous event */
};

#define GODWIT_IDENTIFY_CHANNEL	1
#define GODWIT_IDENTIFY_ASYNC	2

struct godwit_identify_out {
	__aligned_u64 cookie;		/* of a channel, as in godwit_record.channel */
	__u32 kind;			/* GODWIT_IDENTIFY_* */
	__u32 reserved_60;
};

struct godwit_status_out {
	__u32 qps;
	__u32 stopped;
	__u32 paused;
	__u32 resuming;
	__u32 error;
	__u32 reserved_a0;
};

struct godwit_move_reserve_in {
	__aligned_u64 move;
	__aligned_u64 qpns;		/* user address of __u32[] */
	__u32 count;
	__u32 ttl_ms;
};

struct godwit_move_in {
	__aligned_u64 move;
};

struct godwit_move_list_in {
	__aligned_u64 entries;		/* user address of struct godwit_move_entry[] */
	__u32 max_entries;
	__u32 reserved_60;
};

struct godwit_move_list_out {
	__u32 entries;
	__u32 reserved_20;
};

struct godwit_move_entry {
	__aligned_u64 move;
	__u32 qpn;
	__u32 peer_qpn;
	__u32 ttl_ms;			/* 0xffffffff: not committed */
	__u32 answered;
};

#endif /* GODWIT_UAPI_H */
