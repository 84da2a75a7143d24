/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PCI identity, repeated for QEMU's C: abi/ needs the kernel's little-endian
 * types there, which QEMU's headers define otherwise..
 */
#ifndef GODWIT_GLUE_H
#define GODWIT_GLUE_H

#define GODWIT_GLUE_VENDOR_ID 0x1234
#define GODWIT_GLUE_DEVICE_ID 0x60d7
#define GODWIT_GLUE_REVISION 0x01

#endif
