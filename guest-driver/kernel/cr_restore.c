// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The side that a container arrives at. Everything in an image is somebody
 * else's word: it is checked here, or by the device.
 */
#include <linux/capability.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/uaccess.h>
#include <rdma/ib_cache.h>

#include "cr.h"

/* ------------------------------------------------ events */

static bool godwit_is_qp_event(u32 type)
{
	return (type >= IB_EVENT_QP_FATAL && type <= IB_EVENT_PATH_MIG_ERR) ||
	       type == IB_EVENT_QP_LAST_WQE_REACHED;
}

static bool godwit_is_port_event(u32 type)
{
	switch (type) {
	case IB_EVENT_PORT_ACTIVE:
	case IB_EVENT_PORT_ERR:
	case IB_EVENT_LID_CHANGE:
	case IB_EVENT_PKEY_CHANGE:
	case IB_EVENT_SM_CHANGE:
	case IB_EVENT_CLIENT_REREGISTER:
	case IB_EVENT_GID_CHANGE:
		return true;
	default:
		return false;
	}
}

int godwit_event_check(struct godwit_cq *cq, struct godwit_qp *qp,
		       const struct godwit_event_in *in)
{
	u32 type = in->event_type;

	if (in->what & GODWIT_EVENT_COMP)
		return cq && !type ? 0 : -EINVAL;
	if (cq)
		return type == IB_EVENT_CQ_ERR ? 0 : -EINVAL;
	if (qp)
		return godwit_is_qp_event(type) ? 0 : -EINVAL;
	return godwit_is_port_event(type) ? 0 : -EOPNOTSUPP;
}

/* A port event goes to all contexts: the core has no way to tell one. None is misled by it. */
void godwit_event_raise(struct godwit_ucontext *context, struct godwit_cq *cq,
			struct godwit_qp *qp, bool comp, enum ib_event_type type)
{
	struct ib_event event = {
		.device = context->ibuc.device,
		.event = type,
		.element.port_num = GODWIT_PORT,
	};

	if (comp)
		godwit_cq_raise_comp(cq);
	else if (cq)
		godwit_cq_raise_async(cq, type);
	else if (qp)
		godwit_qp_raise_async(qp, type);
	else
		ib_dispatch_event(&event);
}

int godwit_inject_event(struct godwit_ucontext *context, struct godwit_cq *cq,
			struct godwit_qp *qp, const struct godwit_event_in *in)
{
	int ret;

	ret = godwit_event_check(cq, qp, in);
	if (ret)
		return ret;
	ret = godwit_context_enter(context, true);
	if (ret)
		return ret;
	godwit_event_raise(context, cq, qp, in->what & GODWIT_EVENT_COMP, in->event_type);
	godwit_context_leave(context);
	return 0;
}

/* ------------------------------------------------ saved state */

static int godwit_load(struct godwit_ucontext *context, const struct godwit_set_state *in,
		       u32 type, u32 number, u32 sgid_index)
{
	struct godwit_mailbox mailbox;
	int ret;

	if (!in->length || in->length > GODWIT_STATE_ROOM)
		return -EBADMSG;
	ret = godwit_mailbox_init(context->dev, &mailbox, GODWIT_STATE_ROOM);
	if (ret)
		return ret;
	if (copy_from_user(mailbox.data, u64_to_user_ptr(in->state), in->length))
		ret = -EFAULT;
	else
		ret = godwit_cmd_load(context->dev, &mailbox, in->length, type,
				      type == GODWIT_STATE_CQ ? context->uctx : 0, number,
				      sgid_index);
	godwit_mailbox_fini(context->dev, &mailbox);
	return ret;
}

int godwit_cr_set_cq(struct godwit_cq *cq, const struct godwit_set_state *in)
{
	int ret;

	if (in->record.type != GODWIT_RECORD_CQ || in->own_gid_index)
		return -EINVAL;
	ret = godwit_context_enter(cq->context, true);
	if (ret)
		return ret;
	ret = godwit_load(cq->context, in, GODWIT_STATE_CQ, cq->cqn, 0);
	if (!ret)
		cq->loaded = true;
	godwit_context_leave(cq->context);
	return ret;
}

