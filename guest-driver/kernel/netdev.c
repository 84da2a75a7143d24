// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The Ethernet function. Receive buffers stay mapped and frames are copied out
 * of them: one descriptor must hold a whole frame, and a copy is cheaper than a
 * fresh jumbo buffer for each.
 */
#include <linux/dma-mapping.h>
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/if_vlan.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>

#include "godwit.h"

#define GODWIT_ETH_LOG2_RING	8
#define GODWIT_ETH_RING		(1U << GODWIT_ETH_LOG2_RING)
#define GODWIT_ETH_RING_BYTES	(GODWIT_ETH_RING * sizeof(struct godwit_eth_desc))
#define GODWIT_MAX_MTU		9000

/* 8 bytes for each address of the filter list */
#define GODWIT_FILTER_STRIDE	8

struct godwit_tx_slot {
	struct sk_buff *skb;
	dma_addr_t addr;
};

struct godwit_rx_slot {
	struct page *page;
	dma_addr_t addr;
};

struct godwit_netdev {
	struct godwit_dev *dev;
	struct net_device *netdev;
	struct napi_struct napi;
	struct work_struct filter_work;

	struct godwit_eth_desc *tx_ring;
	struct godwit_eth_desc *rx_ring;
	dma_addr_t tx_addr;
	dma_addr_t rx_addr;
	struct godwit_tx_slot *tx_slots;
	struct godwit_rx_slot *rx_slots;
	u32 tx_producer;		/* start_xmit */
	u32 tx_consumer;		/* NAPI */
	u32 rx_consumer;		/* NAPI; the producer is a ring ahead */
	u32 rx_buffer_length;
	bool running;
};

static struct device *godwit_dma_device(struct godwit_netdev *nd)
{
	return &nd->dev->pdev->dev;
}

static unsigned int godwit_rx_order(const struct godwit_netdev *nd)
{
	return get_order(nd->rx_buffer_length);
}

/* ------------------------------------------------ transmit */

static u32 godwit_tx_used(const struct godwit_netdev *nd)
{
	return READ_ONCE(nd->tx_producer) - READ_ONCE(nd->tx_consumer);
}

static netdev_tx_t godwit_start_xmit(struct sk_buff *skb, struct net_device *netdev)
{
	struct godwit_netdev *nd = netdev_priv(netdev);
	u32 index = nd->tx_producer & (GODWIT_ETH_RING - 1);
	struct godwit_eth_desc *desc = &nd->tx_ring[index];
	dma_addr_t addr;

	if (godwit_dead(nd->dev))
		goto drop;
	if (eth_skb_pad(skb)) {		/* frees it */
		netdev->stats.tx_dropped++;
		return NETDEV_TX_OK;
	}
	addr = dma_map_single(godwit_dma_device(nd), skb->data, skb->len, DMA_TO_DEVICE);
	if (dma_mapping_error(godwit_dma_device(nd), addr))
		goto drop;
	nd->tx_slots[index].skb = skb;
	nd->tx_slots[index].addr = addr;
	memset(desc, 0, sizeof(*desc));
	desc->addr = cpu_to_le64(addr);
	desc->length = cpu_to_le32(skb->len);
	desc->flags = GODWIT_ETH_TX_EOP_MASK;
	netdev_sent_queue(netdev, skb->len);
	skb_tx_timestamp(skb);
	WRITE_ONCE(nd->tx_producer, nd->tx_producer + 1);
	if (godwit_tx_used(nd) == GODWIT_ETH_RING) {
		netif_stop_queue(netdev);
		smp_mb();	/* the cleaner looks at the queue after it has moved the consumer */
		if (godwit_tx_used(nd) < GODWIT_ETH_RING)
			netif_start_queue(netdev);
	}
	dma_wmb();
	godwit_doorbell(nd->dev, GODWIT_DB_ETH_TX, 0, nd->tx_producer);
	return NETDEV_TX_OK;

drop:
	dev_kfree_skb_any(skb);
	netdev->stats.tx_dropped++;
	return NETDEV_TX_OK;
}

static void godwit_tx_release(struct godwit_netdev *nd, u32 index, int budget)
{
	struct godwit_tx_slot *slot = &nd->tx_slots[index];

	dma_unmap_single(godwit_dma_device(nd), slot->addr, slot->skb->len, DMA_TO_DEVICE);
	napi_consume_skb(slot->skb, budget);
	slot->skb = NULL;
}

