/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer harness of the group table: any records and events, in a table so small that all of it overflows. The
 * input is a list of steps, each one byte for what and its operands (0 where the input ends). A list of rows that is
 * searched from its beginning is the oracle of what native/groups.h promises.
 */
#include "native/groups.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 16, PAIRS = 8 * ROWS, BUCKETS = ROWS * WAIT_CLASSES * 600, IDS = 24, WAIT_BITS = 56 };

struct input {
	const uint8_t *at;
	size_t bytes;
};

struct row {
	uint64_t id; /* 0: free */
	uint32_t linger_ticks;
	uint64_t wait_count, wait_sum_ns, throttle_ns, max_ns;
	uint64_t throttle_events, throttle_ended, throttle_sum_ns;
	uint64_t total_count, total_sum_ns; /* both classes */
};

struct model {
	struct row rows[ROWS];
	struct groups_counters counters; /* sketch_refused and pairs_refused are not predicted */
};

static uint64_t take(struct input *in, size_t bytes)
{
	uint64_t value = 0;
	size_t n = bytes < in->bytes ? bytes : in->bytes;

	memcpy(&value, in->at, n);
	in->at += n;
	in->bytes -= n;
	return value;
}

/* A few ids that meet often, 0 among them; by the inverse of the hash's factor they are neighbours in the index. */
static uint64_t take_id(struct input *in)
{
	uint64_t n = take(in, 1) % (IDS + 1);

	return n ? (n % 3 << 56 | n) * 0xf1de83e19937733dull : 0;
}

static uint64_t take_ns(struct input *in)
{
	uint32_t bits = take(in, 1) % 65;

	return bits ? take(in, 8) >> (64 - bits) : 0;
}

static struct row *row_find(struct model *model, uint64_t id)
{
	for (int i = 0; i < ROWS; i++)
		if (model->rows[i].id == id)
			return &model->rows[i];
	return NULL;
}

static struct row *row_of(struct model *model, uint64_t id)
{
	struct row *row = row_find(model, id);

	if (row)
		return row;
	row = row_find(model, 0);
	if (row) {
		*row = (struct row){ .id = id };
		model->counters.groups_born++;
		model->counters.groups_live++;
	}
	return row;
}

static void expect_sample(struct model *model, const struct wait_sample *sample, uint64_t weight)
{
	struct row *row;

	model->counters.consumed++;
	if (!sample->victim_id || sample->throttle_ns > sample->wait_ns || sample->wait_ns >> WAIT_BITS) {
		model->counters.malformed++;
		return;
	}
	row = row_of(model, sample->victim_id);
	if (!row) {
		model->counters.groups_refused++;
		return;
	}
	row->wait_count += weight;
	row->wait_sum_ns += sample->wait_ns * weight;
	row->throttle_ns += sample->throttle_ns * weight;
	if (sample->wait_ns > row->max_ns)
		row->max_ns = sample->wait_ns;
}

static void give_record(struct groups *groups, struct model *model, const void *record, uint32_t bytes)
{
	uint32_t head_bytes = offsetof(struct wait_batch, samples);
	const struct wait_batch *batch = record;

	groups_on_batch(groups, record, bytes);
	if (bytes < head_bytes || batch->count < 1 || batch->count > WAIT_BATCH_SAMPLES || !batch->weight ||
	    bytes - head_bytes != batch->count * sizeof(struct wait_sample)) {
		model->counters.malformed++;
		return;
	}
	for (uint32_t i = 0; i < batch->count; i++)
		expect_sample(model, &batch->samples[i], batch->weight);
}

