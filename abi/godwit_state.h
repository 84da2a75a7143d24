/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Saved state of objects: SAVE writes it, LOAD takes it.
 *
 * This is the definition of what state is: whatever the next packet, completion
 * or event of an object may depend on, beside what lies in guest memory (rings,
 * doorbell records, data). To everybody but the device a saved state is opaque.
 * LOAD treats it as hostile input. Times are what is left, in nanoseconds,
 * 2^64 - 1 where a timer is not running.
 */
#ifndef GODWIT_STATE_H

#include "godwit_types.h"
#include "godwit_cmd.h"

/* Only now: godwit_cmd.h ends with the checks of every header that it finds defined. */
#define GODWIT_STATE_H

#define GODWIT_STATE_MAGIC		0x53574447	/* "GDWS" */
#define GODWIT_STATE_VERSION		1

#define GODWIT_STATE_MAX_RD_ATOMIC	16
#define GODWIT_STATE_MAX_PLACES		4
#define GODWIT_STATE_TIMER_OFF		0xffffffffffffffff

struct godwit_state_header {
	godwit_le32 magic;			/* GODWIT_STATE_MAGIC */
	godwit_le16 version;			/* GODWIT_STATE_VERSION */
	godwit_le16 type;			/* GODWIT_STATE_QP, … */
	godwit_le32 length;			/* bytes, header included */
	godwit_le32 crc32;			/* of everything, this field taken as zero */
};

/* A place: where a QP can be or has been reached. */
struct godwit_place {
	godwit_u8 gid[16];
	godwit_u8 mac[6];
	godwit_u8 reserved_b0[2];
};

/* Responder resource: a READ or atomic that may be asked again. */
struct godwit_read_atomic_slot {
	godwit_le32 first_psn;
	godwit_le32 packets;			/* PSNs taken: of the response of a READ, 1 of an atomic */
	godwit_u8 opcode;			/* BTH opcode of the request */
	godwit_u8 in_progress;			/* READ: 1 while its response is still being sent */
	godwit_u8 answered;			/* 1: the whole response has been sent before */
	godwit_u8 reserved_58;
	godwit_le32 rkey;
	godwit_le64 va;
	godwit_le64 length;			/* bytes */
	godwit_le64 original;			/* atomic: the value before, as answered */
	godwit_le32 msn;			/* as answered */
	godwit_le32 next_psn;			/* READ in progress: next response packet */
};

struct godwit_qp_state {
	struct godwit_state_header header;

	/* what it is: must agree with the QP that it is loaded into */
	godwit_u8 type;				/* GODWIT_QP_TYPE_* */
	godwit_u8 log2_sq_depth;
	godwit_u8 log2_rq_depth;
	godwit_u8 ext;				/* GODWIT_QP_EXT_* before STOP: Paused, Resuming */
	godwit_le32 qpn;			/* kept by a move */
	struct godwit_qp_attr attr;		/* sq_psn, rq_psn: initial ones */
	struct godwit_place own;		/* the GID and MAC that it spoke from */

	/* requester */
	godwit_le32 sq_consumer;		/* oldest unfinished WQE */
	godwit_le32 sq_producer;		/* as last seen */
	godwit_le32 sq_first_psn;		/* first PSN of WQE sq_consumer */
	godwit_le32 una_psn;			/* oldest unacknowledged */
	godwit_le32 next_psn;			/* next to send */
	godwit_le32 high_psn;			/* one past the highest ever sent */
	godwit_le32 ssn;			/* not counted in this version: 0 */
	godwit_le32 credits;			/* limit SSN by end-to-end credits; 0xffffffff: none, always in this version */
	godwit_u8 retries_left;			/* of retry_cnt */
	godwit_u8 rnr_retries_left;		/* of rnr_retry */
	godwit_u8 requester_flags;		/* GODWIT_QP_STATE_REQUESTER_* */
	godwit_u8 error_cause;			/* fault of the first failed WQE while flushing */
	godwit_le32 reserved_req;
	godwit_le64 ack_timer_ns;		/* until the oldest packet is sent again */
	godwit_le64 rnr_timer_ns;		/* until the end of the RNR wait */
	godwit_le64 pause_timer_ns;		/* until the pause limit */
	godwit_le64 resume_timer_ns;		/* until RESUME is repeated */