static bool godwit_desc_done(const struct godwit_eth_desc *desc)
{
	return READ_ONCE(desc->status) & GODWIT_ETH_DONE_MASK;
}

static bool godwit_tx_pending(const struct godwit_netdev *nd)
{
	return godwit_tx_used(nd) &&
	       godwit_desc_done(&nd->tx_ring[nd->tx_consumer & (GODWIT_ETH_RING - 1)]);
}

static void godwit_tx_clean(struct godwit_netdev *nd, int budget)
{
	unsigned int frames = 0, bytes = 0;

	while (godwit_tx_pending(nd)) {
		u32 index = nd->tx_consumer & (GODWIT_ETH_RING - 1);

		dma_rmb();
		if (nd->tx_ring[index].status & GODWIT_ETH_TX_ERROR_MASK)
			nd->netdev->stats.tx_errors++;
		else
			dev_sw_netstats_tx_add(nd->netdev, 1, nd->tx_slots[index].skb->len);
		frames++;
		bytes += nd->tx_slots[index].skb->len;
		godwit_tx_release(nd, index, budget);
		WRITE_ONCE(nd->tx_consumer, nd->tx_consumer + 1);
	}
	if (!frames)
		return;
	netdev_completed_queue(nd->netdev, frames, bytes);
	smp_mb();	/* pairs with the one in godwit_start_xmit() */
	if (netif_queue_stopped(nd->netdev) && !godwit_dead(nd->dev))
		netif_wake_queue(nd->netdev);
}

/* ------------------------------------------------ receive */

static void godwit_rx_post(struct godwit_netdev *nd, u32 index)
{
	struct godwit_eth_desc *desc = &nd->rx_ring[index];

	memset(desc, 0, sizeof(*desc));
	desc->addr = cpu_to_le64(nd->rx_slots[index].addr);
	desc->length = cpu_to_le32(nd->rx_buffer_length);
}

static void godwit_rx_frame(struct godwit_netdev *nd, const struct godwit_eth_desc *desc,
			    const struct godwit_rx_slot *slot)
{
	u32 length = le32_to_cpu(desc->length);
	struct sk_buff *skb;

	if ((desc->status & GODWIT_ETH_RX_ERROR_MASK) || length < ETH_HLEN ||
	    length > nd->rx_buffer_length) {
		nd->netdev->stats.rx_errors++;
		return;
	}
	skb = napi_alloc_skb(&nd->napi, length);
	if (!skb) {
		nd->netdev->stats.rx_dropped++;
		return;
	}
	dma_sync_single_for_cpu(godwit_dma_device(nd), slot->addr, length, DMA_FROM_DEVICE);
	skb_put_data(skb, page_address(slot->page), length);
	dma_sync_single_for_device(godwit_dma_device(nd), slot->addr, length, DMA_FROM_DEVICE);
	skb->protocol = eth_type_trans(skb, nd->netdev);
	dev_sw_netstats_rx_add(nd->netdev, length);
	napi_gro_receive(&nd->napi, skb);
}

static bool godwit_rx_pending(const struct godwit_netdev *nd)
{
	return godwit_desc_done(&nd->rx_ring[nd->rx_consumer & (GODWIT_ETH_RING - 1)]);
}

static int godwit_rx_clean(struct godwit_netdev *nd, int budget)
{
	int frames = 0;

	while (frames < budget && godwit_rx_pending(nd)) {
		u32 index = nd->rx_consumer & (GODWIT_ETH_RING - 1);
		struct godwit_eth_desc desc;

		dma_rmb();
		desc = nd->rx_ring[index];
		godwit_rx_frame(nd, &desc, &nd->rx_slots[index]);
		godwit_rx_post(nd, index);
		nd->rx_consumer++;
		frames++;
	}
	if (frames) {
		dma_wmb();
		godwit_doorbell(nd->dev, GODWIT_DB_ETH_RX, 0, nd->rx_consumer + GODWIT_ETH_RING);
	}
	return frames;
}

