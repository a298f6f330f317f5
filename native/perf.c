/* SPDX-License-Identifier: Apache-2.0 */
#include "native/perf.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NO_CGROUP (-1)

/* What a read gives: PERF_FORMAT_GROUP and times, no ids. */
struct reading {
	uint64_t n_values;
	struct perf_growth since_open;
};

/* The events of one cgroup on one CPU; fds[0] < 0: they are not open. */
struct slot {
	int fds[PERF_KINDS_MAX];
	struct perf_growth last;
};

struct perf {
	struct perf_kind kinds[PERF_KINDS_MAX];
	size_t n_kinds;
	size_t max_groups;
	int n_cpus;
	int *cgroup_fds;             /* by row; < 0: free */
	struct slot *cpus;           /* n_cpus: an event that counts nothing; not open while the CPU is off-line */
	struct slot *groups;         /* max_groups x n_cpus */
	struct perf_growth *growths; /* n_cpus, for reading */
};

static const struct perf_kind nothing = { .type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_DUMMY };

static struct slot *slot_of(const struct perf *perf, size_t row, int cpu)
{
	return &perf->groups[row * (size_t)perf->n_cpus + (size_t)cpu];
}

static bool is_open(const struct slot *slot)
{
	return slot->fds[0] >= 0;
}

/* ---- one cgroup on one CPU ------------------------------------------------------------------- */

static void close_slot(struct slot *slot)
{
	for (int i = PERF_KINDS_MAX - 1; i >= 0; i--)
		if (slot->fds[i] >= 0)
			close(slot->fds[i]);
	*slot = (struct slot){ .fds = { -1, -1, -1, -1 } };
}

static int open_event(const struct perf_kind *kind, int cgroup_fd, int cpu, int leader_fd)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = kind->type,
		.config = kind->config,
		.read_format = PERF_FORMAT_GROUP | PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
	};
	unsigned long flags = PERF_FLAG_FD_CLOEXEC | (cgroup_fd == NO_CGROUP ? 0 : PERF_FLAG_PID_CGROUP);
	long fd = syscall(SYS_perf_event_open, &attr, cgroup_fd, cpu, leader_fd, flags);

	return fd < 0 ? -errno : (int)fd;
}

/* All or none. */
static int open_slot(struct slot *slot, const struct perf_kind *kinds, size_t n_kinds, int cgroup_fd, int cpu)
{
	close_slot(slot);
	for (size_t i = 0; i < n_kinds; i++) {
		int fd = open_event(&kinds[i], cgroup_fd, cpu, i ? slot->fds[0] : -1);

		if (fd < 0) {
			close_slot(slot);
			return fd;
		}
		slot->fds[i] = fd;
	}
	return 0;
}

/* The growth since the last time. False: it is not to be had, as of events that were taken off their CPU. */
static bool read_slot(struct slot *slot, size_t n_kinds, struct perf_growth *growth)
{
	ssize_t bytes = (ssize_t)((3 + n_kinds) * sizeof(uint64_t));
	struct perf_growth last = slot->last;
	struct reading now = { 0 };

	if (read(slot->fds[0], &now, sizeof(now)) != bytes || now.n_values != n_kinds)
		return false;
	slot->last = *growth = now.since_open;
	growth->enabled_ns -= last.enabled_ns;
	growth->running_ns -= last.running_ns;
	for (size_t i = 0; i < n_kinds; i++) {
		if (growth->values[i] < last.values[i])
			return false;
		growth->values[i] -= last.values[i];
	}
	return true;
}

/* ---- CPUs ------------------------------------------------------------------------------------ */

/* Is it on-line? What was open on one that was away does not count any more. */
static void follow_cpu(struct perf *perf, int cpu)
{
	struct slot *watched = &perf->cpus[cpu];
	struct perf_growth growth;

	if (is_open(watched)) {
		if (read_slot(watched, 1, &growth) && growth.enabled_ns)
			return;
		for (size_t row = 0; row < perf->max_groups; row++)
			close_slot(slot_of(perf, row, cpu));
	}
	open_slot(watched, &nothing, 1, NO_CGROUP, cpu);
}

/* ---- all ------------------------------------------------------------------------------------- */

static int try_kinds(const struct perf *perf)
{
	struct slot slot = { .fds = { -1, -1, -1, -1 } };
	int cpu = 0, err;

	while (cpu < perf->n_cpus - 1 && !is_open(&perf->cpus[cpu]))
		cpu++;
	err = open_slot(&slot, perf->kinds, perf->n_kinds, NO_CGROUP, cpu);
	close_slot(&slot);
	return err;
}

static struct perf *fail(struct perf *perf, int *error, int code)
{
	*error = code;
	perf_close(perf);
	return NULL;
}

struct perf *perf_open(const struct perf_kind *kinds, size_t n_kinds, size_t max_groups, int *error)
{
	struct perf *perf = calloc(1, sizeof(*perf));
	int err;

