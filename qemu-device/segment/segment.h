/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An Ethernet segment in shared memory: up to GODWIT_SEGMENT_PORTS ports, each
 * in a process of its own, that send frames to each other without a process in
 * between.
 *
 * From each port to each other there is a ring with one producer and one
 * consumer, so no lock is held by a process that may be killed. A table of MAC
 * addresses, written by the senders, makes of it a learning switch.
 *
 * This is memory only. How a sleeping port is woken is the caller's matter: a
 * function that may have to wake returns true, and the caller tells that port's
 * process, which then calls godwit_segment_take().
 *
 * The processes trust each other not to change a frame while it is looked at;
 * what else they write is checked.
 */
#ifndef GODWIT_SEGMENT_H
#define GODWIT_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GODWIT_SEGMENT_PORTS 16
#define GODWIT_SEGMENT_MAX_FRAME 65536

/* Of the memory, most of which is touched only when two ports talk. */
size_t godwit_segment_size(void);

/* `memory`: zeros. */
void godwit_segment_init(void *memory);

/* Is it a segment of this version? */
bool godwit_segment_valid(const void *memory);

/*
 * A port takes part from open to close. Frames to a closed one are dropped; what
 * was on its way to a port is lost when it opens. Close may be called by another
 * process, for one that has died.
 */
void godwit_segment_open(void *memory, unsigned port);
void godwit_segment_close(void *memory, unsigned port);

/*
 * Notes that the frame's source is behind port `from`. Returns the ports it goes
 * to, one bit each: never `from`. Zero: none, or the frame is too short or too long.
 */
uint32_t godwit_segment_route(void *memory, unsigned from, const uint8_t *frame, size_t length);

enum godwit_segment_sent {
    GODWIT_SEGMENT_SENT,
    GODWIT_SEGMENT_FULL,   /* try again when take() says that there is room */
    GODWIT_SEGMENT_CLOSED, /* dropped */
};

/*
 * `wake`: port `to` sleeps and must be told. With `last_try` a full ring is not
 * asked to report when it has room, and the frame is counted as dropped.
 */
enum godwit_segment_sent godwit_segment_send(void *memory, unsigned from, unsigned to,
                                             const uint8_t *frame, size_t length, bool last_try,
                                             bool *wake);

/*
 * What there is to do for this port, one bit for each other port: frames from it;
 * room again in the full ring to it. It is said once: frames that are left there are
 * the caller's to remember. A port that was told is awake, and stays so until
 * godwit_segment_sleep() returns true.
 */
void godwit_segment_take(void *memory, unsigned port, uint32_t *frames, uint32_t *room);

/* The next frame from a port; null: none. It stays valid until the pop. */
const uint8_t *godwit_segment_peek(void *memory, unsigned port, unsigned from, size_t *length);

/* True: `from` waits for room, sleeps, and must be told. */
bool godwit_segment_pop(void *memory, unsigned port, unsigned from);

/* From now on others wake this port. False: something has come, go on with take(). */
bool godwit_segment_sleep(void *memory, unsigned port);

struct godwit_segment_counts {
    uint64_t received; /* frames, from the port */
    uint64_t sent;     /* to the port */
    uint64_t dropped;  /* instead of being sent to it */
};

void godwit_segment_counts_of(const void *memory, unsigned port, struct godwit_segment_counts *counts);

#ifdef __cplusplus
}
#endif

#endif /* GODWIT_SEGMENT_H */
