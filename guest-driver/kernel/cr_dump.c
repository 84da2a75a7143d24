// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The side that a container leaves: freezing a context under a lease, dumping
 * its objects, and what becomes of it when the lease ends.
 */
#include <linux/fdtable.h>
#include <linux/pid_namespace.h>
#include <linux/ptrace.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "cr.h"

/* An event that the dump has read out of the core's queues */
struct godwit_note {
	struct list_head node;
	struct godwit_cq *cq;
	struct godwit_qp *qp;
	bool comp;
	enum ib_event_type type;
};

/* ------------------------------------------------ processes */

/* With the first process of its pid namespace it will die, though it may not know yet. */
static bool godwit_namespace_lives(struct pid *pid)
{
	struct task_struct *reaper;
	bool lives;

	rcu_read_lock();
	reaper = READ_ONCE(ns_of_pid(pid)->child_reaper);
	lives = reaper && !(READ_ONCE(reaper->signal->flags) & SIGNAL_GROUP_EXIT);
	rcu_read_unlock();
	return lives;
}

static bool godwit_process_lives(struct pid *pid)
{
	struct task_struct *task = get_pid_task(pid, PIDTYPE_TGID);
	bool lives;

	if (!task)
		return false;
	/* A fatal signal shows at once, also in a process that is being traced. */
	lives = atomic_read(&task->signal->live) > 0 &&
		!(READ_ONCE(task->signal->flags) & SIGNAL_GROUP_EXIT) &&
		godwit_namespace_lives(pid);
	put_task_struct(task);
	return lives;
}

static bool godwit_traced_by_caller(struct task_struct *task)
{
	struct task_struct *tracer = ptrace_parent(task);

	return tracer && same_thread_group(tracer, current);
}

/* All that the caller traces: how many, and the first `room` of them. */
static u32 godwit_find_traced(struct pid **tasks, u32 room)
{
	struct task_struct *task;
	u32 count = 0;

	rcu_read_lock();
	for_each_process(task) {
		if (!godwit_traced_by_caller(task))
			continue;
		if (count < room)
			tasks[count] = get_task_pid(task, PIDTYPE_TGID);
		count++;
	}
	rcu_read_unlock();
	return count;
}

/*
 * Who is being dumped: all processes that the caller traces, which is how CRIU
 * holds them. A caller that traces nobody is taken at its word: then it is the
 * process that made the context.
 */
static int godwit_lease_find_tasks(struct godwit_lease *lease)
{
	u32 room = godwit_find_traced(NULL, 0);

	lease->tasks = kvcalloc(max_t(u32, room, 1), sizeof(*lease->tasks), GFP_KERNEL);
	if (!lease->tasks)
		return -ENOMEM;
	lease->task_count = min(godwit_find_traced(lease->tasks, room), room);
	lease->traced = lease->task_count;
	if (!lease->traced)
		lease->tasks[lease->task_count++] = get_pid(lease->context->owner);
	return 0;
}

static void godwit_lease_put_tasks(struct godwit_lease *lease)
{
	u32 i;

	for (i = 0; i < lease->task_count; i++)
		put_pid(lease->tasks[i]);
	kvfree(lease->tasks);
	lease->tasks = NULL;
	lease->task_count = 0;
}

static bool godwit_lease_tasks_live(const struct godwit_lease *lease)
{
	u32 i;

	for (i = 0; i < lease->task_count; i++)
		if (godwit_process_lives(lease->tasks[i]))
			return true;
	return false;
}

static bool godwit_lease_has_task(const struct godwit_lease *lease, const struct pid *pid)
{
	u32 i;

	for (i = 0; i < lease->task_count; i++)
		if (lease->tasks[i] == pid)
			return true;
	return false;
}

/* ------------------------------------------------ who else has the context open */

static int godwit_is_file_of(const void *ufile, struct file *file, unsigned int fd)
{
	return file->private_data == ufile;
}

