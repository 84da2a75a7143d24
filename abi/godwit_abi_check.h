/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Size and offset of everything in abi/, checked by each compiler that reads it.
 * Included at the end of each header; one section per header.
 */
#ifdef __cplusplus
#define GODWIT_CHECK(condition)	static_assert(condition, #condition)
#else
#define GODWIT_CHECK(condition)	_Static_assert(condition, #condition)
#endif
#ifdef __KERNEL__
#include <linux/stddef.h>
#else
#include <stddef.h>
#endif

#if defined(GODWIT_QUEUE_H) && !defined(GODWIT_QUEUE_CHECKED)
#define GODWIT_QUEUE_CHECKED

GODWIT_CHECK(sizeof(struct godwit_list_page) == 4096);
GODWIT_CHECK(offsetof(struct godwit_list_page, next) == 0);
GODWIT_CHECK(offsetof(struct godwit_list_page, page) == 8);

GODWIT_CHECK(sizeof(struct godwit_qp_record) == 64);
GODWIT_CHECK(offsetof(struct godwit_qp_record, sq_producer) == 0);
GODWIT_CHECK(offsetof(struct godwit_qp_record, rq_producer) == 4);
GODWIT_CHECK(offsetof(struct godwit_qp_record, reserved_40) == 8);

GODWIT_CHECK(sizeof(struct godwit_cq_record) == 64);
GODWIT_CHECK(offsetof(struct godwit_cq_record, consumer) == 0);
GODWIT_CHECK(offsetof(struct godwit_cq_record, reserved_20) == 4);

GODWIT_CHECK(sizeof(struct godwit_srq_record) == 64);
GODWIT_CHECK(offsetof(struct godwit_srq_record, producer) == 0);
GODWIT_CHECK(offsetof(struct godwit_srq_record, reserved_20) == 4);

GODWIT_CHECK(sizeof(struct godwit_sge) == 16);
GODWIT_CHECK(offsetof(struct godwit_sge, addr) == 0);
GODWIT_CHECK(offsetof(struct godwit_sge, length) == 8);
GODWIT_CHECK(offsetof(struct godwit_sge, lkey) == 12);

GODWIT_CHECK(sizeof(struct godwit_wqe_rdma) == 48);
GODWIT_CHECK(offsetof(struct godwit_wqe_rdma, remote_addr) == 0);
GODWIT_CHECK(offsetof(struct godwit_wqe_rdma, rkey) == 8);
GODWIT_CHECK(offsetof(struct godwit_wqe_rdma, reserved_60) == 12);
GODWIT_CHECK(offsetof(struct godwit_wqe_rdma, compare_add) == 16);
GODWIT_CHECK(offsetof(struct godwit_wqe_rdma, swap) == 24);
GODWIT_CHECK(offsetof(struct godwit_wqe_rdma, reserved_100) == 32);

GODWIT_CHECK(sizeof(struct godwit_wqe_ud) == 48);
GODWIT_CHECK(offsetof(struct godwit_wqe_ud, dest_gid) == 0);
GODWIT_CHECK(offsetof(struct godwit_wqe_ud, dest_mac) == 16);
GODWIT_CHECK(offsetof(struct godwit_wqe_ud, sgid_index) == 22);
GODWIT_CHECK(offsetof(struct godwit_wqe_ud, dest_qpn) == 24);
GODWIT_CHECK(offsetof(struct godwit_wqe_ud, qkey) == 28);
GODWIT_CHECK(offsetof(struct godwit_wqe_ud, flow_label) == 32);
GODWIT_CHECK(offsetof(struct godwit_wqe_ud, traffic_class) == 36);
GODWIT_CHECK(offsetof(struct godwit_wqe_ud, hop_limit) == 37);
GODWIT_CHECK(offsetof(struct godwit_wqe_ud, reserved_130) == 38);

