// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The PCI function: probe, reset, teardown, and what happens when the device
 * dies under us.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/random.h>

#include "godwit.h"
#include "godwit_uapi.h"

#define GODWIT_RESET_TIMEOUT_MS		1000

static void godwit_hw_reset(struct godwit_dev *dev)
{
	writel(GODWIT_CONTROL_RESET_MASK, dev->regs + GODWIT_REG_CONTROL);
	readl(dev->regs + GODWIT_REG_STATUS);	/* it has arrived: no DMA after this */
}

static int godwit_hw_enable(struct godwit_dev *dev)
{
	unsigned int waited;

	writel(GODWIT_CONTROL_ENABLE_MASK, dev->regs + GODWIT_REG_CONTROL);
	for (waited = 0; waited < GODWIT_RESET_TIMEOUT_MS; waited++) {
		if (readl(dev->regs + GODWIT_REG_STATUS) & GODWIT_STATUS_ENABLED_MASK)
			return 0;
		usleep_range(1000, 2000);
	}
	dev_err(&dev->pdev->dev, "the device does not start\n");
	return -ETIMEDOUT;
}

static void godwit_fatal_work(struct work_struct *work)
{
	struct godwit_dev *dev = container_of(work, struct godwit_dev, fatal_work);

	godwit_netdev_dead(dev);
	godwit_ib_event(dev, IB_EVENT_DEVICE_FATAL);
}

/*
 * From here on no command is sent and objects are destroyed in memory only: the
 * reset makes sure that the device does not touch theirs. Any context.
 */
void godwit_fatal(struct godwit_dev *dev, const char *why)
{
	if (xchg(&dev->dead, true))
		return;
	dev_err(&dev->pdev->dev, "%s (cause %u): stopped until the next probe or reset\n", why,
		readl(dev->regs + GODWIT_REG_FATAL_CAUSE));
	godwit_hw_reset(dev);
	godwit_cmdq_abort(dev);
	schedule_work(&dev->fatal_work);
}

/* A firmware's place is taken by what the device says of itself: its ABI, and its saved state's version. */
void godwit_fw_version(const struct godwit_dev *dev, char *text, size_t size)
{
	snprintf(text, size, "%u.%u.%u", dev->abi_version >> 16, dev->abi_version & 0xffff,
		 dev->caps.state_version);
}

static int godwit_map(struct godwit_dev *dev)
{
	struct pci_dev *pdev = dev->pdev;
	u32 id, version, pages;

	dev->regs = pci_iomap(pdev, GODWIT_BAR_REGS, GODWIT_BAR_REGS_SIZE);
	dev->doorbell = pci_iomap(pdev, GODWIT_BAR_DOORBELLS, GODWIT_DB_PAGE_SIZE);
	if (!dev->regs || !dev->doorbell)
		return -ENOMEM;
	id = readl(dev->regs + GODWIT_REG_ID);
	version = readl(dev->regs + GODWIT_REG_VERSION);
	if (id != GODWIT_ID_VALUE || version >> 16 != GODWIT_ABI_MAJOR) {
		dev_err(&pdev->dev, "id %#x, ABI %u.%u: this driver knows ABI %u only\n", id,
			version >> 16, version & 0xffff, GODWIT_ABI_MAJOR);
		return -ENODEV;
	}
	dev->abi_version = version;
	pages = readl(dev->regs + GODWIT_REG_DOORBELL_PAGES);
	dev->doorbell_base = pci_resource_start(pdev, GODWIT_BAR_DOORBELLS);
	dev->doorbell_pages = min_t(u64, pages, pci_resource_len(pdev, GODWIT_BAR_DOORBELLS) /
						GODWIT_DB_PAGE_SIZE);
	return 0;
}

static void godwit_unmap(struct godwit_dev *dev)
{
	if (dev->doorbell)
		pci_iounmap(dev->pdev, dev->doorbell);
	if (dev->regs)
		pci_iounmap(dev->pdev, dev->regs);
	dev->doorbell = NULL;
	dev->regs = NULL;
}

static int godwit_hw_init(struct godwit_dev *dev)
{
	int ret;

	godwit_hw_reset(dev);
	pci_set_master(dev->pdev);
	ret = godwit_cmdq_init(dev);
	if (ret)
		return ret;
	ret = godwit_vectors_init(dev);
	if (ret)
		goto err_cmdq;
	ret = godwit_hw_enable(dev);
	if (ret)
		goto err_vectors;
	ret = godwit_cmd_query_device(dev);
	if (ret)
		goto err_vectors;
	dev->caps.max_uctx = min(dev->caps.max_uctx, dev->doorbell_pages);
	ret = godwit_eqs_init(dev);
	if (ret)
		goto err_vectors;
	return 0;

err_vectors:
	godwit_hw_reset(dev);
	godwit_vectors_fini(dev);
err_cmdq:
	godwit_cmdq_fini(dev);
	return ret;
}

static void godwit_hw_fini(struct godwit_dev *dev)
{
	godwit_eqs_fini(dev);
	godwit_hw_reset(dev);
	pci_clear_master(dev->pdev);
	godwit_vectors_fini(dev);
	godwit_cmdq_fini(dev);
}

static struct godwit_dev *godwit_dev_alloc(struct pci_dev *pdev)
{
	struct godwit_dev *dev = ib_alloc_device(godwit_dev, ibdev);

