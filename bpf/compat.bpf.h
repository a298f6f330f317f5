/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * What differs between kernels, newest first. Every branch asks for the member, never for the version,
 * and is decided at load: the verifier drops the other side.
 */
#ifndef SLACKWATER_COMPAT_BPF_H
#define SLACKWATER_COMPAT_BPF_H

#include "bpf/kernel.bpf.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct task_struct___state {
	long state;
} __attribute__((preserve_access_index));

struct cfs_rq___task_time {
	uint64_t throttled_clock_task_time;
} __attribute__((preserve_access_index));

/* 2f064a59a11f ("sched: Change task_struct::state", v5.14) renamed `state`. */
static __always_inline bool task_is_running(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return task->__state == 0;
	return ((struct task_struct___state *)task)->state == 0;
}

/* No sched_info (neither SCHEDSTATS nor TASK_DELAY_ACCT) or no group scheduling: waits need wakeup stamps. */
static __always_inline bool kernel_has_sched_info(void)
{
	return bpf_core_field_exists(struct sched_info, last_queued) && /* the struct itself is always there */
	       bpf_core_field_exists(struct sched_entity, cfs_rq);
}

static __always_inline bool kernel_has_bandwidth(void)
{
	return bpf_core_field_exists(struct cfs_rq, throttle_count);
}

/* e1fad12dcb66 ("sched/fair: Switch to task based throttle model", v6.18) */
static __always_inline bool throttles_each_task(void)
{
	return bpf_core_field_exists(struct task_struct, throttled);
}

/*
 * Was this fair-class task taken off the CPU by a quota?
 * e1fad12dcb66 ("sched/fair: Switch to task based throttle model", v6.18): each task is stopped by itself on its
 * way to user space, and says so. Before, the whole run queue of the group was taken away under it.
 */
static __always_inline bool task_is_throttled(struct task_struct *task)
{
	/* of the group or any above: in a cache line that is at hand, unlike what follows */
	if (!kernel_has_bandwidth() || task->se.cfs_rq->throttle_count == 0)
		return false;
	if (throttles_each_task())
		return task->throttled;
	return task->prio >= 100; /* MAX_RT_PRIO: a real-time task goes on in a throttled group */
}

/*
 * False only if no quota of the group or above ever stopped it on this CPU.
 * 64eaf50731ac ("sched/fair: Fix cfs_rq_clock_pelt() for throttled cfs_rq", v5.19) renamed the member.
 */
static __always_inline bool cfs_rq_was_throttled(struct cfs_rq *cfs_rq)
{
	if (bpf_core_field_exists(cfs_rq->throttled_clock_pelt_time))
		return cfs_rq->throttled_clock_pelt_time != 0;
	if (bpf_core_field_exists(struct cfs_rq___task_time, throttled_clock_task_time))
		return ((struct cfs_rq___task_time *)cfs_rq)->throttled_clock_task_time != 0;
	return true;
}

static __always_inline struct cgroup *cgroup_of_cpu_css(struct cgroup_subsys_state **subsys)
{
	return subsys[bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id)]->cgroup;
}

#endif
