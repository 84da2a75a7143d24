/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "segment.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <string.h>

#define MAGIC 0x47574753u
#define VERSION 1u

/* Small enough to stay in a cache, large enough for a QP's window of full packets. */
#define RING_BYTES (1u << 20)
#define RECORD_HEADER 8u
#define TO_THE_END UINT32_MAX /* a record's length: the next one is at the ring's beginning */

#define MAC_SETS 1024u
#define MAC_WAYS 4u

#define CACHE_LINE 64

/* Positions count bytes since the beginning of time; the ring's offset is what is left by its size. */
struct ring {
    alignas(CACHE_LINE) _Atomic uint64_t head; /* the consumer's */
    alignas(CACHE_LINE) _Atomic uint64_t tail; /* the producer's */
    _Atomic uint32_t room_wanted;
    alignas(CACHE_LINE) uint8_t data[RING_BYTES];
};

struct port {
    alignas(CACHE_LINE) _Atomic uint32_t open;
    _Atomic uint32_t sleeping;
    _Atomic uint64_t pending; /* low half: frames from that port; high half: room to it */
    alignas(CACHE_LINE) _Atomic uint64_t received;
    _Atomic uint64_t sent;
    _Atomic uint64_t dropped;
};

struct segment {
    uint32_t magic;
    uint32_t version;
    struct port ports[GODWIT_SEGMENT_PORTS];
    /* The MAC in the high 48 bits, the port + 1 in the low 16; 0: free. */
    _Atomic uint64_t macs[MAC_SETS][MAC_WAYS];
    _Atomic uint32_t next_way; /* to be forgotten when a set is full */
    struct ring rings[GODWIT_SEGMENT_PORTS][GODWIT_SEGMENT_PORTS]; /* [to][from] */
};

size_t godwit_segment_size(void) { return sizeof(struct segment); }

void godwit_segment_init(void *memory)
{
    struct segment *s = memory;

    s->version = VERSION;
    s->magic = MAGIC;
}

bool godwit_segment_valid(const void *memory)
{
    const struct segment *s = memory;

    return s->magic == MAGIC && s->version == VERSION;
}

static bool notify(struct segment *s, unsigned port, uint64_t bit)
{
    atomic_fetch_or(&s->ports[port].pending, bit);
    return atomic_load(&s->ports[port].sleeping) != 0 &&
           atomic_exchange(&s->ports[port].sleeping, 0) != 0;
}

void godwit_segment_open(void *memory, unsigned port)
{
    struct segment *s = memory;

    for (unsigned from = 0; from < GODWIT_SEGMENT_PORTS; from++) {
        struct ring *ring = &s->rings[port][from];

        if (from != port && atomic_load(&ring->tail) != atomic_load(&ring->head)) {
            atomic_store(&ring->head, atomic_load(&ring->tail));
        }
    }
    atomic_store(&s->ports[port].pending, 0);
    atomic_store(&s->ports[port].sleeping, 0);
    atomic_store(&s->ports[port].open, 1);
}

void godwit_segment_close(void *memory, unsigned port)
{
    struct segment *s = memory;

    atomic_store(&s->ports[port].open, 0);
}

/* ------------------------------------------------------------ MAC addresses */

static uint64_t mac_key(const uint8_t *mac)
{
    uint64_t key = 0;

    for (int i = 0; i < 6; i++) {
        key = key << 8 | mac[i];
    }
    return key << 16;
}

static _Atomic uint64_t *mac_set(struct segment *s, uint64_t key)
{
    return s->macs[(key * 0x9e3779b97f4a7c15u) >> 54];
}

static void learn(struct segment *s, uint64_t key, unsigned port)
{
    _Atomic uint64_t *set = mac_set(s, key);
    const uint64_t entry = key | (port + 1);
    int unused = -1;

    for (unsigned way = 0; way < MAC_WAYS; way++) {
        const uint64_t old = atomic_load_explicit(&set[way], memory_order_relaxed);

        if (old == entry) {
            return;
        }
        if ((old & ~UINT64_C(0xffff)) == key && old != 0) {
            atomic_store(&set[way], entry);
            return;
        }
        if (old == 0 && unused < 0) {
            unused = (int)way;
        }
    }
    /* Two that learn at once may lose one of the two, which is learned with its next frame. */
    if (unused < 0) {
        unused = (int)(atomic_fetch_add(&s->next_way, 1) % MAC_WAYS);
    }
    atomic_store(&set[unused], entry);
}

static unsigned find(struct segment *s, uint64_t key)
{
    _Atomic uint64_t *set = mac_set(s, key);

    for (unsigned way = 0; way < MAC_WAYS; way++) {
        const uint64_t entry = atomic_load_explicit(&set[way], memory_order_relaxed);

        if (entry != 0 && (entry & ~UINT64_C(0xffff)) == key) {
            return (unsigned)(entry & 0xffff) - 1;
        }
    }
    return GODWIT_SEGMENT_PORTS;
}

uint32_t godwit_segment_route(void *memory, unsigned from, const uint8_t *frame, size_t length)
{
    struct segment *s = memory;
    uint32_t to = 0;

    if (length < 14 || length > GODWIT_SEGMENT_MAX_FRAME) {
        return 0;
    }
    atomic_fetch_add_explicit(&s->ports[from].received, 1, memory_order_relaxed);
    if (!(frame[6] & 1)) {
        learn(s, mac_key(frame + 6), from);
    }
    if (!(frame[0] & 1)) {
        const unsigned port = find(s, mac_key(frame));

        if (port < GODWIT_SEGMENT_PORTS) {
            return port == from ? 0 : UINT32_C(1) << port;
        }
    }
    for (unsigned port = 0; port < GODWIT_SEGMENT_PORTS; port++) {
        if (port != from && atomic_load_explicit(&s->ports[port].open, memory_order_relaxed)) {
            to |= UINT32_C(1) << port;
        }
    }
    return to;
}

