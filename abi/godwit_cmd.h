/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The command queue: everything that is not data path.
 *
 * The driver writes 64-byte commands into a ring, moves CMD_DOORBELL, and finds
 * a 64-byte completion at the same index of the completion ring. Commands are
 * executed in order, one after the other. Larger arguments and results lie in a
 * mailbox: physically contiguous memory named by bus address and length.
 *
 * Numbers of PDs, CQs, SRQs, EQs and user contexts are chosen by the driver and
 * refused when taken; CQ and SRQ numbers are per user context. QPNs are drawn by
 * the device at random unless the command asks for one. Keys are per PD.
 *
 * Command lines have the form
 *	#define GODWIT_CMD_X	opcode	/ * request struct | result struct | meaning * /
 * and are the source of the command table in docs/spec/commands.md.
 */
#ifndef GODWIT_CMD_H
#define GODWIT_CMD_H

#include "godwit_types.h"

#define GODWIT_CMD_NOP			0x00	/* - | - | nothing; for tests */
#define GODWIT_CMD_QUERY_DEVICE		0x01	/* godwit_cmd_mailbox | godwit_device_caps in mailbox | capabilities and limits */
#define GODWIT_CMD_CREATE_EQ		0x02	/* godwit_cmd_create_eq | - | event queue */
#define GODWIT_CMD_DESTROY_EQ		0x03	/* godwit_cmd_number | - | refused while a CQ uses it */
#define GODWIT_CMD_CREATE_UCTX		0x04	/* godwit_cmd_number | - | user context; number = its doorbell page, 1 … */
#define GODWIT_CMD_DESTROY_UCTX		0x05	/* godwit_cmd_number | - | refused while objects are left */
#define GODWIT_CMD_SET_GID		0x06	/* godwit_cmd_set_gid | - | one entry of the GID table */
#define GODWIT_CMD_QUERY_COUNTERS	0x07	/* godwit_cmd_mailbox | le64 per GODWIT_COUNTER_* in mailbox | all counters */

#define GODWIT_CMD_CREATE_PD		0x10	/* godwit_cmd_object | - | protection domain of a user context (0: the driver's) */
#define GODWIT_CMD_DESTROY_PD		0x11	/* godwit_cmd_object | - | refused while MRs or QPs use it */
#define GODWIT_CMD_REG_MR		0x12	/* godwit_cmd_reg_mr | godwit_result_key | memory region */
#define GODWIT_CMD_DEREG_MR		0x13	/* godwit_cmd_dereg_mr | - | no access after the completion */
#define GODWIT_CMD_CREATE_CQ		0x14	/* godwit_cmd_create_cq | - | completion queue */
#define GODWIT_CMD_DESTROY_CQ		0x15	/* godwit_cmd_object | - | refused while QPs use it */
#define GODWIT_CMD_CREATE_SRQ		0x16	/* (capability) */
#define GODWIT_CMD_DESTROY_SRQ		0x17	/* (capability) */
#define GODWIT_CMD_MODIFY_SRQ		0x18	/* (capability) */

#define GODWIT_CMD_CREATE_QP		0x20	/* godwit_cmd_mailbox, godwit_create_qp in mailbox | godwit_result_qpn | queue pair in Reset */
#define GODWIT_CMD_MODIFY_QP		0x21	/* godwit_cmd_mailbox, godwit_modify_qp in mailbox | - | attributes and state: docs/spec/transport.md, IBTA 11.2.5.2 */
#define GODWIT_CMD_QUERY_QP		0x22	/* godwit_cmd_qp_mailbox | godwit_qp_info in mailbox | attributes, extension state, counters */
#define GODWIT_CMD_DESTROY_QP		0x23	/* godwit_cmd_number | - | a tombstone as well */

#define GODWIT_CMD_SET_ETH_RINGS	0x30	/* godwit_cmd_set_eth_rings | - | starts or stops the Ethernet function */
#define GODWIT_CMD_SET_ETH_FILTER	0x31	/* godwit_cmd_set_eth_filter | - | MAC filter list, promiscuous flags */

