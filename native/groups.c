/* SPDX-License-Identifier: Apache-2.0 */
#include "native/group_table.h"

#include <stdbool.h>

enum { WAIT_BITS = 56 }; /* a longer wait (2 years) is no wait but a clock that went wrong */

#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* x86-64-v1 has no lzcnt, and bsr waits for what was in its target register: 1 ns per sample, by sketch_slot. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define FOR_NEWER_CPUS __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define FOR_NEWER_CPUS
#endif

/* ---- samples -------------------------------------------------------------------------------- */

static inline uint64_t pair_hash(uint64_t victim_id, uint64_t culprit_id)
{
	return spread(spread(victim_id) ^ culprit_id);
}

/* With room for twice as many. */
static void pair_of_rebuild(struct groups *groups)
{
	index_reset(&groups->pair_of, 2 * groups->pairs_used);
	for (uint32_t i = 1; i <= groups->pairs_used; i++)
		index_put(&groups->pair_of, pair_hash(groups->pairs[i].victim->id, groups->pairs[i].culprit_id), i);
}

/* Cells of an earlier group with this id. */
static void pairs_forget(struct groups *groups, const struct group *victim)
{
	uint32_t kept = 0;

	for (uint32_t i = 1; i <= groups->pairs_used; i++)
		if (groups->pairs[i].victim != victim)
			groups->pairs[++kept] = groups->pairs[i];
	groups->pairs_used = kept;
	pair_of_rebuild(groups);
}

static inline bool pair_is(const struct pair *pair, const struct wait_sample *sample)
{
	return pair->culprit_id == sample->culprit_id && pair->victim->id == sample->victim_id;
}

/* The cell of a sample, made if need be; NULL: no room for it, or for the victim's row. */
static __attribute__((noinline)) struct pair *pair_of(struct groups *groups, const struct wait_sample *sample)
{
	struct index *index = &groups->pair_of;
	uint32_t slot = index_home(index, pair_hash(sample->victim_id, sample->culprit_id));
	struct group *victim;
	struct pair *pair;

	for (; index->slots[slot]; slot = (slot + 1) & index->mask)
		if (pair_is(&groups->pairs[index->slots[slot]], sample))
			return &groups->pairs[index->slots[slot]];
	victim = group_of(groups, sample->victim_id);
	if (!victim)
		return NULL;
	if (groups->pairs_used == groups->pairs_max) {
		groups->counters.pairs_refused++;
		return NULL;
	}
	pair = &groups->pairs[++groups->pairs_used];
	*pair = (struct pair){ .victim = victim, .culprit_id = sample->culprit_id };
	index->slots[slot] = groups->pairs_used;
	if (index_is_full(index, groups->pairs_used))
		pair_of_rebuild(groups);
	return pair;
}

/* Adds to the matrix and says whose row it is; NULL: the table is full. `guess`: probably the cell. */
static inline struct group *pair_add(struct groups *groups, const struct wait_sample *sample, struct pair *guess,
				     uint64_t weight)
{
	struct pair *pair = guess;

	if (unlikely(sample->wait_ns == sample->throttle_ns))
		return group_of(groups, sample->victim_id); /* no contention: nobody's fault */
	if (unlikely(!pair_is(pair, sample))) {
		pair = pair_of(groups, sample);
		if (!pair)
			return group_of(groups, sample->victim_id);
	}
	pair->wait_ns += (sample->wait_ns - sample->throttle_ns) * weight;
	pair->count += weight;
	return pair->victim;
}

/* Returns the counter of its bucket, which is to be raised by the weight; NULL: no memory for it. */
static inline uint64_t *group_wait_add(struct groups *groups, struct group *group, uint64_t wait_ns,
				       uint64_t throttle_ns, uint64_t weight)
{
	int class = WAIT_CONTENTION;

	if (unlikely(throttle_ns != 0)) {
		group->throttle_ns += throttle_ns * weight;
		if (throttle_ns > wait_ns - throttle_ns)
			class = WAIT_THROTTLE;
	}
	group->wait_count += weight;
	group->class_sum_ns[class] += wait_ns * weight;
	if (unlikely(wait_ns > group->max_ns))
		group->max_ns = wait_ns;
	return sketch_counter(&group->waits[class], &groups->arena, wait_ns);
}

