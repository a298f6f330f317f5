/* SPDX-License-Identifier: Apache-2.0 */
#include "native/groups.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	NO_ROW = UINT32_MAX,
	OCTAVES_PER_GROUP = 24, /* room in the arena; a group that waits uses 10 to 15 in a tick */
	PAIRS_PER_GROUP = 8,
	TOTAL_OCTAVE_BUCKETS = SKETCH_OCTAVE_BUCKETS >> (SKETCH_SCHEMA - TOTAL_SCHEMA),
	TOTAL_BUCKETS = SKETCH_OCTAVES * TOTAL_OCTAVE_BUCKETS,
	TOTAL_INDEX_FIRST = SKETCH_INDEX_MIN / (1 << (SKETCH_SCHEMA - TOTAL_SCHEMA)) + 1,
};

/* The first cache line is all that a sample touches here, but for the octaves of its sketch. */
struct group {
	uint64_t id; /* 0: the row is free */
	uint64_t wait_count;
	uint64_t wait_sum_ns;
	uint64_t throttle_ns;
	uint64_t max_ns;
	uint32_t linger_ticks; /* 0: its cgroup is alive */
	uint32_t next_free;
	uint64_t throttle_events;
	uint64_t throttle_ended;
	struct sketch waits[WAIT_CLASSES];
	uint64_t class_sum_ns[WAIT_CLASSES];
	struct sketch throttles;
	uint64_t throttle_sum_ns;
	uint64_t throttle_max_ns;
	uint64_t total_count[WAIT_CLASSES];
	uint64_t total_sum_ns[WAIT_CLASSES];
	uint64_t total_zeros[WAIT_CLASSES];
} __attribute__((aligned(64)));

struct id_slot {
	uint64_t id; /* 0: empty */
	uint64_t row;
};

/* Open addressing with linear probing; pairs are only ever cleared all at once. */
struct groups {
	uint32_t max_groups;
	uint32_t high_water; /* rows at and above were never used */
	uint32_t first_free;
	uint32_t id_shift;   /* 64 - log2(slots) */
	uint32_t id_mask;
	uint32_t pair_shift;
	uint32_t pair_mask;
	uint32_t pairs_max;
	uint32_t pairs_used;
	struct group *rows;
	struct id_slot *ids;
	struct group_pair *pairs;
	uint32_t *pair_slots; /* those in use */
	uint64_t (*totals)[WAIT_CLASSES][TOTAL_BUCKETS]; /* by row */
	struct sketch_arena arena;
	struct groups_counters counters;
};