#define GODWIT_CMD_STOP			0x40	/* godwit_cmd_scope | - | synchronous: docs/spec/migration.md */
#define GODWIT_CMD_UNSTOP		0x41	/* godwit_cmd_scope | - | rollback */
#define GODWIT_CMD_SAVE			0x42	/* godwit_cmd_state | state in mailbox | saved state of a stopped QP, or of a CQ */
#define GODWIT_CMD_LOAD			0x43	/* godwit_cmd_state | - | saved state into an object that was created with flag RESTORE */
#define GODWIT_CMD_ATTACH		0x44	/* godwit_cmd_attach | - | the buffer of a QP or CQ that was created with flag RESTORE */
#define GODWIT_CMD_RESUME		0x45	/* godwit_cmd_resume | - | starts loaded, attached QPs; replaces their tombstones */
#define GODWIT_CMD_TOMBSTONE		0x46	/* godwit_cmd_tombstone | - | turns a stopped QP into a tombstone: no PD, CQ, memory */
#define GODWIT_CMD_COMMIT		0x47	/* godwit_cmd_move | - | starts the time to live of a move's tombstones */
#define GODWIT_CMD_DROP			0x48	/* godwit_cmd_move | - | destroys a move's tombstones and reservations at once */
#define GODWIT_CMD_RESERVE_QPNS		0x49	/* godwit_cmd_reserve | - | keeps QPNs for a move; all or none */
#define GODWIT_CMD_QUERY_TOMBSTONES	0x4a	/* godwit_cmd_mailbox | godwit_tombstone_info[] in mailbox, count in godwit_result_count | all tombstones; the count is of all, whether they fit or not */

/* Completion status */
#define GODWIT_CMD_STATUS_OK	0x0000	/* done */
#define GODWIT_CMD_STATUS_BAD_OPCODE	0x0001	/* unknown command */
#define GODWIT_CMD_STATUS_BAD_PARAMETER	0x0002	/* a field out of range, or a reserved field not zero */
#define GODWIT_CMD_STATUS_BAD_STATE	0x0003	/* not allowed in the object's present state */
#define GODWIT_CMD_STATUS_NOT_FOUND	0x0004	/* no such object */
#define GODWIT_CMD_STATUS_EXISTS	0x0005	/* the number, QPN or key is taken */
#define GODWIT_CMD_STATUS_IN_USE	0x0006	/* other objects depend on it */
#define GODWIT_CMD_STATUS_NO_RESOURCES	0x0007	/* a limit of the device is reached */
#define GODWIT_CMD_STATUS_DMA_ERROR	0x0008	/* mailbox, list page or ring not accessible */
#define GODWIT_CMD_STATUS_NOT_SUPPORTED	0x0009	/* capability missing or masked */
#define GODWIT_CMD_STATUS_BAD_IMAGE	0x000a	/* saved state: version, size, or contents refused */
#define GODWIT_CMD_STATUS_BUSY	0x000b	/* STOP: too many places since the last acknowledged RESUME */
#define GODWIT_CMD_STATUS_BAD_EPOCH	0x000c	/* epoch at its maximum, or an attempt number used before */

/* Access rights: values of IBV_ACCESS_* */
#define GODWIT_ACCESS_LOCAL_WRITE	0x01
#define GODWIT_ACCESS_REMOTE_WRITE	0x02
#define GODWIT_ACCESS_REMOTE_READ	0x04
#define GODWIT_ACCESS_REMOTE_ATOMIC	0x08
#define GODWIT_ACCESS_MW_BIND		0x10
#define GODWIT_ACCESS_ZERO_BASED	0x20

/* QP types and IBTA states: values of IBV_QPT_* and IBV_QPS_* */
#define GODWIT_QP_TYPE_RC		2
#define GODWIT_QP_TYPE_UC		3
#define GODWIT_QP_TYPE_UD		4

#define GODWIT_QP_STATUS_RESET		0
#define GODWIT_QP_STATUS_INIT		1
#define GODWIT_QP_STATUS_RTR		2
#define GODWIT_QP_STATUS_RTS		3
#define GODWIT_QP_STATUS_SQD		4
#define GODWIT_QP_STATUS_SQE		5
#define GODWIT_QP_STATUS_ERROR		6

/* Extension state, shown by QUERY_QP and never to applications */
#define GODWIT_QP_EXT_STOPPED_MASK	0x01
#define GODWIT_QP_EXT_PAUSED_MASK	0x02
#define GODWIT_QP_EXT_RESUMING_MASK	0x04
#define GODWIT_QP_EXT_TOMBSTONE_MASK	0x08
#define GODWIT_QP_EXT_UNLOADED_MASK	0x10	/* created with flag RESTORE, not resumed yet */