static bool godwit_is_gid(const struct ib_gid_attr *attr, const union ib_gid *gid)
{
	return attr->gid_type == IB_GID_TYPE_ROCE_UDP_ENCAP &&
	       !memcmp(attr->gid.raw, gid->raw, sizeof(gid->raw));
}

/* Where it is in this table: at its old index, or elsewhere. The reference is the caller's. */
static const struct ib_gid_attr *godwit_find_gid(struct godwit_dev *dev, const union ib_gid *gid,
						 u32 index)
{
	const struct ib_gid_attr *attr;

	attr = rdma_get_gid_attr(&dev->ibdev, GODWIT_PORT, index);
	if (!IS_ERR(attr)) {
		if (godwit_is_gid(attr, gid))
			return attr;
		rdma_put_gid_attr(attr);
	}
	attr = rdma_find_gid_by_port(&dev->ibdev, gid, IB_GID_TYPE_ROCE_UDP_ENCAP, GODWIT_PORT,
				     NULL);
	return IS_ERR(attr) ? ERR_PTR(-EADDRNOTAVAIL) : attr;
}

/* PSNs count packets: what the QP sends must fit through this port. */
static int godwit_check_path_mtu(struct godwit_dev *dev, u8 path_mtu)
{
	struct ib_port_attr port;
	int ret;

	ret = ib_query_port(&dev->ibdev, GODWIT_PORT, &port);
	if (ret)
		return ret;
	return path_mtu <= port.active_mtu ? 0 : -EMSGSIZE;
}

static int godwit_set_qp_av(struct godwit_qp *qp, const struct godwit_set_state *in)
{
	const struct godwit_record *record = &in->record;
	struct godwit_dev *dev = qp->context->dev;
	const struct ib_gid_attr *attr;
	union ib_gid own;
	int ret;

	ret = godwit_check_path_mtu(dev, record->path_mtu);
	if (ret)
		return ret;
	memcpy(own.raw, record->own_gid, sizeof(own.raw));
	attr = godwit_find_gid(dev, &own, in->own_gid_index);
	if (IS_ERR(attr))
		return PTR_ERR(attr);
	qp->had_av = true;
	qp->own_gid = own;
	qp->own_gid_index = attr->index;
	memcpy(qp->peer_gid.raw, record->peer_gid, sizeof(qp->peer_gid.raw));
	qp->peer_qpn = record->peer_qpn;
	/* As the core does it after a MODIFY_QP; it drops the reference with the QP. */
	qp->ibqp.av_sgid_attr = attr;
	return 0;
}

/* The record and the state are of one QP: the AV that was checked is the one that it uses. */
static int godwit_check_loaded_qp(const struct godwit_qp *qp, const struct godwit_record *record,
				  const struct godwit_qp_info *info)
{
	const struct godwit_qp_attr *attr = &info->attr;
	bool connected = godwit_is_connected(attr);

	if (!qp->had_av)
		return connected && qp->ibqp.qp_type != IB_QPT_UD ? -EBADMSG : 0;
	if (!connected || attr->path_mtu != record->path_mtu ||
	    le32_to_cpu(attr->dest_qpn) != record->peer_qpn ||
	    memcmp(attr->av.dgid, record->peer_gid, sizeof(attr->av.dgid)))
		return -EBADMSG;
	return 0;
}

/*
 * Not by MODIFY_QP: the core would ask the network for the peer's MAC, in a
 * network namespace that may be half restored.
 */
