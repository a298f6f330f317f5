/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Run-queue wait samples: the contract between bpf/sched_wait.bpf.h (writer), native/ (reader) and
 * Python (cffi reads this same header). All times are nanoseconds of the kernel's run-queue clock;
 * a group is the 64-bit kernfs id of a cgroup (its directory's inode number); 0 means nobody (idle).
 */
#ifndef SLACKWATER_SCHED_WAIT_H
#define SLACKWATER_SCHED_WAIT_H

#ifndef SLACKWATER_CDEF
#include <stdint.h>
#endif

enum { WAIT_BATCH_SAMPLES = 64 };

/* One wait that ended. */
struct wait_sample {
	uint64_t victim_id;
	uint64_t culprit_id;  /* who had the CPU longest while it waited, its throttled part aside */
	uint64_t wait_ns;     /* the whole wait, as the kernel's sched_info counts it */
	uint64_t throttle_ns; /* the part in which the victim's own quota held it; <= wait_ns */
};

/*
 * One ring record. Only the first `count` samples are sent, so a record has
 * offsetof(samples) + count * sizeof(struct wait_sample) bytes, 1 <= count <= WAIT_BATCH_SAMPLES.
 * Each sample stands for `weight` waits (the sampling factor in force when it was taken).
 */
struct wait_batch {
	uint32_t cpu;
	uint32_t count;
	uint32_t weight;
	uint32_t reserved;
	struct wait_sample samples[WAIT_BATCH_SAMPLES];
};

enum { WAIT_RUNS = 8 }; /* a power of two */

/* A run of one group on a CPU that ended, however many of its tasks had part in it. */
struct wait_run {
	uint64_t group_id;
	uint64_t begin_clock; /* run-queue clock; 0: nothing was seen yet */
};

/*
 * What one CPU writes, mapped by user space, which only reads. What each switch writes is in front, in the first cache
 * line. Counters rise since load. Once every CPU was flushed and the rings were drained:
 *   produced == consumed + dropped, and
 *   waits == produced + sampled_out + own + unknown.
 */
struct wait_cpu {
	uint64_t waits;               /* switches to a task, that is: waits that ended */
	uint64_t idles;               /* switches to the idle task */
	uint64_t last_throttle_clock; /* run-queue clock when a quota last stopped a task here; 0: never */
	uint64_t runs_ended;
	struct wait_run running;         /* begun, not ended */
	struct wait_batch batch;         /* being filled */
	struct wait_run runs[WAIT_RUNS]; /* the last ones, a circle */
	uint64_t produced;               /* samples of batches that were sent, or tried to */
	uint64_t dropped;                /* samples of batches that found their ring full */
	uint64_t sampled_out;            /* waits left out by the sampling factor */
	uint64_t own;                    /* waits of the agent's own threads: counted, not sent */
	uint64_t own_wait_ns;            /* and how long these were */
	uint64_t unknown;                /* waits without a length: without sched_info, no wakeup was seen */
	uint64_t events_lost;            /* throttle and cgroup events that found the event ring full */
	uint64_t reserved;
};

#endif
