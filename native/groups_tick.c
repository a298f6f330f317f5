/* SPDX-License-Identifier: Apache-2.0 */
/* The reading side of the groups: what a tick says, and the totals. */
#include "native/group_table.h"

#include <errno.h>
#include <math.h>

static void tick_read(const struct groups *groups, const struct group *group, struct group_tick *out)
{
	static const double q[] = { 0.50, 0.95, 0.99 };
	const struct sketch *waits[] = { &group->waits[WAIT_CONTENTION], &group->waits[WAIT_THROTTLE] };
	const struct sketch *throttles = &group->throttles;
	uint64_t wait_sum_ns = group->class_sum_ns[WAIT_CONTENTION] + group->class_sum_ns[WAIT_THROTTLE];
	double wait_ns[3] = { NAN, NAN, NAN };

	*out = (struct group_tick){
		.id = group->id,
		.wait_count = group->wait_count,
		.wait_sum_ns = wait_sum_ns,
		.contention_ns = wait_sum_ns - group->throttle_ns,
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

	for (int class = 0; class < WAIT_CLASSES && group->wait_count; class ++) {
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
	group->wait_count = group->throttle_ns = group->max_ns = 0;
	group->class_sum_ns[WAIT_CONTENTION] = group->class_sum_ns[WAIT_THROTTLE] = 0;
	group->throttle_events = group->throttle_ended = group->throttle_sum_ns = group->throttle_max_ns = 0;
}

/* Read the matrix out and empty it. */
static size_t pairs_take(struct groups *groups, struct group_pair *out)
{
	uint32_t n = groups->pairs_used;

	for (uint32_t i = 0; i < n; i++) {
		const struct pair *pair = &groups->pairs[1 + i];

		out[i] = (struct group_pair){
			.victim_id = pair->victim->id,
			.culprit_id = pair->culprit_id,
			.wait_ns = pair->wait_ns,
			.count = pair->count,
		};
	}
	groups->pairs_used = 0;
	index_reset(&groups->pair_of, n); /* the next tick will be like this one */
	return n;
}

int groups_tick(struct groups *groups, struct group_tick *out, size_t rows, size_t *n_rows,
		struct group_pair *out_pairs, size_t pairs, size_t *n_pairs)
{
	size_t n = 0;

	if (rows < groups->counters.groups_live || pairs < groups->pairs_used)
		return -ENOSPC;
	*n_pairs = pairs_take(groups, out_pairs); /* before rows go, which cells refer to */
	for (uint32_t row = 1; row <= groups->high_water; row++) {
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

	for (uint32_t row = 1; row <= groups->high_water; row++)
		for (int class = 0; class < WAIT_CLASSES; class ++) {
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