GODWIT_CHECK(sizeof(struct godwit_wqe_bind) == 48);
GODWIT_CHECK(offsetof(struct godwit_wqe_bind, addr) == 0);
GODWIT_CHECK(offsetof(struct godwit_wqe_bind, length) == 8);
GODWIT_CHECK(offsetof(struct godwit_wqe_bind, mr_lkey) == 16);
GODWIT_CHECK(offsetof(struct godwit_wqe_bind, mw_rkey) == 20);
GODWIT_CHECK(offsetof(struct godwit_wqe_bind, access) == 24);
GODWIT_CHECK(offsetof(struct godwit_wqe_bind, reserved_e0) == 28);

GODWIT_CHECK(sizeof(struct godwit_send_wqe) == 64);
GODWIT_CHECK(offsetof(struct godwit_send_wqe, opcode) == 0);
GODWIT_CHECK(offsetof(struct godwit_send_wqe, flags) == 1);
GODWIT_CHECK(offsetof(struct godwit_send_wqe, num_sge) == 2);
GODWIT_CHECK(offsetof(struct godwit_send_wqe, reserved_18) == 3);
GODWIT_CHECK(offsetof(struct godwit_send_wqe, inline_length) == 4);
GODWIT_CHECK(offsetof(struct godwit_send_wqe, imm_or_invalidate) == 8);
GODWIT_CHECK(offsetof(struct godwit_send_wqe, reserved_60) == 12);
GODWIT_CHECK(offsetof(struct godwit_send_wqe, u) == 16);

GODWIT_CHECK(sizeof(struct godwit_recv_wqe) == 16);
GODWIT_CHECK(offsetof(struct godwit_recv_wqe, num_sge) == 0);
GODWIT_CHECK(offsetof(struct godwit_recv_wqe, reserved_8) == 1);

GODWIT_CHECK(sizeof(struct godwit_cqe) == 64);
GODWIT_CHECK(offsetof(struct godwit_cqe, qpn) == 0);
GODWIT_CHECK(offsetof(struct godwit_cqe, wqe_index) == 4);
GODWIT_CHECK(offsetof(struct godwit_cqe, byte_len) == 8);
GODWIT_CHECK(offsetof(struct godwit_cqe, imm_or_invalidated) == 12);
GODWIT_CHECK(offsetof(struct godwit_cqe, opcode) == 16);
GODWIT_CHECK(offsetof(struct godwit_cqe, status) == 17);
GODWIT_CHECK(offsetof(struct godwit_cqe, flags) == 18);
GODWIT_CHECK(offsetof(struct godwit_cqe, vendor_err) == 19);
GODWIT_CHECK(offsetof(struct godwit_cqe, src_qpn) == 20);
GODWIT_CHECK(offsetof(struct godwit_cqe, pkey_index) == 24);
GODWIT_CHECK(offsetof(struct godwit_cqe, src_mac) == 26);
GODWIT_CHECK(offsetof(struct godwit_cqe, srqn) == 32);
GODWIT_CHECK(offsetof(struct godwit_cqe, reserved_140) == 36);
GODWIT_CHECK(offsetof(struct godwit_cqe, timestamp_ns) == 40);
GODWIT_CHECK(offsetof(struct godwit_cqe, reserved_1c0) == 48);
GODWIT_CHECK(offsetof(struct godwit_cqe, phase) == 63);

GODWIT_CHECK(sizeof(struct godwit_eqe) == 16);
GODWIT_CHECK(offsetof(struct godwit_eqe, type) == 0);
GODWIT_CHECK(offsetof(struct godwit_eqe, subtype) == 1);
GODWIT_CHECK(offsetof(struct godwit_eqe, reserved_10) == 2);
GODWIT_CHECK(offsetof(struct godwit_eqe, number) == 4);
GODWIT_CHECK(offsetof(struct godwit_eqe, reserved_40) == 8);
GODWIT_CHECK(offsetof(struct godwit_eqe, phase) == 15);

GODWIT_CHECK(sizeof(struct godwit_eth_desc) == 16);
GODWIT_CHECK(offsetof(struct godwit_eth_desc, addr) == 0);
GODWIT_CHECK(offsetof(struct godwit_eth_desc, length) == 8);
GODWIT_CHECK(offsetof(struct godwit_eth_desc, flags) == 12);
GODWIT_CHECK(offsetof(struct godwit_eth_desc, reserved_68) == 13);
GODWIT_CHECK(offsetof(struct godwit_eth_desc, status) == 15);
#endif /* GODWIT_QUEUE_H */

