/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Which class of a qdisc a packet goes to, and what each group has sent. User space fills the maps of net_class.bpf.c
 * with these; the counters are the kernel's.
 */
#ifndef SLACKWATER_NET_CLASS_H
#define SLACKWATER_NET_CLASS_H

#ifndef SLACKWATER_CDEF
#include <stdint.h>
#endif

enum {
	NET_ROW_NOBODY = 0, /* the counters' row of packets of which no group is known */
	NET_LEVELS_MAX = 32 /* a group deeper than this is found by its own id alone */
};

/* Of a group (by its cgroup2 id, or its net_cls.classid on v1), or of the device by which its packets come in (by ifindex). */
struct net_group {
	uint32_t class_id; /* handle of a class: major << 16 | minor */
	uint32_t row;      /* of its counters */
};

/* On all devices, before they are queued: what is dropped there is in it. */
struct net_counts {
	uint64_t bytes;   /* on the link: with the headers of every segment */
	uint64_t packets; /* segments */
};

#endif
