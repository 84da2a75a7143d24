// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Pinned user memory, and the page lists by which the device learns of it.
 */
#include <linux/dma-mapping.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <rdma/iter.h>

#include "verbs.h"

#define GODWIT_PAGE_SIZES	GENMASK(GODWIT_PAGE_SHIFT_MAX, GODWIT_PAGE_SHIFT_MIN)

int godwit_memory_pin(struct godwit_dev *dev, struct godwit_memory *memory)
{
	struct ib_umem *umem;

	umem = ib_umem_get(&dev->ibdev, memory->start, memory->length, memory->access);
	if (IS_ERR(umem))
		return PTR_ERR(umem);
	memory->umem = umem;
	memory->owner = get_task_pid(current, PIDTYPE_TGID);
	return 0;
}

struct godwit_pin_work {
	struct work_struct work;
	struct godwit_dev *dev;
	struct godwit_memory *memory;
	struct mm_struct *mm;
	struct ib_umem *umem;
};

/* ib_umem_get() pins memory of current->mm, so a kernel thread borrows the owner's. */
static void godwit_pin_work(struct work_struct *work)
{
	struct godwit_pin_work *pin = container_of(work, struct godwit_pin_work, work);
	struct godwit_memory *memory = pin->memory;

	kthread_use_mm(pin->mm);
	pin->umem = ib_umem_get(&pin->dev->ibdev, memory->start, memory->length, memory->access);
	kthread_unuse_mm(pin->mm);
}

int godwit_memory_pin_of(struct godwit_dev *dev, struct godwit_memory *memory,
			 struct mm_struct *mm, struct pid *owner)
{
	struct godwit_pin_work pin = { .dev = dev, .memory = memory, .mm = mm };

	INIT_WORK_ONSTACK(&pin.work, godwit_pin_work);
	queue_work(system_unbound_wq, &pin.work);
	flush_work(&pin.work);
	destroy_work_on_stack(&pin.work);
	if (IS_ERR(pin.umem))
		return PTR_ERR(pin.umem);
	memory->umem = pin.umem;
	memory->owner = get_pid(owner);
	return 0;
}

void godwit_memory_unpin(struct godwit_memory *memory)
{
	ib_umem_release(memory->umem);
	put_pid(memory->owner);
	memory->umem = NULL;
	memory->owner = NULL;
}

static void godwit_page_list_fill(struct godwit_page_list *list, struct ib_umem *umem)
{
	struct ib_block_iter block;
	u32 n = 0;

	rdma_umem_for_each_dma_block(umem, &block, 1UL << list->page_shift) {
		if (n == list->page_count)
			break;
		list->pages[n / GODWIT_LIST_PAGE_ENTRIES]->page[n % GODWIT_LIST_PAGE_ENTRIES] =
			cpu_to_le64(rdma_block_iter_dma_address(&block));
		n++;
	}
}

int godwit_page_list_init(struct godwit_dev *dev, struct godwit_page_list *list,
			  struct ib_umem *umem)
{
	unsigned long page_size;
	u32 wanted, i;

	memset(list, 0, sizeof(*list));
	/*
	 * The device counts from the first byte of the region, not from an I/O
	 * virtual address: only the user address decides which page size fits.
	 */
	page_size = ib_umem_find_best_pgsz(umem, GODWIT_PAGE_SIZES, umem->address);
	if (!page_size)
		return -EINVAL;
	list->page_shift = __ffs(page_size);
	list->page_count = ib_umem_num_dma_blocks(umem, page_size);
	list->first_offset = umem->address & (page_size - 1);
	wanted = DIV_ROUND_UP(list->page_count, GODWIT_LIST_PAGE_ENTRIES);
	list->pages = kvcalloc(wanted, sizeof(*list->pages), GFP_KERNEL);
	list->addrs = kvcalloc(wanted, sizeof(*list->addrs), GFP_KERNEL);
	if (!list->pages || !list->addrs)
		goto err;
	for (i = 0; i < wanted; i++) {
		list->pages[i] = dma_alloc_coherent(&dev->pdev->dev, GODWIT_LIST_PAGE_SIZE,
						    &list->addrs[i], GFP_KERNEL);
		if (!list->pages[i])
			goto err;
		list->list_pages++;
		if (i)
			list->pages[i - 1]->next = cpu_to_le64(list->addrs[i]);
	}
	godwit_page_list_fill(list, umem);
	return 0;
err:
	godwit_page_list_fini(dev, list);
	return -ENOMEM;
}

void godwit_page_list_fini(struct godwit_dev *dev, struct godwit_page_list *list)
{
	u32 i;

	for (i = 0; i < list->list_pages; i++)
		dma_free_coherent(&dev->pdev->dev, GODWIT_LIST_PAGE_SIZE, list->pages[i],
				  list->addrs[i]);
	kvfree(list->pages);
	kvfree(list->addrs);
	memset(list, 0, sizeof(*list));
}

void godwit_page_list_buffer(const struct godwit_page_list *list, u32 length,
			     struct godwit_buffer *buffer)
{
	buffer->list = cpu_to_le64(list->addrs[0]);
	buffer->page_count = cpu_to_le32(list->page_count);
	buffer->page_shift = cpu_to_le32(list->page_shift);
	buffer->first_offset = cpu_to_le32(list->first_offset);
	buffer->length = cpu_to_le32(length);
}