#if defined(GODWIT_CMD_H) && !defined(GODWIT_CMD_CHECKED)
#define GODWIT_CMD_CHECKED

GODWIT_CHECK(sizeof(struct godwit_cmd) == 64);
GODWIT_CHECK(offsetof(struct godwit_cmd, opcode) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd, reserved_8) == 1);
GODWIT_CHECK(offsetof(struct godwit_cmd, id) == 2);
GODWIT_CHECK(offsetof(struct godwit_cmd, reserved_20) == 4);
GODWIT_CHECK(offsetof(struct godwit_cmd, params) == 8);

GODWIT_CHECK(sizeof(struct godwit_cmd_completion) == 64);
GODWIT_CHECK(offsetof(struct godwit_cmd_completion, id) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_completion, status) == 2);
GODWIT_CHECK(offsetof(struct godwit_cmd_completion, detail) == 4);
GODWIT_CHECK(offsetof(struct godwit_cmd_completion, result) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_completion, reserved_180) == 48);
GODWIT_CHECK(offsetof(struct godwit_cmd_completion, phase) == 63);

GODWIT_CHECK(sizeof(struct godwit_cmd_mailbox) == 16);
GODWIT_CHECK(offsetof(struct godwit_cmd_mailbox, addr) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_mailbox, length) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_mailbox, reserved_60) == 12);

GODWIT_CHECK(sizeof(struct godwit_cmd_number) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_number, number) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_number, reserved_20) == 4);

GODWIT_CHECK(sizeof(struct godwit_cmd_object) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_object, uctx) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_object, number) == 4);

GODWIT_CHECK(sizeof(struct godwit_cmd_qp_mailbox) == 16);
GODWIT_CHECK(offsetof(struct godwit_cmd_qp_mailbox, addr) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_qp_mailbox, length) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_qp_mailbox, qpn) == 12);

GODWIT_CHECK(sizeof(struct godwit_buffer) == 24);
GODWIT_CHECK(offsetof(struct godwit_buffer, list) == 0);
GODWIT_CHECK(offsetof(struct godwit_buffer, page_count) == 8);
GODWIT_CHECK(offsetof(struct godwit_buffer, page_shift) == 12);
GODWIT_CHECK(offsetof(struct godwit_buffer, first_offset) == 16);
GODWIT_CHECK(offsetof(struct godwit_buffer, length) == 20);

GODWIT_CHECK(sizeof(struct godwit_cmd_create_eq) == 40);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_eq, eqn) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_eq, vector) == 4);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_eq, log2_depth) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_eq, reserved_60) == 12);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_eq, buffer) == 16);

GODWIT_CHECK(sizeof(struct godwit_cmd_set_gid) == 32);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_gid, index) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_gid, flags) == 4);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_gid, reserved_28) == 5);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_gid, mac) == 6);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_gid, vlan) == 12);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_gid, reserved_70) == 14);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_gid, gid) == 16);

GODWIT_CHECK(sizeof(struct godwit_cmd_reg_mr) == 56);
GODWIT_CHECK(offsetof(struct godwit_cmd_reg_mr, pdn) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_reg_mr, key) == 4);
GODWIT_CHECK(offsetof(struct godwit_cmd_reg_mr, access) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_reg_mr, flags) == 12);
GODWIT_CHECK(offsetof(struct godwit_cmd_reg_mr, iova) == 16);
GODWIT_CHECK(offsetof(struct godwit_cmd_reg_mr, length) == 24);
GODWIT_CHECK(offsetof(struct godwit_cmd_reg_mr, list) == 32);
GODWIT_CHECK(offsetof(struct godwit_cmd_reg_mr, page_count) == 40);
GODWIT_CHECK(offsetof(struct godwit_cmd_reg_mr, page_shift) == 44);
GODWIT_CHECK(offsetof(struct godwit_cmd_reg_mr, reserved_168) == 45);
GODWIT_CHECK(offsetof(struct godwit_cmd_reg_mr, first_offset) == 48);
GODWIT_CHECK(offsetof(struct godwit_cmd_reg_mr, reserved_1a0) == 52);