int godwit_cr_set_qp(struct godwit_qp *qp, const struct godwit_set_state *in)
{
	struct godwit_ucontext *context = qp->context;
	struct godwit_qp_info info;
	int ret;

	if (in->record.type != GODWIT_RECORD_QP || in->record.has_av > 1)
		return -EINVAL;
	ret = godwit_context_enter(context, true);
	if (ret)
		return ret;
	if (qp->loaded || qp->had_av)
		ret = -EINVAL;
	if (!ret && in->record.has_av)
		ret = godwit_set_qp_av(qp, in);
	if (!ret)
		ret = godwit_load(context, in, GODWIT_STATE_QP, qp->ibqp.qp_num,
				  qp->own_gid_index);
	if (!ret)
		ret = godwit_cmd_query_qp(context->dev, qp->ibqp.qp_num, &info);
	if (!ret)
		ret = godwit_check_loaded_qp(qp, &in->record, &info);
	if (!ret) {
		qp->loaded = true;
		qp->state = info.attr.status;
		qp->ibqp.port = GODWIT_PORT;
	}
	godwit_context_leave(context);
	return ret;
}

/* ------------------------------------------------ program */

struct godwit_program {
	struct godwit_ucontext *context;
	struct mm_struct *mm;
	struct pid *pid;
	s32 vpid;			/* in its own namespace, as images name it */
	struct godwit_program_out *out;
	int ret;
};

/* False: not this one's, or done already, or it failed before. */
static bool godwit_program_pin(struct godwit_program *program, struct godwit_memory *memory,
			       bool programmed)
{
	if (programmed || program->ret)
		return false;
	if (memory->wanted_owner != program->vpid) {
		program->out->left++;
		return false;
	}
	if (!memory->umem)
		program->ret = godwit_memory_pin_of(program->context->dev, memory, program->mm,
						    program->pid);
	return !program->ret;
}

/* The buffer of a queue, of which the device knows all else */
static int godwit_attach(struct godwit_ucontext *context, const struct godwit_memory *memory,
			 u32 type, u32 number, bool *programmed)
{
	struct godwit_cmd_attach cmd = {
		.type = cpu_to_le32(type),
		.uctx = cpu_to_le32(type == GODWIT_STATE_CQ ? context->uctx : 0),
		.number = cpu_to_le32(number),
	};
	struct godwit_page_list list;
	int ret;

	ret = godwit_page_list_init(context->dev, &list, memory->umem);
	if (ret)
		return ret;
	godwit_page_list_buffer(&list, memory->length, &cmd.buffer);
	ret = godwit_cmd_attach(context->dev, &cmd);
	godwit_page_list_fini(context->dev, &list);
	*programmed = !ret;
	return ret;
}

static void godwit_program_done(struct godwit_program *program, int ret)
{
	program->ret = ret;
	if (!ret)
		program->out->programmed++;
}

static void godwit_program_objects(struct godwit_program *program)
{
	struct godwit_ucontext *context = program->context;
	struct godwit_mr *mr;
	struct godwit_cq *cq;
	struct godwit_qp *qp;

	list_for_each_entry(mr, &context->mrs, node)
		if (godwit_program_pin(program, &mr->memory, mr->programmed))
			godwit_program_done(program, godwit_mr_program(mr, true));
	list_for_each_entry(cq, &context->cqs, node)
		if (godwit_program_pin(program, &cq->memory, cq->programmed))
			godwit_program_done(program,
					    godwit_attach(context, &cq->memory, GODWIT_STATE_CQ,
							  cq->cqn, &cq->programmed));
	list_for_each_entry(qp, &context->qps, node)
		if (godwit_program_pin(program, &qp->memory, qp->programmed))
			godwit_program_done(program,
					    godwit_attach(context, &qp->memory, GODWIT_STATE_QP,
							  qp->ibqp.qp_num, &qp->programmed));
}

static int godwit_program_locked(struct godwit_program *program)
{
	int ret;

	ret = godwit_context_enter(program->context, true);
	if (ret)
		return ret;
	godwit_program_objects(program);
	godwit_context_leave(program->context);
	return program->ret;
}

/*
 * What is pinned is read and written by way of the NIC. The right to restore is
 * not a right to other processes' memory: that takes what tracing them takes.
 */
static bool godwit_may_pin_of(struct task_struct *task, struct mm_struct *mm)
{
	return same_thread_group(task, current) || ns_capable(mm->user_ns, CAP_SYS_PTRACE);
}

