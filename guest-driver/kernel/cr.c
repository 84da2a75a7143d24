// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The driver's own uverbs objects and methods: who may call them, and their
 * arguments. What they do is in cr_dump.c and cr_restore.c.
 */
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/uverbs_ioctl.h>
#include <rdma/uverbs_std_types.h>
#include <rdma/uverbs_types.h>

#define UVERBS_MODULE_NAME godwit
#include <rdma/uverbs_named_ioctl.h>

#include "cr.h"

#define GODWIT_MAX_RESERVE	1024	/* QPNs in one command */
#define GODWIT_MAX_LIST		4096	/* tombstones in one answer */

/* Of the uverbs file that the method was called on, by somebody who may. */
static struct godwit_ucontext *godwit_cr_context(struct uverbs_attr_bundle *attrs)
{
	struct ib_ucontext *ibuc;

	if (!godwit_cr_capable())
		return ERR_PTR(-EPERM);
	ibuc = ib_uverbs_get_ucontext(attrs);
	if (IS_ERR(ibuc))
		return ERR_CAST(ibuc);
	if (!(to_gdev(ibuc->device)->caps.flags & GODWIT_CAP_MIGRATION))
		return ERR_PTR(-EOPNOTSUPP);
	return to_gcontext(ibuc);
}

/* NULL: the attribute is not there */
static struct godwit_cq *godwit_attr_cq(struct uverbs_attr_bundle *attrs, u16 attr)
{
	struct ib_cq *cq = uverbs_attr_get_obj(attrs, attr);

	return IS_ERR(cq) ? NULL : to_gcq(cq);
}

static struct godwit_qp *godwit_attr_qp(struct uverbs_attr_bundle *attrs, u16 attr)
{
	struct ib_qp *qp = uverbs_attr_get_obj(attrs, attr);

	return IS_ERR(qp) ? NULL : to_gqp(qp);
}

#define GODWIT_OUT_OF(attrs, value)	\
	uverbs_copy_to(attrs, GODWIT_ATTR_OUT, value, sizeof(*(value)))

/* ------------------------------------------------ CR */

static int UVERBS_HANDLER(GODWIT_METHOD_CR_DUMP)(struct uverbs_attr_bundle *attrs)
{
	struct godwit_ucontext *context = godwit_cr_context(attrs);
	struct godwit_dump_out out = {};
	struct godwit_dump_in in;
	int copied, ret;

	if (IS_ERR(context))
		return PTR_ERR(context);
	ret = uverbs_copy_from(&in, attrs, GODWIT_ATTR_IN);
	if (ret)
		return ret;
	ret = godwit_cr_dump(context, &in, &out);
	if (ret && ret != -ENOSPC)
		return ret;
	copied = GODWIT_OUT_OF(attrs, &out);
	return copied ? copied : ret;
}

static int UVERBS_HANDLER(GODWIT_METHOD_CR_SET_QP)(struct uverbs_attr_bundle *attrs)
{
	struct godwit_ucontext *context = godwit_cr_context(attrs);
	struct godwit_qp *qp = godwit_attr_qp(attrs, GODWIT_ATTR_QP);
	struct godwit_set_state in;
	int ret;

	if (IS_ERR(context))
		return PTR_ERR(context);
	ret = uverbs_copy_from(&in, attrs, GODWIT_ATTR_IN);
	return ret ? ret : godwit_cr_set_qp(qp, &in);
}

static int UVERBS_HANDLER(GODWIT_METHOD_CR_SET_CQ)(struct uverbs_attr_bundle *attrs)
{
	struct godwit_ucontext *context = godwit_cr_context(attrs);
	struct godwit_cq *cq = godwit_attr_cq(attrs, GODWIT_ATTR_CQ);
	struct godwit_set_state in;
	int ret;

	if (IS_ERR(context))
		return PTR_ERR(context);
	ret = uverbs_copy_from(&in, attrs, GODWIT_ATTR_IN);
	return ret ? ret : godwit_cr_set_cq(cq, &in);
}

static int UVERBS_HANDLER(GODWIT_METHOD_CR_PROGRAM)(struct uverbs_attr_bundle *attrs)
{
	struct godwit_ucontext *context = godwit_cr_context(attrs);
	struct godwit_program_out out = {};
	struct godwit_program_in in;
	int ret;

	if (IS_ERR(context))
		return PTR_ERR(context);
	ret = uverbs_copy_from(&in, attrs, GODWIT_ATTR_IN);
	if (ret)
		return ret;
	if (in.reserved_20)
		return -EINVAL;
	ret = godwit_cr_program(context, in.pid, &out);
	return ret ? ret : GODWIT_OUT_OF(attrs, &out);
}