GODWIT_CHECK(sizeof(struct godwit_cmd_dereg_mr) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_dereg_mr, pdn) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_dereg_mr, key) == 4);

GODWIT_CHECK(sizeof(struct godwit_cmd_create_cq) == 56);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_cq, uctx) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_cq, cqn) == 4);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_cq, eqn) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_cq, event_number) == 12);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_cq, log2_depth) == 16);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_cq, flags) == 20);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_cq, record_offset) == 24);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_cq, reserved_e0) == 28);
GODWIT_CHECK(offsetof(struct godwit_cmd_create_cq, buffer) == 32);

GODWIT_CHECK(sizeof(struct godwit_cmd_set_eth_rings) == 24);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_eth_rings, enable) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_eth_rings, log2_tx) == 4);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_eth_rings, log2_rx) == 5);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_eth_rings, reserved_30) == 6);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_eth_rings, tx_ring) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_eth_rings, rx_ring) == 16);

GODWIT_CHECK(sizeof(struct godwit_cmd_set_eth_filter) == 16);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_eth_filter, addr) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_eth_filter, count) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_set_eth_filter, flags) == 12);

GODWIT_CHECK(sizeof(struct godwit_cmd_scope) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_scope, scope) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_scope, number) == 4);

GODWIT_CHECK(sizeof(struct godwit_cmd_state) == 32);
GODWIT_CHECK(offsetof(struct godwit_cmd_state, addr) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_state, length) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_state, type) == 12);
GODWIT_CHECK(offsetof(struct godwit_cmd_state, uctx) == 16);
GODWIT_CHECK(offsetof(struct godwit_cmd_state, number) == 20);
GODWIT_CHECK(offsetof(struct godwit_cmd_state, sgid_index) == 24);
GODWIT_CHECK(offsetof(struct godwit_cmd_state, reserved_e0) == 28);

GODWIT_CHECK(sizeof(struct godwit_cmd_attach) == 40);
GODWIT_CHECK(offsetof(struct godwit_cmd_attach, type) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_attach, uctx) == 4);
GODWIT_CHECK(offsetof(struct godwit_cmd_attach, number) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_attach, reserved_60) == 12);
GODWIT_CHECK(offsetof(struct godwit_cmd_attach, buffer) == 16);

GODWIT_CHECK(sizeof(struct godwit_cmd_resume) == 16);
GODWIT_CHECK(offsetof(struct godwit_cmd_resume, scope) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_resume, number) == 4);
GODWIT_CHECK(offsetof(struct godwit_cmd_resume, attempt) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_resume, flags) == 12);

GODWIT_CHECK(sizeof(struct godwit_cmd_tombstone) == 16);
GODWIT_CHECK(offsetof(struct godwit_cmd_tombstone, qpn) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_tombstone, reserved_20) == 4);
GODWIT_CHECK(offsetof(struct godwit_cmd_tombstone, move) == 8);

GODWIT_CHECK(sizeof(struct godwit_cmd_move) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_move, move) == 0);

GODWIT_CHECK(sizeof(struct godwit_cmd_reserve) == 24);
GODWIT_CHECK(offsetof(struct godwit_cmd_reserve, addr) == 0);
GODWIT_CHECK(offsetof(struct godwit_cmd_reserve, count) == 8);
GODWIT_CHECK(offsetof(struct godwit_cmd_reserve, ttl_ms) == 12);
GODWIT_CHECK(offsetof(struct godwit_cmd_reserve, move) == 16);

GODWIT_CHECK(sizeof(struct godwit_result_key) == 8);
GODWIT_CHECK(offsetof(struct godwit_result_key, key) == 0);
GODWIT_CHECK(offsetof(struct godwit_result_key, reserved_20) == 4);

GODWIT_CHECK(sizeof(struct godwit_result_qpn) == 8);
GODWIT_CHECK(offsetof(struct godwit_result_qpn, qpn) == 0);
GODWIT_CHECK(offsetof(struct godwit_result_qpn, reserved_20) == 4);