/* Zeroed, and only what is touched costs memory. */
static void *lazy_alloc(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void lazy_free(void *memory, size_t bytes)
{
	if (memory)
		munmap(memory, bytes);
}

static uint32_t log2_ceil(uint32_t n)
{
	return n <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(n - 1);
}

struct groups *groups_new(uint32_t max_groups)
{
	struct groups *groups;
	uint32_t id_bits, pair_bits;

	if (max_groups < 16 || max_groups > 65536)
		return NULL;
	groups = calloc(1, sizeof(*groups));
	if (!groups)
		return NULL;
	id_bits = log2_ceil(max_groups) + 1;
	pair_bits = log2_ceil(max_groups * PAIRS_PER_GROUP) + 1;
	groups->max_groups = max_groups;
	groups->first_free = NO_ROW;
	groups->id_shift = 64 - id_bits;
	groups->id_mask = (1u << id_bits) - 1;
	groups->pair_shift = 64 - pair_bits;
	groups->pair_mask = (1u << pair_bits) - 1;
	groups->pairs_max = 1u << (pair_bits - 1);
	groups->rows = lazy_alloc(max_groups * sizeof(*groups->rows));
	groups->ids = lazy_alloc((groups->id_mask + 1ul) * sizeof(*groups->ids));
	groups->pairs = lazy_alloc((groups->pair_mask + 1ul) * sizeof(*groups->pairs));
	groups->pair_slots = lazy_alloc(groups->pairs_max * sizeof(*groups->pair_slots));
	groups->totals = lazy_alloc(max_groups * sizeof(*groups->totals));
	if (!groups->rows || !groups->ids || !groups->pairs || !groups->pair_slots || !groups->totals ||
	    sketch_arena_init(&groups->arena, max_groups * OCTAVES_PER_GROUP)) {
		groups_free(groups);
		return NULL;
	}
	return groups;
}

void groups_free(struct groups *groups)
{
	if (!groups)
		return;
	lazy_free(groups->rows, groups->max_groups * sizeof(*groups->rows));
	lazy_free(groups->ids, (groups->id_mask + 1ul) * sizeof(*groups->ids));
	lazy_free(groups->pairs, (groups->pair_mask + 1ul) * sizeof(*groups->pairs));
	lazy_free(groups->pair_slots, groups->pairs_max * sizeof(*groups->pair_slots));
	lazy_free(groups->totals, groups->max_groups * sizeof(*groups->totals));
	sketch_arena_free(&groups->arena);
	free(groups);
}

/* Ids are nearly consecutive: Fibonacci hashing spreads them (Knuth, TAOCP 3, 6.4). */
static inline uint64_t spread(uint64_t id)
{
	return id * 0x9e3779b97f4a7c15ull;
}

static inline uint32_t id_slot_of(const struct groups *groups, uint64_t id)
{
	uint32_t slot = (uint32_t)(spread(id) >> groups->id_shift);

	while (groups->ids[slot].id != id && groups->ids[slot].id)
		slot = (slot + 1) & groups->id_mask;
	return slot;
}

static struct group *group_add(struct groups *groups, uint32_t slot, uint64_t id)
{
	uint32_t row = groups->first_free;

	if (row != NO_ROW)
		groups->first_free = groups->rows[row].next_free;
	else if (groups->high_water < groups->max_groups)
		row = groups->high_water++;
	else
		return NULL;
	groups->ids[slot] = (struct id_slot){ .id = id, .row = row };
	groups->rows[row].id = id;
	groups->counters.groups_born++;
	groups->counters.groups_live++;
	return &groups->rows[row];
}

/* The row of a group, made if need be; NULL: the table is full. */
static inline struct group *group_of(struct groups *groups, uint64_t id)
{
	uint32_t slot = id_slot_of(groups, id);

	if (__builtin_expect(groups->ids[slot].id == id, 1))
		return &groups->rows[groups->ids[slot].row];
	return group_add(groups, slot, id);
}

static struct group *group_find(struct groups *groups, uint64_t id)
{
	uint32_t slot = id_slot_of(groups, id);

	return id && groups->ids[slot].id == id ? &groups->rows[groups->ids[slot].row] : NULL;
}

/* Back to all zeros. What it had in the sketch arena stays there until the tick ends. */
static void group_clear(struct groups *groups, struct group *group)
{
	size_t row = (size_t)(group - groups->rows);

	for (int class = 0; class < WAIT_CLASSES; class++)
		if (group->total_count[class])
			memset(groups->totals[row][class], 0, sizeof(groups->totals[row][class]));
	*group = (struct group){ .id = group->id };
}

/* Linear probing without tombstones: what follows in the cluster moves up if it may. */
static void id_delete(struct groups *groups, uint64_t id)
{
	uint32_t hole = id_slot_of(groups, id), next = hole;

	for (;;) {
		uint32_t home;

		next = (next + 1) & groups->id_mask;
		if (!groups->ids[next].id)
			break;
		home = (uint32_t)(spread(groups->ids[next].id) >> groups->id_shift);
		if (((next - home) & groups->id_mask) >= ((next - hole) & groups->id_mask)) {
			groups->ids[hole] = groups->ids[next];
			hole = next;
		}
	}
	groups->ids[hole] = (struct id_slot){ 0 };
}

static void group_delete(struct groups *groups, struct group *group)
{
	id_delete(groups, group->id);
	group_clear(groups, group);
	group->id = 0;
	group->next_free = groups->first_free;
	groups->first_free = (uint32_t)(group - groups->rows);
	groups->counters.groups_live--;
}

static inline void pair_add(struct groups *groups, uint64_t victim_id, uint64_t culprit_id, uint64_t wait_ns,
			    uint64_t weight)
{
	uint32_t slot = (uint32_t)(spread(spread(victim_id) ^ culprit_id) >> groups->pair_shift);
	struct group_pair *pair;

	for (;; slot = (slot + 1) & groups->pair_mask) {
		pair = &groups->pairs[slot];
		if (__builtin_expect(pair->victim_id == victim_id && pair->culprit_id == culprit_id, 1))
			break;
		if (pair->victim_id)
			continue;
		if (groups->pairs_used == groups->pairs_max) {
			groups->counters.pairs_refused++;
			return;
		}
		groups->pair_slots[groups->pairs_used++] = slot;
		pair->victim_id = victim_id;
		pair->culprit_id = culprit_id;
		break;
	}
	pair->wait_ns += wait_ns * weight;
	pair->count += weight;
}

static inline void sample_add(struct groups *groups, const struct wait_sample *sample, uint64_t weight)
{
	uint64_t wait_ns = sample->wait_ns, contention_ns = wait_ns - sample->throttle_ns;
	int class = sample->throttle_ns > contention_ns ? WAIT_THROTTLE : WAIT_CONTENTION;
	struct group *group = group_of(groups, sample->victim_id);

	if (!group) {
		groups->counters.groups_refused++;
		return;
	}
	group->wait_count += weight;
	group->wait_sum_ns += wait_ns * weight;
	group->throttle_ns += sample->throttle_ns * weight;
	if (wait_ns > group->max_ns)
		group->max_ns = wait_ns;
	if (__builtin_expect(class == WAIT_THROTTLE, 0))
		group->class_sum_ns[WAIT_THROTTLE] += wait_ns * weight;
	if (__builtin_expect(sketch_insert(&group->waits[class], &groups->arena, wait_ns, weight) != 0, 0))
		groups->counters.sketch_refused++;
	if (contention_ns)
		pair_add(groups, sample->victim_id, sample->culprit_id, contention_ns, weight);
}

void groups_on_batch(void *context, const void *data, uint32_t bytes)
{
	const struct wait_batch *batch = data;
	struct groups *groups = context;

	if (bytes < offsetof(struct wait_batch, samples) || batch->count > WAIT_BATCH_SAMPLES || !batch->weight ||
	    bytes != offsetof(struct wait_batch, samples) + batch->count * sizeof(struct wait_sample)) {
		groups->counters.malformed++;
		return;
	}
	for (uint32_t i = 0; i < batch->count; i++) {
		const struct wait_sample *sample = &batch->samples[i];

		groups->counters.consumed++;
		if (!sample->victim_id || sample->throttle_ns > sample->wait_ns)
			groups->counters.malformed++;
		else
			sample_add(groups, sample, batch->weight);
	}
}

void groups_on_throttle(struct groups *groups, const struct throttle_event *event)
{
	struct group *group;

	if (!event->owner_id || (event->kind != EVENT_THROTTLE_BEGIN && event->kind != EVENT_THROTTLE_END)) {
		groups->counters.malformed++;
		return;
	}
	group = group_of(groups, event->owner_id);
	if (!group) {
		groups->counters.groups_refused++;
		return;
	}
	if (event->kind == EVENT_THROTTLE_BEGIN) {
		group->throttle_events++;
		return;
	}
	group->throttle_ended++;
	group->throttle_sum_ns += event->duration_ns;
	if (event->duration_ns > group->throttle_max_ns)
		group->throttle_max_ns = event->duration_ns;
	if (sketch_insert(&group->throttles, &groups->arena, event->duration_ns, 1))
		groups->counters.sketch_refused++;
}

void groups_on_born(struct groups *groups, uint64_t id)
{
	struct group *group = group_find(groups, id);

	if (!group)
		return; /* its first sample makes the row */
	groups->counters.groups_reused++;
	group_clear(groups, group);
}

void groups_on_removed(struct groups *groups, uint64_t id)
{
	/* made if need be: its samples may still lie in a batch, and without this nothing would free their row */
	struct group *group = id ? group_of(groups, id) : NULL;

	if (group && !group->linger_ticks)
		group->linger_ticks = GROUP_LINGER_TICKS;
}

static void tick_read(const struct groups *groups, const struct group *group, struct group_tick *out)
{
	static const double q[] = { 0.50, 0.95, 0.99 };
	const struct sketch *waits[] = { &group->waits[WAIT_CONTENTION], &group->waits[WAIT_THROTTLE] };
	const struct sketch *throttles = &group->throttles;
	double wait_ns[3] = { NAN, NAN, NAN };

	*out = (struct group_tick){
		.id = group->id,
		.wait_count = group->wait_count,
		.wait_sum_ns = group->wait_sum_ns,
		.contention_ns = group->wait_sum_ns - group->throttle_ns,
		.throttle_ns = group->throttle_ns,
		.max_ns = group->wait_count ? (double)group->max_ns : NAN,
		.throttle_events = group->throttle_events,
		.throttle_ended = group->throttle_ended,
		.throttle_sum_ns = group->throttle_sum_ns,
		.throttle_p99_ns = NAN,
		.removed = group->linger_ticks != 0,
	};
	if (group->wait_count)
		sketch_quantiles(waits, WAIT_CLASSES, &groups->arena, group->max_ns, q, 3, wait_ns);
	out->p50_ns = wait_ns[0];
	out->p95_ns = wait_ns[1];
	out->p99_ns = wait_ns[2];
	if (group->throttle_ended)
		sketch_quantiles(&throttles, 1, &groups->arena, group->throttle_max_ns, &q[2], 1,
				 &out->throttle_p99_ns);
}

/* Add the tick to the totals and empty it. */
static void tick_close(struct groups *groups, struct group *group)
{
	size_t row = (size_t)(group - groups->rows);

	group->class_sum_ns[WAIT_CONTENTION] = group->wait_sum_ns - group->class_sum_ns[WAIT_THROTTLE];
	for (int class = 0; class < WAIT_CLASSES && group->wait_count; class++) {
		struct sketch *waits = &group->waits[class];
		uint64_t count = sketch_count(waits, &groups->arena);

		if (!count)
			continue;
		sketch_fold(waits, &groups->arena, TOTAL_SCHEMA, TOTAL_INDEX_FIRST, groups->totals[row][class],
			    TOTAL_BUCKETS);
		group->total_count[class] += count;
		group->total_sum_ns[class] += group->class_sum_ns[class];
		group->total_zeros[class] += waits->zero_count;
		memset(waits, 0, sizeof(*waits));
	}
	if (group->throttle_ended)
		memset(&group->throttles, 0, sizeof(group->throttles));
	group->wait_count = group->wait_sum_ns = group->throttle_ns = group->max_ns = 0;
	group->class_sum_ns[WAIT_CONTENTION] = group->class_sum_ns[WAIT_THROTTLE] = 0;
	group->throttle_events = group->throttle_ended = group->throttle_sum_ns = group->throttle_max_ns = 0;
}

int groups_tick(struct groups *groups, struct group_tick *out, size_t rows, size_t *n_rows, struct group_pair *out_pairs,
		size_t pairs, size_t *n_pairs)
{
	size_t n = 0;

	if (rows < groups->counters.groups_live || pairs < groups->pairs_used)
		return -ENOSPC;
	for (uint32_t row = 0; row < groups->high_water; row++) {
		struct group *group = &groups->rows[row];

		if (!group->id)
			continue;
		tick_read(groups, group, &out[n]);
		tick_close(groups, group);
		memcpy(out[n].total_count, group->total_count, sizeof(group->total_count));
		memcpy(out[n].total_sum_ns, group->total_sum_ns, sizeof(group->total_sum_ns));
		n++;
		if (group->linger_ticks && --group->linger_ticks == 0)
			group_delete(groups, group);
	}
	*n_rows = n;
	for (uint32_t i = 0; i < groups->pairs_used; i++) {
		struct group_pair *pair = &groups->pairs[groups->pair_slots[i]];

		out_pairs[i] = *pair;
		*pair = (struct group_pair){ 0 };
	}
	*n_pairs = groups->pairs_used;
	groups->pairs_used = 0;
	sketch_arena_reset(&groups->arena);
	return 0;
}

/* The non-empty buckets of one histogram; out NULL: only their number. */
static size_t buckets_read(const struct groups *groups, uint32_t row, int class, struct group_bucket *out, size_t n)
{
	const struct group *group = &groups->rows[row];
	size_t found = 0;

	for (int i = -1; i < TOTAL_BUCKETS; i++) {
		uint64_t count = i < 0 ? group->total_zeros[class] : groups->totals[row][class][i];

		if (!count)
			continue;
		if (out && found < n)
			out[found] = (struct group_bucket){
				.id = group->id,
				.wait_class = class,
				.bucket = i < 0 ? INT32_MIN : TOTAL_INDEX_FIRST + i,
				.count = count,
			};
		found++;
	}
	return found;
}

int64_t groups_buckets(const struct groups *groups, struct group_bucket *out, size_t n)
{
	size_t found = 0;

	for (uint32_t row = 0; row < groups->high_water; row++)
		for (int class = 0; class < WAIT_CLASSES; class++) {
			if (!groups->rows[row].id || !groups->rows[row].total_count[class])
				continue;
			found += buckets_read(groups, row, class, out ? out + found : NULL, n - found);
			if (found > n)
				return -ENOSPC;
		}
	return (int64_t)found;
}

void groups_size(const struct groups *groups, size_t *n_rows, size_t *n_pairs)
{
	*n_rows = groups->counters.groups_live;
	*n_pairs = groups->pairs_used;
}

void groups_read_counters(const struct groups *groups, struct groups_counters *out)
{
	*out = groups->counters;
}
