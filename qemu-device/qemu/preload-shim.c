/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * godwit-nic.so, for LD_PRELOAD. It does nothing but load the device, which lies
 * beside it, and that only into QEMU: in any other program (a shell, taskset)
 * it stays inert and leaves LD_PRELOAD as it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void __attribute__((constructor)) load_device(void)
{
    const char device[] = "godwit-device.so";
    char path[4096];
    char *slash;
    Dl_info self;

    if (!dlsym(RTLD_DEFAULT, "register_module_init") || !dlsym(RTLD_DEFAULT, "msix_notify")) {
        return;
    }
    /* QEMU's own children are no QEMU. */
    unsetenv("LD_PRELOAD");
    if (!dladdr((void *)load_device, &self) ||
        strlen(self.dli_fname) + sizeof(device) > sizeof(path)) {
        fprintf(stderr, "godwit: cannot find godwit-device.so\n");
        exit(1);
    }
    strcpy(path, self.dli_fname);
    slash = strrchr(path, '/');
    strcpy(slash ? slash + 1 : path, device);
    if (!dlopen(path, RTLD_NOW)) {
        fprintf(stderr, "godwit: %s\n", dlerror());
        exit(1);
    }
}
