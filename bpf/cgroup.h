/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Birth, death and rename of cgroups in the hierarchy that has the cpu controller, and the
 * scheduler's own accounts of each cgroup of that hierarchy.
 */
#ifndef SLACKWATER_CGROUP_H
#define SLACKWATER_CGROUP_H

#ifndef SLACKWATER_CDEF
#include <stdint.h>
#endif

enum { CGROUP_PATH_BYTES = 512 };

/* In the event ring (kinds: bpf/throttle.h). */
struct cgroup_event {
	uint32_t kind;       /* EVENT_CGROUP_MKDIR, _RMDIR, _RENAME */
	uint32_t path_bytes; /* with the final 0; CGROUP_PATH_BYTES: perhaps cut off, ask the file system */
	uint64_t id;
	char path[CGROUP_PATH_BYTES]; /* relative to the hierarchy's root, begins with '/' */
};

/* What the scheduler knows of one cgroup. Source: struct task_group and cfs_bandwidth, kernel/sched/sched.h. */
struct cgroup_cpu_stat {
	uint64_t id;
	uint64_t usage_ns;     /* run time of its fair-class tasks and those below, since its birth */
	uint64_t nr_periods;   /* cfs_bandwidth, own quota only */
	uint64_t nr_throttled; /* periods in which it was throttled, not events */
	uint64_t throttled_ns; /* summed over CPUs */
	uint64_t quota_ns;     /* UINT64_MAX: none */
	uint64_t period_ns;
	uint64_t burst_ns;
};

#endif
