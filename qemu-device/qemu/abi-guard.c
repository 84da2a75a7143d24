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

#ifndef GODWIT_QEMU_PACKAGE
#error "GODWIT_QEMU_PACKAGE: the version string of the QEMU that this is built for"
#endif

static void check_version(void)
{
    VersionInfo *version = qmp_query_version(NULL);

    if (strcmp(version->package, GODWIT_QEMU_PACKAGE) != 0) {
        fprintf(stderr, "godwit: built for QEMU \"%s\", but this is \"%s\": run make again\n",
                GODWIT_QEMU_PACKAGE, version->package);
        exit(1);
    }
    qapi_free_VersionInfo(version);
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