static int godwit_poll(struct napi_struct *napi, int budget)
{
	struct godwit_netdev *nd = container_of(napi, struct godwit_netdev, napi);
	int frames;

	godwit_tx_clean(nd, budget);
	frames = godwit_rx_clean(nd, budget);
	if (frames == budget)
		return budget;
	if (!napi_complete_done(napi, frames) || godwit_dead(nd->dev))
		return frames;
	godwit_doorbell(nd->dev, GODWIT_DB_ETH_ARM, 0,
			GODWIT_DB_ETH_ARM_TX_MASK | GODWIT_DB_ETH_ARM_RX_MASK);
	/* What came between the last look and the arming may bring no interrupt. */
	if (godwit_rx_pending(nd) || godwit_tx_pending(nd))
		napi_schedule(napi);
	return frames;
}

void godwit_netdev_interrupt(struct godwit_dev *dev)
{
	struct net_device *netdev = READ_ONCE(dev->netdev);

	if (netdev) {
		struct godwit_netdev *nd = netdev_priv(netdev);

		if (READ_ONCE(nd->running))
			napi_schedule_irqoff(&nd->napi);
	}
}

/* ------------------------------------------------ rings */

static void godwit_rings_free(struct godwit_netdev *nd)
{
	struct device *device = godwit_dma_device(nd);
	u32 i;

	for (i = 0; nd->tx_slots && i < GODWIT_ETH_RING; i++)
		if (nd->tx_slots[i].skb)
			godwit_tx_release(nd, i, 0);
	for (i = 0; nd->rx_slots && i < GODWIT_ETH_RING; i++) {
		struct godwit_rx_slot *slot = &nd->rx_slots[i];

		if (!slot->page)
			continue;
		dma_unmap_page(device, slot->addr, nd->rx_buffer_length, DMA_FROM_DEVICE);
		__free_pages(slot->page, godwit_rx_order(nd));
	}
	kfree(nd->tx_slots);
	kfree(nd->rx_slots);
	nd->tx_slots = NULL;
	nd->rx_slots = NULL;
	if (nd->tx_ring)
		dma_free_coherent(device, GODWIT_ETH_RING_BYTES, nd->tx_ring, nd->tx_addr);
	if (nd->rx_ring)
		dma_free_coherent(device, GODWIT_ETH_RING_BYTES, nd->rx_ring, nd->rx_addr);
	nd->tx_ring = NULL;
	nd->rx_ring = NULL;
}

static int godwit_rx_slot_fill(struct godwit_netdev *nd, struct godwit_rx_slot *slot)
{
	struct page *page = alloc_pages(GFP_KERNEL | __GFP_COMP, godwit_rx_order(nd));
	dma_addr_t addr;

	if (!page)
		return -ENOMEM;
	addr = dma_map_page(godwit_dma_device(nd), page, 0, nd->rx_buffer_length, DMA_FROM_DEVICE);
	if (dma_mapping_error(godwit_dma_device(nd), addr)) {
		__free_pages(page, godwit_rx_order(nd));
		return -ENOMEM;
	}
	slot->page = page;
	slot->addr = addr;
	return 0;
}

static int godwit_rings_alloc(struct godwit_netdev *nd)
{
	struct device *device = godwit_dma_device(nd);
	u32 i;

	nd->rx_buffer_length = nd->netdev->mtu + VLAN_ETH_HLEN;
	nd->tx_producer = 0;
	nd->tx_consumer = 0;
	nd->rx_consumer = 0;
	nd->tx_ring = dma_alloc_coherent(device, GODWIT_ETH_RING_BYTES, &nd->tx_addr, GFP_KERNEL);
	nd->rx_ring = dma_alloc_coherent(device, GODWIT_ETH_RING_BYTES, &nd->rx_addr, GFP_KERNEL);
	nd->tx_slots = kcalloc(GODWIT_ETH_RING, sizeof(*nd->tx_slots), GFP_KERNEL);
	nd->rx_slots = kcalloc(GODWIT_ETH_RING, sizeof(*nd->rx_slots), GFP_KERNEL);
	if (!nd->tx_ring || !nd->rx_ring || !nd->tx_slots || !nd->rx_slots)
		goto err;
	for (i = 0; i < GODWIT_ETH_RING; i++) {
		if (godwit_rx_slot_fill(nd, &nd->rx_slots[i]))
			goto err;
		godwit_rx_post(nd, i);
	}
	return 0;
err:
	godwit_rings_free(nd);
	return -ENOMEM;
}