/* ------------------------------------------------------------ framing */

struct godwit_cmd {
	godwit_u8 opcode;			/* GODWIT_CMD_* */
	godwit_u8 reserved_8;
	godwit_le16 id;				/* given back in the completion */
	godwit_le32 reserved_20;
	godwit_u8 params[56];			/* one of the structs below */
};

struct godwit_cmd_completion {
	godwit_le16 id;
	godwit_le16 status;			/* GODWIT_CMD_STATUS_* */
	godwit_le32 detail;			/* offset in params or mailbox of the field at fault, or 0 */
	godwit_u8 result[40];			/* one of the result structs below */
	godwit_u8 reserved_180[15];
	/* The last 8 bytes are written after all others. */
	godwit_u8 phase;			/* GODWIT_CQE_PHASE_MASK: 1 in the first pass over the ring */
};

/* ------------------------------------------------------------ params */

struct godwit_cmd_mailbox {
	godwit_le64 addr;			/* bus address, 64-byte aligned */
	godwit_le32 length;			/* bytes */
	godwit_le32 reserved_60;
};

struct godwit_cmd_number {
	godwit_le32 number;			/* EQ, user context, QPN */
	godwit_le32 reserved_20;
};

struct godwit_cmd_object {
	godwit_le32 uctx;			/* user context, 0: the driver's */
	godwit_le32 number;			/* PD, CQ, SRQ */
};

struct godwit_cmd_qp_mailbox {
	godwit_le64 addr;			/* bus address, 64-byte aligned */
	godwit_le32 length;			/* bytes */
	godwit_le32 qpn;
};

/* A buffer: page list, and where in its first page it begins. */
struct godwit_buffer {
	godwit_le64 list;			/* bus address of the first list page */
	godwit_le32 page_count;
	godwit_le32 page_shift;			/* 12 to 30 */
	godwit_le32 first_offset;		/* bytes from the first page's beginning */
	godwit_le32 length;			/* bytes; of queues only */
};

struct godwit_cmd_create_eq {
	godwit_le32 eqn;			/* below caps.max_eq; 0: the asynchronous events */
	godwit_le32 vector;			/* MSI-X vector */
	godwit_le32 log2_depth;			/* entries, 4 to 16 */
	godwit_le32 reserved_60;
	struct godwit_buffer buffer;		/* entries of 16 bytes */
};

#define GODWIT_GID_VALID_MASK		0x01
#define GODWIT_GID_IPV4_MASK		0x02	/* IPv4-mapped: RoCEv2 over IPv4, else IPv6 */
#define GODWIT_GID_VLAN_MASK		0x04	/* vlan is used (capability) */

struct godwit_cmd_set_gid {
	godwit_le32 index;			/* below caps.gid_entries */
	godwit_u8 flags;			/* GODWIT_GID_*_MASK; without VALID the entry is removed */
	godwit_u8 reserved_28;
	godwit_u8 mac[6];			/* of the net_device that has the address */
	godwit_le16 vlan;
	godwit_le16 reserved_70;
	godwit_u8 gid[16];
};

struct godwit_cmd_reg_mr {
	godwit_le32 pdn;
	godwit_le32 key;			/* with flag KEY: L_Key and R_Key wanted */
	godwit_le32 access;			/* GODWIT_ACCESS_* */
	godwit_le32 flags;			/* GODWIT_REG_MR_*_MASK */
	godwit_le64 iova;			/* address in work requests */
	godwit_le64 length;			/* bytes */
	godwit_le64 list;			/* page list, as in godwit_buffer */
	godwit_le32 page_count;
	godwit_u8 page_shift;
	godwit_u8 reserved_168[3];
	godwit_le32 first_offset;
	godwit_le32 reserved_1a0;
};
#define GODWIT_REG_MR_KEY_MASK		0x01
#define GODWIT_REG_MR_ALL_MEMORY_MASK	0x02	/* kernel's DMA MR: bus addresses, no list; uctx 0 only */

struct godwit_cmd_dereg_mr {
	godwit_le32 pdn;
	godwit_le32 key;
};