static int UVERBS_HANDLER(GODWIT_METHOD_CR_RESUME)(struct uverbs_attr_bundle *attrs)
{
	struct godwit_ucontext *context = godwit_cr_context(attrs);
	struct godwit_resume_in in;
	int ret;

	if (IS_ERR(context))
		return PTR_ERR(context);
	ret = uverbs_copy_from(&in, attrs, GODWIT_ATTR_IN);
	return ret ? ret : godwit_cr_resume(context, &in);
}

static int UVERBS_HANDLER(GODWIT_METHOD_CR_EVENT)(struct uverbs_attr_bundle *attrs)
{
	struct godwit_ucontext *context = godwit_cr_context(attrs);
	struct godwit_cq *cq = godwit_attr_cq(attrs, GODWIT_ATTR_CQ);
	struct godwit_qp *qp = godwit_attr_qp(attrs, GODWIT_ATTR_QP);
	struct godwit_event_in in;
	int ret;

	if (IS_ERR(context))
		return PTR_ERR(context);
	ret = uverbs_copy_from(&in, attrs, GODWIT_ATTR_IN);
	if (ret)
		return ret;
	if (cq && qp)
		return -EINVAL;
	switch (in.what & ~GODWIT_EVENT_COMP) {
	case GODWIT_EVENT_INJECT:
		return godwit_inject_event(context, cq, qp, &in);
	case GODWIT_EVENT_NOTE:
		return godwit_note_event(context, cq, qp, &in);
	default:
		return -EINVAL;
	}
}

static int UVERBS_HANDLER(GODWIT_METHOD_CR_IDENTIFY)(struct uverbs_attr_bundle *attrs)
{
	struct godwit_ucontext *context = godwit_cr_context(attrs);
	struct ib_uobject *channel = uverbs_attr_get_uobject(attrs, GODWIT_ATTR_CHANNEL);
	struct ib_uobject *async = uverbs_attr_get_uobject(attrs, GODWIT_ATTR_ASYNC);
	struct godwit_identify_out out = {};

	if (IS_ERR(context))
		return PTR_ERR(context);
	/* The core has refused the descriptor if it is not one of this context's. */
	if (!IS_ERR(channel) == !IS_ERR(async))
		return -EINVAL;
	if (!IS_ERR(channel)) {
		out.kind = GODWIT_IDENTIFY_CHANNEL;
		out.cookie = godwit_channel_cookie(context->dev, channel);
	} else {
		out.kind = GODWIT_IDENTIFY_ASYNC;
	}
	return GODWIT_OUT_OF(attrs, &out);
}

static int UVERBS_HANDLER(GODWIT_METHOD_CR_STATUS)(struct uverbs_attr_bundle *attrs)
{
	struct godwit_ucontext *context = godwit_cr_context(attrs);
	struct godwit_status_out out = {};
	int ret;

	if (IS_ERR(context))
		return PTR_ERR(context);
	ret = godwit_cr_status(context, &out);
	return ret ? ret : GODWIT_OUT_OF(attrs, &out);
}

/* ------------------------------------------------ placeholder */

static int godwit_placeholder_free(struct ib_uobject *uobj, enum rdma_remove_reason why,
				   struct uverbs_attr_bundle *attrs)
{
	return why == RDMA_REMOVE_DESTROY && !godwit_cr_capable() ? -EPERM : 0;
}

static int UVERBS_HANDLER(GODWIT_METHOD_PLACEHOLDER_ALLOC)(struct uverbs_attr_bundle *attrs)
{
	struct ib_uobject *uobj = uverbs_attr_get_uobject(attrs, GODWIT_ATTR_HANDLE);
	struct godwit_ucontext *context = godwit_cr_context(attrs);

	if (IS_ERR(context))
		return PTR_ERR(context);
	if (READ_ONCE(context->state) != GODWIT_CONTEXT_RESTORING)
		return -EPERM;
	uobj->object = context;		/* the core wants something there */
	uverbs_finalize_uobj_create(attrs, GODWIT_ATTR_HANDLE);
	return 0;
}

/* ------------------------------------------------ for the provider */

static int UVERBS_HANDLER(GODWIT_METHOD_USER_CQ_BASE)(struct uverbs_attr_bundle *attrs)
{
	struct godwit_cq *cq = godwit_attr_cq(attrs, GODWIT_ATTR_HANDLE);
	struct godwit_event_base base;

	mutex_lock(&cq->context->lock);
	base.comp = cq->comp_base;
	base.async = cq->async_base;
	mutex_unlock(&cq->context->lock);
	return GODWIT_OUT_OF(attrs, &base);
}

