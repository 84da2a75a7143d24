// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Queue buffers and locks.
 */
#include <errno.h>
#include <sys/mman.h>

#include "godwit.h"

#define GODWIT_PAGE_SIZE	4096

int godwit_lock_init(struct godwit_lock *lock, bool unneeded)
{
	lock->unneeded = unneeded;
	return pthread_spin_init(&lock->spin, PTHREAD_PROCESS_PRIVATE);
}

void godwit_lock_fini(struct godwit_lock *lock)
{
	pthread_spin_destroy(&lock->spin);
}

/*
 * Whole pages of their own: the kernel pins them, and a forked child must not
 * take over the page that the device writes to. libibverbs decides whether that
 * needs MADV_DONTFORK. The memory is zeroed, which is what a CQ begins with.
 */
int godwit_buffer_alloc(struct godwit_buffer *buffer, size_t length)
{
	int ret;

	length = (length + GODWIT_PAGE_SIZE - 1) & ~(size_t)(GODWIT_PAGE_SIZE - 1);
	if (length > UINT32_MAX)
		return ENOMEM;
	buffer->start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	if (buffer->start == MAP_FAILED) {
		buffer->start = NULL;
		return errno;
	}
	buffer->length = length;
	ret = ibv_dontfork_range(buffer->start, length);
	if (ret) {
		ret = ret > 0 ? ret : errno;
		munmap(buffer->start, length);
		buffer->start = NULL;
	}
	return ret;
}

void godwit_buffer_free(struct godwit_buffer *buffer)
{
	if (!buffer->start)
		return;
	ibv_dofork_range(buffer->start, buffer->length);
	munmap(buffer->start, buffer->length);
	buffer->start = NULL;
}
