/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * CFS throttling seen from the context switch: no tracepoint exists. A throttle of a group on a CPU
 * begins when a task is switched out by it and ends when a task of the group runs there again; an optional
 * fentry or kprobe on unthrottle_cfs_rq() tells the true end.
 */
#ifndef SLACKWATER_THROTTLE_BPF_H
#define SLACKWATER_THROTTLE_BPF_H

#include "bpf/maps.bpf.h"

enum {
	QUOTA_LEVELS_MAX = 8, /* of nested groups that are looked at, from the task's up */
};

/* A throttle older than the wait plus this cannot matter to it: periods are at most 1 s (kernel/sched/core.c). */
static const uint64_t THROTTLE_RECENT_NS = 10ULL * 1000 * 1000 * 1000;

struct throttle_key {
	uint64_t task_group; /* its address: an identity, never followed */
	uint32_t cpu;
	uint32_t reserved;
};

struct throttle_state {
	uint64_t owner_id;
	uint64_t victim_id;
	uint64_t begin_ns;
	uint64_t end_ns;
	bool open;
	bool held; /* a runnable task was stopped, not one that went to sleep by itself */
};

/* The last throttle of each group on each CPU. Written under that CPU's run-queue lock. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1); /* set before load */
	__type(key, struct throttle_key);
	__type(value, struct throttle_state);
} throttles SEC(".maps");

static __always_inline void throttle_send(uint32_t kind, uint32_t cpu, const struct throttle_state *state,
					  uint64_t time_ns, uint64_t duration_ns)
{
	struct throttle_event event = {
		.kind = kind,
		.cpu = cpu,
		.owner_id = state->owner_id,
		.victim_id = state->victim_id,
		.time_ns = time_ns,
		.duration_ns = duration_ns,
	};
	uint64_t wakeup = kind == EVENT_THROTTLE_BEGIN ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;

	if (bpf_ringbuf_output(&events, &event, sizeof(event), wakeup)) {
		struct wait_cpu *here = this_cpu();

		if (here)
			here->events_lost++;
	}
}

static __always_inline void throttle_end(uint32_t cpu, struct throttle_state *state, uint64_t now_ns,
					 uint64_t duration_ns)
{
	state->open = false;
	state->end_ns = now_ns;
	throttle_send(EVENT_THROTTLE_END, cpu, state, now_ns, duration_ns);
}

/* `task` is being switched out by a quota: open a throttle for each group at or above it whose own quota did. */
static __noinline void throttle_begin(struct task_struct *task, uint32_t cpu, bool held)
{
	uint64_t now_ns = bpf_ktime_get_ns();
	struct sched_entity *entity = &task->se;
	struct cfs_rq *cfs_rq = entity->cfs_rq;

	for (int level = 0; level < QUOTA_LEVELS_MAX; level++) {
		struct throttle_key key = { .cpu = cpu };
		struct throttle_state *known, state = {};
		struct cfs_rq *above = NULL;
		struct task_group *group;
		int count = cfs_rq->throttle_count;

		entity = entity->parent;
		if (entity)
			above = entity->cfs_rq;
		/* throttle_count counts the throttled groups from here to the root */
		if (count > (above ? above->throttle_count : 0)) {
			group = cfs_rq->tg;
			key.task_group = (uint64_t)group;
			state.owner_id = group->css.cgroup->kn->id;
			known = bpf_map_lookup_elem(&throttles, &key);
			if (known && known->open && known->owner_id == state.owner_id) {
				known->held |= held;
			} else {
				state.victim_id = group_of(task);
				state.begin_ns = now_ns;
				state.open = true;
				state.held = held;
				bpf_map_update_elem(&throttles, &key, &state, BPF_ANY);
				throttle_send(EVENT_THROTTLE_BEGIN, cpu, &state, now_ns, 0);
			}
		}
		if (!above)
			break;
		cfs_rq = above;
	}
}

/*
 * The part of the wait that just ended in which a quota held the task, by the throttles on `cpu` of its group and
 * those above. The first task that runs again ends them; not one that is still throttled, and runs to be stopped
 * (compat.bpf.h, v6.18): it was queued when the quota ran out.
 */
static __noinline uint64_t throttle_part_ns(struct task_struct *task, uint32_t cpu, uint64_t wait_ns)
{
	uint64_t now_ns = bpf_ktime_get_ns(), wait_begin_ns = now_ns - wait_ns, longest_ns = 0;
	bool runs_again = task->se.cfs_rq->throttle_count == 0;
	struct task_group *group = task->se.cfs_rq->tg;

	for (int level = 0; level < QUOTA_LEVELS_MAX && group; level++) {
		struct throttle_key key = { .task_group = (uint64_t)group, .cpu = cpu };
		struct throttle_state *state = bpf_map_lookup_elem(&throttles, &key);

		if (state && state->owner_id == group->css.cgroup->kn->id) {
			uint64_t begin_ns = state->begin_ns, end_ns = state->open ? now_ns : state->end_ns;

			if (begin_ns < wait_begin_ns)
				begin_ns = wait_begin_ns;
			if (end_ns > begin_ns && end_ns - begin_ns > longest_ns)
				longest_ns = end_ns - begin_ns;
			/* If nobody runnable was stopped, tasks that woke later were held, and this one first. */
			if (state->open && runs_again)
				throttle_end(cpu, state, now_ns, now_ns - (state->held ? state->begin_ns : begin_ns));
		}
		group = group->parent;
	}
	return longest_ns < wait_ns ? longest_ns : wait_ns;
}

/* Called for any cfs_rq that gets runtime again, with its run queue locked, perhaps from another CPU. */
static __always_inline void throttle_unthrottled(struct task_group *group, uint64_t id, uint32_t cpu)
{
	struct throttle_key key = { .task_group = (uint64_t)group, .cpu = cpu };
	struct throttle_state *state = bpf_map_lookup_elem(&throttles, &key);

	if (state && state->open && state->owner_id == id) {
		uint64_t now_ns = bpf_ktime_get_ns();

		throttle_end(cpu, state, now_ns, now_ns - state->begin_ns);
	}
}

/*
 * Where tasks are throttled one by one, those that still run use up what the group was given before it is unthrottled; then
 * unthrottle_cfs_rq() returns at once (kernel/sched/fair.c, v6.18), and the throttle goes on.
 */
static __always_inline bool stays_throttled(int runtime_enabled, int64_t runtime_remaining)
{
	return throttles_each_task() && runtime_enabled && runtime_remaining <= 0;
}

SEC("?fentry/unthrottle_cfs_rq")
int BPF_PROG(unthrottle_fentry, struct cfs_rq *cfs_rq)
{
	if (stays_throttled(cfs_rq->runtime_enabled, cfs_rq->runtime_remaining))
		return 0;
	throttle_unthrottled(cfs_rq->tg, cfs_rq->tg->css.cgroup->kn->id, cfs_rq->rq->cpu);
	return 0;
}

SEC("?kprobe/unthrottle_cfs_rq")
int BPF_KPROBE(unthrottle_kprobe, struct cfs_rq *cfs_rq)
{
	struct task_group *group = BPF_CORE_READ(cfs_rq, tg);

	if (stays_throttled(BPF_CORE_READ(cfs_rq, runtime_enabled), BPF_CORE_READ(cfs_rq, runtime_remaining)))
		return 0;
	throttle_unthrottled(group, BPF_CORE_READ(group, css.cgroup, kn, id), BPF_CORE_READ(cfs_rq, rq, cpu));
	return 0;
}

#endif
