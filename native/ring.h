/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Consumer of one BPF ring buffer, from mapped memory. Layout and protocol: kernel/bpf/ringbuf.c
 * (Documentation/bpf/ringbuf.rst): positions only grow; a record is an 8-byte header (length, bit 31 busy,
 * bit 30 discarded) and its data, rounded up to 8; the data pages are mapped twice, so that no record wraps.
 */
#ifndef SLACKWATER_RING_H
#define SLACKWATER_RING_H

#ifndef SLACKWATER_CDEF
#include <stddef.h>
#include <stdint.h>
#endif

struct ring {
	uint64_t *consumer_pos;       /* page that we write */
	const uint64_t *producer_pos; /* page that the kernel writes */
	const uint8_t *data;          /* 2 * size bytes */
	uint64_t size;                /* a power of two */
};

/*
 * Called for each record, in order; `data` has `bytes` bytes, is 8-aligned and valid during the call only.
 * The callee checks `bytes`: nothing is promised of what a record holds.
 */
typedef void (*ring_record_fn)(void *context, const void *data, uint32_t bytes);

/*
 * Hand every finished record to `record`, give its memory back (at least every quarter of the ring) and stop at the
 * first that is still being written, or at what was there when the call began, so that a fast producer
 * cannot hold it. Returns the number of records, discarded ones not counted, or -EBADMSG if the memory breaks the
 * protocol (a length past the producer, positions further apart than the ring or not multiples of 8): nothing from there on is read, and the position
 * moves to the producer's so that the next call starts clean.
 */
int64_t ring_drain(struct ring *ring, ring_record_fn record, void *context);

#endif