static bool godwit_task_has_file(struct task_struct *task, const void *ufile)
{
	bool has;

	task_lock(task);
	has = iterate_fd(task->files, 0, godwit_is_file_of, ufile);
	task_unlock(task);
	return has;
}

/*
 * A process outside the dump that has the context open would find it frozen for
 * ever. Whoever asks looks as well, but may not see all processes; we do.
 */
static u32 godwit_count_foreign(const struct godwit_lease *lease)
{
	struct godwit_ucontext *context = lease->context;
	struct task_struct *process, *thread;
	u32 count = 0;

	rcu_read_lock();
	for_each_process_thread(process, thread) {
		if (thread != process && thread->files == process->files)
			continue;
		if (same_thread_group(process, current) ||
		    godwit_lease_has_task(lease, task_tgid(process)) ||
		    !godwit_task_has_file(thread, context->ibuc.ufile))
			continue;
		count++;
		dev_warn_ratelimited(&context->dev->pdev->dev,
				     "context %u: process %d (%s), not being dumped, has it open\n",
				     context->uctx, task_tgid_nr(process), process->comm);
	}
	rcu_read_unlock();
	return count;
}

/* ------------------------------------------------ notes */

void godwit_notes_forget(struct godwit_ucontext *context, const void *object)
{
	struct godwit_note *note, *next;

	list_for_each_entry_safe(note, next, &context->notes, node)
		if (!object || note->cq == object || note->qp == object) {
			list_del(&note->node);
			kfree(note);
		}
}

/* The core has counted the copy that the dump read; the base makes up for it. */
static void godwit_note_give_back(struct godwit_ucontext *context, struct godwit_note *note)
{
	if (note->comp)
		note->cq->comp_base--;
	else if (note->cq)
		note->cq->async_base--;
	else if (note->qp)
		note->qp->async_base--;
	godwit_event_raise(context, note->cq, note->qp, note->comp, note->type);
}

int godwit_note_event(struct godwit_ucontext *context, struct godwit_cq *cq,
		      struct godwit_qp *qp, const struct godwit_event_in *in)
{
	struct godwit_note *note;
	int ret;

	ret = godwit_event_check(cq, qp, in);
	if (ret)
		return ret;
	note = kzalloc(sizeof(*note), GFP_KERNEL_ACCOUNT);
	if (!note)
		return -ENOMEM;
	note->cq = cq;
	note->qp = qp;
	note->comp = in->what & GODWIT_EVENT_COMP;
	note->type = in->event_type;
	mutex_lock(&context->lock);
	if (context->state != GODWIT_CONTEXT_FROZEN)
		ret = -EINVAL;
	else
		list_add_tail(&note->node, &context->notes);
	mutex_unlock(&context->lock);
	if (ret)
		kfree(note);
	return ret;
}

/* ------------------------------------------------ lease */

/* What is pinned is still the memory of the process that pinned it, not of what it was before exec. */
static bool godwit_memory_is_owners(const struct godwit_memory *memory)
{
	struct task_struct *task = get_pid_task(memory->owner, PIDTYPE_TGID);
	bool is;

	if (!task)
		return false;
	task_lock(task);
	is = task->mm == memory->umem->owning_mm;
	task_unlock(task);
	put_task_struct(task);
	return is;
}

/* A restore pins the memory of the process that it finds in the owner's place. */
static int godwit_check_owner(const struct godwit_lease *lease, const struct godwit_memory *memory)
{
	struct godwit_ucontext *context = lease->context;
	const char *problem;

	if (!godwit_process_lives(memory->owner))
		problem = "has ended";
	else if (lease->traced && !godwit_lease_has_task(lease, memory->owner))
		problem = "is not being dumped";
	else if (!godwit_memory_is_owners(memory))
		problem = "runs another program now";
	else
		return 0;
	dev_warn_ratelimited(&context->dev->pdev->dev,
			     "context %u: memory at %#llx belongs to process %d, which %s\n",
			     context->uctx, memory->start, pid_nr(memory->owner), problem);
	return -EOPNOTSUPP;
}