/* In memory of exactly its size, so that the sanitizer sees what is read behind it. */
static void give_batch(struct groups *groups, struct model *model, struct input *in, bool garbage)
{
	uint32_t count = 1 + take(in, 1) % WAIT_BATCH_SAMPLES;
	uint32_t bytes = offsetof(struct wait_batch, samples) + count * sizeof(struct wait_sample);
	uint32_t given = garbage ? take(in, 2) % (bytes + 1) : bytes;
	struct wait_batch *batch = calloc(1, bytes);
	void *record = malloc(given + 1u);

	assert(batch && record);
	batch->count = garbage ? (uint32_t)take(in, 4) : count;
	batch->weight = garbage ? (uint32_t)take(in, 4) : 1 + take(in, 1) % 3;
	for (uint32_t i = 0; i < count; i++) {
		struct wait_sample *sample = &batch->samples[i];

		sample->victim_id = garbage ? take(in, 8) : take_id(in);
		sample->culprit_id = take_id(in);
		sample->wait_ns = take_ns(in);
		sample->throttle_ns = take_ns(in);
		if (!garbage && sample->throttle_ns > sample->wait_ns)
			sample->throttle_ns = sample->wait_ns;
	}
	memcpy(record, batch, given);
	give_record(groups, model, record, given);
	free(batch);
	free(record);
}

static void give_throttle(struct groups *groups, struct model *model, struct input *in)
{
	struct throttle_event event = { .kind = take(in, 1) % 4, .owner_id = take_id(in), .duration_ns = take_ns(in) };
	struct row *row;

	groups_on_throttle(groups, &event);
	if (!event.owner_id || event.kind < EVENT_THROTTLE_BEGIN || event.kind > EVENT_THROTTLE_END ||
	    event.duration_ns >> WAIT_BITS) {
		model->counters.malformed++;
		return;
	}
	row = row_of(model, event.owner_id);
	if (!row) {
		model->counters.groups_refused++;
	} else if (event.kind == EVENT_THROTTLE_BEGIN) {
		row->throttle_events++;
	} else {
		row->throttle_ended++;
		row->throttle_sum_ns += event.duration_ns;
	}
}

static void give_birth(struct groups *groups, struct model *model, uint64_t id)
{
	struct row *row = id ? row_find(model, id) : NULL;

	groups_on_born(groups, id);
	if (!row || !row->linger_ticks)
		return;
	*row = (struct row){ .id = id };
	model->counters.groups_reused++;
}

static void give_removal(struct groups *groups, struct model *model, uint64_t id)
{
	struct row *row = id ? row_of(model, id) : NULL;

	groups_on_removed(groups, id);
	if (row && !row->linger_ticks)
		row->linger_ticks = GROUP_LINGER_TICKS;
}

static void check_row(struct row *row, const struct group_tick *found, bool sketched)
{
	uint64_t total_count = found->total_count[0] + found->total_count[1];

	row->total_count += row->wait_count;
	row->total_sum_ns += row->wait_sum_ns;
	assert(found->wait_count == row->wait_count && found->wait_sum_ns == row->wait_sum_ns);
	assert(found->throttle_ns == row->throttle_ns);
	assert(found->contention_ns == row->wait_sum_ns - row->throttle_ns);
	assert(row->wait_count ? found->max_ns == (double)row->max_ns : isnan(found->max_ns));
	assert(found->throttle_events == row->throttle_events && found->throttle_ended == row->throttle_ended);
	assert(found->throttle_sum_ns == row->throttle_sum_ns);
	assert(!found->removed == !row->linger_ticks);
	assert(isnan(found->p50_ns) ||
	       (found->p50_ns <= found->p95_ns && found->p95_ns <= found->p99_ns && found->p99_ns <= found->max_ns));
	assert(!sketched || !isnan(found->p99_ns) == (row->wait_count != 0));
	assert(sketched ? total_count == row->total_count : total_count <= row->total_count);
	assert(!sketched || found->total_sum_ns[0] + found->total_sum_ns[1] == row->total_sum_ns);
}

/* The cells of a row add up to its contention, if all found room. */
static void check_matrix(const struct group_tick *row, const struct group_pair *pairs, size_t n, bool whole)
{
	uint64_t wait_ns = 0;

	for (size_t i = 0; i < n; i++) {
		assert(pairs[i].count && pairs[i].wait_ns);
		for (size_t j = 0; j < i; j++)
			assert(pairs[i].victim_id != pairs[j].victim_id || pairs[i].culprit_id != pairs[j].culprit_id);
		if (pairs[i].victim_id == row->id)
			wait_ns += pairs[i].wait_ns;
	}
	assert(whole ? wait_ns == row->contention_ns : true);
}

