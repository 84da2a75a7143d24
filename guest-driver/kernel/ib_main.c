// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The RDMA device: attributes of device and port, GID table, statistics, and
 * registration. There are no kernel users: post_send and its like are not
 * offered, so the core attaches none.
 */
#include <linux/capability.h>
#include <linux/if_vlan.h>
#include <net/addrconf.h>
#include <rdma/ib_addr.h>
#include <rdma/ib_cache.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_netlink.h>

#include "verbs.h"

#define GODWIT_PKEYS		1
#define GODWIT_DEFAULT_PKEY	0xffff
#define GODWIT_ACK_DELAY	12	/* 4.096 us << 12: what emulation may take */

static int godwit_query_device(struct ib_device *ibdev, struct ib_device_attr *attr,
			       struct ib_udata *udata)
{
	struct godwit_dev *dev = to_gdev(ibdev);
	const struct godwit_caps *caps = &dev->caps;

	if (udata->inlen)
		return -EINVAL;
	memset(attr, 0, sizeof(*attr));
	attr->fw_ver = (u64)(dev->abi_version >> 16) << 32 | (dev->abi_version & 0xffff) << 16 |
		       caps->state_version;
	attr->sys_image_guid = ibdev->node_guid;
	attr->max_mr_size = caps->max_mr_size;
	attr->page_size_cap = GENMASK(GODWIT_PAGE_SHIFT_MAX, GODWIT_PAGE_SHIFT_MIN);
	attr->vendor_id = GODWIT_PCI_VENDOR_ID;
	attr->vendor_part_id = GODWIT_PCI_DEVICE_ID;
	attr->hw_ver = dev->pdev->revision;
	attr->max_qp = caps->max_qp;
	attr->max_qp_wr = caps->max_qp_wr;
	attr->device_cap_flags = IB_DEVICE_RC_RNR_NAK_GEN | IB_DEVICE_PORT_ACTIVE_EVENT |
				 IB_DEVICE_SYS_IMAGE_GUID | IB_DEVICE_CURR_QP_STATE_MOD;
	attr->max_send_sge = caps->max_send_sge;
	attr->max_recv_sge = caps->max_recv_sge;
	attr->max_sge_rd = caps->max_send_sge;
	attr->max_cq = caps->max_cq;
	attr->max_cqe = 1 << caps->log2_max_cqe;
	attr->max_mr = caps->max_mr;
	attr->max_pd = caps->max_pd;
	attr->max_qp_rd_atom = caps->max_rd_atomic;
	attr->max_qp_init_rd_atom = caps->max_rd_atomic;
	attr->max_res_rd_atom = caps->max_rd_atomic * caps->max_qp;
	attr->atomic_cap = caps->flags & GODWIT_CAP_ATOMICS ? IB_ATOMIC_HCA : IB_ATOMIC_NONE;
	attr->max_pkeys = GODWIT_PKEYS;
	attr->local_ca_ack_delay = GODWIT_ACK_DELAY;
	attr->timestamp_mask = U64_MAX;
	attr->hca_core_clock = div_u64(caps->clock_hz, 1000);
	return 0;
}

static int godwit_query_port(struct ib_device *ibdev, u32 port, struct ib_port_attr *attr)
{
	struct godwit_dev *dev = to_gdev(ibdev);
	struct net_device *netdev = dev->netdev;
	bool up = netif_running(netdev) && netif_carrier_ok(netdev) && !godwit_dead(dev);

	attr->state = up ? IB_PORT_ACTIVE : IB_PORT_DOWN;
	attr->phys_state = up ? IB_PORT_PHYS_STATE_LINK_UP : IB_PORT_PHYS_STATE_DISABLED;
	attr->max_mtu = dev->caps.max_mtu;
	attr->active_mtu = min_t(u32, dev->caps.max_mtu, iboe_get_mtu(netdev->mtu));
	attr->gid_tbl_len = dev->caps.gid_entries;
	attr->ip_gids = true;
	attr->max_msg_sz = dev->caps.max_message;
	attr->pkey_tbl_len = GODWIT_PKEYS;
	attr->max_vl_num = 1;
	attr->active_speed = IB_SPEED_EDR;
	attr->active_width = IB_WIDTH_4X;
	return 0;
}

static int godwit_query_pkey(struct ib_device *ibdev, u32 port, u16 index, u16 *pkey)
{
	if (index >= GODWIT_PKEYS)
		return -EINVAL;
	*pkey = GODWIT_DEFAULT_PKEY;
	return 0;
}

static int godwit_port_immutable(struct ib_device *ibdev, u32 port,
				 struct ib_port_immutable *immutable)
{
	immutable->gid_tbl_len = to_gdev(ibdev)->caps.gid_entries;
	immutable->pkey_tbl_len = GODWIT_PKEYS;
	/* No MADs and no CM: both need QP 1. */
	immutable->core_cap_flags = RDMA_CORE_CAP_PROT_ROCE_UDP_ENCAP | RDMA_CORE_CAP_ETH_AH;
	return 0;
}

