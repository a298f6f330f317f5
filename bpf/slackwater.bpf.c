/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* One object for all kernels: its parts share maps, so they are one translation unit. */
#include "bpf/kernel.bpf.h"

#include <stddef.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/sched_wait.bpf.h"
#include "bpf/cgroup.bpf.h"

/* Records that no map names: kept in the object's BTF, so that their layout can be checked against user space's. */
const struct throttle_event *throttle_event_btf __attribute__((unused));
const struct cgroup_event *cgroup_event_btf __attribute__((unused));
const struct cgroup_cpu_stat *cgroup_cpu_stat_btf __attribute__((unused));

char LICENSE[] SEC("license") = "GPL";
