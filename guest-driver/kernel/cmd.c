// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The command queue: submission, completion, and one wrapper for each command.
 * No other file sees a command's framing; the device's status becomes an errno
 * here and nowhere else.
 */
#include <linux/dma-mapping.h>
#include <linux/slab.h>

#include "godwit.h"

#define GODWIT_CMD_LOG2_DEPTH	6
#define GODWIT_CMD_DEPTH	(1U << GODWIT_CMD_LOG2_DEPTH)

/* The device answers in microseconds; an emulated one may be starved for a while. */
#define GODWIT_CMD_TIMEOUT	(60 * HZ)

static int godwit_cmd_errno(u16 status)
{
	switch (status) {
	case GODWIT_CMD_STATUS_OK:
		return 0;
	case GODWIT_CMD_STATUS_BAD_OPCODE:
	case GODWIT_CMD_STATUS_NOT_SUPPORTED:
		return -EOPNOTSUPP;
	case GODWIT_CMD_STATUS_BAD_PARAMETER:
	case GODWIT_CMD_STATUS_BAD_STATE:
		return -EINVAL;
	case GODWIT_CMD_STATUS_NOT_FOUND:
		return -ENOENT;
	case GODWIT_CMD_STATUS_EXISTS:
		return -EEXIST;
	case GODWIT_CMD_STATUS_IN_USE:
	case GODWIT_CMD_STATUS_BUSY:
		return -EBUSY;
	case GODWIT_CMD_STATUS_NO_RESOURCES:
		return -ENOMEM;
	case GODWIT_CMD_STATUS_DMA_ERROR:
		return -EFAULT;
	case GODWIT_CMD_STATUS_BAD_IMAGE:
		return -EBADMSG;
	case GODWIT_CMD_STATUS_BAD_EPOCH:
		return -ESTALE;
	default:
		return -EIO;
	}
}

int godwit_mailbox_init(struct godwit_dev *dev, struct godwit_mailbox *mailbox, size_t length)
{
	mailbox->data = dma_alloc_coherent(&dev->pdev->dev, length, &mailbox->addr, GFP_KERNEL);
	if (!mailbox->data)
		return -ENOMEM;
	mailbox->length = length;
	return 0;
}

void godwit_mailbox_fini(struct godwit_dev *dev, struct godwit_mailbox *mailbox)
{
	dma_free_coherent(&dev->pdev->dev, mailbox->length, mailbox->data, mailbox->addr);
}

static bool godwit_cmdq_take(struct godwit_dev *dev)
{
	struct godwit_cmdq *q = &dev->cmdq;
	u32 index = q->consumer & (GODWIT_CMD_DEPTH - 1);
	u8 phase = q->consumer & GODWIT_CMD_DEPTH ? 0 : GODWIT_CQE_PHASE_MASK;
	struct godwit_cmd_completion *entry = &q->cq[index];
	struct godwit_cmd_waiter *waiter;

	if (q->consumer == q->producer ||
	    (READ_ONCE(entry->phase) & GODWIT_CQE_PHASE_MASK) != phase)
		return false;
	dma_rmb();
	waiter = q->waiters[index];
	q->waiters[index] = NULL;
	q->consumer++;
	if (waiter) {
		waiter->entry = *entry;
		complete(&waiter->done);
	}
	up(&q->slots);
	return true;
}

void godwit_cmdq_poll(struct godwit_dev *dev)
{
	unsigned long flags;

	spin_lock_irqsave(&dev->cmdq.lock, flags);
	while (godwit_cmdq_take(dev))
		;
	spin_unlock_irqrestore(&dev->cmdq.lock, flags);
}

/* The device is dead: nobody will be answered any more. */
void godwit_cmdq_abort(struct godwit_dev *dev)
{
	struct godwit_cmdq *q = &dev->cmdq;
	unsigned long flags;
	unsigned int i;

	spin_lock_irqsave(&q->lock, flags);
	for (i = 0; q->waiters && i < GODWIT_CMD_DEPTH; i++) {
		struct godwit_cmd_waiter *waiter = q->waiters[i];

		if (!waiter)
			continue;
		q->waiters[i] = NULL;
		waiter->entry.status = cpu_to_le16(U16_MAX);
		complete(&waiter->done);
		up(&q->slots);
	}
	spin_unlock_irqrestore(&q->lock, flags);
}

