/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All groups of one host: what they waited, how their quotas throttled them, and because of whom.
 *
 * Samples add to the current tick; groups_tick() reads the tick out, adds it to the totals and starts the next. A
 * group is a row of a fixed table (its memory is touched only when used), found by its 64-bit kernfs id.
 * Rows are born by their first sample or event and freed some ticks after their group was removed, so that a late
 * sample of a dead group still finds it. Nothing is allocated per sample.
 *
 * Not thread-safe: one thread at a time.
 */
#ifndef SLACKWATER_GROUPS_H
#define SLACKWATER_GROUPS_H

#include "bpf/sched_wait.h"
#include "bpf/throttle.h"
#include "native/sketch.h"

enum {
	WAIT_CONTENTION = 0, /* class of a wait: its larger part */
	WAIT_THROTTLE = 1,
	WAIT_CLASSES = 2,
	TOTAL_SCHEMA = 3,       /* resolution of the cumulative histograms: 8 buckets an octave */
	GROUP_LINGER_TICKS = 2, /* a removed group keeps its row for so many ticks */
};

struct groups;

/* One group in one tick; quantiles and maxima are NaN where there is nothing to say. */
struct group_tick {
	uint64_t id;
	uint64_t wait_count; /* waits that ended, weighted by the sampling factor, like all below */
	uint64_t wait_sum_ns;
	uint64_t contention_ns; /* contention_ns + throttle_ns == wait_sum_ns */
	uint64_t throttle_ns;
	double p50_ns;
	double p95_ns;
	double p99_ns;
	double max_ns;
	uint64_t throttle_events; /* throttles of its own quota that began */
	uint64_t throttle_ended;  /* and that ended, which the two below are of */
	uint64_t throttle_sum_ns;
	double throttle_p99_ns;
	uint64_t total_count[WAIT_CLASSES]; /* since the group was first seen */
	uint64_t total_sum_ns[WAIT_CLASSES];
	uint32_t removed; /* 1: its cgroup is gone, the row will be */
	uint32_t reserved;
};

/* Contention wait of one victim behind one culprit in one tick. culprit_id 0: the CPU was idle. */
struct group_pair {
	uint64_t victim_id;
	uint64_t culprit_id;
	uint64_t wait_ns;
	uint64_t count;
};

/* One non-empty bucket of a cumulative histogram, at TOTAL_SCHEMA; waits of 0 ns: bucket INT32_MIN. */
struct group_bucket {
	uint64_t id;
	int32_t wait_class;
	int32_t bucket;
	uint64_t count;
};

/* Since groups_new; each is a way in which figures could be incomplete. */
struct groups_counters {
	uint64_t consumed;       /* samples received */
	uint64_t groups_refused; /* samples that found the table full: not in any figure */
	uint64_t sketch_refused; /* samples counted and summed, but not in a percentile or histogram (no memory) */
	uint64_t pairs_refused;  /* samples not in the victim x culprit matrix (full) */
	uint64_t malformed;      /* records and samples that make no sense; such samples are in consumed too */
	uint64_t groups_live;    /* gauge: rows in use */
	uint64_t groups_born;
	uint64_t groups_reused; /* births of an id whose removed group still had its row: it begins anew */
};

/* max_groups: 16..65536. NULL: no memory, or out of that range. */
struct groups *groups_new(uint32_t max_groups);
void groups_free(struct groups *groups);

/* A record of a wait ring (struct wait_batch); a ring_record_fn with context = the groups. */
void groups_on_batch(void *groups, const void *data, uint32_t bytes);

void groups_on_throttle(struct groups *groups, const struct throttle_event *event);
void groups_on_born(struct groups *groups, uint64_t id);
void groups_on_removed(struct groups *groups, uint64_t id);

/*
 * Read the tick out and start the next. Writes at most `rows` groups and `pairs` pairs and says how many in *n_rows, *n_pairs.
 * Returns 0, or -ENOSPC if they do not fit (then nothing was changed; groups_size says how many are needed).
 */
int groups_tick(struct groups *groups, struct group_tick *out, size_t rows, size_t *n_rows,
		struct group_pair *out_pairs, size_t pairs, size_t *n_pairs);
void groups_size(const struct groups *groups, size_t *n_rows, size_t *n_pairs);

/* The cumulative histograms as of the last tick. Number of buckets, or -ENOSPC: ask again with more room. */
int64_t groups_buckets(const struct groups *groups, struct group_bucket *out, size_t n);

void groups_read_counters(const struct groups *groups, struct groups_counters *out);

#endif