static int UVERBS_HANDLER(GODWIT_METHOD_USER_QP_BASE)(struct uverbs_attr_bundle *attrs)
{
	struct godwit_qp *qp = godwit_attr_qp(attrs, GODWIT_ATTR_HANDLE);
	struct godwit_event_base base = {};

	mutex_lock(&qp->context->lock);
	base.async = qp->async_base;
	mutex_unlock(&qp->context->lock);
	return GODWIT_OUT_OF(attrs, &base);
}

/* ------------------------------------------------ lease */

static const struct file_operations godwit_lease_fops = {
	.owner = THIS_MODULE,
	.release = uverbs_uobject_fd_release,
	.llseek = no_llseek,
};

static int UVERBS_HANDLER(GODWIT_METHOD_LEASE_ALLOC)(struct uverbs_attr_bundle *attrs)
{
	struct ib_uobject *uobj = uverbs_attr_get_uobject(attrs, GODWIT_ATTR_HANDLE);
	struct godwit_lease *lease = container_of(uobj, struct godwit_lease, uobj);
	struct godwit_ucontext *context = godwit_cr_context(attrs);
	struct godwit_lease_info info;
	int ret;

	if (IS_ERR(context))
		return PTR_ERR(context);
	ret = uverbs_copy_from(&info, attrs, GODWIT_ATTR_IN);
	if (ret)
		return ret;
	if (!info.move || info.uctx_cookie || info.reserved_80)
		return -EINVAL;
	ret = godwit_lease_begin(lease, context, &info);
	if (ret)
		return ret;
	/* From here on a failure ends the lease the ordinary way. */
	uverbs_finalize_uobj_create(attrs, GODWIT_ATTR_HANDLE);
	return GODWIT_OUT_OF(attrs, &info);
}

/* ------------------------------------------------ move */

static int UVERBS_HANDLER(GODWIT_METHOD_MOVE_RESERVE)(struct uverbs_attr_bundle *attrs)
{
	struct godwit_ucontext *context = godwit_cr_context(attrs);
	struct godwit_move_reserve_in in;
	struct godwit_mailbox mailbox;
	__le32 *qpns;
	u32 i;
	int ret;

	if (IS_ERR(context))
		return PTR_ERR(context);
	ret = uverbs_copy_from(&in, attrs, GODWIT_ATTR_IN);
	if (ret)
		return ret;
	if (!in.move || !in.count || in.count > GODWIT_MAX_RESERVE)
		return -EINVAL;
	ret = godwit_mailbox_init(context->dev, &mailbox, in.count * sizeof(*qpns));
	if (ret)
		return ret;
	qpns = mailbox.data;
	if (copy_from_user(qpns, u64_to_user_ptr(in.qpns), in.count * sizeof(*qpns))) {
		ret = -EFAULT;
	} else {
		for (i = 0; i < in.count; i++)
			qpns[i] = cpu_to_le32((__force u32)qpns[i]);
		ret = godwit_cmd_reserve_qpns(context->dev, &mailbox, in.count, in.ttl_ms,
					      in.move);
	}
	godwit_mailbox_fini(context->dev, &mailbox);
	return ret;
}

static int godwit_move_method(struct uverbs_attr_bundle *attrs,
			      int (*command)(struct godwit_dev *dev, u64 move))
{
	struct godwit_ucontext *context = godwit_cr_context(attrs);
	struct godwit_move_in in;
	int ret;

	if (IS_ERR(context))
		return PTR_ERR(context);
	ret = uverbs_copy_from(&in, attrs, GODWIT_ATTR_IN);
	if (ret)
		return ret;
	return in.move ? command(context->dev, in.move) : -EINVAL;
}

static int UVERBS_HANDLER(GODWIT_METHOD_MOVE_COMMIT)(struct uverbs_attr_bundle *attrs)
{
	return godwit_move_method(attrs, godwit_cmd_commit);
}

static int UVERBS_HANDLER(GODWIT_METHOD_MOVE_DROP)(struct uverbs_attr_bundle *attrs)
{
	return godwit_move_method(attrs, godwit_cmd_drop);
}