GODWIT_CHECK(sizeof(struct godwit_result_count) == 8);
GODWIT_CHECK(offsetof(struct godwit_result_count, count) == 0);
GODWIT_CHECK(offsetof(struct godwit_result_count, reserved_20) == 4);

GODWIT_CHECK(sizeof(struct godwit_device_caps) == 128);
GODWIT_CHECK(offsetof(struct godwit_device_caps, flags) == 0);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_mr_size) == 8);
GODWIT_CHECK(offsetof(struct godwit_device_caps, clock_hz) == 16);
GODWIT_CHECK(offsetof(struct godwit_device_caps, state_version) == 24);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_uctx) == 28);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_pd) == 32);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_mr) == 36);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_cq) == 40);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_qp) == 44);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_srq) == 48);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_eq) == 52);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_qp_wr) == 56);
GODWIT_CHECK(offsetof(struct godwit_device_caps, log2_max_cqe) == 60);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_send_sge) == 64);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_recv_sge) == 68);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_inline) == 72);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_rd_atomic) == 76);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_message) == 80);
GODWIT_CHECK(offsetof(struct godwit_device_caps, gid_entries) == 84);
GODWIT_CHECK(offsetof(struct godwit_device_caps, mac_filters) == 88);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_mtu) == 92);
GODWIT_CHECK(offsetof(struct godwit_device_caps, pause_limit_ms) == 96);
GODWIT_CHECK(offsetof(struct godwit_device_caps, tombstone_ttl_ms) == 100);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_tombstones) == 104);
GODWIT_CHECK(offsetof(struct godwit_device_caps, max_reservations) == 108);
GODWIT_CHECK(offsetof(struct godwit_device_caps, reserved_380) == 112);

GODWIT_CHECK(sizeof(struct godwit_av) == 40);
GODWIT_CHECK(offsetof(struct godwit_av, dgid) == 0);
GODWIT_CHECK(offsetof(struct godwit_av, dmac) == 16);
GODWIT_CHECK(offsetof(struct godwit_av, sgid_index) == 22);
GODWIT_CHECK(offsetof(struct godwit_av, flow_label) == 24);
GODWIT_CHECK(offsetof(struct godwit_av, udp_source_port) == 28);
GODWIT_CHECK(offsetof(struct godwit_av, traffic_class) == 30);
GODWIT_CHECK(offsetof(struct godwit_av, hop_limit) == 31);
GODWIT_CHECK(offsetof(struct godwit_av, service_level) == 32);
GODWIT_CHECK(offsetof(struct godwit_av, reserved_108) == 33);

GODWIT_CHECK(sizeof(struct godwit_create_qp) == 88);
GODWIT_CHECK(offsetof(struct godwit_create_qp, uctx) == 0);
GODWIT_CHECK(offsetof(struct godwit_create_qp, pdn) == 4);
GODWIT_CHECK(offsetof(struct godwit_create_qp, send_cqn) == 8);
GODWIT_CHECK(offsetof(struct godwit_create_qp, recv_cqn) == 12);
GODWIT_CHECK(offsetof(struct godwit_create_qp, srqn) == 16);
GODWIT_CHECK(offsetof(struct godwit_create_qp, flags) == 20);
GODWIT_CHECK(offsetof(struct godwit_create_qp, qpn) == 24);
GODWIT_CHECK(offsetof(struct godwit_create_qp, sq_offset) == 28);
GODWIT_CHECK(offsetof(struct godwit_create_qp, rq_offset) == 32);
GODWIT_CHECK(offsetof(struct godwit_create_qp, record_offset) == 36);
GODWIT_CHECK(offsetof(struct godwit_create_qp, type) == 40);
GODWIT_CHECK(offsetof(struct godwit_create_qp, log2_sq_depth) == 41);
GODWIT_CHECK(offsetof(struct godwit_create_qp, log2_rq_depth) == 42);
GODWIT_CHECK(offsetof(struct godwit_create_qp, log2_sq_stride) == 43);
GODWIT_CHECK(offsetof(struct godwit_create_qp, log2_rq_stride) == 44);
GODWIT_CHECK(offsetof(struct godwit_create_qp, max_send_sge) == 45);
GODWIT_CHECK(offsetof(struct godwit_create_qp, max_recv_sge) == 46);
GODWIT_CHECK(offsetof(struct godwit_create_qp, signal_all) == 47);
GODWIT_CHECK(offsetof(struct godwit_create_qp, max_inline) == 48);
GODWIT_CHECK(offsetof(struct godwit_create_qp, reserved_1a0) == 52);
GODWIT_CHECK(offsetof(struct godwit_create_qp, move) == 56);
GODWIT_CHECK(offsetof(struct godwit_create_qp, buffer) == 64);