static int godwit_rings_start(struct godwit_netdev *nd)
{
	struct godwit_cmd_set_eth_rings cmd = {
		.enable = cpu_to_le32(1),
		.log2_tx = GODWIT_ETH_LOG2_RING,
		.log2_rx = GODWIT_ETH_LOG2_RING,
		.tx_ring = cpu_to_le64(nd->tx_addr),
		.rx_ring = cpu_to_le64(nd->rx_addr),
	};

	return godwit_cmd_set_eth_rings(nd->dev, &cmd);
}

static void godwit_rings_stop(struct godwit_netdev *nd)
{
	struct godwit_cmd_set_eth_rings cmd = {};

	if (godwit_cmd_set_eth_rings(nd->dev, &cmd) && !godwit_dead(nd->dev))
		godwit_fatal(nd->dev, "the Ethernet function does not stop");
}

/* ------------------------------------------------ net_device operations */

void godwit_netdev_link(struct godwit_dev *dev)
{
	bool up = readl(dev->regs + GODWIT_REG_STATUS) & GODWIT_STATUS_LINK_UP_MASK;
	struct net_device *netdev = READ_ONCE(dev->netdev);

	if (!netdev || godwit_dead(dev))
		return;
	if (up == netif_carrier_ok(netdev))
		return;
	if (up)
		netif_carrier_on(netdev);
	else
		netif_carrier_off(netdev);
	godwit_ib_event(dev, up && netif_running(netdev) ? IB_EVENT_PORT_ACTIVE : IB_EVENT_PORT_ERR);
}

void godwit_netdev_dead(struct godwit_dev *dev)
{
	rtnl_lock();	/* against godwit_netdev_fini() */
	if (dev->netdev)
		netif_carrier_off(dev->netdev);
	rtnl_unlock();
}

static int godwit_open(struct net_device *netdev)
{
	struct godwit_netdev *nd = netdev_priv(netdev);
	int ret;

	ret = godwit_rings_alloc(nd);
	if (ret)
		return ret;
	ret = godwit_rings_start(nd);
	if (ret) {
		godwit_rings_free(nd);
		return ret;
	}
	netdev_reset_queue(netdev);
	napi_enable(&nd->napi);
	WRITE_ONCE(nd->running, true);
	godwit_doorbell(nd->dev, GODWIT_DB_ETH_RX, 0, GODWIT_ETH_RING);
	local_bh_disable();
	napi_schedule(&nd->napi);	/* arms the interrupt */
	local_bh_enable();
	netif_start_queue(netdev);
	schedule_work(&nd->filter_work);
	if (netif_carrier_ok(netdev))
		godwit_ib_event(nd->dev, IB_EVENT_PORT_ACTIVE);
	return 0;
}

static int godwit_stop(struct net_device *netdev)
{
	struct godwit_netdev *nd = netdev_priv(netdev);

	if (!nd->running)
		return 0;
	if (netif_carrier_ok(netdev))
		godwit_ib_event(nd->dev, IB_EVENT_PORT_ERR);
	netif_tx_disable(netdev);
	WRITE_ONCE(nd->running, false);
	synchronize_irq(pci_irq_vector(nd->dev->pdev, GODWIT_VECTOR_ETH));
	napi_disable(&nd->napi);
	godwit_rings_stop(nd);
	godwit_rings_free(nd);
	return 0;
}

static int godwit_change_mtu(struct net_device *netdev, int mtu)
{
	bool running = netif_running(netdev);
	int old = netdev->mtu;
	int ret;

	if (running)
		godwit_stop(netdev);
	netdev->mtu = mtu;
	if (!running)
		return 0;
	ret = godwit_open(netdev);
	if (!ret)
		return 0;
	netdev->mtu = old;
	if (godwit_open(netdev))
		netdev_err(netdev, "cannot start again: set the interface down and up\n");
	return ret;
}

static int godwit_set_mac_address(struct net_device *netdev, void *addr)
{
	struct godwit_netdev *nd = netdev_priv(netdev);
	int ret;

	ret = eth_mac_addr(netdev, addr);
	if (!ret)
		schedule_work(&nd->filter_work);
	return ret;
}