static int godwit_cmd_submit(struct godwit_dev *dev, u8 opcode, const void *params, size_t size,
			     struct godwit_cmd_waiter *waiter, u32 *position)
{
	struct godwit_cmdq *q = &dev->cmdq;
	struct godwit_cmd *cmd;
	int ret = 0;

	spin_lock_irq(&q->lock);
	if (godwit_dead(dev)) {
		up(&q->slots);
		ret = -EIO;
		goto unlock;
	}
	*position = q->producer;
	cmd = &q->sq[q->producer & (GODWIT_CMD_DEPTH - 1)];
	memset(cmd, 0, sizeof(*cmd));
	cmd->opcode = opcode;
	cmd->id = cpu_to_le16(q->producer);
	memcpy(cmd->params, params, size);
	q->waiters[q->producer & (GODWIT_CMD_DEPTH - 1)] = waiter;
	q->producer++;
	dma_wmb();
	writel(q->producer, dev->regs + GODWIT_REG_CMD_DOORBELL);
unlock:
	spin_unlock_irq(&q->lock);
	return ret;
}

/* The waiter is on our stack: it must not be in the table when we leave. */
static void godwit_cmd_forget(struct godwit_dev *dev, struct godwit_cmd_waiter *waiter, u32 position)
{
	struct godwit_cmdq *q = &dev->cmdq;
	struct godwit_cmd_waiter **slot = &q->waiters[position & (GODWIT_CMD_DEPTH - 1)];

	spin_lock_irq(&q->lock);
	if (*slot == waiter)
		*slot = NULL;
	spin_unlock_irq(&q->lock);
}

static int godwit_cmd_run(struct godwit_dev *dev, u8 opcode, const void *params, size_t size,
			  void *result, size_t result_size)
{
	struct godwit_cmd_waiter waiter = {};
	u32 position;
	u16 status;
	int ret;

	init_completion(&waiter.done);
	if (down_timeout(&dev->cmdq.slots, GODWIT_CMD_TIMEOUT))
		return -EIO;
	ret = godwit_cmd_submit(dev, opcode, params, size, &waiter, &position);
	if (ret)
		return ret;
	if (!wait_for_completion_timeout(&waiter.done, GODWIT_CMD_TIMEOUT)) {
		godwit_cmdq_poll(dev);
		if (!try_wait_for_completion(&waiter.done)) {
			godwit_cmd_forget(dev, &waiter, position);
			godwit_fatal(dev, "a command was not answered");
			return -EIO;
		}
	}
	status = le16_to_cpu(waiter.entry.status);
	if (status == U16_MAX)
		return -EIO;
	if (le16_to_cpu(waiter.entry.id) != (u16)position) {
		godwit_fatal(dev, "a completion for another command");
		return -EIO;
	}
	if (status != GODWIT_CMD_STATUS_OK)
		dev_dbg(&dev->pdev->dev, "command %#x: status %#x, detail %u\n", opcode, status,
			le32_to_cpu(waiter.entry.detail));
	else if (result_size)
		memcpy(result, waiter.entry.result, result_size);
	return godwit_cmd_errno(status);
}

enum {
	GODWIT_PARAMS_ROOM = sizeof_field(struct godwit_cmd, params),
	GODWIT_RESULT_ROOM = sizeof_field(struct godwit_cmd_completion, result),
};

#define godwit_cmd_exec(dev, opcode, request)						\
({											\
	BUILD_BUG_ON(sizeof(*(request)) > GODWIT_PARAMS_ROOM);				\
	godwit_cmd_run(dev, opcode, request, sizeof(*(request)), NULL, 0);		\
})

#define godwit_cmd_exec_result(dev, opcode, request, answer)				\
({											\
	BUILD_BUG_ON(sizeof(*(request)) > GODWIT_PARAMS_ROOM);				\
	BUILD_BUG_ON(sizeof(*(answer)) > GODWIT_RESULT_ROOM);				\
	godwit_cmd_run(dev, opcode, request, sizeof(*(request)), answer,		\
		       sizeof(*(answer)));						\
})

