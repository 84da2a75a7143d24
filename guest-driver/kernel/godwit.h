/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The driver's own view of the NIC: one PCI function, its command queue, event
 * queues and Ethernet function. The RDMA objects are in verbs.h.
 */
#ifndef GODWIT_H
#define GODWIT_H

#include <linux/bitfield.h>
#include <linux/completion.h>
#include <linux/idr.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <linux/semaphore.h>
#include <linux/siphash.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <rdma/ib_verbs.h>

#include "godwit_cmd.h"
#include "godwit_counters.h"
#include "godwit_queue.h"
#include "godwit_regs.h"
#include "godwit_state.h"

#define GODWIT_DRIVER_NAME	"godwit"
#define GODWIT_DRIVER_VERSION	"1.0"	/* also of the DKMS package */
#define GODWIT_PORT		1

/* Event queues of completions; the device may have fewer vectors. */
#define GODWIT_MAX_COMP_EQS	32

struct godwit_dev;

/* QUERY_DEVICE, in the byte order of this machine */
struct godwit_caps {
	u64 flags;
	u64 max_mr_size;
	u64 clock_hz;
	u32 state_version;
	u32 max_uctx;
	u32 max_pd;
	u32 max_mr;
	u32 max_cq;
	u32 max_qp;
	u32 max_eq;
	u32 max_qp_wr;
	u32 log2_max_cqe;
	u32 max_send_sge;
	u32 max_recv_sge;
	u32 max_inline;
	u32 max_rd_atomic;
	u32 max_message;
	u32 gid_entries;
	u32 mac_filters;
	u32 max_mtu;
	u32 max_tombstones;
};

/* A contiguous piece of memory for the arguments or results of one command */
struct godwit_mailbox {
	void *data;
	dma_addr_t addr;
	u32 length;
};

struct godwit_cmd_waiter {
	struct completion done;
	struct godwit_cmd_completion entry;
};

struct godwit_cmdq {
	struct godwit_cmd *sq;
	struct godwit_cmd_completion *cq;
	dma_addr_t sq_addr;
	dma_addr_t cq_addr;
	spinlock_t lock;		/* all below, and the order of commands */
	u32 producer;
	u32 consumer;
	struct godwit_cmd_waiter **waiters;
	struct semaphore slots;
};

struct godwit_eq {
	struct godwit_dev *dev;
	struct godwit_eqe *ring;
	dma_addr_t addr;
	u32 eqn;
	u32 vector;
	u32 log2_depth;
	u32 consumer;			/* under lock */
	spinlock_t lock;		/* entries are taken by interrupts and by quiescing tasks */
	bool created;
};

struct godwit_vector {
	struct godwit_dev *dev;
	struct godwit_eq *eq;		/* vectors of event queues */
	char name[32];
	bool requested;
};

struct godwit_dev {
	struct ib_device ibdev;		/* first: ib_alloc_device() */
	struct pci_dev *pdev;
	void __iomem *regs;
	u32 abi_version;		/* of the device: major << 16 | minor */
	void __iomem *doorbell;		/* page 0, the driver's */
	phys_addr_t doorbell_base;
	u32 doorbell_pages;
	struct godwit_caps caps;

	struct godwit_cmdq cmdq;
	struct godwit_eq async_eq;
	struct godwit_eq *comp_eqs;
	u32 num_comp_eqs;
	struct godwit_vector *vectors;
	u32 num_vectors;

	bool dead;			/* the device does not answer, or has stopped */
	struct work_struct fatal_work;

	struct net_device *netdev;
	spinlock_t event_lock;		/* ib_registered, and dispatching while it is set */
	bool ib_registered;

	struct ida uctx_ida;
	struct ida pd_ida;
	struct xarray cqs;		/* by event number; the async EQ and comp EQs look here */
	u32 next_event_number;
	struct xarray qps;		/* by QPN */
	atomic64_t next_cookie;
	siphash_key_t cookie_key;
};

static inline struct godwit_dev *to_gdev(struct ib_device *ibdev)
{
	return container_of(ibdev, struct godwit_dev, ibdev);
}

static inline void godwit_doorbell(struct godwit_dev *dev, u32 offset, u32 number, u32 value)
{
	writeq((u64)value << 32 | number, dev->doorbell + offset);
}

static inline bool godwit_dead(struct godwit_dev *dev)
{
	return READ_ONCE(dev->dead);
}

/* main.c */
void godwit_fatal(struct godwit_dev *dev, const char *why);
void godwit_fw_version(const struct godwit_dev *dev, char *text, size_t size);

/* cmd.c */
int godwit_cmdq_init(struct godwit_dev *dev);
void godwit_cmdq_fini(struct godwit_dev *dev);
void godwit_cmdq_poll(struct godwit_dev *dev);
void godwit_cmdq_abort(struct godwit_dev *dev);
int godwit_mailbox_init(struct godwit_dev *dev, struct godwit_mailbox *mailbox, size_t length);
void godwit_mailbox_fini(struct godwit_dev *dev, struct godwit_mailbox *mailbox);

