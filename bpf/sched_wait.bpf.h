/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Run-queue wait, one sample per switch to a task: how long it was runnable and did not run, and who ran meanwhile.
 *
 * The cum method: this tracepoint fires before sched_info_arrive(), so run_delay plus the wait in progress is
 * all the wait that the kernel counts for the task, and its growth since the last switch-in is the wait
 * that just ended, including waits before a migration. No program on wakeups and no clock read.
 */
#ifndef SLACKWATER_SCHED_WAIT_BPF_H
#define SLACKWATER_SCHED_WAIT_BPF_H

#include "bpf/throttle.bpf.h"

enum { GROUP_CHECK_ARRIVALS = 64 }; /* about: the clock's last bits decide */

static __always_inline bool use_wakeup_stamps(void)
{
	return force_wakeup_stamps || !kernel_has_sched_info();
}

static __always_inline uint64_t run_queue_clock(struct task_struct *task)
{
	return use_wakeup_stamps() ? bpf_ktime_get_ns() : task->se.cfs_rq->rq->clock;
}

/* To user space, or into the counter of what was lost. */
static __always_inline void batch_send(struct wait_cpu *here)
{
	struct wait_batch *batch = &here->batch;
	uint32_t ring_index, count = batch->count;
	uint64_t bytes = count * sizeof(struct wait_sample);
	void *ring;

	if (count == 0 || count > WAIT_BATCH_SAMPLES)
		return;
	batch->cpu = bpf_get_smp_processor_id();
	ring_index = batch->cpu / cpus_per_ring;
	ring = bpf_map_lookup_elem(&wait_rings, &ring_index);
	barrier_var(bytes); /* the sum would become an `or`, and its bound be lost to the verifier */
	/* No wakeup: the reader's own switches would feed the stream. */
	if (!ring || bpf_ringbuf_output(ring, batch, offsetof(struct wait_batch, samples) + bytes, BPF_RB_NO_WAKEUP))
		here->dropped += count;
	here->produced += count;
	batch->count = 0;
}

static __always_inline void batch_add(struct wait_cpu *here, uint64_t victim_id, uint64_t culprit_id, uint64_t wait_ns,
				      uint64_t throttle_ns, uint32_t weight)
{
	struct wait_batch *batch = &here->batch;
	struct wait_sample *sample;

	if (batch->weight != weight) {
		batch_send(here);
		batch->weight = weight;
	}
	sample = &batch->samples[batch->count & (WAIT_BATCH_SAMPLES - 1)];
	sample->victim_id = victim_id;
	sample->culprit_id = culprit_id;
	sample->wait_ns = wait_ns;
	sample->throttle_ns = throttle_ns;
	if (++batch->count == WAIT_BATCH_SAMPLES)
		batch_send(here);
}

/* How long `next` waited, or false if that cannot be known. `task` may be NULL. */
static __always_inline bool wait_end_ns(struct task_struct *next, struct task_wait *task, uint64_t clock_ns,
					uint64_t *wait_ns)
{
	uint64_t queued_ns, waited_ns;

	if (use_wakeup_stamps()) {
		queued_ns = task ? task->waited_ns : 0;
		if (task)
			task->waited_ns = 0;
		*wait_ns = clock_ns > queued_ns ? clock_ns - queued_ns : 0;
		return queued_ns != 0;
	}
	queued_ns = next->sched_info.last_queued;
	*wait_ns = queued_ns && clock_ns > queued_ns ? clock_ns - queued_ns : 0;
	if (!task)
		return true; /* but for what it waited before a migration */
	waited_ns = next->sched_info.run_delay + *wait_ns;
	/* Of a task that ran before we saw it the earlier waits are not ours to report. */
	if (task->css_set || !next->sched_info.pcount)
		*wait_ns = waited_ns - task->waited_ns;
	task->waited_ns = waited_ns;
	return true;
}

static __always_inline void task_leaves(struct wait_cpu *here, struct task_struct *prev, bool preempt,
					uint64_t clock_ns)
{
	bool throttled = task_is_throttled(prev), runnable;
	struct task_wait *task;
	uint32_t cpu;

	if (!throttled && !use_wakeup_stamps())
		return;
	cpu = bpf_get_smp_processor_id();
	runnable = preempt || task_is_running(prev);
	if (throttled) {
		here->last_throttle_clock = clock_ns;
		throttle_begin(prev, cpu, runnable);
	}
	task = task_wait_of(prev);
	if (!task)
		return;
	if (throttled && runnable)
		task->throttled_cpu_plus_1 = cpu + 1;
	if (use_wakeup_stamps())
		task->waited_ns = runnable ? clock_ns : 0;
}

/*
 * The group with the longest run on this CPU in the last `wait_ns`. Mostly it is the one that ran last, but a
 * kernel thread that ran for some us just before did not cause a wait of ms.
 */
static __always_inline uint64_t culprit_of(const struct wait_cpu *here, uint64_t clock_ns, uint64_t wait_ns)
{
	uint64_t culprit_id = here->running.group_id, end_clock = here->running.begin_clock;
	uint64_t longest_ns = clock_ns - end_clock, wait_begin_clock = clock_ns - wait_ns;

	if (longest_ns >= wait_ns / 2)
		return culprit_id;
	for (uint32_t back = 1; back <= WAIT_RUNS && end_clock > wait_begin_clock; back++) {
		const struct wait_run *run = &here->runs[(here->runs_ended - back) & (WAIT_RUNS - 1)];
		uint64_t begin_clock = run->begin_clock > wait_begin_clock ? run->begin_clock : wait_begin_clock;

		if (!run->begin_clock)
			break;
		if (end_clock - begin_clock > longest_ns) {
			longest_ns = end_clock - begin_clock;
			culprit_id = run->group_id;
		}
		end_clock = run->begin_clock;
	}
	return culprit_id;
}

