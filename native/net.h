/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The classifier of bpf/net_class.bpf.c in the running kernel: load it, fill its maps, read its counters. Who attaches
 * its program to a device gives it that device's packets; there it stays until it is detached, whatever becomes of us.
 * Errors are negative errno.
 */
#ifndef SLACKWATER_NET_H
#define SLACKWATER_NET_H

#include "bpf/net_class.h"
#include "native/probe.h"

struct net;

struct net_options {
	uint32_t max_groups;  /* that it has room for; rows of counters are 0 to max_groups */
	uint32_t max_devices; /* by which packets come in */
	uint32_t use_net_cls; /* 1: a group is known by its net_cls.classid (cgroup v1), which stands for the id */
};

/* `object`: the file's content, used during the call only. NULL: *error, and the step in `message`. */
struct net *net_open(const void *object, size_t object_bytes, const struct net_options *options, int *error,
		     char *message);
void net_close(struct net *net);

/* Of the program; it is the classifier's, and closed with it. */
int net_program_fd(const struct net *net);

/* `group` NULL: forget it, which is no error if it is not there. -E2BIG: no room. */
int net_set_group(struct net *net, uint64_t cgroup_id, const struct net_group *group);
int net_set_device(struct net *net, uint32_t ifindex, const struct net_group *group);

/* Sums over all CPUs of rows 0 to n - 1, since it was opened. */
int net_read_counts(struct net *net, struct net_counts *out, size_t n);

/* As probe_run_stats. */
int net_run_stats(const struct net *net, struct probe_run_stats *out);

#endif
