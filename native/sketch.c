/* SPDX-License-Identifier: Apache-2.0 */
#include "native/sketch.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

enum {
	SLOT_INDEX = SKETCH_INDEX_MIN + 1, /* index of slot 0 */
	BINADE_SLOT = 4038,                /* slot of sketch_bounds[0] in [2^63, 2^64), see sketch_slot */
};

_Static_assert(sizeof(struct sketch_octave) == 512, "octaves share no cache line");
_Static_assert((SLOT_INDEX + SKETCH_OCTAVE_BUCKETS - 1) % SKETCH_OCTAVE_BUCKETS == 0, "buckets end where octaves do");

int sketch_arena_init(struct sketch_arena *arena, uint32_t capacity)
{
	/* mmap, not calloc: the allocator may clear memory it reuses and so touch every page */
	void *octaves = mmap(NULL, capacity * sizeof(struct sketch_octave), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (octaves == MAP_FAILED)
		return -ENOMEM;
	*arena = (struct sketch_arena){ .octaves = octaves, .capacity = capacity };
	return 0;
}

void sketch_arena_free(struct sketch_arena *arena)
{
	if (arena->octaves)
		munmap(arena->octaves, arena->capacity * sizeof(struct sketch_octave));
	*arena = (struct sketch_arena){ 0 };
}

void sketch_arena_reset(struct sketch_arena *arena)
{
	memset(arena->octaves, 0, arena->used * sizeof(struct sketch_octave));
	arena->used = 0;
}

int32_t sketch_index(uint64_t value_ns)
{
	return value_ns ? (int32_t)sketch_slot(value_ns) + SLOT_INDEX : SKETCH_INDEX_MIN;
}

double sketch_upper_ns(int32_t index)
{
	int32_t steps = index - SLOT_INDEX - BINADE_SLOT; /* from sketch_bounds[0] in [2^63, 2^64) */

	return ldexp((double)sketch_bounds[steps & 63], steps >> 6);
}

double sketch_lower_ns(int32_t index)
{
	return sketch_upper_ns(index - 1);
}

int sketch_octave_new(struct sketch *s, struct sketch_arena *arena, uint32_t octave)
{
	if (arena->used == arena->capacity)
		return -ENOSPC;
	s->octave[octave] = ++arena->used;
	return 0;
}

void sketch_insert_many(struct sketch *s, struct sketch_arena *arena, const uint64_t *values_ns, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sketch_insert(s, arena, values_ns[i], 1);
}

/* The counters of one octave, or NULL if it has none. */
static const uint64_t *octave_counts(const struct sketch *s, const struct sketch_arena *arena, uint32_t octave)
{
	return s->octave[octave] ? arena->octaves[s->octave[octave] - 1].counts : NULL;
}

uint64_t sketch_count(const struct sketch *s, const struct sketch_arena *arena)
{
	uint64_t count = s->zero_count;

	for (uint32_t octave = 0; octave < SKETCH_OCTAVES; octave++) {
		const uint64_t *counts = octave_counts(s, arena, octave);

		for (uint32_t i = 0; counts && i < SKETCH_OCTAVE_BUCKETS; i++)
			count += counts[i];
	}
	return count;
}

/* The largest whole number of ns in a slot or below it; slot -1: 0. */
static uint64_t slot_last_ns(int32_t slot)
{
	int32_t steps = slot - BINADE_SLOT;

	return steps >= 64 ? UINT64_MAX : steps < -4032 ? 0 : sketch_bounds[steps & 63] >> -(steps >> 6);
}

static double slot_value_ns(int32_t slot, uint64_t max_ns)
{
	double first_ns = (double)(slot_last_ns(slot - 1) + 1), last_ns = (double)slot_last_ns(slot);
	double value_ns = first_ns * (2 * last_ns / (first_ns + last_ns));

	return max_ns ? fmin(value_ns, (double)max_ns) : value_ns;
}

static uint64_t quantile_rank(double q, uint64_t count)
{
	double rank = ceil(q * (double)count);

	/* (double)count may be above count */
	return rank <= 1 ? 1 : rank >= (double)count ? count : (uint64_t)rank;
}

/* The counters of one octave, summed over the sketches. False: none of them has any. */
static bool sum_octave(const struct sketch *const *sketches, size_t n_sketches, const struct sketch_arena *arena,
		       uint32_t octave, uint64_t sums[SKETCH_OCTAVE_BUCKETS])
{
	bool any = false;

	for (size_t k = 0; k < n_sketches; k++) {
		const uint64_t *counts = octave_counts(sketches[k], arena, octave);

		if (!counts)
			continue;
		for (uint32_t i = 0; i < SKETCH_OCTAVE_BUCKETS; i++)
			sums[i] = counts[i] + (any ? sums[i] : 0);
		any = true;
	}
	return any;
}

void sketch_quantiles(const struct sketch *const *sketches, size_t n_sketches, const struct sketch_arena *arena,
		      uint64_t max_ns, const double *q, size_t n, double *out_ns)
{
	uint64_t sums[SKETCH_OCTAVE_BUCKETS], count = 0, reached = 0, rank = 0;
	size_t done = 0;

	for (size_t k = 0; k < n_sketches; k++) {
		count += sketch_count(sketches[k], arena);
		reached += sketches[k]->zero_count;
	}
	for (; done < n && (count == 0 || (rank = quantile_rank(q[done], count)) <= reached); done++)
		out_ns[done] = count ? 0 : NAN;

	for (uint32_t octave = 0; octave < SKETCH_OCTAVES && done < n; octave++) {
		if (!sum_octave(sketches, n_sketches, arena, octave, sums))
			continue;
		for (uint32_t i = 0; i < SKETCH_OCTAVE_BUCKETS && done < n; i++) {
			reached += sums[i];
			while (rank <= reached) {
				out_ns[done++] = slot_value_ns((int32_t)(octave * SKETCH_OCTAVE_BUCKETS + i), max_ns);
				if (done == n)
					break;
				rank = quantile_rank(q[done], count);
			}
		}
	}
}

/*
 * Adds only if `add`; else says whether it could. A bucket of the lower schema ends where its width divides the
 * index, and so does an octave.
 */
static int fold(const struct sketch *s, const struct sketch_arena *arena, int schema, int32_t first_index,
		uint64_t *counts, size_t n, bool add)
{
	int halvings = SKETCH_SCHEMA - schema;

	for (int32_t octave = 0; octave < SKETCH_OCTAVES; octave++) {
		const uint64_t *slots = octave_counts(s, arena, (uint32_t)octave);
		uint64_t sum = 0;

		for (int32_t i = 0; slots && i < SKETCH_OCTAVE_BUCKETS; i++) {
			int32_t index = SLOT_INDEX + octave * SKETCH_OCTAVE_BUCKETS + i;
			int64_t j = (int64_t)((index + (1 << halvings) - 1) >> halvings) - first_index;

			sum += slots[i];
			if (index & ((1 << halvings) - 1))
				continue;
			if (sum && (j < 0 || (uint64_t)j >= n))
				return -ERANGE;
			if (sum && add)
				counts[j] += sum;
			sum = 0;
		}
	}
	return 0;
}

int sketch_fold(const struct sketch *s, const struct sketch_arena *arena, int schema, int32_t first_index,
		uint64_t *counts, size_t n)
{
	int err = fold(s, arena, schema, first_index, counts, n, false);

	return err ? err : fold(s, arena, schema, first_index, counts, n, true);
}
