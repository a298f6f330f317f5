/* SPDX-License-Identifier: GPL-2.0-only */
/* Parameters and maps that the programs share. */
#ifndef SLACKWATER_MAPS_BPF_H
#define SLACKWATER_MAPS_BPF_H

#include "bpf/cgroup.h"
#include "bpf/compat.bpf.h"
#include "bpf/sched_wait.h"
#include "bpf/throttle.h"

/* Parameters: written by user space before load (const) or at any time (volatile only). */
const volatile bool force_wakeup_stamps = false; /* use the fallback although sched_info is there */
const volatile bool groups_are_cgroup2 = false;  /* group = cgroup2 directory; else the v1 cpu hierarchy's */
const volatile uint32_t cpu_hierarchy_id = 0;    /* which hierarchy's births and deaths are sent */
const volatile uint32_t agent_tgid = 0;          /* its own waits are counted, not sent */
const volatile uint32_t cpus_per_ring = 8;
const volatile uint32_t cpu_count = 1;           /* possible CPUs */
const volatile uint64_t create_in_scheduler = 0; /* BPF_LOCAL_STORAGE_GET_F_CREATE where that may allocate there */
volatile uint32_t sampling_factor = 1;           /* one wait in so many is sent */

/* By CPU, and not a per-CPU map: that cannot be mapped, nor aligned to cache lines. Written on its CPU, interrupts off. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set before load */
	__type(key, uint32_t);
	__type(value, struct wait_cpu);
} cpus SEC(".maps");

_Static_assert(sizeof(struct wait_cpu) % 64 == 0, "no two CPUs write the same cache line");
_Static_assert(offsetof(struct wait_cpu, batch.samples) == 64, "what every switch writes is one cache line");

/* One ring per `cpus_per_ring` CPUs: a ring shared by many CPUs collapses on its lock. Made by user space. */
struct wait_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__array(values, struct wait_ring);
} wait_rings SEC(".maps");

/* Throttles, births and deaths: rare, and apart from the samples so that a full wait ring cannot lose them. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20); /* 1900 births between two drains */
} events SEC(".maps");

/*
 * Per task, for its whole life: adding and deleting at each wait costs five times as much. Made at fork, and for the
 * tasks that are there at the start by an iterator: up to 6.3 the storage comes from kmalloc, which under
 * memory pressure wakes kswapd, and that must not happen under the run-queue lock.
 */
struct task_wait {
	uint64_t waited_ns;            /* all wait that was already reported; the fallback: since when it is runnable */
	uint32_t arrivals;             /* 0: never seen to arrive; else it only matters that it changes */
	uint32_t throttled_cpu_plus_1; /* taken off that CPU by a quota; 0: not */
	uint64_t css_set;              /* whose group group_id is; an address, never followed */
	uint64_t group_id;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_wait);
} task_waits SEC(".maps");

static __always_inline struct wait_cpu *this_cpu(void)
{
	uint32_t cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&cpus, &cpu);
}

/* Five reads in a chain, each of a cache line of its own. */
static __always_inline uint64_t group_of(struct task_struct *task)
{
	struct css_set *css_set = task->cgroups;

	/* On v2 the directory itself: the cpu controller may be off below some level. */
	return groups_are_cgroup2 ? css_set->dfl_cgrp->kn->id : cgroup_of_cpu_css(css_set->subsys)->kn->id;
}

#endif