static u32 godwit_filter_fill(struct net_device *netdev, u8 *table, u32 room, u32 *flags)
{
	struct netdev_hw_addr *ha;
	u32 count = 0;

	*flags = 0;
	if (netdev->flags & IFF_PROMISC)
		*flags |= GODWIT_ETH_PROMISC_MASK;
	if (netdev->flags & IFF_ALLMULTI)
		*flags |= GODWIT_ETH_ALLMULTI_MASK;
	ether_addr_copy(table, netdev->dev_addr);
	count++;
	netdev_for_each_uc_addr(ha, netdev) {
		if (count == room) {
			*flags |= GODWIT_ETH_PROMISC_MASK;
			break;
		}
		ether_addr_copy(table + count++ * GODWIT_FILTER_STRIDE, ha->addr);
	}
	netdev_for_each_mc_addr(ha, netdev) {
		if (count == room) {
			*flags |= GODWIT_ETH_ALLMULTI_MASK;
			break;
		}
		ether_addr_copy(table + count++ * GODWIT_FILTER_STRIDE, ha->addr);
	}
	return count;
}

static void godwit_filter_work(struct work_struct *work)
{
	struct godwit_netdev *nd = container_of(work, struct godwit_netdev, filter_work);
	u32 room = max_t(u32, nd->dev->caps.mac_filters, 1);
	struct godwit_mailbox mailbox;
	u32 count, flags;
	int ret;

	ret = godwit_mailbox_init(nd->dev, &mailbox, room * GODWIT_FILTER_STRIDE);
	if (ret)
		goto out;
	netif_addr_lock_bh(nd->netdev);
	count = godwit_filter_fill(nd->netdev, mailbox.data, room, &flags);
	netif_addr_unlock_bh(nd->netdev);
	ret = godwit_cmd_set_eth_filter(nd->dev, &mailbox, count, flags);
	godwit_mailbox_fini(nd->dev, &mailbox);
out:
	if (ret && !godwit_dead(nd->dev))
		netdev_err(nd->netdev, "cannot set the MAC filter: %d\n", ret);
}

static void godwit_set_rx_mode(struct net_device *netdev)
{
	struct godwit_netdev *nd = netdev_priv(netdev);

	schedule_work(&nd->filter_work);	/* commands sleep, we must not */
}

static const struct net_device_ops godwit_netdev_ops = {
	.ndo_open = godwit_open,
	.ndo_stop = godwit_stop,
	.ndo_start_xmit = godwit_start_xmit,
	.ndo_set_rx_mode = godwit_set_rx_mode,
	.ndo_set_mac_address = godwit_set_mac_address,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_change_mtu = godwit_change_mtu,
	.ndo_get_stats64 = dev_get_tstats64,
};

/* ------------------------------------------------ ethtool */

static void godwit_get_drvinfo(struct net_device *netdev, struct ethtool_drvinfo *info)
{
	struct godwit_netdev *nd = netdev_priv(netdev);

	strscpy(info->driver, GODWIT_DRIVER_NAME, sizeof(info->driver));
	strscpy(info->version, GODWIT_DRIVER_VERSION, sizeof(info->version));
	strscpy(info->bus_info, pci_name(nd->dev->pdev), sizeof(info->bus_info));
	godwit_fw_version(nd->dev, info->fw_version, sizeof(info->fw_version));
}

static int godwit_get_link_ksettings(struct net_device *netdev,
				     struct ethtool_link_ksettings *settings)
{
	ethtool_link_ksettings_zero_link_mode(settings, supported);
	settings->base.speed = SPEED_100000;
	settings->base.duplex = DUPLEX_FULL;
	settings->base.port = PORT_NONE;
	settings->base.autoneg = AUTONEG_DISABLE;
	return 0;
}

static int godwit_get_sset_count(struct net_device *netdev, int set)
{
	return set == ETH_SS_STATS ? GODWIT_COUNTER_COUNT : -EOPNOTSUPP;
}

static void godwit_get_strings(struct net_device *netdev, u32 set, u8 *data)
{
	unsigned int i;

	if (set != ETH_SS_STATS)
		return;
	for (i = 0; i < GODWIT_COUNTER_COUNT; i++)
		ethtool_sprintf(&data, "%s", godwit_counter_descs[i].name);
}

static void godwit_get_ethtool_stats(struct net_device *netdev, struct ethtool_stats *stats,
				     u64 *data)
{
	struct godwit_netdev *nd = netdev_priv(netdev);

	if (godwit_cmd_query_counters(nd->dev, data))
		memset(data, 0, GODWIT_COUNTER_COUNT * sizeof(*data));
}

