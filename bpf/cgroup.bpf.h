/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
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
		struct wait_cpu *here = this_cpu();

		if (here)
			here->events_lost++;
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

/* Rows of the iterator, for user space to map: its seq_file would end after 32 KiB (cgroup_iter_seq_start). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set before load */
	__type(key, uint32_t);
	__type(value, struct cgroup_cpu_stat);
} cgroup_stat_rows SEC(".maps");

/* User space sets it to 0, then reads the iterator to its end. In .data, which user space maps. */
uint32_t cgroup_stat_count SEC(".data") = 0;

/*
 * One row per group that has the cpu controller: one pass replaces three files per group.
 * Needs d4ccaf58a847 ("bpf: Introduce cgroup iter", v6.1).
 */
SEC("?iter/cgroup")
int cgroup_stats(struct bpf_iter__cgroup *ctx)
{
	struct cgroup *cgroup = ctx->cgroup;
	struct sched_entity **entities, *entity;
	struct cgroup_subsys_state *css;
	struct cgroup_cpu_stat *stat;
	struct task_group *group;
	uint64_t usage_ns = 0;
	bool has_entity = false;
	uint32_t row;

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
			continue; /* no such CPU, or the root group, which has none */
		has_entity = true;
		usage_ns += BPF_CORE_READ(entity, sum_exec_runtime);
	}
	if (!has_entity)
		return 0;
	row = cgroup_stat_count;
	stat = bpf_map_lookup_elem(&cgroup_stat_rows, &row);
	if (!stat)
		return 0; /* more groups than are watched */
	cgroup_stat_count = row + 1;
	stat->id = cgroup->kn->id;
	stat->usage_ns = usage_ns;
	stat->nr_periods = BPF_CORE_READ(group, cfs_bandwidth.nr_periods);
	stat->nr_throttled = BPF_CORE_READ(group, cfs_bandwidth.nr_throttled);
	stat->throttled_ns = BPF_CORE_READ(group, cfs_bandwidth.throttled_time);
	stat->quota_ns = BPF_CORE_READ(group, cfs_bandwidth.quota);
	stat->period_ns = BPF_CORE_READ(group, cfs_bandwidth.period);
	if (bpf_core_field_exists(struct cfs_bandwidth, burst))
		stat->burst_ns = BPF_CORE_READ(group, cfs_bandwidth.burst);
	return 0;
}

#endif