int godwit_cmdq_init(struct godwit_dev *dev)
{
	struct device *device = &dev->pdev->dev;
	struct godwit_cmdq *q = &dev->cmdq;

	spin_lock_init(&q->lock);
	sema_init(&q->slots, GODWIT_CMD_DEPTH);
	q->waiters = kcalloc(GODWIT_CMD_DEPTH, sizeof(*q->waiters), GFP_KERNEL);
	if (!q->waiters)
		return -ENOMEM;
	q->sq = dma_alloc_coherent(device, GODWIT_CMD_DEPTH * sizeof(*q->sq), &q->sq_addr,
				   GFP_KERNEL);
	q->cq = dma_alloc_coherent(device, GODWIT_CMD_DEPTH * sizeof(*q->cq), &q->cq_addr,
				   GFP_KERNEL);
	if (!q->sq || !q->cq) {
		godwit_cmdq_fini(dev);
		return -ENOMEM;
	}
	writel(lower_32_bits(q->sq_addr), dev->regs + GODWIT_REG_CMD_SQ_LO);
	writel(upper_32_bits(q->sq_addr), dev->regs + GODWIT_REG_CMD_SQ_HI);
	writel(lower_32_bits(q->cq_addr), dev->regs + GODWIT_REG_CMD_CQ_LO);
	writel(upper_32_bits(q->cq_addr), dev->regs + GODWIT_REG_CMD_CQ_HI);
	writel(GODWIT_CMD_LOG2_DEPTH, dev->regs + GODWIT_REG_CMD_LOG2_DEPTH);
	writel(1, dev->regs + GODWIT_REG_CMD_INTERRUPT);
	return 0;
}

/* The device has been reset: it knows nothing of the rings any more. */
void godwit_cmdq_fini(struct godwit_dev *dev)
{
	struct device *device = &dev->pdev->dev;
	struct godwit_cmdq *q = &dev->cmdq;

	if (q->cq)
		dma_free_coherent(device, GODWIT_CMD_DEPTH * sizeof(*q->cq), q->cq, q->cq_addr);
	if (q->sq)
		dma_free_coherent(device, GODWIT_CMD_DEPTH * sizeof(*q->sq), q->sq, q->sq_addr);
	kfree(q->waiters);
	memset(q, 0, sizeof(*q));
}

/* ------------------------------------------------ one wrapper for each command */

static int godwit_cmd_number(struct godwit_dev *dev, u8 opcode, u32 number)
{
	struct godwit_cmd_number cmd = { .number = cpu_to_le32(number) };

	return godwit_cmd_exec(dev, opcode, &cmd);
}

static int godwit_cmd_object(struct godwit_dev *dev, u8 opcode, u32 uctx, u32 number)
{
	struct godwit_cmd_object cmd = {
		.uctx = cpu_to_le32(uctx),
		.number = cpu_to_le32(number),
	};

	return godwit_cmd_exec(dev, opcode, &cmd);
}

static int godwit_cmd_scope(struct godwit_dev *dev, u8 opcode, u32 scope, u32 number)
{
	struct godwit_cmd_scope cmd = {
		.scope = cpu_to_le32(scope),
		.number = cpu_to_le32(number),
	};

	return godwit_cmd_exec(dev, opcode, &cmd);
}

static int godwit_cmd_move(struct godwit_dev *dev, u8 opcode, u64 move)
{
	struct godwit_cmd_move cmd = { .move = cpu_to_le64(move) };

	return godwit_cmd_exec(dev, opcode, &cmd);
}

static struct godwit_cmd_mailbox godwit_mailbox_params(const struct godwit_mailbox *mailbox)
{
	return (struct godwit_cmd_mailbox) {
		.addr = cpu_to_le64(mailbox->addr),
		.length = cpu_to_le32(mailbox->length),
	};
}

