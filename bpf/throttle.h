/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * CFS throttle events: a group (`owner_id`, the one whose quota ran out) was stopped on one CPU.
 * BEGIN is sent with a wakeup, when a task is taken off the CPU by the throttle; END when the first
 * task of the group runs there again, or at the unthrottle itself where that can be traced.
 * Clock: bpf_ktime_get_ns (CLOCK_MONOTONIC).
 */
#ifndef SLACKWATER_THROTTLE_H
#define SLACKWATER_THROTTLE_H

#ifndef SLACKWATER_CDEF
#include <stdint.h>
#endif

/* First 32 bits of every record in the event ring. */
enum event_kind {
	EVENT_THROTTLE_BEGIN = 1,
	EVENT_THROTTLE_END = 2,
	EVENT_CGROUP_MKDIR = 3,
	EVENT_CGROUP_RMDIR = 4,
	EVENT_CGROUP_RENAME = 5,
};

struct throttle_event {
	uint32_t kind; /* EVENT_THROTTLE_BEGIN, EVENT_THROTTLE_END */
	uint32_t cpu;
	uint64_t owner_id;    /* the group whose quota ran out */
	uint64_t victim_id;   /* the group of the task that was stopped: owner_id or below it */
	uint64_t time_ns;     /* of the begin or the end */
	uint64_t duration_ns; /* END: how long tasks were held; BEGIN: 0 */
};

#endif