	if (!perf)
		return fail(perf, error, -ENOMEM);
	if (!n_kinds || n_kinds > PERF_KINDS_MAX)
		return fail(perf, error, -EINVAL);
	memcpy(perf->kinds, kinds, n_kinds * sizeof(*kinds));
	perf->n_kinds = n_kinds;
	perf->n_cpus = libbpf_num_possible_cpus();
	if (perf->n_cpus < 0)
		return fail(perf, error, perf->n_cpus);
	perf->cgroup_fds = calloc(max_groups, sizeof(*perf->cgroup_fds));
	perf->cpus = calloc((size_t)perf->n_cpus, sizeof(*perf->cpus));
	perf->groups = calloc(max_groups * (size_t)perf->n_cpus, sizeof(*perf->groups));
	perf->growths = calloc((size_t)perf->n_cpus, sizeof(*perf->growths));
	if (!perf->cgroup_fds || !perf->cpus || !perf->groups || !perf->growths)
		return fail(perf, error, -ENOMEM);
	perf->max_groups = max_groups;
	memset(perf->cgroup_fds, -1, max_groups * sizeof(*perf->cgroup_fds));
	memset(perf->cpus, -1, (size_t)perf->n_cpus * sizeof(*perf->cpus));
	memset(perf->groups, -1, max_groups * (size_t)perf->n_cpus * sizeof(*perf->groups));
	for (int cpu = 0; cpu < perf->n_cpus; cpu++)
		follow_cpu(perf, cpu);
	err = try_kinds(perf);
	return err ? fail(perf, error, err) : perf;
}

void perf_close(struct perf *perf)
{
	if (!perf)
		return;
	for (size_t row = 0; row < perf->max_groups; row++)
		perf_remove(perf, (int)row);
	for (int cpu = 0; perf->max_groups && cpu < perf->n_cpus; cpu++)
		close_slot(&perf->cpus[cpu]);
	free(perf->cgroup_fds);
	free(perf->cpus);
	free(perf->groups);
	free(perf->growths);
	free(perf);
}

int perf_add(struct perf *perf, int cgroup_fd)
{
	size_t row = 0;
	int err = 0;

	while (row < perf->max_groups && perf->cgroup_fds[row] >= 0)
		row++;
	if (row == perf->max_groups)
		return -ENOSPC;
	perf->cgroup_fds[row] = fcntl(cgroup_fd, F_DUPFD_CLOEXEC, 0);
	if (perf->cgroup_fds[row] < 0)
		return -errno;
	for (int cpu = 0; cpu < perf->n_cpus && !err; cpu++)
		if (is_open(&perf->cpus[cpu])) {
			err = open_slot(slot_of(perf, row, cpu), perf->kinds, perf->n_kinds, perf->cgroup_fds[row],
					cpu);
			err = err == -ENODEV ? 0 : err; /* it went off-line just now */
		}
	if (err)
		perf_remove(perf, (int)row);
	return err ?: (int)row;
}

void perf_remove(struct perf *perf, int row)
{
	if (perf->cgroup_fds[row] < 0)
		return;
	for (int cpu = 0; cpu < perf->n_cpus; cpu++)
		close_slot(slot_of(perf, (size_t)row, cpu));
	close(perf->cgroup_fds[row]);
	perf->cgroup_fds[row] = -1;
}

void perf_sum(const struct perf_growth *cpus, size_t n_cpus, size_t n_kinds, double *amounts)
{
	double enabled_ns = 0, counted_ns = 0;

	memset(amounts, 0, n_kinds * sizeof(*amounts));
	for (const struct perf_growth *cpu = cpus; cpu < cpus + n_cpus; cpu++) {
		enabled_ns += (double)cpu->enabled_ns;
		if (!cpu->running_ns)
			continue;
		counted_ns += (double)cpu->enabled_ns;
		for (size_t i = 0; i < n_kinds; i++)
			amounts[i] += (double)cpu->values[i] * (double)cpu->enabled_ns / (double)cpu->running_ns;
	}
	for (size_t i = 0; enabled_ns > 0 && i < n_kinds; i++)
		amounts[i] *= enabled_ns / counted_ns; /* 0 of 0: NaN */
}

/* False: some CPU does not let it be counted, or did not all the time. */
static bool read_row(struct perf *perf, size_t row)
{
	bool is_known = true;

	for (int cpu = 0; cpu < perf->n_cpus; cpu++) {
		struct slot *slot = slot_of(perf, row, cpu);

		perf->growths[cpu] = (struct perf_growth){ 0 };
		if (!is_open(&perf->cpus[cpu]))
			continue;
		if (!is_open(slot))
			open_slot(slot, perf->kinds, perf->n_kinds, perf->cgroup_fds[row], cpu);
		if (!is_open(slot) || !read_slot(slot, perf->n_kinds, &perf->growths[cpu]))
			is_known = false;
	}
	return is_known;
}

void perf_read(struct perf *perf, double *amounts)
{
	for (int cpu = 0; cpu < perf->n_cpus; cpu++)
		follow_cpu(perf, cpu);
	for (size_t row = 0; row < perf->max_groups; row++, amounts += perf->n_kinds) {
		if (perf->cgroup_fds[row] >= 0 && read_row(perf, row))
			perf_sum(perf->growths, (size_t)perf->n_cpus, perf->n_kinds, amounts);
		else
			for (size_t i = 0; i < perf->n_kinds; i++)
				amounts[i] = NAN;
	}
}