static void godwit_caps_parse(struct godwit_caps *caps, const struct godwit_device_caps *from)
{
	caps->flags = le64_to_cpu(from->flags);
	caps->max_mr_size = le64_to_cpu(from->max_mr_size);
	caps->clock_hz = le64_to_cpu(from->clock_hz);
	caps->state_version = le32_to_cpu(from->state_version);
	caps->max_uctx = le32_to_cpu(from->max_uctx);
	caps->max_pd = le32_to_cpu(from->max_pd);
	caps->max_mr = le32_to_cpu(from->max_mr);
	caps->max_cq = le32_to_cpu(from->max_cq);
	caps->max_qp = le32_to_cpu(from->max_qp);
	caps->max_eq = le32_to_cpu(from->max_eq);
	caps->max_qp_wr = le32_to_cpu(from->max_qp_wr);
	caps->log2_max_cqe = le32_to_cpu(from->log2_max_cqe);
	caps->max_send_sge = le32_to_cpu(from->max_send_sge);
	caps->max_recv_sge = le32_to_cpu(from->max_recv_sge);
	caps->max_inline = le32_to_cpu(from->max_inline);
	caps->max_rd_atomic = le32_to_cpu(from->max_rd_atomic);
	caps->max_message = le32_to_cpu(from->max_message);
	caps->gid_entries = le32_to_cpu(from->gid_entries);
	caps->mac_filters = le32_to_cpu(from->mac_filters);
	caps->max_mtu = le32_to_cpu(from->max_mtu);
	caps->max_tombstones = le32_to_cpu(from->max_tombstones);
}

int godwit_cmd_query_device(struct godwit_dev *dev)
{
	struct godwit_cmd_mailbox cmd;
	struct godwit_mailbox mailbox;
	int ret;

	ret = godwit_mailbox_init(dev, &mailbox, sizeof(struct godwit_device_caps));
	if (ret)
		return ret;
	cmd = godwit_mailbox_params(&mailbox);
	ret = godwit_cmd_exec(dev, GODWIT_CMD_QUERY_DEVICE, &cmd);
	if (!ret)
		godwit_caps_parse(&dev->caps, mailbox.data);
	godwit_mailbox_fini(dev, &mailbox);
	return ret;
}

int godwit_cmd_create_eq(struct godwit_dev *dev, const struct godwit_cmd_create_eq *cmd)
{
	return godwit_cmd_exec(dev, GODWIT_CMD_CREATE_EQ, cmd);
}

int godwit_cmd_destroy_eq(struct godwit_dev *dev, u32 eqn)
{
	return godwit_cmd_number(dev, GODWIT_CMD_DESTROY_EQ, eqn);
}

int godwit_cmd_create_uctx(struct godwit_dev *dev, u32 uctx)
{
	return godwit_cmd_number(dev, GODWIT_CMD_CREATE_UCTX, uctx);
}

int godwit_cmd_destroy_uctx(struct godwit_dev *dev, u32 uctx)
{
	return godwit_cmd_number(dev, GODWIT_CMD_DESTROY_UCTX, uctx);
}

int godwit_cmd_set_gid(struct godwit_dev *dev, const struct godwit_cmd_set_gid *cmd)
{
	return godwit_cmd_exec(dev, GODWIT_CMD_SET_GID, cmd);
}

int godwit_cmd_query_counters(struct godwit_dev *dev, u64 values[GODWIT_COUNTER_COUNT])
{
	struct godwit_cmd_mailbox cmd;
	struct godwit_mailbox mailbox;
	const __le64 *counters;
	unsigned int i;
	int ret;

	ret = godwit_mailbox_init(dev, &mailbox, GODWIT_COUNTER_COUNT * sizeof(*counters));
	if (ret)
		return ret;
	cmd = godwit_mailbox_params(&mailbox);
	ret = godwit_cmd_exec(dev, GODWIT_CMD_QUERY_COUNTERS, &cmd);
	counters = mailbox.data;
	for (i = 0; !ret && i < GODWIT_COUNTER_COUNT; i++)
		values[i] = le64_to_cpu(counters[i]);
	godwit_mailbox_fini(dev, &mailbox);
	return ret;
}

int godwit_cmd_create_pd(struct godwit_dev *dev, u32 uctx, u32 pdn)
{
	return godwit_cmd_object(dev, GODWIT_CMD_CREATE_PD, uctx, pdn);
}

int godwit_cmd_destroy_pd(struct godwit_dev *dev, u32 uctx, u32 pdn)
{
	return godwit_cmd_object(dev, GODWIT_CMD_DESTROY_PD, uctx, pdn);
}

int godwit_cmd_reg_mr(struct godwit_dev *dev, const struct godwit_cmd_reg_mr *cmd, u32 *key)
{
	struct godwit_result_key result = {};
	int ret;

	ret = godwit_cmd_exec_result(dev, GODWIT_CMD_REG_MR, cmd, &result);
	*key = le32_to_cpu(result.key);
	return ret;
}

