/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * godwit-port: a netdev of any NIC that is a port of an Ethernet segment in
 * shared memory (segment.h). Who makes the segment starts all its QEMUs, and
 * hands on the memory and, for each port, an eventfd that wakes it:
 *
 *   -device godwit-port,id=wire,port=1,memory=3,wakes=4:5 -device godwit,netdev=wire
 *
 * It is a device without a bus only because -netdev knows no types but QEMU's own.
 *
 * The segment loses no frames while ports keep up: a NIC that sends to a full
 * ring is held back, as by Ethernet's flow control. A port that takes nothing
 * for STALL_MS holds back no one any more; frames to it are then dropped.
 */
#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "hw/qdev-core.h"
#include "hw/qdev-properties.h"
#include "net/net.h"
#include "net/queue.h"
#include "qom/object.h"

#include <sys/mman.h>

#include "segment.h"

#define TYPE_GODWIT_PORT "godwit-port"
OBJECT_DECLARE_SIMPLE_TYPE(GodwitPort, GODWIT_PORT)

#define STALL_MS 100

/* Then the rest of the main loop has its turn. */
#define FRAMES_PER_TURN 256

typedef struct GodwitPortClient {
    NetClientState nc;
    GodwitPort *port;
} GodwitPortClient;

struct GodwitPort {
    DeviceState parent_obj;
    uint32_t number;
    int32_t memory_fd;
    char *wakes_text;

    void *memory;
    int wakes[GODWIT_SEGMENT_PORTS];
    NetClientState *nc;
    QEMUBH *bh;
    QEMUTimer *stall_timer;
    uint32_t full;    /* ports whose rings a frame waits for */
    uint32_t stalled; /* ports that have taken nothing for too long */
    uint32_t left;    /* ports whose frames are not all taken out */
    bool nic_full;    /* the NIC takes nothing more for now */
};

static void wake_port(GodwitPort *p, unsigned port)
{
    const uint64_t one = 1;

    if (p->wakes[port] >= 0) {
        /* Fails only if it is full of wakes. */
        ssize_t ignored G_GNUC_UNUSED = write(p->wakes[port], &one, sizeof(one));
    }
}

/* ------------------------------------------------------------ to the segment */

/* False: it must wait. */
static bool send_to(GodwitPort *p, unsigned to, const uint8_t *frame, size_t size, bool flooded)
{
    const uint32_t bit = 1u << to;
    bool wake;

    switch (godwit_segment_send(p->memory, p->number, to, frame, size,
                                flooded || (p->stalled & bit), &wake)) {
    case GODWIT_SEGMENT_SENT:
        p->stalled &= ~bit;
        if (wake) {
            wake_port(p, to);
        }
        return true;
    case GODWIT_SEGMENT_FULL:
        if (flooded || (p->stalled & bit)) {
            return true;
        }
        if (!p->full) {
            timer_mod(p->stall_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + STALL_MS);
        }
        p->full |= bit;
        return false;
    case GODWIT_SEGMENT_CLOSED:
        return true;
    }
    return true;
}

static ssize_t port_receive(NetClientState *nc, const uint8_t *frame, size_t size)
{
    GodwitPort *p = container_of(nc, GodwitPortClient, nc)->port;
    uint32_t to = godwit_segment_route(p->memory, p->number, frame, size);
    const bool flooded = (to & (to - 1)) != 0;

    for (; to; to &= to - 1) {
        if (!send_to(p, ctz32(to), frame, size, flooded)) {
            return 0;
        }
    }
    return size;
}

static void port_stalled(void *opaque)
{
    GodwitPort *p = opaque;

    p->stalled |= p->full;
    p->full = 0;
    qemu_flush_queued_packets(p->nc);
}

/* ---------------------------------------------------------- from the segment */

static void port_nic_ready(NetClientState *nc, ssize_t ret)
{
    GodwitPort *p = container_of(nc, GodwitPortClient, nc)->port;

    p->nic_full = false;
    qemu_bh_schedule(p->bh);
}

static void drain(GodwitPort *p, unsigned from, unsigned *budget)
{
    const uint8_t *frame;
    size_t size;

    while ((frame = godwit_segment_peek(p->memory, p->number, from, &size))) {
        if (*budget == 0 || p->nic_full) {
            return;
        }
        --*budget;
        /* QEMU has a copy of what the NIC does not take now. */
        p->nic_full = qemu_send_packet_async(p->nc, frame, size, port_nic_ready) == 0;
        if (godwit_segment_pop(p->memory, p->number, from)) {
            wake_port(p, from);
        }
    }
    p->left &= ~(1u << from);
}

