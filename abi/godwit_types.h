/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Integer types of the device contract.
 *
 * Everything that the guest and the device share is little-endian and naturally
 * aligned. In C the types are those of the kernel, so that sparse finds a
 * forgotten conversion; in C++ they are structs that do not convert, so that a
 * forgotten conversion does not compile.
 */
#ifndef GODWIT_TYPES_H
#define GODWIT_TYPES_H

#ifdef __cplusplus

#include <cstddef>
#include <cstdint>

struct godwit_le16 {
	std::uint16_t raw;
};
struct godwit_le32 {
	std::uint32_t raw;
};
struct godwit_le64 {
	std::uint64_t raw;
};
/* Network byte order: carried from the wire to the application unchanged. */
struct godwit_be32 {
	std::uint32_t raw;
};
typedef std::uint8_t godwit_u8;

#else /* C */

#include <linux/types.h>

typedef __le16 godwit_le16;
typedef __le32 godwit_le32;
typedef __le64 godwit_le64;
typedef __be32 godwit_be32;
typedef __u8 godwit_u8;

#endif

#endif /* GODWIT_TYPES_H */