int godwit_cmd_dereg_mr(struct godwit_dev *dev, u32 pdn, u32 key)
{
	struct godwit_cmd_dereg_mr cmd = {
		.pdn = cpu_to_le32(pdn),
		.key = cpu_to_le32(key),
	};

	return godwit_cmd_exec(dev, GODWIT_CMD_DEREG_MR, &cmd);
}

int godwit_cmd_create_cq(struct godwit_dev *dev, const struct godwit_cmd_create_cq *cmd)
{
	return godwit_cmd_exec(dev, GODWIT_CMD_CREATE_CQ, cmd);
}

int godwit_cmd_destroy_cq(struct godwit_dev *dev, u32 uctx, u32 cqn)
{
	return godwit_cmd_object(dev, GODWIT_CMD_DESTROY_CQ, uctx, cqn);
}

int godwit_cmd_create_qp(struct godwit_dev *dev, const struct godwit_create_qp *create, u32 *qpn)
{
	struct godwit_result_qpn result = {};
	struct godwit_cmd_mailbox cmd;
	struct godwit_mailbox mailbox;
	int ret;

	ret = godwit_mailbox_init(dev, &mailbox, sizeof(*create));
	if (ret)
		return ret;
	memcpy(mailbox.data, create, sizeof(*create));
	cmd = godwit_mailbox_params(&mailbox);
	ret = godwit_cmd_exec_result(dev, GODWIT_CMD_CREATE_QP, &cmd, &result);
	*qpn = le32_to_cpu(result.qpn);
	godwit_mailbox_fini(dev, &mailbox);
	return ret;
}

int godwit_cmd_modify_qp(struct godwit_dev *dev, const struct godwit_modify_qp *modify)
{
	struct godwit_cmd_mailbox cmd;
	struct godwit_mailbox mailbox;
	int ret;

	ret = godwit_mailbox_init(dev, &mailbox, sizeof(*modify));
	if (ret)
		return ret;
	memcpy(mailbox.data, modify, sizeof(*modify));
	cmd = godwit_mailbox_params(&mailbox);
	ret = godwit_cmd_exec(dev, GODWIT_CMD_MODIFY_QP, &cmd);
	godwit_mailbox_fini(dev, &mailbox);
	return ret;
}

int godwit_cmd_query_qp(struct godwit_dev *dev, u32 qpn, struct godwit_qp_info *info)
{
	struct godwit_cmd_qp_mailbox cmd = {};
	struct godwit_mailbox mailbox;
	int ret;

	ret = godwit_mailbox_init(dev, &mailbox, sizeof(*info));
	if (ret)
		return ret;
	cmd.addr = cpu_to_le64(mailbox.addr);
	cmd.length = cpu_to_le32(mailbox.length);
	cmd.qpn = cpu_to_le32(qpn);
	ret = godwit_cmd_exec(dev, GODWIT_CMD_QUERY_QP, &cmd);
	if (!ret)
		memcpy(info, mailbox.data, sizeof(*info));
	godwit_mailbox_fini(dev, &mailbox);
	return ret;
}

int godwit_cmd_destroy_qp(struct godwit_dev *dev, u32 qpn)
{
	return godwit_cmd_number(dev, GODWIT_CMD_DESTROY_QP, qpn);
}

int godwit_cmd_set_eth_rings(struct godwit_dev *dev, const struct godwit_cmd_set_eth_rings *cmd)
{
	return godwit_cmd_exec(dev, GODWIT_CMD_SET_ETH_RINGS, cmd);
}

int godwit_cmd_set_eth_filter(struct godwit_dev *dev, const struct godwit_mailbox *addresses,
			      u32 count, u32 flags)
{
	struct godwit_cmd_set_eth_filter cmd = {
		.addr = cpu_to_le64(addresses->addr),
		.count = cpu_to_le32(count),
		.flags = cpu_to_le32(flags),
	};

	return godwit_cmd_exec(dev, GODWIT_CMD_SET_ETH_FILTER, &cmd);
}

