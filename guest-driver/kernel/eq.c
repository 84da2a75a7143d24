// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Interrupt vectors and event queues. Entries are taken in interrupt context,
 * and by whoever must know that nothing is left in a queue (freezing a context).
 */
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/slab.h>

#include "godwit.h"

#define GODWIT_ASYNC_EQ			0
#define GODWIT_EQ_LOG2_DEPTH		10

static u32 godwit_eq_bytes(const struct godwit_eq *eq)
{
	return sizeof(*eq->ring) << eq->log2_depth;
}

static void godwit_eqe(struct godwit_dev *dev, const struct godwit_eqe *eqe)
{
	u32 number = le32_to_cpu(eqe->number);

	switch (eqe->type) {
	case GODWIT_EQE_COMP:
		godwit_cq_completion(dev, number);
		break;
	case GODWIT_EQE_CQ_ERROR:
		godwit_cq_error(dev, number);
		break;
	case GODWIT_EQE_QP:
		godwit_qp_event(dev, number, eqe->subtype);
		break;
	case GODWIT_EQE_PORT:
		godwit_netdev_link(dev);
		break;
	case GODWIT_EQE_FATAL:
		godwit_fatal(dev, "the device reports a fatal error");
		break;
	case GODWIT_EQE_ADDRESS:
		godwit_qp_address_event(dev, number);
		break;
	default:
		dev_dbg_ratelimited(&dev->pdev->dev, "event of unknown type %#x\n", eqe->type);
	}
}

/* At most one ring of entries: the doorbell brings another interrupt if there is more. */
static void godwit_eq_poll(struct godwit_eq *eq)
{
	u32 depth = 1U << eq->log2_depth;
	struct godwit_dev *dev = eq->dev;
	unsigned long flags;
	u32 i;

	spin_lock_irqsave(&eq->lock, flags);
	for (i = 0; i < depth; i++) {
		struct godwit_eqe *entry = &eq->ring[eq->consumer & (depth - 1)];
		u8 phase = eq->consumer & depth ? 0 : GODWIT_CQE_PHASE_MASK;
		struct godwit_eqe eqe;

		if ((READ_ONCE(entry->phase) & GODWIT_CQE_PHASE_MASK) != phase)
			break;
		dma_rmb();
		eqe = *entry;
		eq->consumer++;
		godwit_eqe(dev, &eqe);
	}
	if (!godwit_dead(dev))
		godwit_doorbell(dev, GODWIT_DB_EQ, eq->eqn, eq->consumer);
	spin_unlock_irqrestore(&eq->lock, flags);
}

/* Whoever has been taken out of the tables is not being called any more after this. */
void godwit_eq_barrier(struct godwit_eq *eq)
{
	unsigned long flags;

	spin_lock_irqsave(&eq->lock, flags);
	spin_unlock_irqrestore(&eq->lock, flags);
}

/* What the device has written so far is with the core when this returns. */
void godwit_eqs_drain(struct godwit_dev *dev)
{
	u32 i;

	godwit_eq_poll(&dev->async_eq);
	for (i = 0; i < dev->num_comp_eqs; i++)
		godwit_eq_poll(&dev->comp_eqs[i]);
}

static irqreturn_t godwit_control_interrupt(int irq, void *data)
{
	struct godwit_vector *vector = data;
	struct godwit_dev *dev = vector->dev;

	godwit_cmdq_poll(dev);
	if (READ_ONCE(dev->async_eq.created))
		godwit_eq_poll(&dev->async_eq);
	return IRQ_HANDLED;
}

static irqreturn_t godwit_eth_interrupt(int irq, void *data)
{
	struct godwit_vector *vector = data;

	godwit_netdev_interrupt(vector->dev);
	return IRQ_HANDLED;
}

static irqreturn_t godwit_comp_interrupt(int irq, void *data)
{
	struct godwit_vector *vector = data;
	struct godwit_eq *eq = READ_ONCE(vector->eq);

	if (eq)
		godwit_eq_poll(eq);
	return IRQ_HANDLED;
}

static irq_handler_t godwit_handler(u32 vector)
{
	switch (vector) {
	case GODWIT_VECTOR_CONTROL:
		return godwit_control_interrupt;
	case GODWIT_VECTOR_ETH:
		return godwit_eth_interrupt;
	default:
		return godwit_comp_interrupt;
	}
}

int godwit_vectors_init(struct godwit_dev *dev)
{
	u32 wanted = min_t(u32, readl(dev->regs + GODWIT_REG_VECTORS),
			   GODWIT_VECTOR_FIRST_COMP + GODWIT_MAX_COMP_EQS);
	struct pci_dev *pdev = dev->pdev;
	int ret;
	u32 i;

	ret = pci_alloc_irq_vectors(pdev, GODWIT_VECTOR_FIRST_COMP + 1, wanted, PCI_IRQ_MSIX);
	if (ret < 0)
		return ret;
	dev->num_vectors = ret;
	dev->vectors = kcalloc(dev->num_vectors, sizeof(*dev->vectors), GFP_KERNEL);
	if (!dev->vectors) {
		ret = -ENOMEM;
		goto err;
	}
	for (i = 0; i < dev->num_vectors; i++) {
		struct godwit_vector *vector = &dev->vectors[i];
		static const char *const role[] = { "control", "eth", "comp" };

		vector->dev = dev;
		snprintf(vector->name, sizeof(vector->name), "godwit-%s%u@%s",
			 role[min_t(u32, i, GODWIT_VECTOR_FIRST_COMP)],
			 i < GODWIT_VECTOR_FIRST_COMP ? 0 : i - GODWIT_VECTOR_FIRST_COMP,
			 pci_name(pdev));
		ret = request_irq(pci_irq_vector(pdev, i), godwit_handler(i), 0, vector->name,
				  vector);
		if (ret)
			goto err;
		vector->requested = true;
	}
	return 0;
err:
	godwit_vectors_fini(dev);
	return ret;
}

