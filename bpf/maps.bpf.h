/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
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
const volatile bool exclude_reader = false;      /* leave out the waits of the process that reads tasks_at_start */
const volatile uint32_t cpus_per_ring = 8;
const volatile uint32_t cpu_count = 1;           /* possible CPUs */
const volatile uint64_t create_in_scheduler = 0; /* BPF_LOCAL_STORAGE_GET_F_CREATE where that may allocate there */
volatile uint32_t agent_tgid SEC(".data") = 0;   /* whose waits are counted, not sent; in the initial pid namespace */
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

/* What is known of a task, for its whole life: adding and deleting at each wait costs five times as much. */
struct task_wait {
	uint64_t waited_ns; /* all wait that was already reported; the fallback: since when it is runnable */
	uint64_t css_set; /* whose group group_id is: an address, never followed; 0: the task was not seen to arrive */
	uint64_t group_id;
	uint32_t throttled_cpu_plus_1; /* taken off that CPU by a quota; 0: not */
	uint32_t reserved;
};

/*
 * By pid, a cache line per task, found without a call. Two live tasks may want one slot: it stays with the first,
 * the other has task storage, whose look-up is a call and three cache lines. Taken at fork (at the start: by an
 * iterator), given back when the task is freed.
 */
enum { TASK_SLOTS = 32768 };

struct task_slot {
	uint64_t owner; /* address of the task; 0: free */
	struct task_wait wait;
	uint64_t pid; /* of the owner: two live tasks never have the same */
	uint64_t reserved[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* for its alignment: not mapped */
	__uint(max_entries, TASK_SLOTS);
	__type(key, uint32_t);
	__type(value, struct task_slot);
} task_slots SEC(".maps");

_Static_assert(sizeof(struct task_slot) == 64, "a cache line");

/*
 * Made at fork, too: up to 6.3 storage comes from kmalloc, which under memory pressure wakes kswapd, and that
 * must not happen under the run-queue lock.
 */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_wait);
} task_waits SEC(".maps");

static __always_inline struct task_slot *slot_of(uint32_t pid)
{
	uint32_t index = pid & (TASK_SLOTS - 1);

	return bpf_map_lookup_elem(&task_slots, &index);
}

static __always_inline struct task_wait *task_wait_of(struct task_struct *task)
{
	struct task_slot *slot = slot_of(task->pid);

	if (slot && slot->owner == (uint64_t)task)
		return &slot->wait;
	return bpf_task_storage_get(&task_waits, task, NULL, create_in_scheduler);
}

/* A task gets its place, empty. An owner that had the same pid is dead: it was missed when it went. */
static __always_inline void task_wait_make(struct task_struct *task)
{
	struct task_slot *slot = slot_of(task->pid);
	uint64_t owner;

	if (!slot)
		return;
	owner = __sync_val_compare_and_swap(&slot->owner, 0, (uint64_t)task);
	if (owner && slot->pid != (uint64_t)task->pid) {
		bpf_task_storage_get(&task_waits, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
		return;
	}
	__builtin_memset(&slot->wait, 0, sizeof(slot->wait));
	slot->pid = task->pid;
	slot->owner = (uint64_t)task;
}

static __always_inline void task_wait_drop(struct task_struct *task, uint32_t pid)
{
	struct task_slot *slot = slot_of(pid);

	if (!slot || slot->owner != (uint64_t)task)
		return;
	slot->pid = 0;
	__sync_lock_test_and_set(&slot->owner, 0);
}

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