int godwit_cmd_stop(struct godwit_dev *dev, u32 scope, u32 number)
{
	return godwit_cmd_scope(dev, GODWIT_CMD_STOP, scope, number);
}

int godwit_cmd_unstop(struct godwit_dev *dev, u32 scope, u32 number)
{
	return godwit_cmd_scope(dev, GODWIT_CMD_UNSTOP, scope, number);
}

static struct godwit_cmd_state godwit_state_params(const struct godwit_mailbox *mailbox, u32 length,
						   u32 type, u32 uctx, u32 number)
{
	return (struct godwit_cmd_state) {
		.addr = cpu_to_le64(mailbox->addr),
		.length = cpu_to_le32(length),
		.type = cpu_to_le32(type),
		.uctx = cpu_to_le32(uctx),
		.number = cpu_to_le32(number),
	};
}

int godwit_cmd_save(struct godwit_dev *dev, struct godwit_mailbox *mailbox, u32 type, u32 uctx,
		    u32 number, u32 *length)
{
	struct godwit_cmd_state cmd =
		godwit_state_params(mailbox, mailbox->length, type, uctx, number);
	struct godwit_result_count result = {};
	int ret;

	ret = godwit_cmd_exec_result(dev, GODWIT_CMD_SAVE, &cmd, &result);
	*length = min(le32_to_cpu(result.count), mailbox->length);
	return ret;
}

int godwit_cmd_load(struct godwit_dev *dev, struct godwit_mailbox *mailbox, u32 length, u32 type,
		    u32 uctx, u32 number, u32 sgid_index)
{
	struct godwit_cmd_state cmd = godwit_state_params(mailbox, length, type, uctx, number);

	cmd.sgid_index = cpu_to_le32(sgid_index);
	return godwit_cmd_exec(dev, GODWIT_CMD_LOAD, &cmd);
}

int godwit_cmd_attach(struct godwit_dev *dev, const struct godwit_cmd_attach *cmd)
{
	return godwit_cmd_exec(dev, GODWIT_CMD_ATTACH, cmd);
}

int godwit_cmd_resume(struct godwit_dev *dev, u32 scope, u32 number, u32 attempt, u32 flags)
{
	struct godwit_cmd_resume cmd = {
		.scope = cpu_to_le32(scope),
		.number = cpu_to_le32(number),
		.attempt = cpu_to_le32(attempt),
		.flags = cpu_to_le32(flags),
	};

	return godwit_cmd_exec(dev, GODWIT_CMD_RESUME, &cmd);
}

int godwit_cmd_tombstone(struct godwit_dev *dev, u32 qpn, u64 move)
{
	struct godwit_cmd_tombstone cmd = {
		.qpn = cpu_to_le32(qpn),
		.move = cpu_to_le64(move),
	};

	return godwit_cmd_exec(dev, GODWIT_CMD_TOMBSTONE, &cmd);
}

int godwit_cmd_commit(struct godwit_dev *dev, u64 move)
{
	return godwit_cmd_move(dev, GODWIT_CMD_COMMIT, move);
}

int godwit_cmd_drop(struct godwit_dev *dev, u64 move)
{
	return godwit_cmd_move(dev, GODWIT_CMD_DROP, move);
}

int godwit_cmd_reserve_qpns(struct godwit_dev *dev, struct godwit_mailbox *qpns, u32 count,
			    u32 ttl_ms, u64 move)
{
	struct godwit_cmd_reserve cmd = {
		.addr = cpu_to_le64(qpns->addr),
		.count = cpu_to_le32(count),
		.ttl_ms = cpu_to_le32(ttl_ms),
		.move = cpu_to_le64(move),
	};

	return godwit_cmd_exec(dev, GODWIT_CMD_RESERVE_QPNS, &cmd);
}

int godwit_cmd_query_tombstones(struct godwit_dev *dev, struct godwit_mailbox *mailbox, u32 *count)
{
	struct godwit_cmd_mailbox cmd = godwit_mailbox_params(mailbox);
	struct godwit_result_count result = {};
	int ret;

	ret = godwit_cmd_exec_result(dev, GODWIT_CMD_QUERY_TOMBSTONES, &cmd, &result);
	*count = min_t(u32, le32_to_cpu(result.count),
		       mailbox->length / sizeof(struct godwit_tombstone_info));
	return ret;
}
