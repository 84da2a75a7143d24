/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NIC as a library: what the QEMU glue, the simulator and the fuzzers call.
 *
 * The device is single-threaded: the caller serialises all calls on one device.
 * It has no clock: every entry that may need time is given `now_ns`, which never
 * goes backwards. It does bounded work per call; godwit_device_run() says
 * whether there is more, and godwit_device_next_deadline() when it wants to be
 * called again.
 *
 * MMIO entries only take note of what was written (and execute resets); the work
 * is done by godwit_device_run(), which the host schedules when ops.kick is called.
 */
#ifndef GODWIT_DEVICE_H
#define GODWIT_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GODWIT_NO_DEADLINE UINT64_MAX

struct godwit_device;

/* What happened, for the host's trace log: one of these and up to four numbers. */
enum godwit_trace_event {
    GODWIT_TRACE_COMMAND,        /* opcode, id, status, detail */
    GODWIT_TRACE_BAD_REGISTER,   /* offset, size, is_write, value */
    GODWIT_TRACE_BAD_DOORBELL,   /* page, offset, number, value */
    GODWIT_TRACE_BAD_WQE,        /* qpn, index, fault, 0 */
    GODWIT_TRACE_DMA_ERROR,      /* address, length, is_write, 0 */
    GODWIT_TRACE_QP_STATUS,      /* qpn, old, new, extension flags */
    GODWIT_TRACE_QP_ERROR,       /* qpn, fault, syndrome, completion status */
    GODWIT_TRACE_RX_DROP,        /* qpn, opcode, counter, psn */
    GODWIT_TRACE_PACKET_RX,      /* qpn, opcode, psn, length */
    GODWIT_TRACE_PACKET_TX,      /* destination qpn, opcode, psn, length */
    GODWIT_TRACE_MIGRATION,      /* qpn, what (GODWIT_TRACE_MIGRATION_*), epoch, 0 */
    GODWIT_TRACE_FATAL,          /* cause, 0, 0, 0 */
    GODWIT_TRACE_RESET,          /* 0, 0, 0, 0 */
    GODWIT_TRACE_COUNT,
};

/* Services of the host. None may call back into the device. */
struct godwit_host_ops {
    void *opaque;

    /*
     * Guest memory by bus address. 0, or -1 if any byte is not accessible to the
     * device (bus mastering off, IOMMU, no memory there). Writes become visible
     * to the guest in the order of the calls, before any later interrupt; an
     * aligned write of 8 bytes or less is single-copy atomic.
     */
    int (*dma_read)(void *opaque, uint64_t addr, void *buffer, size_t length);
    int (*dma_write)(void *opaque, uint64_t addr, const void *buffer, size_t length);

    /*
     * One Ethernet frame without FCS onto the wire; may be dropped there. It is always
     * taken. False: the wire is busy. Then few frames follow, at most those of one
     * QP's turn, before godwit_device_wire_ready() or 100 ms later (flow control).
     */
    bool (*send_frame)(void *opaque, const uint8_t *frame, size_t length);

    /* MSI-X message; latched by the host while the vector is masked. */
    void (*raise_interrupt)(void *opaque, unsigned vector);

    /* There is work: call godwit_device_run() soon, from outside this call. */
    void (*kick)(void *opaque);

    /* May be null. */
    void (*trace)(void *opaque, enum godwit_trace_event event, uint64_t a, uint64_t b, uint64_t c,
                  uint64_t d);
};

/* Device properties. godwit_device_default_config() sets all of them. */
struct godwit_device_config {
    uint8_t mac[6];
    uint16_t vectors;           /* MSI-X vectors, 3 to 64 */
    uint32_t doorbell_pages;    /* user contexts + 1, power of two, 2 to 4096 */
    uint32_t max_pd;
    uint32_t max_mr;
    uint32_t max_cq;
    uint32_t max_qp;
    uint32_t max_qp_wr;         /* power of two, at most 32,768 */
    uint32_t log2_max_cqe;      /* at most 22 */
    uint32_t max_rd_atomic;     /* 1 to 16 */
    uint32_t max_mr_pages;      /* of 4 KiB, all MRs together: bounds the host's memory */
    uint32_t max_tombstones;
    uint64_t seed;              /* of QPNs and keys */
    uint32_t pause_limit_ms;    /* 0: for ever */
    uint32_t tombstone_ttl_ms;
    bool migration;             /* the extension as a whole */
    bool resume_unknown;        /* RESUME also to peers that never showed the capability bit */
    bool bare_resume;           /* accept a RESUME without MigETH (MigrOS) */
    bool atomics;               /* capability mask for tests of fallbacks */
};

void godwit_device_default_config(struct godwit_device_config *config);

/* A plain sentence if the configuration is not possible, else null. */
const char *godwit_device_check_config(const struct godwit_device_config *config);

/* Null only if memory cannot be had. */
struct godwit_device *godwit_device_new(const struct godwit_device_config *config,
                                        const struct godwit_host_ops *ops);
void godwit_device_free(struct godwit_device *device);

/* Cold reset (PCI reset, FLR): as just made, counters zero, link state kept. */
void godwit_device_reset(struct godwit_device *device);

/* BAR 0 and BAR 2. Any offset, any size, any value. */
uint64_t godwit_device_register_read(struct godwit_device *device, uint64_t offset, unsigned size);
void godwit_device_register_write(struct godwit_device *device, uint64_t offset, uint64_t value,
                                  unsigned size);
void godwit_device_doorbell_write(struct godwit_device *device, uint64_t offset, uint64_t value,
                                  unsigned size);

/* A frame from the wire: never refused; dropped and counted where there is no room. */
void godwit_device_receive_frame(struct godwit_device *device, uint64_t now_ns,
                                 const uint8_t *frame, size_t length);

void godwit_device_set_link(struct godwit_device *device, bool up);

/* After send_frame returned false: the wire takes frames again. */
void godwit_device_wire_ready(struct godwit_device *device);

/* Expired timers and pending work, bounded. True: there is more, call again. */
bool godwit_device_run(struct godwit_device *device, uint64_t now_ns);

/*
 * The same, but sends only a few packets: for a caller who is waited for, as the guest's
 * processor after its doorbell.
 */
bool godwit_device_run_briefly(struct godwit_device *device, uint64_t now_ns);

/* When to call godwit_device_run() next if nothing happens before. */
uint64_t godwit_device_next_deadline(const struct godwit_device *device);

/*
 * The whole device, for VM snapshots and migration. Guest memory is not in it.
 * save returns the bytes needed, and writes them if they fit in `room`.
 * load returns null, or a plain sentence that says what is wrong with the bytes;
 * the device is then as after reset.
 */
size_t godwit_device_save(struct godwit_device *device, uint64_t now_ns, void *buffer, size_t room);
const char *godwit_device_load(struct godwit_device *device, uint64_t now_ns, const void *buffer,
                               size_t length);

/* One counter of abi/godwit_counters.h; 0 if there is no such counter. */
uint64_t godwit_device_counter(const struct godwit_device *device, unsigned index);

#ifdef __cplusplus
}
#endif

#endif /* GODWIT_DEVICE_H */
