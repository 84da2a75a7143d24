/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Counters of the device: QUERY_COUNTERS writes one le64 for each, in this
 * order. Operators' names where there are any. Lines have the form
 *	#define GODWIT_COUNTER_X	index	/ * name | meaning * /
 * and are the source of the table in docs/spec/device.md; new ones are added
 * at the end.
 */
#ifndef GODWIT_COUNTERS_H
#define GODWIT_COUNTERS_H

#include "godwit_types.h"

#define GODWIT_COUNTER_RX_RDMA_PACKETS		0	/* rx_rdma_packets | RoCEv2 packets that passed ICRC */
#define GODWIT_COUNTER_TX_RDMA_PACKETS		1	/* tx_rdma_packets | RoCEv2 packets sent, loopback included */
#define GODWIT_COUNTER_RX_RDMA_BYTES		2	/* rx_rdma_bytes | payload bytes of RoCEv2 packets received */
#define GODWIT_COUNTER_TX_RDMA_BYTES		3	/* tx_rdma_bytes | payload bytes of RoCEv2 packets sent */
#define GODWIT_COUNTER_OUT_OF_SEQUENCE		4	/* out_of_sequence | requests beyond the expected PSN */
#define GODWIT_COUNTER_PACKET_SEQ_ERR		5	/* packet_seq_err | NAKs for a PSN sequence error received */
#define GODWIT_COUNTER_DUPLICATE_REQUEST	6	/* duplicate_request | requests seen before */
#define GODWIT_COUNTER_IMPLIED_NAK_SEQ_ERR	7	/* implied_nak_seq_err | responses that skipped a READ or atomic */
#define GODWIT_COUNTER_LOCAL_ACK_TIMEOUT_ERR	8	/* local_ack_timeout_err | ACK timers that expired */
#define GODWIT_COUNTER_RNR_NAK_RETRY_ERR	9	/* rnr_nak_retry_err | RNR NAKs received */
#define GODWIT_COUNTER_RX_ICRC_ENCAPSULATED	10	/* rx_icrc_encapsulated | packets dropped for their ICRC */
#define GODWIT_COUNTER_RX_MALFORMED		11	/* rx_malformed | packets dropped: header, length, pad, opcode */
#define GODWIT_COUNTER_RX_NO_QP			12	/* rx_no_qp | packets for no QP, or a QP that does not receive */
#define GODWIT_COUNTER_RX_BAD_ADDRESS		13	/* rx_bad_address | packets whose addresses are not those of the QP's path */
#define GODWIT_COUNTER_RX_BAD_PKEY		14	/* rx_bad_pkey | packets with another P_Key */
#define GODWIT_COUNTER_REQ_CQE_ERROR		15	/* req_cqe_error | requester completions in error */
#define GODWIT_COUNTER_REQ_CQE_FLUSH_ERROR	16	/* req_cqe_flush_error | of these, flushed */
#define GODWIT_COUNTER_RESP_CQE_ERROR		17	/* resp_cqe_error | responder completions in error */
#define GODWIT_COUNTER_RESP_CQE_FLUSH_ERROR	18	/* resp_cqe_flush_error | of these, flushed */
#define GODWIT_COUNTER_REQ_TRANSPORT_RETRIES_EXCEEDED 19 /* req_transport_retries_exceeded | retry count used up */
#define GODWIT_COUNTER_REQ_RNR_RETRIES_EXCEEDED	20	/* req_rnr_retries_exceeded | RNR retry count used up */
#define GODWIT_COUNTER_REQ_REMOTE_INVALID_REQUEST 21	/* req_remote_invalid_request | NAKs received: invalid request */
#define GODWIT_COUNTER_REQ_REMOTE_ACCESS_ERRORS	22	/* req_remote_access_errors | NAKs received: access error */
#define GODWIT_COUNTER_REQ_REMOTE_OPERATIONAL	23	/* req_remote_operational_errors | NAKs received: operational error */
#define GODWIT_COUNTER_RESP_REMOTE_ACCESS_ERRORS 24	/* resp_remote_access_errors | NAKs sent: access error */
#define GODWIT_COUNTER_RESP_INVALID_REQUEST	25	/* resp_remote_invalid_request | NAKs sent: invalid request */
#define GODWIT_COUNTER_RESP_LOCAL_LENGTH_ERROR	26	/* resp_local_length_error | messages longer than their receive buffer */
#define GODWIT_COUNTER_RETRANSMISSIONS		27	/* retransmissions | request packets sent again */
#define GODWIT_COUNTER_RX_NAK_STOPPED		28	/* rx_nak_stopped | NAK_STOPPED received */
#define GODWIT_COUNTER_TX_NAK_STOPPED		29	/* tx_nak_stopped | NAK_STOPPED sent, tombstones included */
#define GODWIT_COUNTER_RX_RESUME		30	/* rx_resume | RESUME received, before any check */
#define GODWIT_COUNTER_TX_RESUME		31	/* tx_resume | RESUME sent, repetitions included */
#define GODWIT_COUNTER_RX_RESUME_ACK		32	/* rx_resume_ack | RESUME_ACK received, before any check */
#define GODWIT_COUNTER_TX_RESUME_ACK		33	/* tx_resume_ack | RESUME_ACK sent */
#define GODWIT_COUNTER_RESUME_ACCEPTED		34	/* resume_accepted | RESUME that moved an AV */
#define GODWIT_COUNTER_RESUME_BAD_VERSION	35	/* resume_bad_version | dropped: version, flags or length */
#define GODWIT_COUNTER_RESUME_BAD_TOKEN		36	/* resume_bad_token | dropped: token */
#define GODWIT_COUNTER_RESUME_BAD_ADDRESS	37	/* resume_bad_address | dropped: GID type or source */
#define GODWIT_COUNTER_RESUME_STALE_EPOCH	38	/* resume_stale_epoch | dropped: epoch not newer */
#define GODWIT_COUNTER_RESUME_RATE_LIMITED	39	/* resume_rate_limited | dropped: too many wrong tokens */
#define GODWIT_COUNTER_RESUME_ACK_UNEXPECTED	40	/* resume_ack_unexpected | dropped: not the answer that was waited for */
#define GODWIT_COUNTER_NAK_STOPPED_IGNORED	41	/* nak_stopped_ignored | nothing outstanding, or PSN outside the window */
#define GODWIT_COUNTER_PAUSE_LIMIT_EXCEEDED	42	/* pause_limit_exceeded | QPs that went to Error while Paused */
#define GODWIT_COUNTER_PROBES			43	/* probes | requests sent while Paused */
#define GODWIT_COUNTER_STOPPED_DROPS		44	/* stopped_drops | packets that a stopped QP left without an answer */
#define GODWIT_COUNTER_TOMBSTONES_EXPIRED	45	/* tombstones_expired | tombstones whose time to live ended */
#define GODWIT_COUNTER_ETH_RX_FRAMES		46	/* eth_rx_frames | frames given to the Ethernet receive ring */
#define GODWIT_COUNTER_ETH_TX_FRAMES		47	/* eth_tx_frames | frames sent from the Ethernet transmit ring */
#define GODWIT_COUNTER_ETH_RX_BYTES		48	/* eth_rx_bytes | bytes given to the Ethernet receive ring */
#define GODWIT_COUNTER_ETH_TX_BYTES		49	/* eth_tx_bytes | bytes sent from the Ethernet transmit ring */
#define GODWIT_COUNTER_ETH_RX_NO_DESC		50	/* eth_rx_no_desc | frames dropped: no receive descriptor */
#define GODWIT_COUNTER_ETH_RX_FILTERED		51	/* eth_rx_filtered | frames dropped by the MAC filter */
#define GODWIT_COUNTER_ETH_TX_ERRORS		52	/* eth_tx_errors | transmit descriptors that were bad or not readable */
#define GODWIT_COUNTER_BAD_DOORBELLS		53	/* bad_doorbells | doorbells that named no object of their page's context */
#define GODWIT_COUNTER_BAD_WQES			54	/* bad_wqes | malformed work requests */
#define GODWIT_COUNTER_CQ_OVERFLOWS		55	/* cq_overflows | CQs that were full, or could not be written */
#define GODWIT_COUNTER_DMA_ERRORS		56	/* dma_errors | guest memory that could not be reached */
#define GODWIT_COUNTER_RC_ACKS_SENT		57	/* tx_acks | acknowledgements sent, NAKs excluded */
#define GODWIT_COUNTER_RC_NAKS_SENT		58	/* tx_naks | NAKs sent, RNR and NAK_STOPPED excluded */
#define GODWIT_COUNTER_RC_RNR_NAKS_SENT		59	/* tx_rnr_naks | RNR NAKs sent */
#define GODWIT_COUNTER_RX_REDIRECT		60	/* rx_redirect | of the RESUMEs received, those of a tombstone: REDIRECT */
#define GODWIT_COUNTER_TX_REDIRECT		61	/* tx_redirect | REDIRECT sent by tombstones */
#define GODWIT_COUNTER_COUNT			62

#include "godwit_abi_check.h"
#endif /* GODWIT_COUNTERS_H */
