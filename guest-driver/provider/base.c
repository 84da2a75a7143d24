// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Event counts. libibverbs counts the events that were acknowledged since the
 * application made an object, the kernel those that were read since the kernel's
 * object was made; destroy waits until both are equal. A restored object's are
 * apart by what had been read before the checkpoint, which the driver knows.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include <rdma/rdma_user_ioctl_cmds.h>

#include "godwit.h"

struct godwit_base_ioctl {
	struct ib_uverbs_ioctl_hdr hdr;
	struct ib_uverbs_attr attrs[2];
};

int godwit_event_base(struct ibv_context *context, uint16_t method, uint32_t handle,
		      struct godwit_event_base *base)
{
	struct godwit_base_ioctl cmd = {
		.hdr = {
			.length = sizeof(cmd),
			.object_id = GODWIT_OBJECT_USER,
			.method_id = method,
			.num_attrs = 2,
			.driver_id = GODWIT_DRIVER_ID,
		},
		.attrs = {
			{
				.attr_id = GODWIT_ATTR_HANDLE,
				.flags = UVERBS_ATTR_F_MANDATORY,
				.data = handle,
			},
			{
				.attr_id = GODWIT_ATTR_OUT,
				.len = sizeof(*base),
				.flags = UVERBS_ATTR_F_MANDATORY,
				.data = (uintptr_t)base,
			},
		},
	};

	base->comp = 0;
	base->async = 0;
	if (!ioctl(context->cmd_fd, RDMA_VERBS_IOCTL, &cmd))
		return 0;
	/* The device is gone, and its objects with it: destroy will say so. */
	return errno == EIO ? 0 : errno;
}
