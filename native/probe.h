/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The BPF object in the running kernel: load, attach, drain, flush, detach. The only file that calls libbpf.
 * Errors are negative errno; `message` then says in one line which step failed and what the kernel said.
 */
#ifndef SLACKWATER_PROBE_H
#define SLACKWATER_PROBE_H

#include "bpf/cgroup.h"
#include "native/groups.h"

enum {
	PROBE_MESSAGE_BYTES = 512,
	PROBE_RINGS_BYTES = 16 << 20, /* a mapped ring counts twice in the resident set */
};

struct probe;

struct probe_options {
	uint32_t ring_bytes; /* of each wait ring, at most: a power of two of pages; all together PROBE_RINGS_BYTES */
	uint32_t max_groups; /* that probe_cgroup_stats has room for */
	uint32_t cpus_per_ring;       /* >= 1 */
	uint32_t exclude_caller;      /* 1: the waits of this process are counted, not sent */
	uint32_t cpu_hierarchy_id;    /* first field of its line in /proc/self/cgroup */
	uint32_t groups_are_cgroup2;  /* 1: a group is a cgroup2 directory; 0: one of the v1 cpu hierarchy */
	uint32_t force_wakeup_stamps; /* 1: the fallback although the kernel has sched_info */
	uint32_t trace_unthrottle;    /* PROBE_UNTHROTTLE_...: the best that is allowed, at most this */
	int32_t cgroup_root_fd;       /* the hierarchy's root directory, for probe_cgroup_stats; -1: none */
};

enum {
	PROBE_UNTHROTTLE_OFF = 0,
	PROBE_UNTHROTTLE_KPROBE = 1,
	PROBE_UNTHROTTLE_FENTRY = 2,
	PROBE_UNTHROTTLE_AUTO = 3,
};

/* What this kernel gave. An errno says why not: 0 it works, ENOENT the kernel does not have it. */
struct probe_features {
	uint32_t sched_info;        /* 1: the cum method; 0: wakeup stamps */
	uint32_t storage_nolock;    /* 1: task storage may be made under the run-queue lock */
	uint32_t throttle_per_task; /* 1: tasks are throttled one by one (6.18); 0: whole run queues */
	uint32_t unthrottle;        /* PROBE_UNTHROTTLE_OFF, _KPROBE or _FENTRY: how the end of a throttle is seen */
	int32_t fentry_errno;
	int32_t kprobe_errno;
	int32_t cgroup_events_errno;
	int32_t cgroup_stats_errno;
};

struct probe_counters {
	uint64_t switches;
	uint64_t waits;
	uint64_t produced;
	uint64_t dropped;
	uint64_t sampled_out;
	uint64_t own;
	uint64_t own_wait_ns;
	uint64_t unknown;
	uint64_t events_lost;
};

/* What the kernel's BPF statistics say of our programs. */
struct probe_run_stats {
	uint64_t run_ns;
	uint64_t runs;
};

/* `object`: the file's content, used during the call only. `groups` must outlive the probe. NULL: *error and message. */
struct probe *probe_open(const void *object, size_t object_bytes, const struct probe_options *options,
			 struct groups *groups, struct probe_features *features, int *error, char *message);
/* No event of the kernel reaches the programs any more; what they hold can still be flushed, drained and counted. */
void probe_detach(struct probe *probe);
/* Detaches and unloads everything. */
void probe_close(struct probe *probe);

/* Becomes readable when a throttle begins (epoll, level until drained). */
int probe_event_fd(const struct probe *probe);

/* Events, then samples, into the groups. Number of records, or -EBADMSG: a ring was broken and has been reset. */
int64_t probe_drain(struct probe *probe);
/* The events only: what is in a hurry. */
int64_t probe_drain_events(struct probe *probe);

/* Make every CPU with a part-filled batch send it. Number of CPUs flushed. */
int probe_flush(struct probe *probe);

void probe_set_sampling_factor(struct probe *probe, uint32_t factor);

/* Sums of the counters of struct wait_cpu over all CPUs; switches: waits + idles. */
void probe_counters(const struct probe *probe, struct probe_counters *out);

/*
 * Births, deaths and renames since the last call, in order, at most n. Returns how many. *lost: how many
 * more there were than the queue of 4096 could hold, or than the kernel could send (throttles among them); then only a re-scan helps.
 */
size_t probe_take_cgroup_events(struct probe *probe, struct cgroup_event *out, size_t n, uint64_t *lost);

/* Whether throttles that begin are kept for probe_take_throttles; at first not. */
void probe_queue_throttles(struct probe *probe, uint32_t on);
/* Throttles that began since the last call, in order, at most n, and *lost: how many more the queue could not hold. */
size_t probe_take_throttles(struct probe *probe, struct throttle_event *out, size_t n, uint64_t *lost);

/*
 * Read the scheduler's accounts of all groups but the root. Returns how many, or a negative errno; *rows is valid until
 * the next call.
 */
int64_t probe_cgroup_stats(struct probe *probe, const struct cgroup_cpu_stat **rows);

/* The kernel counts run time while the returned descriptor is open (all BPF programs of the host). */
int probe_stats_enable(void);
/* Summed over our programs that run in other tasks' time, since load; grows only while counting is on. */
int probe_run_stats(const struct probe *probe, struct probe_run_stats *out);

#endif