/* From now on `group_id` runs here; 0: nobody. */
static __always_inline void run_begin(struct wait_cpu *here, uint64_t group_id, uint64_t clock_ns)
{
	if (here->running.group_id == group_id && here->running.begin_clock)
		return;
	here->runs[here->runs_ended++ & (WAIT_RUNS - 1)] = here->running;
	here->running.group_id = group_id;
	here->running.begin_clock = clock_ns;
}

/*
 * The task's group, remembered with its css_set, which a move to another group replaces. Looked up again now and
 * then all the same: a css_set that was freed may come back at the same address.
 */
static __always_inline uint64_t group_of_arrival(struct task_struct *next, struct task_wait *task, uint64_t clock_ns)
{
	uint64_t css_set = (uint64_t)next->cgroups;

	if (task->css_set != css_set || clock_ns % GROUP_CHECK_ARRIVALS == 0) {
		task->css_set = css_set;
		task->group_id = group_of(next);
	}
	return task->group_id;
}

/* It was in the queue, not running, when a quota stopped its group. */
static __always_inline bool may_have_been_throttled(const struct wait_cpu *here, struct task_struct *next,
						    uint64_t clock_ns, uint64_t wait_ns)
{
	return here->last_throttle_clock && clock_ns - here->last_throttle_clock < wait_ns + THROTTLE_RECENT_NS &&
	       cfs_rq_was_throttled(next->se.cfs_rq) && next->se.cfs_rq->throttle_count == 0;
}

/* Returns its group. */
static __always_inline uint64_t task_arrives(struct wait_cpu *here, struct task_struct *next, uint64_t clock_ns)
{
	uint64_t wait_ns, throttle_ns = 0, group_id;
	uint32_t weight = sampling_factor;
	struct task_wait *task;
	bool known;

	task = task_wait_of(next);
	known = wait_end_ns(next, task, clock_ns, &wait_ns);
	group_id = task ? group_of_arrival(next, task, clock_ns) : group_of(next);
	if (!known) {
		here->unknown++;
		return group_id;
	}
	if (kernel_has_bandwidth()) {
		uint32_t cpu_plus_1 = task ? task->throttled_cpu_plus_1 : 0;

		if (cpu_plus_1)
			task->throttled_cpu_plus_1 = 0;
		if (!cpu_plus_1 && may_have_been_throttled(here, next, clock_ns, wait_ns))
			cpu_plus_1 = bpf_get_smp_processor_id() + 1;
		if (cpu_plus_1)
			throttle_ns = throttle_part_ns(next, cpu_plus_1 - 1, wait_ns);
	}
	if (next->tgid == agent_tgid) {
		here->own++;
		here->own_wait_ns += wait_ns;
		return group_id;
	}
	if (weight > 1 && bpf_get_prandom_u32() % weight) {
		here->sampled_out++;
		return group_id;
	}
	batch_add(here, group_id, culprit_of(here, clock_ns, wait_ns - throttle_ns), wait_ns, throttle_ns, weight);
	return group_id;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	uint64_t clock_ns = run_queue_clock(prev);
	struct wait_cpu *here = this_cpu();

	if (!here)
		return 0;
	if (prev->pid)
		task_leaves(here, prev, preempt, clock_ns);
	if (next->pid) {
		here->waits++;
		run_begin(here, task_arrives(here, next, clock_ns), clock_ns);
	} else {
		here->idles++;
		run_begin(here, 0, clock_ns);
	}
	return 0;
}

static __always_inline int stamp_wakeup(struct task_struct *woken)
{
	struct task_wait *task = task_wait_of(woken);

	if (task && !task->waited_ns) /* else it is queued already */
		task->waited_ns = bpf_ktime_get_ns();
	return 0;
}

/* The fallback, loaded only where there is no sched_info. */
SEC("?tp_btf/sched_wakeup")
int BPF_PROG(sched_wakeup, struct task_struct *woken)
{
	return stamp_wakeup(woken);
}

SEC("?tp_btf/sched_wakeup_new")
int BPF_PROG(sched_wakeup_new, struct task_struct *woken)
{
	return stamp_wakeup(woken);
}

SEC("tp_btf/task_newtask")
int BPF_PROG(task_newtask, struct task_struct *task)
{
	task_wait_make(task);
	return 0;
}

SEC("tp_btf/sched_process_free")
int BPF_PROG(task_free, struct task_struct *task)
{
	task_wait_drop(task, task->pid);
	return 0;
}

/* A thread that is not the leader takes the leader's pid when it execs (de_thread, fs/exec.c). */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(task_exec, struct task_struct *task, int old_pid)
{
	if (old_pid == task->pid)
		return 0;
	task_wait_drop(task, old_pid);
	task_wait_make(task);
	return 0;
}

/* Read once by user space, after the programs above are attached and before sched_switch is. */
SEC("iter/task")
int tasks_at_start(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (exclude_reader)
		agent_tgid = bpf_get_current_pid_tgid() >> 32;
	if (task)
		task_wait_make(task);
	return 0;
}

/* Run by user space on one CPU (BPF_PROG_TEST_RUN) to get what a quiet CPU still holds. */
SEC("raw_tp")
int flush_cpu(void *ctx)
{
	struct wait_cpu *here = this_cpu();

	if (here)
		batch_send(here);
	return 0;
}

#endif
