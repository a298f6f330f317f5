/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the groups lie in memory: private to native/group_table.c (memory and rows),
 * native/groups.c (fills it) and native/groups_tick.c (reads it out).
 *
 * Rows and cells are fixed arrays, in the order in which they were first needed, and an index finds them. Position 0
 * of an array stands for nothing.
 */
#ifndef SLACKWATER_GROUP_TABLE_H
#define SLACKWATER_GROUP_TABLE_H

#include "native/groups.h"

#include <string.h>

enum {
	INDEX_BITS_MIN = 8,
	INDEX_SLOTS_PER_ENTRY = 4, /* at least; a collision is a mispredicted branch */
	TOTAL_OCTAVE_BUCKETS = SKETCH_OCTAVE_BUCKETS >> (SKETCH_SCHEMA - TOTAL_SCHEMA),
	TOTAL_BUCKETS = SKETCH_OCTAVES * TOTAL_OCTAVE_BUCKETS,
	TOTAL_INDEX_FIRST = SKETCH_INDEX_MIN / (1 << (SKETCH_SCHEMA - TOTAL_SCHEMA)) + 1,
};

/* The first cache line is all that a sample touches here, but for the octaves of its sketch. */
struct group {
	uint64_t id; /* 0: the row is free */
	uint64_t wait_count;
	uint64_t class_sum_ns[WAIT_CLASSES];
	uint64_t throttle_ns;
	uint64_t max_ns;
	uint64_t throttle_events;
	uint32_t linger_ticks; /* 0: its cgroup is alive */
	uint32_t next_free;
	struct sketch waits[WAIT_CLASSES];
	struct sketch throttles;
	uint64_t throttle_ended;
	uint64_t throttle_sum_ns;
	uint64_t throttle_max_ns;
	uint64_t total_count[WAIT_CLASSES];
	uint64_t total_sum_ns[WAIT_CLASSES];
	uint64_t total_zeros[WAIT_CLASSES];
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct group, waits) == 64, "a sample touches one line");

/* A cell of the matrix; it leads to the victim's row, so that most samples need no other search. */
struct pair {
	struct group *victim;
	uint64_t wait_ns; /* not beside count: compilers would add both with one slow vector */
	uint64_t culprit_id;
	uint64_t count;
};

/* Positions by hash, 0: none. Open addressing, linear probing; it grows with what it holds, so that little stays close. */
struct index {
	uint32_t *slots;
	uint32_t mask;
	uint32_t shift; /* 64 - log2(slots) */
	size_t bytes;   /* of slots, as large as it may become */
};

struct groups {
	uint32_t max_groups;
	uint32_t high_water; /* rows above were never used */
	uint32_t first_free; /* 0: none */
	uint32_t pairs_max;
	uint32_t pairs_used;
	struct group *rows; /* 1..max_groups */
	struct pair *pairs; /* 1..pairs_used; all are cleared by the tick */
	struct index row_of;
	struct index pair_of;
	uint64_t (*totals)[WAIT_CLASSES][TOTAL_BUCKETS]; /* by row */
	struct sketch_arena arena;
	struct groups_counters counters;
};

/* Ids are nearly consecutive: Fibonacci hashing spreads them (Knuth, TAOCP 3, 6.4). */
static inline uint64_t spread(uint64_t id)
{
	return id * 0x9e3779b97f4a7c15ull;
}

static inline uint32_t index_home(const struct index *index, uint64_t hash)
{
	return (uint32_t)(hash >> index->shift);
}

static inline uint32_t log2_ceil(uint32_t n)
{
	return n <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(n - 1);
}

static inline uint32_t index_bits(uint32_t entries)
{
	uint32_t bits = log2_ceil(entries * INDEX_SLOTS_PER_ENTRY);

	return bits < INDEX_BITS_MIN ? INDEX_BITS_MIN : bits;
}

/* Empty it; the next `entries` will fit. */
static inline void index_reset(struct index *index, uint32_t entries)
{
	uint32_t bits = index_bits(entries);

	/* never beyond its memory: at entries_max it is as large as it gets */
	while (sizeof(*index->slots) << bits > index->bytes)
		bits--;
	memset(index->slots, 0, (index->mask + 1ul) * sizeof(*index->slots));
	index->mask = (1u << bits) - 1;
	index->shift = 64 - bits;
}

/* So many entries need a larger one before the next is added. */
static inline int index_is_full(const struct index *index, uint32_t entries)
{
	return entries >= (index->mask + 1) / INDEX_SLOTS_PER_ENTRY;
}

static inline void index_put(struct index *index, uint64_t hash, uint32_t position)
{
	uint32_t slot = index_home(index, hash);

	while (index->slots[slot])
		slot = (slot + 1) & index->mask;
	index->slots[slot] = position;
}

/* A row for an id that has none; NULL: the table is full. */
struct group *group_add(struct groups *groups, uint64_t id);
/* Back to all zeros but for its id. What it had in the sketch arena stays there until the tick ends. */
void group_clear(struct groups *groups, struct group *group);
void group_delete(struct groups *groups, struct group *group);

/* The slot of an id, or the empty one where it would be. */
static inline uint32_t id_slot(const struct groups *groups, uint64_t id)
{
	const struct index *index = &groups->row_of;
	uint32_t slot = index_home(index, spread(id)), row;

	while ((row = index->slots[slot]) && groups->rows[row].id != id)
		slot = (slot + 1) & index->mask;
	return slot;
}

/* The row of an id >= 1, or NULL. */
static inline struct group *group_find(struct groups *groups, uint64_t id)
{
	uint32_t row = groups->row_of.slots[id_slot(groups, id)];

	return row ? &groups->rows[row] : NULL;
}

/* The same, made if need be; NULL: the table is full. */
static inline struct group *group_of(struct groups *groups, uint64_t id)
{
	struct group *group = group_find(groups, id);

	return group ? group : group_add(groups, id);
}

#endif
