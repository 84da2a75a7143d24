/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/* libibverbs's private interface: rdma-core's own header, or our declaration of it. */
#ifndef GODWIT_RDMA_CORE_H
#define GODWIT_RDMA_CORE_H

#ifdef GODWIT_RDMA_CORE_SOURCE
#include <infiniband/driver.h>
#undef container_of
#define container_of(member_ptr, type, member) \
	((type *)((char *)(member_ptr) - offsetof(type, member)))
#else
#include "compat/driver.h"
#endif

#endif /* GODWIT_RDMA_CORE_H */