GODWIT_CHECK(sizeof(struct godwit_qp_attr) == 72);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, status) == 0);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, cur_status) == 1);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, path_mtu) == 2);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, access) == 3);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, timeout) == 4);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, retry_cnt) == 5);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, rnr_retry) == 6);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, min_rnr_timer) == 7);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, max_rd_atomic) == 8);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, max_dest_rd_atomic) == 9);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, sqd_async_notify) == 10);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, reserved_58) == 11);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, pkey_index) == 12);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, reserved_70) == 14);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, qkey) == 16);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, dest_qpn) == 20);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, sq_psn) == 24);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, rq_psn) == 28);
GODWIT_CHECK(offsetof(struct godwit_qp_attr, av) == 32);

GODWIT_CHECK(sizeof(struct godwit_modify_qp) == 80);
GODWIT_CHECK(offsetof(struct godwit_modify_qp, qpn) == 0);
GODWIT_CHECK(offsetof(struct godwit_modify_qp, mask) == 4);
GODWIT_CHECK(offsetof(struct godwit_modify_qp, attr) == 8);

GODWIT_CHECK(sizeof(struct godwit_qp_info) == 136);
GODWIT_CHECK(offsetof(struct godwit_qp_info, attr) == 0);
GODWIT_CHECK(offsetof(struct godwit_qp_info, ext) == 72);
GODWIT_CHECK(offsetof(struct godwit_qp_info, own_epoch) == 76);
GODWIT_CHECK(offsetof(struct godwit_qp_info, peer_epoch) == 80);
GODWIT_CHECK(offsetof(struct godwit_qp_info, sq_draining) == 84);
GODWIT_CHECK(offsetof(struct godwit_qp_info, peer_extended) == 85);
GODWIT_CHECK(offsetof(struct godwit_qp_info, reserved_2f0) == 86);
GODWIT_CHECK(offsetof(struct godwit_qp_info, sq_consumer) == 88);
GODWIT_CHECK(offsetof(struct godwit_qp_info, rq_consumer) == 92);
GODWIT_CHECK(offsetof(struct godwit_qp_info, tx_packets) == 96);
GODWIT_CHECK(offsetof(struct godwit_qp_info, rx_packets) == 104);
GODWIT_CHECK(offsetof(struct godwit_qp_info, tx_bytes) == 112);
GODWIT_CHECK(offsetof(struct godwit_qp_info, rx_bytes) == 120);
GODWIT_CHECK(offsetof(struct godwit_qp_info, retransmissions) == 128);

GODWIT_CHECK(sizeof(struct godwit_tombstone_info) == 24);
GODWIT_CHECK(offsetof(struct godwit_tombstone_info, move) == 0);
GODWIT_CHECK(offsetof(struct godwit_tombstone_info, qpn) == 8);
GODWIT_CHECK(offsetof(struct godwit_tombstone_info, dest_qpn) == 12);
GODWIT_CHECK(offsetof(struct godwit_tombstone_info, ttl_ms) == 16);
GODWIT_CHECK(offsetof(struct godwit_tombstone_info, answered) == 20);
#endif /* GODWIT_CMD_H */

#if defined(GODWIT_STATE_H) && !defined(GODWIT_STATE_CHECKED)
#define GODWIT_STATE_CHECKED