	if (!dev)
		return NULL;
	dev->pdev = pdev;
	INIT_WORK(&dev->fatal_work, godwit_fatal_work);
	spin_lock_init(&dev->event_lock);
	ida_init(&dev->uctx_ida);
	ida_init(&dev->pd_ida);
	xa_init_flags(&dev->cqs, XA_FLAGS_ALLOC | XA_FLAGS_LOCK_IRQ);
	xa_init_flags(&dev->qps, XA_FLAGS_LOCK_IRQ);
	get_random_bytes(&dev->cookie_key, sizeof(dev->cookie_key));
	return dev;
}

static void godwit_dev_free(struct godwit_dev *dev)
{
	cancel_work_sync(&dev->fatal_work);
	ida_destroy(&dev->uctx_ida);
	ida_destroy(&dev->pd_ida);
	xa_destroy(&dev->cqs);
	xa_destroy(&dev->qps);
	ib_dealloc_device(&dev->ibdev);
}

/* Everything above the mapped registers; also after a function level reset. */
static struct godwit_dev *godwit_up(struct pci_dev *pdev)
{
	struct godwit_dev *dev = godwit_dev_alloc(pdev);
	int ret;

	if (!dev)
		return ERR_PTR(-ENOMEM);
	ret = godwit_map(dev);
	if (ret)
		goto err_unmap;
	ret = godwit_hw_init(dev);
	if (ret)
		goto err_unmap;
	ret = godwit_netdev_init(dev);
	if (ret)
		goto err_hw;
	ret = godwit_ib_register(dev);
	if (ret)
		goto err_netdev;
	dev_info(&pdev->dev, "%s, %s: %u completion vectors, %u QPs, migration %s\n",
		 dev_name(&dev->ibdev.dev), netdev_name(dev->netdev), dev->num_comp_eqs,
		 dev->caps.max_qp, dev->caps.flags & GODWIT_CAP_MIGRATION ? "on" : "off");
	return dev;

err_netdev:
	godwit_netdev_fini(dev);
err_hw:
	godwit_hw_fini(dev);
err_unmap:
	godwit_unmap(dev);
	godwit_dev_free(dev);
	return ERR_PTR(ret);
}

static void godwit_down(struct godwit_dev *dev)
{
	godwit_ib_unregister(dev);
	godwit_netdev_fini(dev);
	godwit_hw_fini(dev);
	cancel_work_sync(&dev->fatal_work);
	godwit_unmap(dev);
	godwit_dev_free(dev);
}

static int godwit_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct godwit_dev *dev;
	int ret;

	ret = pci_enable_device_mem(pdev);
	if (ret)
		return ret;
	ret = pci_request_mem_regions(pdev, GODWIT_DRIVER_NAME);
	if (ret)
		goto err_disable;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		goto err_regions;
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);
	dev = godwit_up(pdev);
	if (IS_ERR(dev)) {
		ret = PTR_ERR(dev);
		goto err_regions;
	}
	pci_set_drvdata(pdev, dev);
	return 0;

err_regions:
	pci_release_mem_regions(pdev);
err_disable:
	pci_disable_device(pdev);
	return ret;
}

static void godwit_remove(struct pci_dev *pdev)
{
	struct godwit_dev *dev = pci_get_drvdata(pdev);

	if (dev)
		godwit_down(dev);
	pci_release_mem_regions(pdev);
	pci_disable_device(pdev);
}

static void godwit_shutdown(struct pci_dev *pdev)
{
	struct godwit_dev *dev = pci_get_drvdata(pdev);

	if (dev)
		godwit_hw_reset(dev);
	pci_clear_master(pdev);
}

/* A reset loses all state of the device: contexts are disassociated, both interfaces are made anew. */
static void godwit_reset_prepare(struct pci_dev *pdev)
{
	struct godwit_dev *dev = pci_get_drvdata(pdev);

	pci_set_drvdata(pdev, NULL);
	if (dev)
		godwit_down(dev);
}

static void godwit_reset_done(struct pci_dev *pdev)
{
	struct godwit_dev *dev = godwit_up(pdev);

	if (IS_ERR(dev))
		dev_err(&pdev->dev, "not usable after a reset: %ld\n", PTR_ERR(dev));
	else
		pci_set_drvdata(pdev, dev);
}

static const struct pci_error_handlers godwit_error_handlers = {
	.reset_prepare = godwit_reset_prepare,
	.reset_done = godwit_reset_done,
};

static const struct pci_device_id godwit_pci_ids[] = {
	{ PCI_DEVICE(GODWIT_PCI_VENDOR_ID, GODWIT_PCI_DEVICE_ID) },
	{}
};
MODULE_DEVICE_TABLE(pci, godwit_pci_ids);

static struct pci_driver godwit_driver = {
	.name = GODWIT_DRIVER_NAME,
	.id_table = godwit_pci_ids,
	.probe = godwit_probe,
	.remove = godwit_remove,
	.shutdown = godwit_shutdown,
	.err_handler = &godwit_error_handlers,
};
module_pci_driver(godwit_driver);

MODULE_DESCRIPTION("Godwit RDMA NIC");
MODULE_VERSION(GODWIT_DRIVER_VERSION);
MODULE_LICENSE("Dual BSD/GPL");