static int godwit_check_owners(const struct godwit_lease *lease)
{
	struct godwit_ucontext *context = lease->context;
	struct godwit_mr *mr;
	struct godwit_cq *cq;
	struct godwit_qp *qp;
	int ret = 0;

	list_for_each_entry(mr, &context->mrs, node)
		ret = ret ? ret : godwit_check_owner(lease, &mr->memory);
	list_for_each_entry(cq, &context->cqs, node)
		ret = ret ? ret : godwit_check_owner(lease, &cq->memory);
	list_for_each_entry(qp, &context->qps, node)
		ret = ret ? ret : godwit_check_owner(lease, &qp->memory);
	return ret;
}

static int godwit_freeze(const struct godwit_lease *lease)
{
	struct godwit_ucontext *context = lease->context;
	int ret;

	lockdep_assert_held(&context->lock);
	if (context->state != GODWIT_CONTEXT_RUNNING)
		return -EBUSY;
	ret = godwit_check_owners(lease);
	if (!ret)
		ret = godwit_cmd_stop(context->dev, GODWIT_SCOPE_UCTX, context->uctx);
	if (ret)
		return ret;
	context->state = GODWIT_CONTEXT_FROZEN;
	/* Nothing more comes from the device: what it has told is to be in the core's queues. */
	godwit_eqs_drain(context->dev);
	return 0;
}

/* Older events first: those that the dump took out, then what the device has to tell. */
static void godwit_thaw(struct godwit_ucontext *context)
{
	struct godwit_note *note;
	int ret;

	lockdep_assert_held(&context->lock);
	list_for_each_entry(note, &context->notes, node)
		godwit_note_give_back(context, note);
	godwit_notes_forget(context, NULL);
	ret = godwit_cmd_unstop(context->dev, GODWIT_SCOPE_UCTX, context->uctx);
	if (ret && !godwit_dead(context->dev))
		dev_err(&context->dev->pdev->dev, "context %u does not go on: %d\n",
			context->uctx, ret);
	context->state = GODWIT_CONTEXT_RUNNING;
}

/* The image is all that is left: connected QPs stay and tell their peers to wait. */
static void godwit_leave(struct godwit_ucontext *context, u64 move)
{
	struct godwit_dev *dev = context->dev;
	struct godwit_qp_info info;
	struct godwit_qp *qp;
	int ret;

	lockdep_assert_held(&context->lock);
	context->state = GODWIT_CONTEXT_LEFT;
	godwit_notes_forget(context, NULL);
	list_for_each_entry(qp, &context->qps, node) {
		ret = godwit_cmd_query_qp(dev, qp->ibqp.qp_num, &info);
		if (!ret && !godwit_is_connected(&info.attr))
			continue;	/* no peer waits for it */
		if (!ret)
			ret = godwit_cmd_tombstone(dev, qp->ibqp.qp_num, move);
		if (ret) {
			dev_warn(&dev->pdev->dev, "QP %#x leaves no tombstone: %d\n",
				 qp->ibqp.qp_num, ret);
			continue;
		}
		qp->tombstone = true;
		/* The number is free for the QP that is restored here, should it come back. */
		xa_cmpxchg_irq(&dev->qps, qp->ibqp.qp_num, qp, NULL, 0);
	}
}

int godwit_lease_begin(struct godwit_lease *lease, struct godwit_ucontext *context,
		       struct godwit_lease_info *info)
{
	int ret;

	lease->context = context;
	lease->move = info->move;
	ret = godwit_lease_find_tasks(lease);
	if (ret)
		return ret;
	if (godwit_count_foreign(lease)) {
		ret = -ETXTBSY;
		goto put_tasks;
	}
	mutex_lock(&context->lock);
	ret = godwit_freeze(lease);
	mutex_unlock(&context->lock);
	if (ret)
		goto put_tasks;
	info->uctx_cookie = context->cookie;
	return 0;

put_tasks:
	godwit_lease_put_tasks(lease);
	return ret;
}

