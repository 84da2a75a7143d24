/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Rings in guest memory: work queues, completion queues, event queues, the
 * Ethernet function's descriptors, and page lists.
 *
 * Indices run freely and are taken modulo the ring's size, which is a power of
 * two. Reserved fields must be zero where the guest writes them.
 */
#ifndef GODWIT_QUEUE_H
#define GODWIT_QUEUE_H

#include "godwit_types.h"

/*
 * Page lists. A buffer is a list of equal, naturally aligned pages of
 * 1 << page_shift bytes. Their bus addresses stand in list pages of 4 KiB, each
 * of which begins with the bus address of the next one (zero: the last).
 */
#define GODWIT_LIST_PAGE_SIZE		4096
#define GODWIT_LIST_PAGE_ENTRIES	511
#define GODWIT_PAGE_SHIFT_MIN		12
#define GODWIT_PAGE_SHIFT_MAX		30

struct godwit_list_page {
	godwit_le64 next;			/* bus address of the next list page, or 0 */
	godwit_le64 page[GODWIT_LIST_PAGE_ENTRIES];	/* bus addresses */
};

/*
 * Doorbell records: producer and consumer indices that software keeps in the
 * buffer of its queue. The device reads them when it needs them (an empty
 * receive queue, a full completion queue, a resumed queue).
 */
struct godwit_qp_record {
	godwit_le32 sq_producer;		/* 15:0 send queue producer index */
	godwit_le32 rq_producer;		/* 15:0 receive queue producer index */
	godwit_u8 reserved_40[56];
};

struct godwit_cq_record {
	godwit_le32 consumer;			/* 23:0 CQ consumer index */
	godwit_u8 reserved_20[60];
};

struct godwit_srq_record {
	godwit_le32 producer;			/* 15:0 shared receive queue producer index */
	godwit_u8 reserved_20[60];
};

/* Work requests; also the opcode in the completion of a send. */
#define GODWIT_WR_SEND			0x00	/* SEND */
#define GODWIT_WR_SEND_IMM		0x01	/* SEND with immediate */
#define GODWIT_WR_SEND_INV		0x02	/* SEND with invalidate (capability) */
#define GODWIT_WR_WRITE			0x03	/* RDMA WRITE */
#define GODWIT_WR_WRITE_IMM		0x04	/* RDMA WRITE with immediate */
#define GODWIT_WR_READ			0x05	/* RDMA READ */
#define GODWIT_WR_COMPARE_SWAP		0x06	/* atomic compare and swap, 8 bytes */
#define GODWIT_WR_FETCH_ADD		0x07	/* atomic fetch and add, 8 bytes */
#define GODWIT_WR_LOCAL_INV		0x08	/* local invalidate (capability) */
#define GODWIT_WR_BIND_MW		0x09	/* bind a memory window (capability) */
#define GODWIT_WR_FAST_REG		0x0a	/* fast registration (capability) */

/* godwit_send_wqe.flags */
#define GODWIT_WQE_SIGNALED_MASK	0x01	/* completion wanted */
#define GODWIT_WQE_SOLICITED_MASK	0x02	/* solicited event at the peer */
#define GODWIT_WQE_FENCE_MASK		0x04	/* wait for all earlier READs and atomics */
#define GODWIT_WQE_INLINE_MASK		0x08	/* data in the WQE instead of SGEs */

#define GODWIT_WQE_ACCESS_LOCAL_WRITE	0x01

/* Limits that the formats impose; a device may allow less (QUERY_DEVICE). */
#define GODWIT_MAX_SGE			16
#define GODWIT_MAX_INLINE		448
#define GODWIT_SEND_WQE_STRIDE_MAX	512
#define GODWIT_RECV_WQE_STRIDE_MAX	512
#define GODWIT_NO_RQ			255	/* log2 of the depth of a receive queue that is not there */
#define GODWIT_MAX_MESSAGE		0x40000000	/* bytes: 1 GiB */

struct godwit_sge {
	godwit_le64 addr;			/* virtual address in the MR */
	godwit_le32 length;			/* bytes */
	godwit_le32 lkey;			/* L_Key */
};

struct godwit_wqe_rdma {
	godwit_le64 remote_addr;		/* READ, WRITE, atomics */
	godwit_le32 rkey;			/* R_Key */
	godwit_le32 reserved_60;
	godwit_le64 compare_add;		/* compare operand, or the addend */
	godwit_le64 swap;			/* swap operand */
	godwit_u8 reserved_100[16];
};