static enum rdma_link_layer godwit_link_layer(struct ib_device *ibdev, u32 port)
{
	return IB_LINK_LAYER_ETHERNET;
}

static void godwit_fw_str(struct ib_device *ibdev, char *str)
{
	godwit_fw_version(to_gdev(ibdev), str, IB_FW_VERSION_NAME_MAX);
}

/* ------------------------------------------------ GID table */

static int godwit_add_gid(const struct ib_gid_attr *attr, void **context)
{
	struct godwit_dev *dev = to_gdev(attr->device);
	struct godwit_cmd_set_gid cmd = {};
	u16 vlan = U16_MAX;
	int ret;

	if (attr->index >= dev->caps.gid_entries)
		return -EINVAL;
	/* A macvlan child has the address, and its own MAC. */
	ret = rdma_read_gid_l2_fields(attr, &vlan, cmd.mac);
	if (ret)
		return ret;
	cmd.index = cpu_to_le32(attr->index);
	cmd.flags = GODWIT_GID_VALID_MASK;
	if (ipv6_addr_v4mapped((const struct in6_addr *)&attr->gid))
		cmd.flags |= GODWIT_GID_IPV4_MASK;
	if (vlan < VLAN_N_VID) {
		if (!(dev->caps.flags & GODWIT_CAP_VLAN))
			return -EOPNOTSUPP;
		cmd.flags |= GODWIT_GID_VLAN_MASK;
		cmd.vlan = cpu_to_le16(vlan);
	}
	memcpy(cmd.gid, attr->gid.raw, sizeof(cmd.gid));
	return godwit_cmd_set_gid(dev, &cmd);
}

static int godwit_del_gid(const struct ib_gid_attr *attr, void **context)
{
	struct godwit_dev *dev = to_gdev(attr->device);
	struct godwit_cmd_set_gid cmd = { .index = cpu_to_le32(attr->index) };

	if (godwit_dead(dev))
		return 0;
	return godwit_cmd_set_gid(dev, &cmd);
}

/* ------------------------------------------------ statistics and resources */

static struct rdma_hw_stats *godwit_alloc_hw_stats(struct ib_device *ibdev, u32 port)
{
	return rdma_alloc_hw_stats_struct(godwit_counter_descs, GODWIT_COUNTER_COUNT,
					  RDMA_HW_STATS_DEFAULT_LIFESPAN);
}

static int godwit_get_hw_stats(struct ib_device *ibdev, struct rdma_hw_stats *stats, u32 port,
			       int index)
{
	int ret;

	ret = godwit_cmd_query_counters(to_gdev(ibdev), stats->value);
	return ret ? ret : GODWIT_COUNTER_COUNT;
}

static int godwit_fill_res_mr(struct sk_buff *msg, struct ib_mr *ibmr)
{
	struct godwit_mr *mr = to_gmr(ibmr);
	struct nlattr *table = nla_nest_start(msg, RDMA_NLDEV_ATTR_DRIVER);

	if (!table)
		return -EMSGSIZE;
	/* Where things lie in a process is no business of others; nor are the keys to the core. */
	if (rdma_nl_put_driver_u32_hex(msg, "access", mr->memory.access) ||
	    (capable(CAP_NET_ADMIN) &&
	     rdma_nl_put_driver_u64_hex(msg, "start", mr->memory.start))) {
		nla_nest_cancel(msg, table);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, table);
	return 0;
}

static int godwit_fill_res_cq(struct sk_buff *msg, struct ib_cq *ibcq)
{
	struct godwit_cq *cq = to_gcq(ibcq);
	struct nlattr *table = nla_nest_start(msg, RDMA_NLDEV_ATTR_DRIVER);

	if (!table)
		return -EMSGSIZE;
	if (rdma_nl_put_driver_u32(msg, "hwcqn", cq->cqn) ||
	    rdma_nl_put_driver_u32(msg, "doorbell_page", cq->context->uctx) ||
	    rdma_nl_put_driver_u32(msg, "vector", cq->comp_vector)) {
		nla_nest_cancel(msg, table);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, table);
	return 0;
}

/* The states that applications are not shown: why does nothing move? */
static int godwit_fill_res_qp(struct sk_buff *msg, struct ib_qp *ibqp)
{
	struct godwit_qp *qp = to_gqp(ibqp);
	struct godwit_qp_info info;
	struct nlattr *table;
	u32 ext;

	if (qp->tombstone || godwit_cmd_query_qp(qp->context->dev, ibqp->qp_num, &info))
		return 0;
	ext = le32_to_cpu(info.ext);
	table = nla_nest_start(msg, RDMA_NLDEV_ATTR_DRIVER);
	if (!table)
		return -EMSGSIZE;
	if (rdma_nl_put_driver_u32(msg, "stopped", !!(ext & GODWIT_QP_EXT_STOPPED_MASK)) ||
	    rdma_nl_put_driver_u32(msg, "paused", !!(ext & GODWIT_QP_EXT_PAUSED_MASK)) ||
	    rdma_nl_put_driver_u32(msg, "resuming", !!(ext & GODWIT_QP_EXT_RESUMING_MASK)) ||
	    rdma_nl_put_driver_u32(msg, "own_epoch", le32_to_cpu(info.own_epoch)) ||
	    rdma_nl_put_driver_u32(msg, "peer_epoch", le32_to_cpu(info.peer_epoch)) ||
	    rdma_nl_put_driver_u32(msg, "doorbell_page", qp->context->uctx)) {
		nla_nest_cancel(msg, table);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, table);
	return 0;
}

