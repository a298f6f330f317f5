/* SPDX-License-Identifier: Apache-2.0 */
#include "native/events.h"

#include <string.h>
#include <sys/mman.h>

struct queue {
	uint32_t first;
	uint32_t count;
	uint64_t lost;
};

struct events {
	struct queue cgroups;
	struct queue throttles;
	struct cgroup_event cgroup[CGROUP_EVENTS_MAX];
	struct throttle_event throttle[THROTTLE_EVENTS_MAX];
};

struct events *events_new(void)
{
	void *memory = mmap(NULL, sizeof(struct events), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

void events_free(struct events *events)
{
	if (events)
		munmap(events, sizeof(*events));
}

/* Place of a new one, or -1: it is lost. */
static int64_t queue_add(struct queue *queue, uint32_t size)
{
	if (queue->count == size) {
		queue->lost++;
		return -1;
	}
	return (queue->first + queue->count++) % size;
}

/* Place of the oldest, or -1: there is none. */
static int64_t queue_take(struct queue *queue, uint32_t size)
{
	uint32_t place = queue->first;

	if (!queue->count)
		return -1;
	queue->first = (place + 1) % size;
	queue->count--;
	return place;
}

static uint64_t lost_since(struct queue *queue)
{
	uint64_t lost = queue->lost;

	queue->lost = 0;
	return lost;
}

void events_add_cgroup(struct events *events, const struct cgroup_event *event)
{
	int64_t place = queue_add(&events->cgroups, CGROUP_EVENTS_MAX);
	struct cgroup_event *copy = &events->cgroup[place];

	if (place < 0)
		return;
	memcpy(copy, event, offsetof(struct cgroup_event, path));
	memcpy(copy->path, event->path, sizeof(copy->path));
	copy->path[sizeof(copy->path) - 1] = 0;
}

void events_add_throttle(struct events *events, const struct throttle_event *event)
{
	int64_t place = queue_add(&events->throttles, THROTTLE_EVENTS_MAX);

	if (place >= 0)
		events->throttle[place] = *event;
}

size_t events_take_cgroup(struct events *events, struct cgroup_event *out, size_t n, uint64_t *lost)
{
	size_t taken = 0;
	int64_t place;

	while (taken < n && (place = queue_take(&events->cgroups, CGROUP_EVENTS_MAX)) >= 0)
		out[taken++] = events->cgroup[place];
	*lost = lost_since(&events->cgroups);
	return taken;
}

size_t events_take_throttle(struct events *events, struct throttle_event *out, size_t n, uint64_t *lost)
{
	size_t taken = 0;
	int64_t place;

	while (taken < n && (place = queue_take(&events->throttles, THROTTLE_EVENTS_MAX)) >= 0)
		out[taken++] = events->throttle[place];
	*lost = lost_since(&events->throttles);
	return taken;
}