void godwit_vectors_fini(struct godwit_dev *dev)
{
	u32 i;

	for (i = 0; dev->vectors && i < dev->num_vectors; i++)
		if (dev->vectors[i].requested)
			free_irq(pci_irq_vector(dev->pdev, i), &dev->vectors[i]);
	kfree(dev->vectors);
	dev->vectors = NULL;
	pci_free_irq_vectors(dev->pdev);
}

static int godwit_eq_create(struct godwit_dev *dev, struct godwit_eq *eq)
{
	struct godwit_cmd_create_eq cmd = {};
	struct godwit_list_page *list;
	struct godwit_mailbox mailbox;
	u32 pages, i;
	int ret;

	eq->ring = dma_alloc_coherent(&dev->pdev->dev, godwit_eq_bytes(eq), &eq->addr, GFP_KERNEL);
	if (!eq->ring)
		return -ENOMEM;
	ret = godwit_mailbox_init(dev, &mailbox, sizeof(*list));
	if (ret)
		goto err_ring;
	pages = DIV_ROUND_UP(godwit_eq_bytes(eq), GODWIT_LIST_PAGE_SIZE);
	list = mailbox.data;
	for (i = 0; i < pages; i++)
		list->page[i] = cpu_to_le64(eq->addr + i * GODWIT_LIST_PAGE_SIZE);
	cmd.eqn = cpu_to_le32(eq->eqn);
	cmd.vector = cpu_to_le32(eq->vector);
	cmd.log2_depth = cpu_to_le32(eq->log2_depth);
	cmd.buffer.list = cpu_to_le64(mailbox.addr);
	cmd.buffer.page_count = cpu_to_le32(pages);
	cmd.buffer.page_shift = cpu_to_le32(GODWIT_PAGE_SHIFT_MIN);
	cmd.buffer.length = cpu_to_le32(godwit_eq_bytes(eq));
	ret = godwit_cmd_create_eq(dev, &cmd);
	godwit_mailbox_fini(dev, &mailbox);
	if (ret)
		goto err_ring;
	WRITE_ONCE(eq->created, true);
	godwit_eq_poll(eq);	/* arms it */
	return 0;

err_ring:
	dma_free_coherent(&dev->pdev->dev, godwit_eq_bytes(eq), eq->ring, eq->addr);
	eq->ring = NULL;
	return ret;
}

static void godwit_eq_destroy(struct godwit_dev *dev, struct godwit_eq *eq)
{
	if (!eq->created)
		return;
	WRITE_ONCE(eq->created, false);
	if (eq->vector >= GODWIT_VECTOR_FIRST_COMP)
		WRITE_ONCE(dev->vectors[eq->vector].eq, NULL);
	synchronize_irq(pci_irq_vector(dev->pdev, eq->vector));
	godwit_cmd_destroy_eq(dev, eq->eqn);
	dma_free_coherent(&dev->pdev->dev, godwit_eq_bytes(eq), eq->ring, eq->addr);
	eq->ring = NULL;
}

static void godwit_eq_setup(struct godwit_dev *dev, struct godwit_eq *eq, u32 eqn, u32 vector)
{
	eq->dev = dev;
	eq->eqn = eqn;
	eq->vector = vector;
	eq->log2_depth = GODWIT_EQ_LOG2_DEPTH;
	spin_lock_init(&eq->lock);
}

int godwit_eqs_init(struct godwit_dev *dev)
{
	u32 vectors = dev->num_vectors - GODWIT_VECTOR_FIRST_COMP;
	int ret;
	u32 i;

	if (dev->caps.max_eq < 2)
		return -EINVAL;
	dev->num_comp_eqs = min(vectors, dev->caps.max_eq - 1);
	dev->comp_eqs = kcalloc(dev->num_comp_eqs, sizeof(*dev->comp_eqs), GFP_KERNEL);
	if (!dev->comp_eqs)
		return -ENOMEM;
	godwit_eq_setup(dev, &dev->async_eq, GODWIT_ASYNC_EQ, GODWIT_VECTOR_CONTROL);
	ret = godwit_eq_create(dev, &dev->async_eq);
	if (ret)
		goto err;
	for (i = 0; i < dev->num_comp_eqs; i++) {
		struct godwit_eq *eq = &dev->comp_eqs[i];

		godwit_eq_setup(dev, eq, GODWIT_ASYNC_EQ + 1 + i, GODWIT_VECTOR_FIRST_COMP + i);
		ret = godwit_eq_create(dev, eq);
		if (ret)
			goto err;
		WRITE_ONCE(dev->vectors[eq->vector].eq, eq);
		godwit_eq_poll(eq);	/* an interrupt before that line found no queue */
	}
	return 0;
err:
	godwit_eqs_fini(dev);
	return ret;
}

void godwit_eqs_fini(struct godwit_dev *dev)
{
	u32 i;

	for (i = 0; dev->comp_eqs && i < dev->num_comp_eqs; i++)
		godwit_eq_destroy(dev, &dev->comp_eqs[i]);
	godwit_eq_destroy(dev, &dev->async_eq);
	kfree(dev->comp_eqs);
	dev->comp_eqs = NULL;
	dev->num_comp_eqs = 0;
}