/* ------------------------------------------------ registration */

static const struct ib_device_ops godwit_ops = {
	.owner = THIS_MODULE,
	.driver_id = (enum rdma_driver_id)GODWIT_DRIVER_ID,
	.uverbs_abi_ver = GODWIT_UVERBS_ABI,

	.add_gid = godwit_add_gid,
	.alloc_hw_port_stats = godwit_alloc_hw_stats,
	.alloc_pd = godwit_alloc_pd,
	.alloc_ucontext = godwit_alloc_ucontext,
	.create_cq = godwit_create_cq,
	.create_qp = godwit_create_qp,
	.dealloc_pd = godwit_dealloc_pd,
	.dealloc_ucontext = godwit_dealloc_ucontext,
	.del_gid = godwit_del_gid,
	.dereg_mr = godwit_dereg_mr,
	.destroy_cq = godwit_destroy_cq,
	.destroy_qp = godwit_destroy_qp,
	.disassociate_ucontext = godwit_disassociate_ucontext,
	.fill_res_cq_entry = godwit_fill_res_cq,
	.fill_res_mr_entry = godwit_fill_res_mr,
	.fill_res_qp_entry = godwit_fill_res_qp,
	.get_dev_fw_str = godwit_fw_str,
	.get_hw_stats = godwit_get_hw_stats,
	.get_link_layer = godwit_link_layer,
	.get_port_immutable = godwit_port_immutable,
	.mmap = godwit_mmap,
	.mmap_free = godwit_mmap_free,
	.modify_qp = godwit_modify_qp,
	.query_device = godwit_query_device,
	.query_pkey = godwit_query_pkey,
	.query_port = godwit_query_port,
	.query_qp = godwit_query_qp,
	.reg_user_mr = godwit_reg_user_mr,

	INIT_RDMA_OBJ_SIZE(ib_cq, godwit_cq, ibcq),
	INIT_RDMA_OBJ_SIZE(ib_pd, godwit_pd, ibpd),
	INIT_RDMA_OBJ_SIZE(ib_qp, godwit_qp, ibqp),
	INIT_RDMA_OBJ_SIZE(ib_ucontext, godwit_ucontext, ibuc),
};

/*
 * Of the port or of the device; any context. The core delivers it later, and
 * waits for that when a device is unregistered, but for nothing after it.
 */
void godwit_ib_event(struct godwit_dev *dev, enum ib_event_type type)
{
	struct ib_event event = {
		.device = &dev->ibdev,
		.event = type,
		.element.port_num = GODWIT_PORT,
	};
	unsigned long flags;

	spin_lock_irqsave(&dev->event_lock, flags);
	if (dev->ib_registered)
		ib_dispatch_event(&event);
	spin_unlock_irqrestore(&dev->event_lock, flags);
}

static void godwit_ib_set_registered(struct godwit_dev *dev, bool registered)
{
	spin_lock_irq(&dev->event_lock);
	dev->ib_registered = registered;
	spin_unlock_irq(&dev->event_lock);
}

int godwit_ib_register(struct godwit_dev *dev)
{
	struct ib_device *ibdev = &dev->ibdev;
	int ret;

	ibdev->node_type = RDMA_NODE_IB_CA;
	ibdev->phys_port_cnt = 1;
	ibdev->dev.parent = &dev->pdev->dev;
	ibdev->num_comp_vectors = dev->num_comp_eqs;
	ibdev->driver_def = godwit_uapi_definitions;
	ibdev->dev.parent = &dev->pdev->dev;	/* in sysfs: which NIC, which netdev, which driver */
	addrconf_addr_eui48((u8 *)&ibdev->node_guid, dev->netdev->dev_addr);
	ib_set_device_ops(ibdev, &godwit_ops);
	ret = ib_device_set_netdev(ibdev, dev->netdev, GODWIT_PORT);
	if (ret)
		return ret;
	ret = ib_register_device(ibdev, "godwit%d", &dev->pdev->dev);
	if (ret) {
		/* Or the reference to it would hold up its unregistration for ever. */
		ib_device_set_netdev(ibdev, NULL, GODWIT_PORT);
		return ret;
	}
	godwit_ib_set_registered(dev, true);
	return 0;
}

void godwit_ib_unregister(struct godwit_dev *dev)
{
	godwit_ib_set_registered(dev, false);
	ib_unregister_device(&dev->ibdev);
}