GODWIT_CHECK(sizeof(struct godwit_state_header) == 16);
GODWIT_CHECK(offsetof(struct godwit_state_header, magic) == 0);
GODWIT_CHECK(offsetof(struct godwit_state_header, version) == 4);
GODWIT_CHECK(offsetof(struct godwit_state_header, type) == 6);
GODWIT_CHECK(offsetof(struct godwit_state_header, length) == 8);
GODWIT_CHECK(offsetof(struct godwit_state_header, crc32) == 12);

GODWIT_CHECK(sizeof(struct godwit_place) == 24);
GODWIT_CHECK(offsetof(struct godwit_place, gid) == 0);
GODWIT_CHECK(offsetof(struct godwit_place, mac) == 16);
GODWIT_CHECK(offsetof(struct godwit_place, reserved_b0) == 22);

GODWIT_CHECK(sizeof(struct godwit_read_atomic_slot) == 48);
GODWIT_CHECK(offsetof(struct godwit_read_atomic_slot, first_psn) == 0);
GODWIT_CHECK(offsetof(struct godwit_read_atomic_slot, packets) == 4);
GODWIT_CHECK(offsetof(struct godwit_read_atomic_slot, opcode) == 8);
GODWIT_CHECK(offsetof(struct godwit_read_atomic_slot, in_progress) == 9);
GODWIT_CHECK(offsetof(struct godwit_read_atomic_slot, answered) == 10);
GODWIT_CHECK(offsetof(struct godwit_read_atomic_slot, reserved_58) == 11);
GODWIT_CHECK(offsetof(struct godwit_read_atomic_slot, rkey) == 12);
GODWIT_CHECK(offsetof(struct godwit_read_atomic_slot, va) == 16);
GODWIT_CHECK(offsetof(struct godwit_read_atomic_slot, length) == 24);
GODWIT_CHECK(offsetof(struct godwit_read_atomic_slot, original) == 32);
GODWIT_CHECK(offsetof(struct godwit_read_atomic_slot, msn) == 40);
GODWIT_CHECK(offsetof(struct godwit_read_atomic_slot, next_psn) == 44);