/*
 * The holder of the lease has ended, however it did. By then it has let the
 * processes go on, or has killed them.
 */
void godwit_lease_end(struct ib_uobject *uobj, enum rdma_remove_reason why)
{
	struct godwit_lease *lease = container_of(uobj, struct godwit_lease, uobj);
	struct godwit_ucontext *context = lease->context;

	mutex_lock(&context->lock);
	if (context->state == GODWIT_CONTEXT_FROZEN) {
		if (why == RDMA_REMOVE_ABORT || why == RDMA_REMOVE_DRIVER_REMOVE ||
		    godwit_lease_tasks_live(lease))
			godwit_thaw(context);
		else
			godwit_leave(context, lease->move);
	}
	mutex_unlock(&context->lock);
	godwit_lease_put_tasks(lease);
}

/* ------------------------------------------------ dump */

struct godwit_dump {
	struct godwit_ucontext *context;
	const struct godwit_dump_in *in;
	struct godwit_dump_out *out;
	struct godwit_mailbox mailbox;
};

u64 godwit_channel_cookie(struct godwit_dev *dev, struct ib_uobject *channel)
{
	/* Names a channel without telling where the kernel keeps it; never 0. */
	return siphash_1u64((uintptr_t)channel, &dev->cookie_key) | 1;
}

/* ib_ucq_object and ib_uqp_object are not for drivers, but begin with the ib_uobject. */
static struct ib_uobject *godwit_cq_uobject(const struct ib_cq *cq)
{
	return (struct ib_uobject *)cq->uobject;
}

static struct ib_uobject *godwit_qp_uobject(const struct ib_qp *qp)
{
	return (struct ib_uobject *)qp->uobject;
}

static void godwit_dump_memory(struct godwit_record *record, const struct godwit_memory *memory)
{
	record->start = memory->start;
	record->length = memory->length;
	if (memory->owner)
		record->owner = pid_nr_ns(memory->owner, ns_of_pid(memory->owner));
	else
		record->owner = memory->wanted_owner;
}

static int godwit_dump_put(struct godwit_dump *dump, const struct godwit_record *record)
{
	struct godwit_record __user *to = u64_to_user_ptr(dump->in->records);

	if (dump->out->records < dump->in->max_records &&
	    copy_to_user(&to[dump->out->records], record, sizeof(*record)))
		return -EFAULT;
	dump->out->records++;
	return 0;
}

/* Only a context that stands still has a state. What does not fit is counted at its largest. */
static int godwit_dump_state(struct godwit_dump *dump, u32 type, u32 number, u32 largest,
			     struct godwit_record *record)
{
	struct godwit_dump_out *out = dump->out;
	u32 length = largest;
	int ret;

	if (dump->context->state != GODWIT_CONTEXT_FROZEN)
		return 0;
	record->state_offset = out->state_used;
	if (dump->in->state_room >= largest && out->state_used <= dump->in->state_room - largest) {
		ret = godwit_cmd_save(dump->context->dev, &dump->mailbox, type,
				      dump->context->uctx, number, &length);
		if (ret)
			return ret;
		if (length > largest)
			return -EOVERFLOW;
		if (copy_to_user(u64_to_user_ptr(dump->in->state + out->state_used),
				 dump->mailbox.data, length))
			return -EFAULT;
	}
	record->state_length = length;
	out->state_used += ALIGN(length, 8);
	return 0;
}

static int godwit_dump_pd(struct godwit_dump *dump, struct godwit_pd *pd)
{
	struct godwit_record record = {
		.type = GODWIT_RECORD_PD,
		.handle = pd->ibpd.uobject->id,
		.user_handle = pd->ibpd.uobject->user_handle,
		.number = pd->pdn,
	};

	return godwit_dump_put(dump, &record);
}

