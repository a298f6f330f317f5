/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the event ring brought and user space has not yet taken, in order: births and deaths of cgroups, begins of
 * throttles. Each queue is a circle of fixed size whose memory is touched only when used; what does not fit is counted.
 */
#ifndef SLACKWATER_EVENTS_H
#define SLACKWATER_EVENTS_H

#include "bpf/cgroup.h"
#include "bpf/throttle.h"

#ifndef SLACKWATER_CDEF
#include <stddef.h>
#endif

enum {
	CGROUP_EVENTS_MAX = 4096,
	THROTTLE_EVENTS_MAX = 4096,
};

struct events;

/* NULL: no memory. */
struct events *events_new(void);
void events_free(struct events *events);

void events_add_cgroup(struct events *events, const struct cgroup_event *event);
void events_add_throttle(struct events *events, const struct throttle_event *event);

/* The oldest, at most n; they are gone from the queue. Returns how many. *lost: how many did not fit since the last call. */
size_t events_take_cgroup(struct events *events, struct cgroup_event *out, size_t n, uint64_t *lost);
size_t events_take_throttle(struct events *events, struct throttle_event *out, size_t n, uint64_t *lost);

#endif
