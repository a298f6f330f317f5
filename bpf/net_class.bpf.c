/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * A classifier of tc for the root of a device: the cgroup of a packet's socket -> a class.
 *
 *   the socket's cgroup2 directory, or the nearest above it, is in `net_groups`     its class
 *   cgroup v1: the socket's net_cls.classid is                                      the same
 *   no socket (forwarded), but the device by which it came is in `net_devices`      its class
 *   none of these                                                                   no match: the qdisc's default
 *
 * The socket has the cgroup of the task that made it, also after that task has moved or ended, and whoever sends by it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/net_class.h"

/* The kernel has no such helper without CONFIG_CGROUP_NET_CLASSID: not called, it is not looked for. */
const volatile bool use_net_cls;

/* By cgroup2 id, or net_cls.classid. Written by user space alone; its size is set at load. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, uint64_t);
	__type(value, struct net_group);
} net_groups SEC(".maps");

/* By ifindex: the host's side of a container's veth. Written by user space alone. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, struct net_group);
} net_devices SEC(".maps");

/* By row. Each CPU has its own: nothing is shared on the way of a packet. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, struct net_counts);
} net_counts SEC(".maps");

/* Of a group that user space does not know yet: the nearest above it that it knows. */
static struct net_group *find_above(struct __sk_buff *skb)
{
	struct net_group *nearest = NULL;

	for (int level = 1; level < NET_LEVELS_MAX; level++) {
		uint64_t id = bpf_skb_ancestor_cgroup_id(skb, level);
		struct net_group *group = id ? bpf_map_lookup_elem(&net_groups, &id) : NULL;

		if (!id)
			break;
		nearest = group ?: nearest;
	}
	return nearest;
}

static struct net_group *find(struct __sk_buff *skb)
{
	uint64_t id = use_net_cls ? bpf_get_cgroup_classid(skb) : bpf_skb_cgroup_id(skb);
	struct net_group *group = id ? bpf_map_lookup_elem(&net_groups, &id) : NULL;
	uint32_t came_by = skb->ingress_ifindex;

	if (group)
		return group;
	if (id && !use_net_cls)
		return find_above(skb);
	return came_by ? bpf_map_lookup_elem(&net_devices, &came_by) : NULL;
}

SEC("tc")
int net_class(struct __sk_buff *skb)
{
	struct net_group *group = find(skb);
	uint32_t row = group ? group->row : NET_ROW_NOBODY;
	struct net_counts *counts = bpf_map_lookup_elem(&net_counts, &row);

	if (counts) {
		counts->bytes += skb->wire_len;
		counts->packets += skb->gso_segs ?: 1;
	}
	return group ? (int)group->class_id : 0;
}

char LICENSE[] SEC("license") = "GPL";
