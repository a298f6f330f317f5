/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events counted per cgroup by perf_event_open(2): of all tasks in it and below it, on all CPUs.
 *
 * On each CPU the events of a cgroup are one group of the kernel's: they count at the same times, so that their ratios hold
 * also where the PMU has fewer counters than events and the kernel lets them take turns.
 *
 * A CPU that goes off-line takes its events along; they are opened anew when it is back. It is seen by an event that counts
 * nothing, whose time stands still meanwhile. What ran there until the next perf_read is not counted.
 *
 * Cost: a descriptor and 1.4 KiB of the kernel per event, so cgroups x CPUs x kinds. On a CPU with such events each switch
 * between two cgroups, whichever they are, takes at least 0.4 us more, and what it takes to program the PMU
 * (benchmarks/perf_cost.py).
 *
 * Errors are negative errno. Not thread-safe.
 */
#ifndef SLACKWATER_PERF_H
#define SLACKWATER_PERF_H

#ifndef SLACKWATER_CDEF
#include <stddef.h>
#include <stdint.h>
#endif

enum { PERF_KINDS_MAX = 4 };

/* An event: `type` and `config` of struct perf_event_attr. */
struct perf_kind {
	uint64_t config;
	uint32_t type;
	uint32_t reserved;
};

/* What events of a cgroup grew by on one CPU, in a span of time. */
struct perf_growth {
	uint64_t enabled_ns; /* it was on this CPU */
	uint64_t running_ns; /* and its events had counters; less: they took turns with others */
	uint64_t values[PERF_KINDS_MAX];
};

/*
 * The amounts on all CPUs, each scaled up by enabled to running. A CPU where their turn never came is taken for like the
 * others; NaN: it never came.
 */
void perf_sum(const struct perf_growth *cpus, size_t n_cpus, size_t n_kinds, double *amounts);

struct perf;

/*
 * Room for `max_groups` cgroups; the first kind leads. They are tried on one CPU. NULL: *error; -ENOENT or -EOPNOTSUPP: this
 * machine has no such counter; -EACCES: it needs CAP_PERFMON.
 */
struct perf *perf_open(const struct perf_kind *kinds, size_t n_kinds, size_t max_groups, int *error);
void perf_close(struct perf *perf);

/*
 * Begin to count for the directory of a cgroup, which is used during the call only and is of the hierarchy that has
 * perf_event (else -ENOENT, -EBADF). Its row; -ENOSPC: there is none left. If one CPU refuses, nothing is left open.
 */
int perf_add(struct perf *perf, int cgroup_fd);
void perf_remove(struct perf *perf, int row);

/*
 * The growth since the last call or since perf_add: max_groups rows of n_kinds amounts. NaN: there is no such row, it was
 * never counted while it ran, or some CPU does not let it be counted now.
 */
void perf_read(struct perf *perf, double *amounts);

#endif