GODWIT_CHECK(sizeof(struct godwit_qp_state) == 1240);
GODWIT_CHECK(offsetof(struct godwit_qp_state, header) == 0);
GODWIT_CHECK(offsetof(struct godwit_qp_state, type) == 16);
GODWIT_CHECK(offsetof(struct godwit_qp_state, log2_sq_depth) == 17);
GODWIT_CHECK(offsetof(struct godwit_qp_state, log2_rq_depth) == 18);
GODWIT_CHECK(offsetof(struct godwit_qp_state, ext) == 19);
GODWIT_CHECK(offsetof(struct godwit_qp_state, qpn) == 20);
GODWIT_CHECK(offsetof(struct godwit_qp_state, attr) == 24);
GODWIT_CHECK(offsetof(struct godwit_qp_state, own) == 96);
GODWIT_CHECK(offsetof(struct godwit_qp_state, sq_consumer) == 120);
GODWIT_CHECK(offsetof(struct godwit_qp_state, sq_producer) == 124);
GODWIT_CHECK(offsetof(struct godwit_qp_state, sq_first_psn) == 128);
GODWIT_CHECK(offsetof(struct godwit_qp_state, una_psn) == 132);
GODWIT_CHECK(offsetof(struct godwit_qp_state, next_psn) == 136);
GODWIT_CHECK(offsetof(struct godwit_qp_state, high_psn) == 140);
GODWIT_CHECK(offsetof(struct godwit_qp_state, ssn) == 144);
GODWIT_CHECK(offsetof(struct godwit_qp_state, credits) == 148);
GODWIT_CHECK(offsetof(struct godwit_qp_state, retries_left) == 152);
GODWIT_CHECK(offsetof(struct godwit_qp_state, rnr_retries_left) == 153);
GODWIT_CHECK(offsetof(struct godwit_qp_state, requester_flags) == 154);
GODWIT_CHECK(offsetof(struct godwit_qp_state, error_cause) == 155);
GODWIT_CHECK(offsetof(struct godwit_qp_state, reserved_req) == 156);
GODWIT_CHECK(offsetof(struct godwit_qp_state, ack_timer_ns) == 160);
GODWIT_CHECK(offsetof(struct godwit_qp_state, rnr_timer_ns) == 168);
GODWIT_CHECK(offsetof(struct godwit_qp_state, pause_timer_ns) == 176);
GODWIT_CHECK(offsetof(struct godwit_qp_state, resume_timer_ns) == 184);
GODWIT_CHECK(offsetof(struct godwit_qp_state, expected_psn) == 192);
GODWIT_CHECK(offsetof(struct godwit_qp_state, msn) == 196);
GODWIT_CHECK(offsetof(struct godwit_qp_state, rq_consumer) == 200);
GODWIT_CHECK(offsetof(struct godwit_qp_state, message_opcode) == 204);
GODWIT_CHECK(offsetof(struct godwit_qp_state, responder_flags) == 205);
GODWIT_CHECK(offsetof(struct godwit_qp_state, read_atomic_head) == 206);
GODWIT_CHECK(offsetof(struct godwit_qp_state, read_atomic_count) == 207);
GODWIT_CHECK(offsetof(struct godwit_qp_state, message_va) == 208);
GODWIT_CHECK(offsetof(struct godwit_qp_state, message_left) == 216);
GODWIT_CHECK(offsetof(struct godwit_qp_state, message_placed) == 224);
GODWIT_CHECK(offsetof(struct godwit_qp_state, message_rkey) == 232);
GODWIT_CHECK(offsetof(struct godwit_qp_state, ack_psn) == 236);
GODWIT_CHECK(offsetof(struct godwit_qp_state, ack_delay_ns) == 240);
GODWIT_CHECK(offsetof(struct godwit_qp_state, read_atomic) == 248);
GODWIT_CHECK(offsetof(struct godwit_qp_state, own_epoch) == 1016);
GODWIT_CHECK(offsetof(struct godwit_qp_state, peer_epoch) == 1020);
GODWIT_CHECK(offsetof(struct godwit_qp_state, initial_sq_psn) == 1024);
GODWIT_CHECK(offsetof(struct godwit_qp_state, initial_rq_psn) == 1028);
GODWIT_CHECK(offsetof(struct godwit_qp_state, peer_extended) == 1032);
GODWIT_CHECK(offsetof(struct godwit_qp_state, entered) == 1033);
GODWIT_CHECK(offsetof(struct godwit_qp_state, place_count) == 1034);
GODWIT_CHECK(offsetof(struct godwit_qp_state, last_attempt) == 1035);
GODWIT_CHECK(offsetof(struct godwit_qp_state, resume_epoch) == 1036);
GODWIT_CHECK(offsetof(struct godwit_qp_state, places) == 1040);
GODWIT_CHECK(offsetof(struct godwit_qp_state, tx_packets) == 1136);
GODWIT_CHECK(offsetof(struct godwit_qp_state, rx_packets) == 1144);
GODWIT_CHECK(offsetof(struct godwit_qp_state, tx_bytes) == 1152);
GODWIT_CHECK(offsetof(struct godwit_qp_state, rx_bytes) == 1160);
GODWIT_CHECK(offsetof(struct godwit_qp_state, retransmissions) == 1168);
GODWIT_CHECK(offsetof(struct godwit_qp_state, reserved_end) == 1176);

GODWIT_CHECK(sizeof(struct godwit_cq_state) == 64);
GODWIT_CHECK(offsetof(struct godwit_cq_state, header) == 0);
GODWIT_CHECK(offsetof(struct godwit_cq_state, log2_depth) == 16);
GODWIT_CHECK(offsetof(struct godwit_cq_state, producer) == 20);
GODWIT_CHECK(offsetof(struct godwit_cq_state, consumer) == 24);
GODWIT_CHECK(offsetof(struct godwit_cq_state, armed) == 28);
GODWIT_CHECK(offsetof(struct godwit_cq_state, event_pending) == 29);
GODWIT_CHECK(offsetof(struct godwit_cq_state, overflowed) == 30);
GODWIT_CHECK(offsetof(struct godwit_cq_state, reserved_f8) == 31);
GODWIT_CHECK(offsetof(struct godwit_cq_state, reserved_end) == 32);
#endif /* GODWIT_STATE_H */

#undef GODWIT_CHECK
