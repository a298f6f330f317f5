/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * The kernel's types, cut down to the members that are read. preserve_access_index makes libbpf move
 * every access to where the running kernel has the member (CO-RE), so the order here means nothing.
 * Sources: include/linux/sched.h, include/linux/cgroup-defs.h, include/linux/kernfs.h, kernel/sched/sched.h.
 */
#ifndef SLACKWATER_KERNEL_BPF_H
#define SLACKWATER_KERNEL_BPF_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/bpf.h>

#define __VMLINUX_H__ /* for libbpf: struct pt_regs with the kernel's member names */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

enum cgroup_subsys_id {
	cpu_cgrp_id = 1, /* the running kernel's value is asked for by CO-RE */
};

struct kernfs_node {
	uint64_t id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
	struct cgroup_subsys_state *subsys[1];
};

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

struct rq {
	uint64_t clock;
	int cpu;
};

struct cfs_bandwidth {
	int64_t period;
	uint64_t quota;
	uint64_t burst;
	int nr_periods;
	int nr_throttled;
	uint64_t throttled_time;
};

struct task_group {
	struct cgroup_subsys_state css;
	struct sched_entity **se;
	struct task_group *parent;
	struct cfs_bandwidth cfs_bandwidth;
};

struct cfs_rq {
	struct rq *rq;
	struct task_group *tg;
	int throttle_count;
	int runtime_enabled;
	int64_t runtime_remaining;
	uint64_t throttled_clock_pelt_time;
};

struct sched_entity {
	uint64_t sum_exec_runtime;
	struct sched_entity *parent;
	struct cfs_rq *cfs_rq;
};

struct sched_info {
	unsigned long pcount;
	unsigned long long run_delay;
	unsigned long long last_queued;
};

struct task_struct {
	int pid;
	int tgid;
	int prio;
	unsigned int __state;
	bool throttled;
	struct sched_entity se;
	struct sched_info sched_info;
	struct css_set *cgroups;
};

struct bpf_iter__task {
	struct task_struct *task;
};

struct bpf_iter__cgroup {
	struct cgroup *cgroup;
};

#ifdef __TARGET_ARCH_x86
struct pt_regs {
	unsigned long di;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	unsigned long long regs[31];
};
#endif

#pragma clang attribute pop

#endif