static void check_buckets(const struct groups *groups, const struct group_tick *rows, size_t n_rows)
{
	static struct group_bucket buckets[BUCKETS];
	int64_t n = groups_buckets(groups, buckets, BUCKETS);

	assert(n >= 0 && (n == 0 || groups_buckets(groups, buckets, (size_t)n - 1) == -ENOSPC));
	for (size_t i = 0; i < n_rows; i++) {
		uint64_t counts[WAIT_CLASSES] = { 0 };
		bool alive = false;

		for (int64_t j = 0; j < n; j++) {
			if (buckets[j].id != rows[i].id)
				continue;
			alive = true;
			counts[buckets[j].wait_class] += buckets[j].count;
		}
		assert(!alive || !memcmp(counts, rows[i].total_count, sizeof(counts)));
	}
}

static void check_tick(struct groups *groups, struct model *model, const struct groups_counters *last)
{
	struct group_tick rows[ROWS];
	struct group_pair pairs[PAIRS];
	struct groups_counters now;
	size_t n_rows, n_pairs, wanted_rows, wanted_pairs;

	groups_read_counters(groups, &now);
	groups_size(groups, &wanted_rows, &wanted_pairs);
	assert(wanted_rows <= ROWS && wanted_pairs <= PAIRS);
	if (wanted_rows)
		assert(groups_tick(groups, rows, wanted_rows - 1, &n_rows, pairs, PAIRS, &n_pairs) == -ENOSPC);
	if (wanted_pairs)
		assert(groups_tick(groups, rows, ROWS, &n_rows, pairs, wanted_pairs - 1, &n_pairs) == -ENOSPC);
	assert(groups_tick(groups, rows, wanted_rows, &n_rows, pairs, wanted_pairs, &n_pairs) == 0);
	assert(n_rows == wanted_rows && n_pairs == wanted_pairs && n_rows == model->counters.groups_live);
	for (size_t i = 0; i < n_rows; i++) {
		struct row *row = row_find(model, rows[i].id);

		assert(row && row->id);
		check_row(row, &rows[i], !now.sketch_refused);
		check_matrix(&rows[i], pairs, n_pairs, now.pairs_refused == last->pairs_refused);
		*row = (struct row){ .id = row->id,
				     .linger_ticks = row->linger_ticks,
				     .total_count = row->total_count,
				     .total_sum_ns = row->total_sum_ns };
		if (row->linger_ticks && --row->linger_ticks == 0) {
			row->id = 0;
			model->counters.groups_live--;
		}
	}
	check_buckets(groups, rows, n_rows);
}

static void check_counters(const struct groups *groups, struct model *model)
{
	struct groups_counters found;

	groups_read_counters(groups, &found);
	model->counters.sketch_refused = found.sketch_refused;
	model->counters.pairs_refused = found.pairs_refused;
	assert(!memcmp(&found, &model->counters, sizeof(found)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct groups *groups = groups_new(ROWS);
	struct input in = { data, size };
	struct groups_counters last = { 0 };
	struct model model = { 0 };

	assert(groups);
	while (in.bytes) {
		switch (take(&in, 1) % 8) {
		case 0:
			check_tick(groups, &model, &last);
			groups_read_counters(groups, &last);
			break;
		case 1:
			give_batch(groups, &model, &in, true);
			break;
		case 2:
			give_throttle(groups, &model, &in);
			break;
		case 3:
			give_birth(groups, &model, take_id(&in));
			break;
		case 4:
			give_removal(groups, &model, take_id(&in));
			break;
		default:
			give_batch(groups, &model, &in, false);
		}
		check_counters(groups, &model);
	}
	check_tick(groups, &model, &last);
	groups_free(groups);
	return 0;
}