static int godwit_get_regs_len(struct net_device *netdev)
{
	return GODWIT_REG_BAD_ACCESSES + sizeof(u32);
}

static void godwit_get_regs(struct net_device *netdev, struct ethtool_regs *regs, void *data)
{
	struct godwit_netdev *nd = netdev_priv(netdev);
	u32 *values = data;
	u32 offset;

	regs->version = GODWIT_ABI_MAJOR;
	for (offset = 0; offset < regs->len; offset += sizeof(u32))
		values[offset / sizeof(u32)] = readl(nd->dev->regs + offset);
}

static const struct ethtool_ops godwit_ethtool_ops = {
	.get_regs_len = godwit_get_regs_len,
	.get_regs = godwit_get_regs,
	.get_drvinfo = godwit_get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_link_ksettings = godwit_get_link_ksettings,
	.get_sset_count = godwit_get_sset_count,
	.get_strings = godwit_get_strings,
	.get_ethtool_stats = godwit_get_ethtool_stats,
};

/* ------------------------------------------------ registration */

static void godwit_read_mac(struct godwit_dev *dev, u8 mac[ETH_ALEN])
{
	u32 lo = readl(dev->regs + GODWIT_REG_MAC_LO);
	u32 hi = readl(dev->regs + GODWIT_REG_MAC_HI);

	mac[0] = lo;
	mac[1] = lo >> 8;
	mac[2] = lo >> 16;
	mac[3] = lo >> 24;
	mac[4] = hi;
	mac[5] = hi >> 8;
}

int godwit_netdev_init(struct godwit_dev *dev)
{
	struct godwit_netdev *nd;
	struct net_device *netdev;
	u8 mac[ETH_ALEN];
	int ret;

	godwit_read_mac(dev, mac);
	if (!is_valid_ether_addr(mac)) {
		dev_err(&dev->pdev->dev, "the device has no valid MAC address: %pM\n", mac);
		return -EINVAL;
	}
	netdev = alloc_etherdev(sizeof(*nd));
	if (!netdev)
		return -ENOMEM;
	netdev->tstats = netdev_alloc_pcpu_stats(struct pcpu_sw_netstats);
	if (!netdev->tstats) {
		ret = -ENOMEM;
		goto err_free;
	}
	SET_NETDEV_DEV(netdev, &dev->pdev->dev);
	nd = netdev_priv(netdev);
	nd->dev = dev;
	nd->netdev = netdev;
	INIT_WORK(&nd->filter_work, godwit_filter_work);
	netif_napi_add(netdev, &nd->napi, godwit_poll);
	netdev->netdev_ops = &godwit_netdev_ops;
	netdev->ethtool_ops = &godwit_ethtool_ops;
	netdev->features |= NETIF_F_HIGHDMA;
	netdev->priv_flags |= IFF_UNICAST_FLT | IFF_LIVE_ADDR_CHANGE;
	netdev->min_mtu = ETH_MIN_MTU;
	netdev->max_mtu = GODWIT_MAX_MTU;
	eth_hw_addr_set(netdev, mac);
	memcpy(netdev->perm_addr, mac, ETH_ALEN);
	netif_carrier_off(netdev);
	ret = register_netdev(netdev);
	if (ret)
		goto err_napi;
	WRITE_ONCE(dev->netdev, netdev);
	godwit_netdev_link(dev);
	return 0;

err_napi:
	netif_napi_del(&nd->napi);
	free_percpu(netdev->tstats);
err_free:
	free_netdev(netdev);
	return ret;
}

void godwit_netdev_fini(struct godwit_dev *dev)
{
	struct net_device *netdev = dev->netdev;
	struct godwit_netdev *nd = netdev_priv(netdev);

	rtnl_lock();
	unregister_netdevice(netdev);
	WRITE_ONCE(dev->netdev, NULL);
	rtnl_unlock();
	synchronize_irq(pci_irq_vector(dev->pdev, GODWIT_VECTOR_CONTROL));
	synchronize_irq(pci_irq_vector(dev->pdev, GODWIT_VECTOR_ETH));
	cancel_work_sync(&nd->filter_work);
	netif_napi_del(&nd->napi);
	free_percpu(netdev->tstats);
	free_netdev(netdev);
}