struct godwit_wqe_ud {
	godwit_u8 dest_gid[16];			/* destination GID */
	godwit_u8 dest_mac[6];			/* destination MAC address */
	godwit_le16 sgid_index;			/* own GID */
	godwit_le32 dest_qpn;			/* 23:0 destination QPN */
	godwit_le32 qkey;			/* Q_Key; high bit set: the QP's own */
	godwit_le32 flow_label;			/* 19:0 flow label */
	godwit_u8 traffic_class;
	godwit_u8 hop_limit;
	godwit_u8 reserved_130[10];
};

struct godwit_wqe_bind {
	godwit_le64 addr;			/* start of the window */
	godwit_le64 length;			/* bytes */
	godwit_le32 mr_lkey;			/* the MR below */
	godwit_le32 mw_rkey;			/* the window's R_Key, new tag included */
	godwit_le32 access;			/* GODWIT_ACCESS_* */
	godwit_u8 reserved_e0[20];
};

/*
 * Send WQE: this header, then num_sge SGEs or inline_length bytes of data. Its
 * stride is a power of two from 64 to 512, chosen at CREATE_QP.
 */
struct godwit_send_wqe {
	godwit_u8 opcode;			/* GODWIT_WR_* */
	godwit_u8 flags;			/* GODWIT_WQE_*_MASK */
	godwit_u8 num_sge;			/* 0 to the QP's max_send_sge */
	godwit_u8 reserved_18;
	godwit_le32 inline_length;		/* bytes, with flag INLINE */
	godwit_be32 imm_or_invalidate;		/* immediate data as posted; or R_Key to invalidate, big-endian */
	godwit_le32 reserved_60;
	union {
		struct godwit_wqe_rdma rdma;
		struct godwit_wqe_ud ud;
		struct godwit_wqe_bind bind;
	} u;
};

/* Receive WQE: this header, then SGEs. Stride: a power of two from 32 to 512. */
struct godwit_recv_wqe {
	godwit_u8 num_sge;			/* 0 to the QP's max_recv_sge */
	godwit_u8 reserved_8[15];
};

/* CQE. The phase bit of a new entry is 1 in the first pass over the ring, 0 in the second, … */
#define GODWIT_CQE_PHASE_MASK		0x01	/* of the last byte of every CQE, EQE and command completion */

/* godwit_cqe.flags */
#define GODWIT_CQE_RECV_MASK		0x01	/* of a receive queue or SRQ; else of a send queue */
#define GODWIT_CQE_IMM_MASK		0x02	/* imm_or_invalidated is immediate data */
#define GODWIT_CQE_INV_MASK		0x04	/* imm_or_invalidated is an R_Key */
#define GODWIT_CQE_GRH_MASK		0x08	/* 40 bytes of GRH precede the data */
#define GODWIT_CQE_IPV4_MASK		0x10	/* UD: the GRH area holds an IPv4 header in its last 20 bytes */

/* godwit_cqe.status: the values of enum ibv_wc_status / ib_wc_status */
#define GODWIT_CQE_SUCCESS		0	/* done */
#define GODWIT_CQE_LOC_LEN_ERR		1	/* message too long for the receive buffer, or the SGEs too short */
#define GODWIT_CQE_LOC_QP_OP_ERR	2	/* malformed WQE, or an operation that this QP cannot do */
#define GODWIT_CQE_LOC_PROT_ERR		4	/* an SGE: key, bounds, rights, or memory that cannot be reached */
#define GODWIT_CQE_WR_FLUSH_ERR		5	/* not executed: the QP is in Error */
#define GODWIT_CQE_MW_BIND_ERR		6	/* (capability) */
#define GODWIT_CQE_BAD_RESP_ERR		7	/* the peer answered what was not asked */
#define GODWIT_CQE_LOC_ACCESS_ERR	8	/* responder: access refused to the peer */
#define GODWIT_CQE_REM_INV_REQ_ERR	9	/* NAK of the peer: invalid request */
#define GODWIT_CQE_REM_ACCESS_ERR	10	/* NAK of the peer: access error */
#define GODWIT_CQE_REM_OP_ERR		11	/* NAK of the peer: operational error */
#define GODWIT_CQE_RETRY_EXC_ERR	12	/* no answer, or the pause limit */
#define GODWIT_CQE_RNR_RETRY_EXC_ERR	13	/* the peer had no receive WQE for too long */

/* godwit_cqe.opcode of a receive completion */
#define GODWIT_CQE_OP_RECV		0x80	/* SEND, with or without immediate */
#define GODWIT_CQE_OP_RECV_WRITE_IMM	0x81	/* RDMA WRITE with immediate */

