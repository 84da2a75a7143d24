/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Only in the preloaded build: refuses a QEMU that it was not built for. An
 * upgrade of QEMU must mean a rebuild, never silent corruption.
 */
#include "qemu/osdep.h"
#include "qemu/module.h"
#include "exec/memory.h"
#include "hw/pci/pci.h"
#include "hw/qdev-core.h"
#include "qapi/qapi-commands-control.h"
#include "qom/object.h"

#ifndef GODWIT_QEMU_VERSION
#error "GODWIT_QEMU_VERSION: what the QEMU that this is built for calls its version"
#endif

static void check_version(void)
{
    g_autoptr(VersionInfo) version = qmp_query_version(NULL);
    VersionTriple *number = version->qemu;
    bool packaged = version->package[0] != 0;
    g_autofree char *there = g_strdup_printf(
        "%" PRId64 ".%" PRId64 ".%" PRId64 "%s%s%s", number->major, number->minor, number->micro,
        packaged ? " (" : "", version->package, packaged ? ")" : "");

    if (strcmp(there, GODWIT_QEMU_VERSION) != 0) {
        fprintf(stderr, "godwit: built for QEMU %s, but this is %s: run make again\n",
                GODWIT_QEMU_VERSION, there);
        exit(1);
    }
}

static void check_sizes(void)
{
    const struct {
        const char *type;
        size_t size;
    } known[] = {
        { TYPE_PCI_DEVICE, sizeof(PCIDevice) },
        { TYPE_DEVICE, sizeof(DeviceState) },
        { TYPE_MEMORY_REGION, sizeof(MemoryRegion) },
    };

    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        size_t there = object_type_get_instance_size(known[i].type);

        if (there != known[i].size) {
            fprintf(stderr, "godwit: %s has %zu bytes in this QEMU, not %zu: run make again\n",
                    known[i].type, there, known[i].size);
            exit(1);
        }
    }
}

type_init(check_version)
migration_init(check_sizes)
