/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * PCI identity, BARs, registers and doorbells.
 *
 * Register lines have the form
 *	#define NAME	offset	/ * access | reset | meaning * /
 * and are the source of the register table in docs/spec/device.md.
 */
#ifndef GODWIT_REGS_H
#define GODWIT_REGS_H

#include "godwit_types.h"

#define GODWIT_PCI_VENDOR_ID		0x1234
#define GODWIT_PCI_DEVICE_ID		0x60d7
#define GODWIT_PCI_REVISION		0x01

/* Version of everything in abi/; the major part changes when a driver must. */
#define GODWIT_ABI_MAJOR		1
#define GODWIT_ABI_MINOR		0

#define GODWIT_BAR_REGS			0
#define GODWIT_BAR_DOORBELLS		2
#define GODWIT_BAR_MSIX			4

#define GODWIT_BAR_REGS_SIZE		0x1000

/*
 * BAR 0. 32-bit accesses, naturally aligned; a 64-bit access of an aligned pair
 * is two 32-bit ones, low half first. Anything else reads as zero, is ignored
 * when written, and is counted.
 */
#define GODWIT_REG_ID			0x000	/* RO | 0x47445754 | "GDWT": this is a Godwit */
#define GODWIT_REG_VERSION		0x004	/* RO | 0x00010000 | ABI version, major << 16 | minor */
#define GODWIT_REG_CONTROL		0x008	/* RW | 0 | GODWIT_CONTROL_*: enable, reset */
#define GODWIT_REG_STATUS		0x00c	/* RO | 0 | GODWIT_STATUS_*: enabled, link, fatal */
#define GODWIT_REG_MAC_LO		0x010	/* RO | mac | permanent MAC address, bytes 0-3, byte 0 in bits 7:0 */
#define GODWIT_REG_MAC_HI		0x014	/* RO | mac | permanent MAC address, bytes 4-5 */
#define GODWIT_REG_FATAL_CAUSE		0x018	/* RO | 0 | GODWIT_FATAL_*: why STATUS.FATAL is set */
#define GODWIT_REG_DOORBELL_PAGES	0x01c	/* RO | property | 4 KiB pages in BAR 2 */
#define GODWIT_REG_CMD_SQ_LO		0x020	/* RW | 0 | command ring, bus address 31:0; 64-byte aligned */
#define GODWIT_REG_CMD_SQ_HI		0x024	/* RW | 0 | command ring, bus address 63:32 */
#define GODWIT_REG_CMD_CQ_LO		0x028	/* RW | 0 | command completion ring, bus address 31:0; 64-byte aligned */
#define GODWIT_REG_CMD_CQ_HI		0x02c	/* RW | 0 | command completion ring, bus address 63:32 */
#define GODWIT_REG_CMD_LOG2_DEPTH	0x030	/* RW | 0 | log2 of the entries of both rings, 0 to 8; fixed while enabled */
#define GODWIT_REG_CMD_DOORBELL		0x034	/* WO | 0 | command ring producer index, free running */
#define GODWIT_REG_CMD_INTERRUPT	0x038	/* RW | 0 | 1: interrupt vector 0 at each command completion */
#define GODWIT_REG_VECTORS		0x03c	/* RO | property | MSI-X vectors */
#define GODWIT_REG_SCRATCH		0x040	/* RW | 0 | no effect; for tests of the access path */
#define GODWIT_REG_BAD_ACCESSES		0x044	/* RO | 0 | accesses to BAR 0 that named no register or had a bad size */

#define GODWIT_ID_VALUE			0x47445754

/* CONTROL: commands are taken while ENABLE is set; clearing it is a reset. */
#define GODWIT_CONTROL_ENABLE_MASK	0x00000001
#define GODWIT_CONTROL_RESET_MASK	0x00000002	/* self-clearing; all state but the PCI configuration is gone */

#define GODWIT_STATUS_ENABLED_MASK	0x00000001
#define GODWIT_STATUS_LINK_UP_MASK	0x00000002
#define GODWIT_STATUS_FATAL_MASK	0x00000004	/* the device has stopped; only a reset helps */

#define GODWIT_FATAL_NONE		0
#define GODWIT_FATAL_CMD_DMA		1	/* a command or its completion could not be read or written */
#define GODWIT_FATAL_CMD_RING		2	/* producer index beyond the ring */
#define GODWIT_FATAL_EQ_DMA		3	/* an event queue could not be written */

/* Fixed MSI-X vectors; completion event queues take the ones from FIRST_COMP on. */
#define GODWIT_VECTOR_CONTROL		0	/* command completions and the asynchronous event queue */
#define GODWIT_VECTOR_ETH		1	/* Ethernet function */
#define GODWIT_VECTOR_FIRST_COMP	2

/*
 * BAR 2: doorbell pages of 4 KiB. Page 0 is the driver's; every user context
 * owns one of the others, and a doorbell reaches only objects of its page's
 * context. One aligned 64-bit store each (two 32-bit ones, low half first, are
 * taken as well). Object numbers in bits 31:0, values in bits 63:32.
 */
#define GODWIT_DB_PAGE_SIZE		4096
#define GODWIT_DB_SQ			0x00	/* QPN; producer index of the send queue (free running, 16 bits used) */
#define GODWIT_DB_RQ			0x08	/* QPN; a kick only: the index is in the doorbell record. Never needed for progress */
#define GODWIT_DB_SRQ			0x10	/* SRQ number; a kick only */
#define GODWIT_DB_CQ_ARM		0x18	/* CQ number; GODWIT_DB_CQ_ARM_* and consumer index */
#define GODWIT_DB_EQ			0x20	/* page 0: EQ number; consumer index, and the EQ is armed */
#define GODWIT_DB_ETH_TX		0x28	/* page 0: 0; producer index of the transmit ring */
#define GODWIT_DB_ETH_RX		0x30	/* page 0: 0; producer index of the receive ring */
#define GODWIT_DB_ETH_ARM		0x38	/* page 0: 0; GODWIT_DB_ETH_ARM_*: one interrupt when there is work of that kind */

/* CQ_ARM value: bit 31 solicited only, bits 23:0 consumer index. */
#define GODWIT_DB_CQ_ARM_SOLICITED_MASK	0x80000000
#define GODWIT_DB_CQ_ARM_INDEX_MASK	0x00ffffff

#define GODWIT_DB_ETH_ARM_TX_MASK	0x00000001
#define GODWIT_DB_ETH_ARM_RX_MASK	0x00000002

#include "godwit_abi_check.h"
#endif /* GODWIT_REGS_H */