static int godwit_move_copy(const struct godwit_tombstone_info *info, u32 count, u64 to)
{
	struct godwit_move_entry __user *entries = u64_to_user_ptr(to);
	u32 i;

	for (i = 0; i < count; i++) {
		struct godwit_move_entry entry = {
			.move = le64_to_cpu(info[i].move),
			.qpn = le32_to_cpu(info[i].qpn),
			.peer_qpn = le32_to_cpu(info[i].dest_qpn),
			.ttl_ms = le32_to_cpu(info[i].ttl_ms),
			.answered = le32_to_cpu(info[i].answered),
		};

		if (copy_to_user(&entries[i], &entry, sizeof(entry)))
			return -EFAULT;
	}
	return 0;
}

static int UVERBS_HANDLER(GODWIT_METHOD_MOVE_LIST)(struct uverbs_attr_bundle *attrs)
{
	struct godwit_ucontext *context = godwit_cr_context(attrs);
	struct godwit_move_list_out out = {};
	struct godwit_move_list_in in;
	struct godwit_mailbox mailbox;
	u32 room;
	int ret;

	if (IS_ERR(context))
		return PTR_ERR(context);
	ret = uverbs_copy_from(&in, attrs, GODWIT_ATTR_IN);
	if (ret)
		return ret;
	if (in.reserved_60)
		return -EINVAL;
	room = clamp_t(u32, in.max_entries, 1, GODWIT_MAX_LIST);
	ret = godwit_mailbox_init(context->dev, &mailbox,
				  room * sizeof(struct godwit_tombstone_info));
	if (ret)
		return ret;
	ret = godwit_cmd_query_tombstones(context->dev, &mailbox, &out.entries);
	out.entries = min(out.entries, in.max_entries);
	if (!ret)
		ret = godwit_move_copy(mailbox.data, out.entries, in.entries);
	godwit_mailbox_fini(context->dev, &mailbox);
	return ret ? ret : GODWIT_OUT_OF(attrs, &out);
}

/* ------------------------------------------------ definitions */

#define GODWIT_IN(type)		UVERBS_ATTR_PTR_IN(GODWIT_ATTR_IN, UVERBS_ATTR_TYPE(type), UA_MANDATORY)
#define GODWIT_OUT(type)	UVERBS_ATTR_PTR_OUT(GODWIT_ATTR_OUT, UVERBS_ATTR_TYPE(type), UA_MANDATORY)

DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_CR_DUMP,
	GODWIT_IN(struct godwit_dump_in), GODWIT_OUT(struct godwit_dump_out));
DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_CR_SET_QP,
	UVERBS_ATTR_IDR(GODWIT_ATTR_QP, UVERBS_OBJECT_QP, UVERBS_ACCESS_READ, UA_MANDATORY),
	GODWIT_IN(struct godwit_set_state));
DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_CR_SET_CQ,
	UVERBS_ATTR_IDR(GODWIT_ATTR_CQ, UVERBS_OBJECT_CQ, UVERBS_ACCESS_READ, UA_MANDATORY),
	GODWIT_IN(struct godwit_set_state));
DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_CR_PROGRAM,
	GODWIT_IN(struct godwit_program_in), GODWIT_OUT(struct godwit_program_out));
DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_CR_RESUME, GODWIT_IN(struct godwit_resume_in));
DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_CR_EVENT,
	UVERBS_ATTR_IDR(GODWIT_ATTR_CQ, UVERBS_OBJECT_CQ, UVERBS_ACCESS_READ, UA_OPTIONAL),
	UVERBS_ATTR_IDR(GODWIT_ATTR_QP, UVERBS_OBJECT_QP, UVERBS_ACCESS_READ, UA_OPTIONAL),
	GODWIT_IN(struct godwit_event_in));
DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_CR_IDENTIFY,
	UVERBS_ATTR_FD(GODWIT_ATTR_CHANNEL, UVERBS_OBJECT_COMP_CHANNEL, UVERBS_ACCESS_READ,
		       UA_OPTIONAL),
	UVERBS_ATTR_FD(GODWIT_ATTR_ASYNC, UVERBS_OBJECT_ASYNC_EVENT, UVERBS_ACCESS_READ,
		       UA_OPTIONAL),
	GODWIT_OUT(struct godwit_identify_out));
DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_CR_STATUS, GODWIT_OUT(struct godwit_status_out));
DECLARE_UVERBS_GLOBAL_METHODS(GODWIT_OBJECT_CR,
	&UVERBS_METHOD(GODWIT_METHOD_CR_DUMP), &UVERBS_METHOD(GODWIT_METHOD_CR_SET_QP),
	&UVERBS_METHOD(GODWIT_METHOD_CR_SET_CQ), &UVERBS_METHOD(GODWIT_METHOD_CR_PROGRAM),
	&UVERBS_METHOD(GODWIT_METHOD_CR_RESUME), &UVERBS_METHOD(GODWIT_METHOD_CR_EVENT),
	&UVERBS_METHOD(GODWIT_METHOD_CR_IDENTIFY), &UVERBS_METHOD(GODWIT_METHOD_CR_STATUS));

DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_PLACEHOLDER_ALLOC,
	UVERBS_ATTR_IDR(GODWIT_ATTR_HANDLE, GODWIT_OBJECT_PLACEHOLDER, UVERBS_ACCESS_NEW,
			UA_MANDATORY));
DECLARE_UVERBS_NAMED_METHOD_DESTROY(GODWIT_METHOD_PLACEHOLDER_FREE,
	UVERBS_ATTR_IDR(GODWIT_ATTR_HANDLE, GODWIT_OBJECT_PLACEHOLDER, UVERBS_ACCESS_DESTROY,
			UA_MANDATORY));
DECLARE_UVERBS_NAMED_OBJECT(GODWIT_OBJECT_PLACEHOLDER,
	UVERBS_TYPE_ALLOC_IDR(godwit_placeholder_free),
	&UVERBS_METHOD(GODWIT_METHOD_PLACEHOLDER_ALLOC),
	&UVERBS_METHOD(GODWIT_METHOD_PLACEHOLDER_FREE));

DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_USER_CQ_BASE,
	UVERBS_ATTR_IDR(GODWIT_ATTR_HANDLE, UVERBS_OBJECT_CQ, UVERBS_ACCESS_READ, UA_MANDATORY),
	GODWIT_OUT(struct godwit_event_base));
DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_USER_QP_BASE,
	UVERBS_ATTR_IDR(GODWIT_ATTR_HANDLE, UVERBS_OBJECT_QP, UVERBS_ACCESS_READ, UA_MANDATORY),
	GODWIT_OUT(struct godwit_event_base));
DECLARE_UVERBS_GLOBAL_METHODS(GODWIT_OBJECT_USER,
	&UVERBS_METHOD(GODWIT_METHOD_USER_CQ_BASE), &UVERBS_METHOD(GODWIT_METHOD_USER_QP_BASE));

DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_LEASE_ALLOC,
	UVERBS_ATTR_FD(GODWIT_ATTR_HANDLE, GODWIT_OBJECT_LEASE, UVERBS_ACCESS_NEW, UA_MANDATORY),
	GODWIT_IN(struct godwit_lease_info), GODWIT_OUT(struct godwit_lease_info));
DECLARE_UVERBS_NAMED_OBJECT(GODWIT_OBJECT_LEASE,
	UVERBS_TYPE_ALLOC_FD(sizeof(struct godwit_lease), godwit_lease_end, &godwit_lease_fops,
			     "[godwit_lease]", O_RDONLY),
	&UVERBS_METHOD(GODWIT_METHOD_LEASE_ALLOC));

DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_MOVE_RESERVE, GODWIT_IN(struct godwit_move_reserve_in));
DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_MOVE_COMMIT, GODWIT_IN(struct godwit_move_in));
DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_MOVE_DROP, GODWIT_IN(struct godwit_move_in));
DECLARE_UVERBS_NAMED_METHOD(GODWIT_METHOD_MOVE_LIST,
	GODWIT_IN(struct godwit_move_list_in), GODWIT_OUT(struct godwit_move_list_out));
DECLARE_UVERBS_GLOBAL_METHODS(GODWIT_OBJECT_MOVE,
	&UVERBS_METHOD(GODWIT_METHOD_MOVE_RESERVE), &UVERBS_METHOD(GODWIT_METHOD_MOVE_COMMIT),
	&UVERBS_METHOD(GODWIT_METHOD_MOVE_DROP), &UVERBS_METHOD(GODWIT_METHOD_MOVE_LIST));

const struct uapi_definition godwit_uapi_definitions[] = {
	UAPI_DEF_CHAIN_OBJ_TREE_NAMED(GODWIT_OBJECT_CR),
	UAPI_DEF_CHAIN_OBJ_TREE_NAMED(GODWIT_OBJECT_PLACEHOLDER),
	UAPI_DEF_CHAIN_OBJ_TREE_NAMED(GODWIT_OBJECT_USER),
	UAPI_DEF_CHAIN_OBJ_TREE_NAMED(GODWIT_OBJECT_LEASE),
	UAPI_DEF_CHAIN_OBJ_TREE_NAMED(GODWIT_OBJECT_MOVE),
	{}
};
