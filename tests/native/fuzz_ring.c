/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer harness of the ring decoder. The input: 3 bytes for the consumer's position, 2 for how far the producer is
 * ahead, then the ring's content. A second, plain decoder of the same memory is the oracle; the sanitizer sees each
 * byte of a record that is handed out.
 */
#include "native/ring.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 4096, HEADER_BYTES = 8, HEAD_BYTES = 5 };

struct trace {
	uint64_t records;
	uint64_t sum; /* of all lengths and bytes, in order */
	const uint8_t *ring_data;
};

static void add(struct trace *trace, const uint8_t *data, uint32_t bytes)
{
	trace->records++;
	trace->sum = trace->sum * 31 + bytes;
	for (uint32_t i = 0; i < bytes; i++)
		trace->sum = trace->sum * 31 + data[i];
}

static void on_record(void *context, const void *data, uint32_t bytes)
{
	struct trace *trace = context;

	assert((uintptr_t)data % 8 == 0);
	assert((const uint8_t *)data + bytes <= trace->ring_data + 2 * SIZE);
	add(trace, data, bytes);
}

/* What ring.h says, byte by byte. Returns the consumer's position, or moves it to the producer's and sets *broken. */
static uint64_t expect(const uint8_t *content, uint64_t consumer, uint64_t ahead, struct trace *trace, bool *broken)
{
	uint64_t producer = consumer + ahead;

	*broken = ahead > SIZE || consumer % 8 || producer % 8;
	while (!*broken && ahead) {
		uint32_t header, bytes;
		uint64_t whole = HEADER_BYTES;
		uint8_t record[SIZE];

		memcpy(&header, content + consumer % SIZE, sizeof(header));
		if (header >> 31)
			return consumer;
		bytes = header & 0x3fffffff;
		while (whole < (uint64_t)bytes + HEADER_BYTES)
			whole += 8;
		*broken = whole > ahead;
		if (*broken)
			break;
		for (uint32_t i = 0; i < bytes; i++)
			record[i] = content[(consumer + HEADER_BYTES + i) % SIZE];
		if (!(header >> 30))
			add(trace, record, bytes);
		consumer += whole;
		ahead -= whole;
	}
	return producer;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	static const uint64_t around[] = { 0, 1ull << 32, 1ull << 63, 12345678ull * SIZE };
	uint64_t consumer, producer, content_bytes, begin;
	struct trace expected = { 0 }, found = { 0 };
	uint8_t *data = aligned_alloc(4096, 2 * SIZE); /* its end is watched */
	struct ring ring = { &consumer, &producer, data, SIZE };
	uint16_t ahead;
	int64_t result;
	bool broken;

	assert(data);
	if (size < HEAD_BYTES) {
		free(data);
		return 0;
	}
	begin = around[input[0] % 4] + 8 * (uint64_t)(int8_t)input[1] + (input[2] == 1);
	memcpy(&ahead, input + 3, sizeof(ahead));
	input += HEAD_BYTES;
	content_bytes = size - HEAD_BYTES;
	for (size_t i = 0; i < 2 * SIZE; i++) /* the content again and again; both halves alike, as mapped twice */
		data[i] = content_bytes ? input[i % SIZE % content_bytes] : 0;

	consumer = begin;
	producer = begin + ahead;
	found.ring_data = data;
	begin = expect(data, begin, ahead, &expected, &broken);
	result = ring_drain(&ring, on_record, &found);
	assert(result == (broken ? -EBADMSG : (int64_t)expected.records));
	assert(consumer == begin);
	assert(found.records == expected.records && found.sum == expected.sum);
	free(data);
	return 0;
}