static int godwit_dump_mr(struct godwit_dump *dump, struct godwit_mr *mr)
{
	struct ib_uobject *uobj = READ_ONCE(mr->ibmr.uobject);
	struct godwit_record record = {
		.type = GODWIT_RECORD_MR,
		.number = mr->ibmr.lkey,
		.access = mr->memory.access,
		.iova = mr->iova,
	};

	if (!uobj)		/* somebody outside the dump is just making it */
		return -EBUSY;
	record.handle = uobj->id;
	record.user_handle = uobj->user_handle;
	record.pd_handle = mr->pd->ibpd.uobject->id;
	godwit_dump_memory(&record, &mr->memory);
	return godwit_dump_put(dump, &record);
}

static int godwit_dump_cq(struct godwit_dump *dump, struct godwit_cq *cq)
{
	struct ib_uobject *uobj = godwit_cq_uobject(&cq->ibcq);
	struct godwit_record record = {
		.type = GODWIT_RECORD_CQ,
		.handle = uobj->id,
		.user_handle = uobj->user_handle,
		.number = cq->cqn,
		.cqe = cq->wanted_cqe,
		.comp_vector = cq->comp_vector,
		.record_offset = cq->record_offset,
		.log2_sq_depth = cq->log2_depth,
		.comp_events = cq->comp_base + atomic_read(&cq->comp_raised),
		.async_events = cq->async_base + atomic_read(&cq->async_raised),
	};
	int ret;

	if (cq->channel)
		record.channel = godwit_channel_cookie(dump->context->dev, cq->channel);
	else if (cq->ibcq.cq_context)	/* made by the old command: its channel is not known */
		return -EOPNOTSUPP;
	godwit_dump_memory(&record, &cq->memory);
	ret = godwit_dump_state(dump, GODWIT_STATE_CQ, cq->cqn, sizeof(struct godwit_cq_state),
				&record);
	return ret ? ret : godwit_dump_put(dump, &record);
}

static void godwit_dump_qp_shape(const struct godwit_qp *qp, struct godwit_record *record)
{
	record->record_offset = qp->record_offset;
	record->sq_offset = qp->sq_offset;
	record->rq_offset = qp->rq_offset;
	record->log2_sq_depth = qp->log2_sq_depth;
	record->log2_rq_depth = qp->log2_rq_depth;
	record->log2_sq_stride = qp->log2_sq_stride;
	record->log2_rq_stride = qp->log2_rq_stride;
	record->max_send_wr = qp->cap.max_send_wr;
	record->max_recv_wr = qp->cap.max_recv_wr;
	record->max_send_sge = qp->cap.max_send_sge;
	record->max_recv_sge = qp->cap.max_recv_sge;
	record->max_inline = qp->cap.max_inline_data;
	record->sq_sig_all = qp->signal_all;
	record->qp_type = qp->ibqp.qp_type;
}

/* `attr` as the device has it: a peer may have moved since the application set the AV. */
static void godwit_dump_qp_attr(const struct godwit_qp *qp, const struct godwit_qp_info *info,
				struct godwit_record *record)
{
	record->qp_state = info->attr.status;
	record->access = info->attr.access;
	record->path_mtu = info->attr.path_mtu;
	record->port = GODWIT_PORT;
	record->peer_qpn = le32_to_cpu(info->attr.dest_qpn);
	record->extended_peer = info->peer_extended;
	if (qp->ibqp.qp_type == IB_QPT_UD || !godwit_is_connected(&info->attr))
		return;
	record->has_av = 1;
	memcpy(record->own_gid, qp->own_gid.raw, sizeof(record->own_gid));
	memcpy(record->peer_gid, info->attr.av.dgid, sizeof(record->peer_gid));
	record->own_gid_index = qp->own_gid_index;
}