#define GODWIT_CREATE_RESTORE_MASK	0x01	/* no buffer yet: LOAD and ATTACH follow */

struct godwit_cmd_create_cq {
	godwit_le32 uctx;
	godwit_le32 cqn;			/* 23:0, chosen by the driver; unique in the user context */
	godwit_le32 eqn;			/* event queue for completions */
	godwit_le32 event_number;		/* `number` in this CQ's EQEs, chosen by the driver */
	godwit_le32 log2_depth;			/* entries, 0 to caps.log2_max_cqe */
	godwit_le32 flags;			/* GODWIT_CREATE_RESTORE_MASK */
	godwit_le32 record_offset;		/* of struct godwit_cq_record in the buffer, 64-byte aligned */
	godwit_le32 reserved_e0;
	struct godwit_buffer buffer;		/* entries of 64 bytes from offset 0, and the record */
};

struct godwit_cmd_set_eth_rings {
	godwit_le32 enable;			/* 1 start, 0 stop (other fields zero) */
	godwit_u8 log2_tx;			/* descriptors, 4 to 12 */
	godwit_u8 log2_rx;
	godwit_le16 reserved_30;
	godwit_le64 tx_ring;			/* bus address, 64-byte aligned, contiguous */
	godwit_le64 rx_ring;
};

#define GODWIT_ETH_PROMISC_MASK		0x01
#define GODWIT_ETH_ALLMULTI_MASK	0x02

struct godwit_cmd_set_eth_filter {
	godwit_le64 addr;			/* bus address of `count` MAC addresses, 8 bytes apart */
	godwit_le32 count;			/* unicast and multicast, at most caps.mac_filters */
	godwit_le32 flags;			/* GODWIT_ETH_*_MASK; broadcast always passes */
};

#define GODWIT_SCOPE_QP			0x01
#define GODWIT_SCOPE_UCTX		0x02	/* all QPs of a user context */

struct godwit_cmd_scope {
	godwit_le32 scope;			/* GODWIT_SCOPE_* */
	godwit_le32 number;			/* QPN, or user context */
};

#define GODWIT_STATE_QP			0x01
#define GODWIT_STATE_CQ			0x02
#define GODWIT_STATE_SRQ		0x03	/* (capability) */

struct godwit_cmd_state {
	godwit_le64 addr;			/* mailbox, 64-byte aligned */
	godwit_le32 length;			/* bytes; SAVE: room, the size used is in godwit_result_count */
	godwit_le32 type;			/* GODWIT_STATE_* */
	godwit_le32 uctx;			/* CQ, SRQ */
	godwit_le32 number;			/* QPN, CQ, SRQ */
	godwit_le32 sgid_index;			/* LOAD of a QP: where its own GID is in this NIC's table */
	godwit_le32 reserved_e0;
};

struct godwit_cmd_attach {
	godwit_le32 type;			/* GODWIT_STATE_QP or _CQ */
	godwit_le32 uctx;			/* CQ */
	godwit_le32 number;			/* QPN, CQ */
	godwit_le32 reserved_60;
	struct godwit_buffer buffer;		/* as long as the one at creation would have been */
};

struct godwit_cmd_resume {
	godwit_le32 scope;			/* GODWIT_SCOPE_* */
	godwit_le32 number;			/* QPN, or user context */
	godwit_le32 attempt;			/* 1 …: how often this image has been resumed, this time included */
	godwit_le32 flags;			/* GODWIT_RESUME_*_MASK */
};
#define GODWIT_RESUME_LOCAL_MASK	0x01	/* both ends are in this image: no RESUME packet */

struct godwit_cmd_tombstone {
	godwit_le32 qpn;
	godwit_le32 reserved_20;
	godwit_le64 move;			/* identifies the checkpoint */
};

struct godwit_cmd_move {
	godwit_le64 move;
};

struct godwit_cmd_reserve {
	godwit_le64 addr;			/* mailbox: le32 QPNs */
	godwit_le32 count;			/* at most 1024 per command */
	godwit_le32 ttl_ms;			/* the reservation ends by itself */
	godwit_le64 move;
};

/* ------------------------------------------------------------ results */

struct godwit_result_key {
	godwit_le32 key;			/* L_Key and R_Key */
	godwit_le32 reserved_20;
};