/*
 * In three rounds, each of which asks for the memory that the next will touch: with hundreds of groups most of it is
 * not in the first caches.
 */
FOR_NEWER_CPUS
static void batch_add(struct groups *groups, const struct wait_batch *batch)
{
	struct pair *guesses[WAIT_BATCH_SAMPLES];
	uint64_t *counters[WAIT_BATCH_SAMPLES], weight = batch->weight;
	uint32_t count = batch->count, n_counters = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t hash = pair_hash(batch->samples[i].victim_id, batch->samples[i].culprit_id);

		guesses[i] = &groups->pairs[groups->pair_of.slots[index_home(&groups->pair_of, hash)]];
		__builtin_prefetch(guesses[i], 1);
	}
	for (uint32_t i = 0; i < count; i++) {
		const struct wait_sample *sample = &batch->samples[i];
		uint64_t wait_ns = sample->wait_ns, throttle_ns = sample->throttle_ns;
		struct group *group;
		uint64_t *counter;

		if (unlikely(!sample->victim_id || throttle_ns > wait_ns || wait_ns >> WAIT_BITS)) {
			groups->counters.malformed++;
			continue;
		}
		group = pair_add(groups, sample, guesses[i], weight);
		if (unlikely(!group)) {
			groups->counters.groups_refused++;
			continue;
		}
		counter = group_wait_add(groups, group, wait_ns, throttle_ns, weight);
		if (unlikely(!counter)) {
			groups->counters.sketch_refused++;
			continue;
		}
		__builtin_prefetch(counter, 1);
		counters[n_counters++] = counter;
	}
	for (uint32_t i = 0; i < n_counters; i++)
		*counters[i] += weight;
	groups->counters.consumed += count;
}

void groups_on_batch(void *context, const void *data, uint32_t bytes)
{
	const struct wait_batch *batch = data;
	struct groups *groups = context;

	if (bytes < offsetof(struct wait_batch, samples) || !batch->count || batch->count > WAIT_BATCH_SAMPLES ||
	    !batch->weight || bytes != offsetof(struct wait_batch, samples) + batch->count * sizeof(batch->samples[0]))
		groups->counters.malformed++;
	else
		batch_add(groups, batch);
}

/* ---- events --------------------------------------------------------------------------------- */

void groups_on_throttle(struct groups *groups, const struct throttle_event *event)
{
	bool begins = event->kind == EVENT_THROTTLE_BEGIN;
	struct group *group;

	if (!event->owner_id || (!begins && event->kind != EVENT_THROTTLE_END) || event->duration_ns >> WAIT_BITS) {
		groups->counters.malformed++;
		return;
	}
	group = group_of(groups, event->owner_id);
	if (!group) {
		groups->counters.groups_refused++;
		return;
	}
	if (begins) {
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
	struct group *group = id ? group_find(groups, id) : NULL;

	/* Else its first sample makes the row, or has made it: samples may overtake the event. */
	if (!group || !group->linger_ticks)
		return;
	groups->counters.groups_reused++;
	group_clear(groups, group);
	pairs_forget(groups, group);
}

void groups_on_removed(struct groups *groups, uint64_t id)
{
	/* made if need be: its samples may still lie in a batch, and without this nothing would free their row */
	struct group *group = id ? group_of(groups, id) : NULL;

	if (group && !group->linger_ticks)
		group->linger_ticks = GROUP_LINGER_TICKS;
}

void groups_read_counters(const struct groups *groups, struct groups_counters *out)
{
	*out = groups->counters;
}