	/* responder */
	godwit_le32 expected_psn;		/* of the next new request */
	godwit_le32 msn;			/* messages finished */
	godwit_le32 rq_consumer;		/* oldest receive WQE that is not finished */
	godwit_u8 message_opcode;		/* BTH opcode of the message's last packet, 0xff: between messages */
	godwit_u8 responder_flags;		/* GODWIT_QP_STATE_RESPONDER_* */
	godwit_u8 read_atomic_head;		/* oldest slot: 0 */
	godwit_u8 read_atomic_count;		/* slots in use, oldest first */
	godwit_le64 message_va;			/* WRITE: next byte */
	godwit_le64 message_left;		/* WRITE: bytes still to come */
	godwit_le64 message_placed;		/* bytes of this message placed so far */
	godwit_le32 message_rkey;		/* WRITE */
	godwit_le32 ack_psn;			/* PSN of the last NAK */
	godwit_le64 ack_delay_ns;		/* not used in this version: off */
	struct godwit_read_atomic_slot read_atomic[GODWIT_STATE_MAX_RD_ATOMIC];

	/* migration */
	godwit_le32 own_epoch;			/* of its last RESUME */
	godwit_le32 peer_epoch;			/* last accepted one of the peer */
	godwit_le32 initial_sq_psn;		/* as attr.sq_psn */
	godwit_le32 initial_rq_psn;		/* as attr.rq_psn */
	godwit_u8 peer_extended;		/* 1: the peer has shown the capability bit */
	godwit_u8 entered;			/* bit 0: has been in RTR; bit 1: in RTS */
	godwit_u8 place_count;			/* places since the last acknowledged RESUME */
	godwit_u8 last_attempt;			/* not used in this version: 0 */
	godwit_le32 resume_epoch;		/* of the RESUME that is not acknowledged */
	struct godwit_place places[GODWIT_STATE_MAX_PLACES];

	/* counters of the QP: go on at the destination */
	godwit_le64 tx_packets;			/* all packets of the QP */
	godwit_le64 rx_packets;
	godwit_le64 tx_bytes;			/* payload */
	godwit_le64 rx_bytes;
	godwit_le64 retransmissions;		/* request packets sent again */
	godwit_u8 reserved_end[64];
};

#define GODWIT_QP_STATE_REQUESTER_RNR_WAIT	0x01	/* rnr_timer_ns runs */
#define GODWIT_QP_STATE_REQUESTER_FLUSHING	0x02	/* not used in this version */
#define GODWIT_QP_STATE_REQUESTER_DRAINED	0x04	/* SQD: event has been given */
#define GODWIT_QP_STATE_REQUESTER_FENCED	0x08	/* not used in this version */

#define GODWIT_QP_STATE_RESPONDER_NAK_SENT	0x01	/* none again before the expected packet */
#define GODWIT_QP_STATE_RESPONDER_RECV_TAKEN	0x02	/* the message at hand uses WQE rq_consumer */
#define GODWIT_QP_STATE_RESPONDER_ACK_PENDING	0x04	/* an acknowledgement has not left yet */
#define GODWIT_QP_STATE_RESPONDER_COMM_EST	0x08	/* event has been given */

/* godwit_cq_state.armed */
#define GODWIT_CQ_NOT_ARMED		0	/* no event */
#define GODWIT_CQ_ARMED_ANY		1	/* an event at the next completion */
#define GODWIT_CQ_ARMED_SOLICITED	2	/* … at the next solicited one, or error */

struct godwit_cq_state {
	struct godwit_state_header header;
	godwit_le32 log2_depth;
	godwit_le32 producer;			/* free running, 32 bits */
	godwit_le32 consumer;			/* as last seen */
	godwit_u8 armed;			/* GODWIT_CQ_* */
	godwit_u8 event_pending;		/* an event that found no room in its EQ */
	godwit_u8 overflowed;			/* 1: in error */
	godwit_u8 reserved_f8;
	godwit_u8 reserved_end[32];
};

#include "godwit_abi_check.h"
#endif /* GODWIT_STATE_H */
