/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer harness of the sketch. The input: one byte for the arena's capacity, one for the schema to fold to,
 * then values of 8 bytes. What must hold is what native/sketch.h promises; exact order statistics are the oracle.
 */
#include "native/sketch.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES_MAX = 512, QUANTILES = 9, BUCKETS_MAX = SKETCH_OCTAVES * SKETCH_OCTAVE_BUCKETS };

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void check_index(uint64_t value_ns)
{
	int32_t index = sketch_index(value_ns);

	if (value_ns == 0) {
		assert(index == SKETCH_INDEX_MIN);
		return;
	}
	/* as reals, rounded to 53 bits: never off by more than an ulp */
	assert(sketch_lower_ns(index) <= (double)value_ns && (double)value_ns <= sketch_upper_ns(index));
	assert(value_ns == 1 || sketch_index(value_ns - 1) <= index);
	assert(value_ns == UINT64_MAX || sketch_index(value_ns + 1) >= index);
}

static void check_quantiles(const struct sketch *s, const struct sketch_arena *arena, uint64_t *values_ns, size_t n)
{
	static const double q[QUANTILES] = { 0, 0.001, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1 };
	double out_ns[QUANTILES];

	qsort(values_ns, n, sizeof(*values_ns), compare_u64);
	sketch_quantiles(&s, 1, arena, n ? values_ns[n - 1] : 0, q, QUANTILES, out_ns);
	for (size_t i = 0; i < QUANTILES; i++) {
		double rank = ceil(q[i] * (double)n);

		if (n == 0)
			assert(isnan(out_ns[i]));
		else {
			double true_ns = (double)values_ns[rank < 1 ? 0 : (size_t)rank - 1];

			assert(fabs(out_ns[i] - true_ns) <= 0.0055 * true_ns);
		}
	}
}

static void check_fold(const struct sketch *s, const struct sketch_arena *arena, int schema, const uint64_t *values_ns,
		       size_t n)
{
	static uint64_t counts[BUCKETS_MAX];
	int32_t width = 1 << (SKETCH_SCHEMA - schema);
	int32_t first = (int32_t)ceil((double)(SKETCH_INDEX_MIN + 1) / width);
	uint64_t sum = s->zero_count;

	memset(counts, 0, sizeof(counts));
	assert(sketch_fold(s, arena, schema, first, counts, BUCKETS_MAX) == 0);
	for (size_t i = 0; i < n; i++)
		if (values_ns[i])
			assert(counts[(int32_t)ceil((double)sketch_index(values_ns[i]) / width) - first] > 0);
	for (size_t i = 0; i < BUCKETS_MAX; i++)
		sum += counts[i];
	assert(sum == n);
	assert(sum == s->zero_count || sketch_fold(s, arena, schema, first, counts, 0) == -ERANGE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sketch_arena arena;
	struct sketch s = { 0 };
	uint64_t kept_ns[VALUES_MAX], value_ns;
	size_t n = 0, refused = 0;

	if (size < 2)
		return 0;
	assert(sketch_arena_init(&arena, 1 + data[0] % SKETCH_OCTAVES) == 0);
	for (size_t at = 2; at + 8 <= size && n < VALUES_MAX; at += 8) {
		memcpy(&value_ns, data + at, 8);
		check_index(value_ns);
		if (sketch_insert(&s, &arena, value_ns, 1) == 0)
			kept_ns[n++] = value_ns;
		else
			assert(arena.used == arena.capacity && arena.refused == ++refused);
	}
	assert(sketch_count(&s, &arena) == n);
	check_quantiles(&s, &arena, kept_ns, n);
	check_fold(&s, &arena, data[1] % (SKETCH_SCHEMA + 1), kept_ns, n);

	sketch_arena_reset(&arena);
	s = (struct sketch){ 0 };
	assert(sketch_insert(&s, &arena, 1, 2) == 0 && sketch_count(&s, &arena) == 2);
	sketch_arena_free(&arena);
	return 0;
}