int godwit_cmd_query_device(struct godwit_dev *dev);
int godwit_cmd_create_eq(struct godwit_dev *dev, const struct godwit_cmd_create_eq *cmd);
int godwit_cmd_destroy_eq(struct godwit_dev *dev, u32 eqn);
int godwit_cmd_create_uctx(struct godwit_dev *dev, u32 uctx);
int godwit_cmd_destroy_uctx(struct godwit_dev *dev, u32 uctx);
int godwit_cmd_set_gid(struct godwit_dev *dev, const struct godwit_cmd_set_gid *cmd);
int godwit_cmd_query_counters(struct godwit_dev *dev, u64 values[GODWIT_COUNTER_COUNT]);
int godwit_cmd_create_pd(struct godwit_dev *dev, u32 uctx, u32 pdn);
int godwit_cmd_destroy_pd(struct godwit_dev *dev, u32 uctx, u32 pdn);
int godwit_cmd_reg_mr(struct godwit_dev *dev, const struct godwit_cmd_reg_mr *cmd, u32 *key);
int godwit_cmd_dereg_mr(struct godwit_dev *dev, u32 pdn, u32 key);
int godwit_cmd_create_cq(struct godwit_dev *dev, const struct godwit_cmd_create_cq *cmd);
int godwit_cmd_destroy_cq(struct godwit_dev *dev, u32 uctx, u32 cqn);
int godwit_cmd_create_qp(struct godwit_dev *dev, const struct godwit_create_qp *create, u32 *qpn);
int godwit_cmd_modify_qp(struct godwit_dev *dev, const struct godwit_modify_qp *modify);
int godwit_cmd_query_qp(struct godwit_dev *dev, u32 qpn, struct godwit_qp_info *info);
int godwit_cmd_destroy_qp(struct godwit_dev *dev, u32 qpn);
int godwit_cmd_set_eth_rings(struct godwit_dev *dev, const struct godwit_cmd_set_eth_rings *cmd);
int godwit_cmd_set_eth_filter(struct godwit_dev *dev, const struct godwit_mailbox *addresses,
			      u32 count, u32 flags);
int godwit_cmd_stop(struct godwit_dev *dev, u32 scope, u32 number);
int godwit_cmd_unstop(struct godwit_dev *dev, u32 scope, u32 number);
int godwit_cmd_save(struct godwit_dev *dev, struct godwit_mailbox *mailbox, u32 type, u32 uctx,
		    u32 number, u32 *length);
int godwit_cmd_load(struct godwit_dev *dev, struct godwit_mailbox *mailbox, u32 length, u32 type,
		    u32 uctx, u32 number, u32 sgid_index);
int godwit_cmd_attach(struct godwit_dev *dev, const struct godwit_cmd_attach *cmd);
int godwit_cmd_resume(struct godwit_dev *dev, u32 scope, u32 number, u32 attempt, u32 flags);
int godwit_cmd_tombstone(struct godwit_dev *dev, u32 qpn, u64 move);
int godwit_cmd_commit(struct godwit_dev *dev, u64 move);
int godwit_cmd_drop(struct godwit_dev *dev, u64 move);
int godwit_cmd_reserve_qpns(struct godwit_dev *dev, struct godwit_mailbox *qpns, u32 count,
			    u32 ttl_ms, u64 move);
int godwit_cmd_query_tombstones(struct godwit_dev *dev, struct godwit_mailbox *mailbox,
				u32 *count);

/* eq.c */
int godwit_vectors_init(struct godwit_dev *dev);
void godwit_vectors_fini(struct godwit_dev *dev);
int godwit_eqs_init(struct godwit_dev *dev);
void godwit_eqs_fini(struct godwit_dev *dev);
void godwit_eqs_drain(struct godwit_dev *dev);
void godwit_eq_barrier(struct godwit_eq *eq);

/* netdev.c */
int godwit_netdev_init(struct godwit_dev *dev);
void godwit_netdev_fini(struct godwit_dev *dev);
void godwit_netdev_interrupt(struct godwit_dev *dev);
void godwit_netdev_link(struct godwit_dev *dev);
void godwit_netdev_dead(struct godwit_dev *dev);

/* stats.c */
extern const struct rdma_stat_desc godwit_counter_descs[GODWIT_COUNTER_COUNT];

/* ib_main.c */
int godwit_ib_register(struct godwit_dev *dev);
void godwit_ib_unregister(struct godwit_dev *dev);
void godwit_ib_event(struct godwit_dev *dev, enum ib_event_type type);

/* cq.c, qp.c: from the event queues, in interrupt context, under their lock */
void godwit_cq_completion(struct godwit_dev *dev, u32 event_number);
void godwit_cq_error(struct godwit_dev *dev, u32 event_number);
void godwit_qp_event(struct godwit_dev *dev, u32 qpn, u8 subtype);
void godwit_qp_address_event(struct godwit_dev *dev, u32 qpn);

#endif /* GODWIT_H */