static int godwit_dump_qp(struct godwit_dump *dump, struct godwit_qp *qp)
{
	struct ib_uobject *uobj = godwit_qp_uobject(&qp->ibqp);
	struct godwit_record record = {
		.type = GODWIT_RECORD_QP,
		.handle = uobj->id,
		.user_handle = uobj->user_handle,
		.pd_handle = qp->ibqp.pd->uobject->id,
		.number = qp->ibqp.qp_num,
		.send_cq_handle = godwit_cq_uobject(&qp->send_cq->ibcq)->id,
		.recv_cq_handle = godwit_cq_uobject(&qp->recv_cq->ibcq)->id,
		.async_events = qp->async_base + atomic_read(&qp->async_raised),
	};
	struct godwit_qp_info info;
	int ret;

	ret = godwit_cmd_query_qp(dump->context->dev, qp->ibqp.qp_num, &info);
	if (ret)
		return ret;
	godwit_dump_qp_shape(qp, &record);
	godwit_dump_qp_attr(qp, &info, &record);
	godwit_dump_memory(&record, &qp->memory);
	ret = godwit_dump_state(dump, GODWIT_STATE_QP, qp->ibqp.qp_num,
				sizeof(struct godwit_qp_state), &record);
	return ret ? ret : godwit_dump_put(dump, &record);
}

static int godwit_dump_objects(struct godwit_dump *dump)
{
	struct godwit_ucontext *context = dump->context;
	struct godwit_record record = {
		.type = GODWIT_RECORD_CONTEXT,
		.number = context->uctx,
	};
	struct godwit_pd *pd;
	struct godwit_mr *mr;
	struct godwit_cq *cq;
	struct godwit_qp *qp;
	int ret;

	ret = godwit_dump_put(dump, &record);
	list_for_each_entry(pd, &context->pds, node)
		ret = ret ? ret : godwit_dump_pd(dump, pd);
	list_for_each_entry(mr, &context->mrs, node)
		ret = ret ? ret : godwit_dump_mr(dump, mr);
	list_for_each_entry(cq, &context->cqs, node)
		ret = ret ? ret : godwit_dump_cq(dump, cq);
	list_for_each_entry(qp, &context->qps, node)
		ret = ret ? ret : godwit_dump_qp(dump, qp);
	return ret;
}

int godwit_cr_dump(struct godwit_ucontext *context, const struct godwit_dump_in *in,
		   struct godwit_dump_out *out)
{
	struct godwit_dump dump = { .context = context, .in = in, .out = out };
	int ret;

	ret = godwit_mailbox_init(context->dev, &dump.mailbox, GODWIT_STATE_ROOM);
	if (ret)
		return ret;
	out->uctx_cookie = context->cookie;
	mutex_lock(&context->lock);
	if (context->state == GODWIT_CONTEXT_LEFT)	/* its QPs' numbers may be others' */
		ret = -ESTALE;
	else
		ret = godwit_dump_objects(&dump);
	mutex_unlock(&context->lock);
	godwit_mailbox_fini(context->dev, &dump.mailbox);
	if (!ret && (out->records > in->max_records || out->state_used > in->state_room))
		ret = -ENOSPC;
	return ret;
}

int godwit_cr_status(struct godwit_ucontext *context, struct godwit_status_out *out)
{
	struct godwit_qp_info info;
	struct godwit_qp *qp;
	int ret = 0;

	mutex_lock(&context->lock);
	list_for_each_entry(qp, &context->qps, node) {
		u32 ext;

		if (qp->tombstone)
			continue;
		ret = godwit_cmd_query_qp(context->dev, qp->ibqp.qp_num, &info);
		if (ret)
			break;
		ext = le32_to_cpu(info.ext);
		out->qps++;
		out->stopped += !!(ext & (GODWIT_QP_EXT_STOPPED_MASK |
					  GODWIT_QP_EXT_UNLOADED_MASK));
		out->paused += !!(ext & GODWIT_QP_EXT_PAUSED_MASK);
		out->resuming += !!(ext & GODWIT_QP_EXT_RESUMING_MASK);
		out->error += info.attr.status == GODWIT_QP_STATUS_ERROR;
	}
	mutex_unlock(&context->lock);
	return ret;
}