/* -------------------------------------------------------------------- rings */

static uint32_t record_bytes(uint32_t length)
{
    return RECORD_HEADER + ((length + 7) & ~7u);
}

static bool push(struct ring *ring, const uint8_t *frame, uint32_t length)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    const uint64_t used = tail - atomic_load_explicit(&ring->head, memory_order_acquire);
    const uint32_t offset = tail % RING_BYTES;
    const uint32_t record = record_bytes(length);
    const bool wraps = RING_BYTES - offset < record;
    const uint32_t need = record + (wraps ? RING_BYTES - offset : 0);
    uint8_t *to = ring->data + (wraps ? 0 : offset);

    if (used > RING_BYTES || RING_BYTES - used < need) {
        return false;
    }
    if (wraps) {
        const uint32_t skip = TO_THE_END;

        memcpy(ring->data + offset, &skip, sizeof(skip));
    }
    memcpy(to, &length, sizeof(length));
    memcpy(to + RECORD_HEADER, frame, length);
    atomic_store_explicit(&ring->tail, tail + need, memory_order_release);
    return true;
}

enum godwit_segment_sent godwit_segment_send(void *memory, unsigned from, unsigned to,
                                             const uint8_t *frame, size_t length, bool last_try,
                                             bool *wake)
{
    struct segment *s = memory;
    struct ring *ring = &s->rings[to][from];
    struct port *port = &s->ports[to];

    *wake = false;
    if (!atomic_load(&port->open)) {
        atomic_fetch_add_explicit(&port->dropped, 1, memory_order_relaxed);
        return GODWIT_SEGMENT_CLOSED;
    }
    if (!push(ring, frame, (uint32_t)length)) {
        if (last_try) {
            atomic_fetch_add_explicit(&port->dropped, 1, memory_order_relaxed);
            return GODWIT_SEGMENT_FULL;
        }
        /* It may have become empty before the wish was seen. */
        atomic_store(&ring->room_wanted, 1);
        atomic_thread_fence(memory_order_seq_cst);
        if (!push(ring, frame, (uint32_t)length)) {
            return GODWIT_SEGMENT_FULL;
        }
        atomic_store(&ring->room_wanted, 0);
    }
    atomic_fetch_add_explicit(&port->sent, 1, memory_order_relaxed);
    *wake = notify(s, to, UINT64_C(1) << from);
    return GODWIT_SEGMENT_SENT;
}

void godwit_segment_take(void *memory, unsigned port, uint32_t *frames, uint32_t *room)
{
    struct segment *s = memory;
    const uint64_t pending = atomic_exchange(&s->ports[port].pending, 0);

    *frames = (uint32_t)pending;
    *room = (uint32_t)(pending >> 32);
}

/* The record at the consumer's end; bytes of it that make no sense are skipped, all of them. */
static uint8_t *front(struct ring *ring, uint32_t *length)
{
    for (;;) {
        const uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
        const uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
        const uint32_t offset = head % RING_BYTES;
        const uint64_t used = tail - head;
        uint32_t n;

        if (used == 0) {
            return NULL;
        }
        if (used <= RING_BYTES && offset % 8 == 0) {
            memcpy(&n, ring->data + offset, sizeof(n));
            if (n == TO_THE_END && used > RING_BYTES - offset) {
                atomic_store_explicit(&ring->head, head + (RING_BYTES - offset),
                                      memory_order_release);
                continue;
            }
            if (n <= GODWIT_SEGMENT_MAX_FRAME && record_bytes(n) <= used &&
                record_bytes(n) <= RING_BYTES - offset) {
                *length = n;
                return ring->data + offset;
            }
        }
        atomic_store_explicit(&ring->head, tail, memory_order_release);
        return NULL;
    }
}

const uint8_t *godwit_segment_peek(void *memory, unsigned port, unsigned from, size_t *length)
{
    struct segment *s = memory;
    uint32_t n = 0;
    const uint8_t *record = front(&s->rings[port][from], &n);

    *length = n;
    return record ? record + RECORD_HEADER : NULL;
}

bool godwit_segment_pop(void *memory, unsigned port, unsigned from)
{
    struct segment *s = memory;
    struct ring *ring = &s->rings[port][from];
    uint32_t length;
    uint64_t head;

    if (!front(ring, &length)) {
        return false;
    }
    head = atomic_load_explicit(&ring->head, memory_order_relaxed) + record_bytes(length);
    /* Ordered before the look at the wish: see send. */
    atomic_store(&ring->head, head);
    if (!atomic_load(&ring->room_wanted) ||
        atomic_load_explicit(&ring->tail, memory_order_relaxed) - head > RING_BYTES / 2) {
        return false;
    }
    atomic_store(&ring->room_wanted, 0);
    return notify(s, from, UINT64_C(1) << (32 + port));
}

bool godwit_segment_sleep(void *memory, unsigned port)
{
    struct segment *s = memory;

    atomic_store(&s->ports[port].sleeping, 1);
    /* Who has seen it awake has set its bit before. */
    return atomic_load(&s->ports[port].pending) == 0 ||
           atomic_exchange(&s->ports[port].sleeping, 0) == 0;
}

void godwit_segment_counts_of(const void *memory, unsigned port, struct godwit_segment_counts *counts)
{
    const struct segment *s = memory;
    const struct port *p = &s->ports[port];

    counts->received = atomic_load_explicit(&p->received, memory_order_relaxed);
    counts->sent = atomic_load_explicit(&p->sent, memory_order_relaxed);
    counts->dropped = atomic_load_explicit(&p->dropped, memory_order_relaxed);
}