struct godwit_result_qpn {
	godwit_le32 qpn;
	godwit_le32 reserved_20;
};

struct godwit_result_count {
	godwit_le32 count;			/* bytes or entries */
	godwit_le32 reserved_20;
};

/* ------------------------------------------------------------ mailboxes */

/* Capability bits, godwit_device_caps.flags: each is true, and can be masked by a property. */
#define GODWIT_CAP_MIGRATION		0x0000000000000001
#define GODWIT_CAP_ATOMICS		0x0000000000000002
#define GODWIT_CAP_RC			0x0000000000000004
#define GODWIT_CAP_UC			0x0000000000000008
#define GODWIT_CAP_UD			0x0000000000000010
#define GODWIT_CAP_SRQ			0x0000000000000020
#define GODWIT_CAP_MW			0x0000000000000040
#define GODWIT_CAP_SEND_INV		0x0000000000000080
#define GODWIT_CAP_FAST_REG		0x0000000000000100
#define GODWIT_CAP_VLAN			0x0000000000000200

struct godwit_device_caps {
	godwit_le64 flags;			/* GODWIT_CAP_* */
	godwit_le64 max_mr_size;		/* bytes */
	godwit_le64 clock_hz;			/* of godwit_cqe.timestamp_ns: 1,000,000,000 */
	godwit_le32 state_version;		/* GODWIT_STATE_VERSION */
	godwit_le32 max_uctx;			/* doorbell pages, page 0 included */
	godwit_le32 max_pd;
	godwit_le32 max_mr;
	godwit_le32 max_cq;
	godwit_le32 max_qp;
	godwit_le32 max_srq;
	godwit_le32 max_eq;
	godwit_le32 max_qp_wr;			/* entries of a send or receive queue: a power of two */
	godwit_le32 log2_max_cqe;
	godwit_le32 max_send_sge;
	godwit_le32 max_recv_sge;
	godwit_le32 max_inline;			/* bytes */
	godwit_le32 max_rd_atomic;		/* outstanding READs and atomics, as requester and as responder */
	godwit_le32 max_message;		/* bytes */
	godwit_le32 gid_entries;
	godwit_le32 mac_filters;
	godwit_le32 max_mtu;			/* 1 … 5 as IBV_MTU_* */
	godwit_le32 pause_limit_ms;		/* 0: for ever */
	godwit_le32 tombstone_ttl_ms;
	godwit_le32 max_tombstones;
	godwit_le32 max_reservations;
	godwit_u8 reserved_380[16];
};

struct godwit_av {
	godwit_u8 dgid[16];			/* destination GID */
	godwit_u8 dmac[6];			/* destination MAC */
	godwit_le16 sgid_index;			/* own GID */
	godwit_le32 flow_label;			/* 19:0 */
	godwit_le16 udp_source_port;		/* 0xc000 … 0xffff */
	godwit_u8 traffic_class;
	godwit_u8 hop_limit;
	godwit_u8 service_level;
	godwit_u8 reserved_108[7];
};

struct godwit_create_qp {
	godwit_le32 uctx;
	godwit_le32 pdn;
	godwit_le32 send_cqn;
	godwit_le32 recv_cqn;
	godwit_le32 srqn;			/* with flag SRQ (capability) */
	godwit_le32 flags;			/* GODWIT_CREATE_*_MASK */
	godwit_le32 qpn;			/* with flag QPN */
	godwit_le32 sq_offset;			/* in the buffer, 64-byte aligned */
	godwit_le32 rq_offset;
	godwit_le32 record_offset;		/* of struct godwit_qp_record, 64-byte aligned */
	godwit_u8 type;				/* GODWIT_QP_TYPE_* */
	godwit_u8 log2_sq_depth;		/* WQEs */
	godwit_u8 log2_rq_depth;		/* WQEs; 255 (GODWIT_NO_RQ): no receive queue */
	godwit_u8 log2_sq_stride;		/* bytes, 6 to 9 */
	godwit_u8 log2_rq_stride;		/* bytes, 5 to 9 */
	godwit_u8 max_send_sge;
	godwit_u8 max_recv_sge;
	godwit_u8 signal_all;			/* 1: every send WQE is signaled */
	godwit_le32 max_inline;			/* bytes */
	godwit_le32 reserved_1a0;
	godwit_le64 move;			/* with flags QPN and RESTORE: whose reservation or tombstone is taken over; or 0 */
	struct godwit_buffer buffer;		/* send queue, receive queue, record */
};
#define GODWIT_CREATE_QPN_MASK		0x02	/* this QPN or none */
#define GODWIT_CREATE_SRQ_MASK		0x04

