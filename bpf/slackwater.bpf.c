/* SPDX-License-Identifier: GPL-2.0-only */
/* One object for all kernels: its parts share maps, so they are one translation unit. */
#include "bpf/kernel.bpf.h"

#include <stddef.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/sched_wait.bpf.h"
#include "bpf/cgroup.bpf.h"

char LICENSE[] SEC("license") = "GPL";