int godwit_cr_program(struct godwit_ucontext *context, u32 nr, struct godwit_program_out *out)
{
	struct godwit_program program = { .context = context, .out = out };
	struct task_struct *task;
	int ret = -ESRCH;
	bool may;

	if (nr > INT_MAX)
		return -EINVAL;
	program.pid = find_get_pid(nr);
	task = get_pid_task(program.pid, PIDTYPE_TGID);
	if (!task)
		goto put_pid;
	program.mm = get_task_mm(task);
	may = program.mm && godwit_may_pin_of(task, program.mm);
	put_task_struct(task);
	if (!program.mm)		/* a zombie owns nothing */
		goto put_pid;
	program.vpid = pid_nr_ns(program.pid, ns_of_pid(program.pid));
	ret = may ? godwit_program_locked(&program) : -EPERM;
	mmput(program.mm);
put_pid:
	put_pid(program.pid);
	return ret;
}

/* ------------------------------------------------ resume */

static int godwit_check_complete(struct godwit_ucontext *context)
{
	struct godwit_mr *mr;
	struct godwit_cq *cq;
	struct godwit_qp *qp;

	list_for_each_entry(mr, &context->mrs, node)
		if (!mr->programmed)
			return -EBUSY;
	list_for_each_entry(cq, &context->cqs, node)
		if (!cq->programmed || !cq->loaded)
			return -EBUSY;
	list_for_each_entry(qp, &context->qps, node)
		if (!qp->programmed || !qp->loaded)
			return -EBUSY;
	return 0;
}

/* Both ends came in the same image, to the same address: neither has to be told. */
static bool godwit_peer_came_along(struct godwit_qp *qp)
{
	struct godwit_dev *dev = qp->context->dev;
	struct godwit_qp *peer;
	bool came;

	if (!qp->had_av || !qp->move ||
	    memcmp(qp->own_gid.raw, qp->peer_gid.raw, sizeof(qp->own_gid.raw)))
		return false;
	xa_lock_irq(&dev->qps);
	peer = xa_load(&dev->qps, qp->peer_qpn);
	came = peer && peer->had_av && peer->move == qp->move &&
	       peer->peer_qpn == qp->ibqp.qp_num;
	xa_unlock_irq(&dev->qps);
	return came;
}

/*
 * The first packet that leaves here is the point of no return: a QP that cannot
 * go on does not hold up the others, and the caller is told at the end.
 */
static int godwit_resume_qps(struct godwit_ucontext *context, u32 attempt)
{
	struct godwit_qp *qp;
	int ret = 0;

	list_for_each_entry(qp, &context->qps, node) {
		u32 flags = godwit_peer_came_along(qp) ? GODWIT_RESUME_LOCAL_MASK : 0;
		int one = godwit_cmd_resume(context->dev, GODWIT_SCOPE_QP, qp->ibqp.qp_num,
					    attempt, flags);

		if (!one)
			continue;
		dev_err(&context->dev->pdev->dev, "QP %#x cannot be resumed: %d\n",
			qp->ibqp.qp_num, one);
		ret = ret ? ret : one;
	}
	return ret;
}

static bool godwit_any_peer_came_along(struct godwit_ucontext *context)
{
	struct godwit_qp *qp;

	list_for_each_entry(qp, &context->qps, node)
		if (godwit_peer_came_along(qp))
			return true;
	return false;
}

int godwit_cr_resume(struct godwit_ucontext *context, const struct godwit_resume_in *in)
{
	int ret;

	if (!in->attempt || in->flags)
		return -EINVAL;
	ret = godwit_context_enter(context, true);
	if (ret)
		return ret;
	ret = godwit_check_complete(context);
	if (ret)
		goto leave;
	if (godwit_any_peer_came_along(context))
		ret = godwit_resume_qps(context, in->attempt);
	else	/* all or none, as far as the device can tell before it begins */
		ret = godwit_cmd_resume(context->dev, GODWIT_SCOPE_UCTX, context->uctx,
					in->attempt, 0);
	if (!ret)
		context->state = GODWIT_CONTEXT_RUNNING;
leave:
	godwit_context_leave(context);
	return ret;
}
