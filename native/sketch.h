/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exponential histogram of nanosecond values, base 2^(1/64).
 *
 * Bucket i holds the values v with  2^((i-1)/64) < v <= 2^(i/64)  SECONDS, v given in ns: these are the
 * boundaries of a Prometheus native histogram of schema 6 and of an OpenTelemetry exponential histogram
 * of scale 6, and merging 2^k neighbours gives schema 6-k exactly (index i -> ceil(i / 2^k)). The upper bound is inclusive.
 * 0 has a counter of its own. Counts are exact integers; merging is adding.
 * Any quantile is within 0.55 % of the true order statistic: (r-1)/(r+1) with r = 2^(1/64).
 *
 * The index costs a count of leading zeros, a table on the top mantissa bits and one compare with an
 * exact 64-bit boundary (native/sketch_bounds.h), never a logarithm.
 *
 * One thread at a time per arena, its sketches included.
 */
#ifndef SLACKWATER_SKETCH_H
#define SLACKWATER_SKETCH_H

#ifndef SLACKWATER_CDEF
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "native/sketch_bounds.h"
#endif

enum {
	SKETCH_SCHEMA = 6,
	SKETCH_OCTAVE_BUCKETS = 64,
	SKETCH_OCTAVES = 65,      /* every uint64_t number of ns has its place */
	SKETCH_INDEX_MIN = -1920, /* just below the first bucket; 2^-30 s < 1 ns, which is in bucket -1913 */
};

/*
 * Memory of the octaves of many sketches: one block of `capacity` octaves, handed out in order, all
 * taken back at once by sketch_arena_reset (which also zeroes what was used). Pages that were never
 * handed out are never touched.
 */
struct sketch_octave {
	uint64_t counts[SKETCH_OCTAVE_BUCKETS];
};

struct sketch_arena {
	struct sketch_octave *octaves;
	uint32_t capacity;
	uint32_t used;
	uint64_t refused; /* values not inserted because the arena was full; rises until sketch_arena_init */
};

/* 0: no octave yet; else 1 + its number in the arena. All zero bytes = an empty sketch. */
struct sketch {
	uint64_t zero_count;
	uint32_t octave[SKETCH_OCTAVES];
	uint32_t reserved;
};

/* 0, or -ENOMEM. capacity >= 1. */
int sketch_arena_init(struct sketch_arena *arena, uint32_t capacity);
void sketch_arena_free(struct sketch_arena *arena);
/* The caller then zeroes every sketch that had octaves here. */
void sketch_arena_reset(struct sketch_arena *arena);

/* Bucket index of value_ns >= 1 at schema 6. For 0 the result is SKETCH_INDEX_MIN and means nothing. */
int32_t sketch_index(uint64_t value_ns);

/* The bounds of a bucket in ns, as reals: lower (exclusive), upper (inclusive). */
double sketch_lower_ns(int32_t index);
double sketch_upper_ns(int32_t index);

/* Count value_ns `weight` times. 0, or -ENOSPC (arena full: nothing inserted, arena->refused += weight). */
static inline int sketch_insert(struct sketch *s, struct sketch_arena *arena, uint64_t value_ns, uint64_t weight);

/* Count n values once each; those without room are counted in arena->refused. */
void sketch_insert_many(struct sketch *s, struct sketch_arena *arena, const uint64_t *values_ns, size_t n);

/* Zeros included. */
uint64_t sketch_count(const struct sketch *s, const struct sketch_arena *arena);

/*
 * The values at quantiles q[0..n-1] (each 0..1, ascending) of the union of `sketches`: the order statistic of rank
 * max(1, ceil(q * count)). Each result is the harmonic mean of the smallest and the largest whole number of
 * ns in the bucket, cut at max_ns (the true maximum; 0: unknown). NaN where the union is empty.
 */
void sketch_quantiles(const struct sketch *const *sketches, size_t n_sketches, const struct sketch_arena *arena,
		      uint64_t max_ns, const double *q, size_t n, double *out_ns);

/*
 * Add the counts of `s` at `schema` (0..6) to the dense array counts[0..n-1], where counts[j] is bucket
 * first_index + j of that schema. zero_count is not in any bucket. A value outside it: -ERANGE, nothing added.
 */
int sketch_fold(const struct sketch *s, const struct sketch_arena *arena, int schema, int32_t first_index,
		uint64_t *counts, size_t n);

#ifndef SLACKWATER_CDEF

/* Give an octave its memory. 0, or -ENOSPC. Only sketch_counter calls it. */
int sketch_octave_new(struct sketch *s, struct sketch_arena *arena, uint32_t octave);

/* Buckets counted from 0: slot = index - SKETCH_INDEX_MIN - 1 = 64 * octave + place in it. value_ns >= 1. */
static inline uint32_t sketch_slot(uint64_t value_ns)
{
	uint32_t shift = (uint32_t)__builtin_clzll(value_ns);
	uint64_t mantissa = value_ns << shift;
	uint32_t below = sketch_cells[(mantissa >> 56) & 127];

	/* 4038: the slot of the first boundary in [2^63, 2^64) */
	return 4038 - 64 * shift + below + (mantissa > sketch_bounds[below]);
}

/* The counter of a value, valid until the arena is reset; NULL: the arena is full. */
static inline uint64_t *sketch_counter(struct sketch *s, struct sketch_arena *arena, uint64_t value_ns)
{
	uint32_t slot, octave;

	if (__builtin_expect(value_ns == 0, 0))
		return &s->zero_count;
	slot = sketch_slot(value_ns);
	octave = slot / SKETCH_OCTAVE_BUCKETS;
	if (__builtin_expect(s->octave[octave] == 0, 0) && sketch_octave_new(s, arena, octave))
		return NULL;
	return &arena->octaves[s->octave[octave] - 1].counts[slot % SKETCH_OCTAVE_BUCKETS];
}

static inline int sketch_insert(struct sketch *s, struct sketch_arena *arena, uint64_t value_ns, uint64_t weight)
{
	uint64_t *counter = sketch_counter(s, arena, value_ns);

	if (__builtin_expect(!counter, 0)) {
		arena->refused += weight;
		return -ENOSPC;
	}
	*counter += weight;
	return 0;
}

#endif

#endif
