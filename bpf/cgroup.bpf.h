/* SPDX-License-Identifier: GPL-2.0-only */
/* Births, deaths and renames of groups, and the scheduler's accounts of each. */
#ifndef SLACKWATER_CGROUP_BPF_H
#define SLACKWATER_CGROUP_BPF_H

#include "bpf/maps.bpf.h"

static __always_inline int cgroup_send(uint32_t kind, struct cgroup *cgroup, const char *path)
{
	struct cgroup_event *event;
	long bytes;

	if (cgroup->root->hierarchy_id != cpu_hierarchy_id)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		struct cpu_state *here = this_cpu_state();

		if (here)
			here->counters.events_lost++;
		return 0;
	}
	event->kind = kind;
	event->id = cgroup->kn->id;
	bytes = bpf_probe_read_kernel_str(event->path, sizeof(event->path), path);
	event->path_bytes = bytes > 0 ? bytes : 0;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("?tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	return cgroup_send(EVENT_CGROUP_MKDIR, cgroup, path);
}

SEC("?tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_rmdir, struct cgroup *cgroup, const char *path)
{
	return cgroup_send(EVENT_CGROUP_RMDIR, cgroup, path);
}

SEC("?tp_btf/cgroup_rename")
int BPF_PROG(cgroup_rename, struct cgroup *cgroup, const char *path)
{
	return cgroup_send(EVENT_CGROUP_RENAME, cgroup, path);
}

/*
 * One struct cgroup_cpu_stat per group that has the cpu controller: one read of this iterator replaces
 * three files per group. Needs d4ccaf58a847 ("bpf: Introduce cgroup iter", v6.1).
 */
SEC("?iter/cgroup")
int cgroup_stats(struct bpf_iter__cgroup *ctx)
{
	struct cgroup *cgroup = ctx->cgroup;
	struct cgroup_cpu_stat stat = {};
	struct sched_entity **entities, *entity;
	struct cgroup_subsys_state *css;
	struct task_group *group;

	/* 7.x has its entities in per-CPU memory: there the files have to do */
	if (!cgroup || !bpf_core_field_exists(struct task_group, se))
		return 0;
	css = cgroup->subsys[bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id)];
	if (!css)
		return 0;
	group = (void *)css - bpf_core_field_offset(struct task_group, css);
	entities = BPF_CORE_READ(group, se);
	if (!entities)
		return 0;
	for (uint32_t cpu = 0; cpu < cpu_count; cpu++) {
		entity = NULL;
		bpf_probe_read_kernel(&entity, sizeof(entity), entities + cpu);
		if (!entity)
			return 0; /* the root group has none */
		stat.usage_ns += BPF_CORE_READ(entity, sum_exec_runtime);
	}
	stat.id = cgroup->kn->id;
	stat.nr_periods = BPF_CORE_READ(group, cfs_bandwidth.nr_periods);
	stat.nr_throttled = BPF_CORE_READ(group, cfs_bandwidth.nr_throttled);
	stat.throttled_ns = BPF_CORE_READ(group, cfs_bandwidth.throttled_time);
	stat.quota_ns = BPF_CORE_READ(group, cfs_bandwidth.quota);
	stat.period_ns = BPF_CORE_READ(group, cfs_bandwidth.period);
	if (bpf_core_field_exists(struct cfs_bandwidth, burst))
		stat.burst_ns = BPF_CORE_READ(group, cfs_bandwidth.burst);
	bpf_seq_write(ctx->meta->seq, &stat, sizeof(stat));
	return 0;
}

#endif