/* godwit_modify_qp.mask */
#define GODWIT_QP_ATTR_STATUS		0x00000001
#define GODWIT_QP_ATTR_ACCESS		0x00000002
#define GODWIT_QP_ATTR_PKEY_INDEX	0x00000004
#define GODWIT_QP_ATTR_QKEY		0x00000008
#define GODWIT_QP_ATTR_AV		0x00000010
#define GODWIT_QP_ATTR_PATH_MTU		0x00000020
#define GODWIT_QP_ATTR_TIMEOUT		0x00000040
#define GODWIT_QP_ATTR_RETRY_CNT	0x00000080
#define GODWIT_QP_ATTR_RNR_RETRY	0x00000100
#define GODWIT_QP_ATTR_RQ_PSN		0x00000200
#define GODWIT_QP_ATTR_MAX_RD_ATOMIC	0x00000400
#define GODWIT_QP_ATTR_MIN_RNR_TIMER	0x00000800
#define GODWIT_QP_ATTR_SQ_PSN		0x00001000
#define GODWIT_QP_ATTR_MAX_DEST_RD_ATOMIC 0x00002000
#define GODWIT_QP_ATTR_DEST_QPN		0x00004000
#define GODWIT_QP_ATTR_SQD_ASYNC_NOTIFY	0x00008000
#define GODWIT_QP_ATTR_CUR_STATUS	0x00010000

struct godwit_qp_attr {
	godwit_u8 status;			/* GODWIT_QP_STATUS_* */
	godwit_u8 cur_status;			/* MODIFY with CUR_STATUS: must be the present one */
	godwit_u8 path_mtu;			/* 1 … 5 as IBV_MTU_* */
	godwit_u8 access;			/* GODWIT_ACCESS_REMOTE_*: what peers may do */
	godwit_u8 timeout;			/* 4.096 us << timeout; 0: none */
	godwit_u8 retry_cnt;			/* 0 to 7 */
	godwit_u8 rnr_retry;			/* 0 to 7, 7: for ever */
	godwit_u8 min_rnr_timer;		/* IBTA table 46 */
	godwit_u8 max_rd_atomic;		/* as requester */
	godwit_u8 max_dest_rd_atomic;		/* as responder */
	godwit_u8 sqd_async_notify;
	godwit_u8 reserved_58;
	godwit_le16 pkey_index;
	godwit_le16 reserved_70;
	godwit_le32 qkey;
	godwit_le32 dest_qpn;
	godwit_le32 sq_psn;
	godwit_le32 rq_psn;
	struct godwit_av av;
};

struct godwit_modify_qp {
	godwit_le32 qpn;
	godwit_le32 mask;			/* GODWIT_QP_ATTR_* */
	struct godwit_qp_attr attr;
};

struct godwit_qp_info {
	struct godwit_qp_attr attr;		/* sq_psn: next to send; rq_psn: next expected */
	godwit_le32 ext;			/* GODWIT_QP_EXT_*_MASK */
	godwit_le32 own_epoch;
	godwit_le32 peer_epoch;
	godwit_u8 sq_draining;			/* 1: SQD, not drained yet */
	godwit_u8 peer_extended;		/* 1: the peer has shown the capability bit */
	godwit_le16 reserved_2f0;
	godwit_le32 sq_consumer;		/* oldest unfinished send WQE */
	godwit_le32 rq_consumer;
	godwit_le64 tx_packets;
	godwit_le64 rx_packets;
	godwit_le64 tx_bytes;			/* payload */
	godwit_le64 rx_bytes;
	godwit_le64 retransmissions;		/* request packets sent again */
};

struct godwit_tombstone_info {
	godwit_le64 move;
	godwit_le32 qpn;
	godwit_le32 dest_qpn;
	godwit_le32 ttl_ms;			/* time left, 0xffffffff: not committed */
	godwit_le32 answered;			/* NAK_STOPPED sent as a tombstone */
};

#include "godwit_abi_check.h"
#endif /* GODWIT_CMD_H */