static void port_work(void *opaque)
{
    GodwitPort *p = opaque;
    unsigned budget = FRAMES_PER_TURN;
    uint32_t frames, room;

    do {
        godwit_segment_take(p->memory, p->number, &frames, &room);
        if (p->full & room) {
            p->full = 0;
            timer_del(p->stall_timer);
            qemu_flush_queued_packets(p->nc);
        }
        p->left |= frames;
        for (uint32_t from = p->left; from; from &= from - 1) {
            drain(p, ctz32(from), &budget);
        }
        if (budget == 0) {
            qemu_bh_schedule(p->bh);
            return;
        }
    } while (!godwit_segment_sleep(p->memory, p->number));
}

static void port_woken(void *opaque)
{
    GodwitPort *p = opaque;
    uint64_t count;
    ssize_t ignored G_GNUC_UNUSED = read(p->wakes[p->number], &count, sizeof(count));

    port_work(p);
}

/* ---------------------------------------------------------------- life cycle */

static NetClientInfo port_net_info = {
    .type = NET_CLIENT_DRIVER_NONE,
    .size = sizeof(GodwitPortClient),
    .receive = port_receive,
};

static bool parse_wakes(GodwitPort *p, Error **errp)
{
    g_auto(GStrv) fds = g_strsplit(p->wakes_text ? p->wakes_text : "", ":", -1);
    unsigned count = g_strv_length(fds);

    if (count > GODWIT_SEGMENT_PORTS || p->number >= count) {
        error_setg(errp, "godwit-port: wakes= names %u ports, this is port %u of at most %u",
                   count, p->number, GODWIT_SEGMENT_PORTS);
        return false;
    }
    for (unsigned i = 0; i < GODWIT_SEGMENT_PORTS; i++) {
        p->wakes[i] = -1;
    }
    for (unsigned i = 0; i < count; i++) {
        if (qemu_strtoi(fds[i], NULL, 10, &p->wakes[i]) != 0 || fcntl(p->wakes[i], F_GETFD) < 0) {
            error_setg(errp, "godwit-port: wakes: \"%s\" is no open file descriptor", fds[i]);
            return false;
        }
    }
    return true;
}

static void port_realize(DeviceState *dev, Error **errp)
{
    GodwitPort *p = GODWIT_PORT(dev);
    struct stat file;

    if (!dev->id) {
        error_setg(errp, "godwit-port: needs an id, which is its name as a netdev");
        return;
    }
    if (!parse_wakes(p, errp)) {
        return;
    }
    if (fstat(p->memory_fd, &file) != 0 || file.st_size < godwit_segment_size()) {
        error_setg(errp, "godwit-port: memory=%d is no file of a segment's size", p->memory_fd);
        return;
    }
    p->memory = mmap(NULL, godwit_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED,
                     p->memory_fd, 0);
    if (p->memory == MAP_FAILED) {
        p->memory = NULL;
        error_setg_errno(errp, errno, "godwit-port: memory=%d", p->memory_fd);
        return;
    }
    if (!godwit_segment_valid(p->memory)) {
        error_setg(errp, "godwit-port: memory=%d is no segment of this version", p->memory_fd);
        munmap(p->memory, godwit_segment_size());
        p->memory = NULL;
        return;
    }
    p->bh = qemu_bh_new(port_work, p);
    p->stall_timer = timer_new_ms(QEMU_CLOCK_REALTIME, port_stalled, p);
    p->nc = qemu_new_net_client(&port_net_info, NULL, TYPE_GODWIT_PORT, dev->id);
    container_of(p->nc, GodwitPortClient, nc)->port = p;
    godwit_segment_open(p->memory, p->number);
    qemu_set_fd_handler(p->wakes[p->number], port_woken, NULL, p);
    qemu_bh_schedule(p->bh);
}

static void port_unrealize(DeviceState *dev)
{
    GodwitPort *p = GODWIT_PORT(dev);

    qemu_set_fd_handler(p->wakes[p->number], NULL, NULL, NULL);
    godwit_segment_close(p->memory, p->number);
    qemu_del_net_client(p->nc);
    timer_free(p->stall_timer);
    qemu_bh_delete(p->bh);
    munmap(p->memory, godwit_segment_size());
}

static Property port_properties[] = {
    DEFINE_PROP_UINT32("port", GodwitPort, number, 0),
    DEFINE_PROP_INT32("memory", GodwitPort, memory_fd, -1),
    DEFINE_PROP_STRING("wakes", GodwitPort, wakes_text),
    DEFINE_PROP_END_OF_LIST(),
};

static void port_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);

    dc->realize = port_realize;
    dc->unrealize = port_unrealize;
    dc->desc = "port of an Ethernet segment in shared memory";
    dc->hotpluggable = false;
    device_class_set_props(dc, port_properties);
    set_bit(DEVICE_CATEGORY_NETWORK, dc->categories);
}

static const TypeInfo port_info = {
    .name = TYPE_GODWIT_PORT,
    .parent = TYPE_DEVICE,
    .instance_size = sizeof(GodwitPort),
    .class_init = port_class_init,
};

static void port_register(void)
{
    type_register_static(&port_info);
}

type_init(port_register)