struct godwit_cqe {
	godwit_le32 qpn;			/* QP of the work request */
	godwit_le32 wqe_index;			/* 15:0 index of the WQE, free running */
	godwit_le32 byte_len;			/* bytes: received (GRH included), read, or sent */
	godwit_be32 imm_or_invalidated;
	godwit_u8 opcode;			/* GODWIT_WR_* or GODWIT_CQE_OP_* */
	godwit_u8 status;			/* GODWIT_CQE_* status */
	godwit_u8 flags;			/* GODWIT_CQE_*_MASK */
	godwit_u8 vendor_err;			/* GODWIT fault code, docs/spec/transport.md */
	godwit_le32 src_qpn;			/* UD: 23:0 sender's QPN */
	godwit_le16 pkey_index;
	godwit_u8 src_mac[6];			/* UD */
	godwit_le32 srqn;			/* SRQ number, or 0 */
	godwit_le32 reserved_140;
	godwit_le64 timestamp_ns;		/* the device's clock; monotonic */
	godwit_u8 reserved_1c0[15];
	/* The last 8 bytes are written after all others. */
	godwit_u8 phase;			/* GODWIT_CQE_PHASE_MASK, written last */
};

/* EQE: the phase bit as in a CQE */
#define GODWIT_EQE_COMP			0x01	/* an armed CQ has a completion: number = index given at CREATE_CQ */
#define GODWIT_EQE_CQ_ERROR		0x02	/* CQ overflow or not writable: number as for COMP */
#define GODWIT_EQE_QP			0x03	/* number = QPN, subtype = GODWIT_EQE_QP_* */
#define GODWIT_EQE_SRQ			0x04	/* number as given at CREATE_SRQ, subtype = GODWIT_EQE_SRQ_* */
#define GODWIT_EQE_PORT			0x05	/* subtype = GODWIT_EQE_PORT_* */
#define GODWIT_EQE_FATAL		0x06	/* number = GODWIT_FATAL_* */
#define GODWIT_EQE_ADDRESS		0x07	/* the AV of QP `number` needs its MAC resolved (REDIRECT without MAC) */

#define GODWIT_EQE_QP_FATAL		0x01	/* a CQ of it failed */
#define GODWIT_EQE_QP_REQUEST_ERROR	0x02	/* the responder met a request that it refuses */
#define GODWIT_EQE_QP_ACCESS_ERROR	0x03	/* the responder refused access to memory */
#define GODWIT_EQE_QP_COMM_EST		0x04	/* first packet in RTR */
#define GODWIT_EQE_QP_SQ_DRAINED	0x05	/* SQD: all that was begun is acknowledged */
#define GODWIT_EQE_QP_LAST_WQE		0x06	/* (capability) */
#define GODWIT_EQE_QP_PATH_MIG		0x07	/* (capability) */
#define GODWIT_EQE_QP_RESUMED		0x08	/* a Resuming QP has got its RESUME_ACK; not shown to applications */
#define GODWIT_EQE_SRQ_LIMIT		0x01
#define GODWIT_EQE_SRQ_ERROR		0x02
#define GODWIT_EQE_PORT_ACTIVE		0x01
#define GODWIT_EQE_PORT_DOWN		0x02

struct godwit_eqe {
	godwit_u8 type;				/* GODWIT_EQE_* */
	godwit_u8 subtype;
	godwit_le16 reserved_10;
	godwit_le32 number;
	godwit_u8 reserved_40[7];
	/* The last 8 bytes are written after all others. */
	godwit_u8 phase;			/* GODWIT_CQE_PHASE_MASK */
};

/*
 * Ethernet function. The driver fills descriptors and moves the producer index
 * by doorbell; the device writes the completion in place: first length and
 * flags, DONE last. DONE must be zero when a descriptor is posted.
 */
#define GODWIT_ETH_MAX_FRAME		9216	/* bytes, without FCS */

#define GODWIT_ETH_TX_EOP_MASK		0x01	/* last buffer of the frame */

#define GODWIT_ETH_DONE_MASK		0x80
#define GODWIT_ETH_RX_ERROR_MASK	0x01	/* frame longer than the buffer: cut */
#define GODWIT_ETH_TX_ERROR_MASK	0x01	/* not sent: bad descriptor or memory */

struct godwit_eth_desc {
	godwit_le64 addr;			/* bus address of the buffer */
	godwit_le32 length;			/* bytes: of the buffer; RX completion: of the frame */
	godwit_u8 flags;			/* GODWIT_ETH_TX_* in, unused in completions */
	godwit_u8 reserved_68[2];
	godwit_u8 status;			/* GODWIT_ETH_DONE_MASK | GODWIT_ETH_*_ERROR_MASK, by the device */
};

#include "godwit_abi_check.h"
#endif /* GODWIT_QUEUE_H */
