/* SPDX-License-Identifier: Apache-2.0 */
#include "native/ring.h"

#include <errno.h>

enum {
	HEADER_BYTES = 8,
	BUSY_BIT = 1u << 31,
	DISCARD_BIT = 1u << 30,
};

int64_t ring_drain(struct ring *ring, ring_record_fn record, void *context)
{
	uint64_t consumer = __atomic_load_n(ring->consumer_pos, __ATOMIC_RELAXED);
	uint64_t producer = __atomic_load_n(ring->producer_pos, __ATOMIC_ACQUIRE);
	uint64_t given_back = consumer;
	int64_t records = 0;

	if (producer - consumer > ring->size || (producer | consumer) % HEADER_BYTES)
		goto broken;
	/* positions are only subtracted: they may pass 2^64 */
	while (consumer != producer) {
		const uint8_t *at = ring->data + (consumer & (ring->size - 1));
		uint32_t header = __atomic_load_n((const uint32_t *)at, __ATOMIC_ACQUIRE);
		uint32_t bytes = header & ~(BUSY_BIT | DISCARD_BIT);
		uint64_t whole_bytes = ((uint64_t)bytes + HEADER_BYTES + 7) & ~7ull;

		if (header & BUSY_BIT)
			break;
		if (whole_bytes > producer - consumer)
			goto broken;
		if (!(header & DISCARD_BIT)) {
			record(context, at + HEADER_BYTES, bytes);
			records++;
		}
		consumer += whole_bytes;
		if (consumer - given_back >= ring->size / 4) {
			__atomic_store_n(ring->consumer_pos, consumer, __ATOMIC_RELEASE);
			given_back = consumer;
		}
	}
	__atomic_store_n(ring->consumer_pos, consumer, __ATOMIC_RELEASE);
	return records;

broken:
	__atomic_store_n(ring->consumer_pos, producer, __ATOMIC_RELEASE);
	return -EBADMSG;
}
