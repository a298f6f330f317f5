/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load of the agent benchmarks: a pair of processes in each group whose directory is on a line of stdin. Now and then a
 * pair wakes and passes a byte to and fro; how often is regulated once a second, so that the host as a whole makes
 * SWITCHES_PER_S context switches. Ends, with all pairs, at the end of stdin.
 *
 *   agent_load SWITCHES_PER_S < directories
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
	ROUNDS_PER_WAKE = 4,
	SWITCHES_PER_WAKE_GUESS = 12,
	INTERVAL_US_MIN = 1000,
	INTERVAL_US_MAX = 10 * 1000 * 1000,
};

static void echo(int from, int to)
{
	char byte = 'x';

	while (read(from, &byte, 1) == 1 && write(to, &byte, 1) == 1)
		;
}

static void fork_bound_to_parent(pid_t *pid)
{
	*pid = fork();
	if (*pid < 0)
		err(1, "fork");
	if (*pid == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL))
		err(1, "prctl");
}

static void pair(const char *directory, const volatile unsigned *interval_us)
{
	int group = open(directory, O_PATH | O_CLOEXEC), procs, ping[2], pong[2];
	char byte = 'x';
	pid_t partner;

	procs = openat(group, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (procs < 0 || write(procs, "0", 1) != 1 || pipe(ping) || pipe(pong))
		err(1, "%s", directory);
	fork_bound_to_parent(&partner);
	if (!partner)
		echo(ping[0], pong[1]);
	srand((unsigned)getpid());
	for (;;) {
		usleep(*interval_us / 2 + (unsigned)rand() % *interval_us);
		for (int i = 0; i < ROUNDS_PER_WAKE; i++)
			if (write(ping[1], &byte, 1) != 1 || read(pong[0], &byte, 1) != 1)
				err(1, "pipe");
	}
}

static unsigned long long host_switches(void)
{
	unsigned long long switches = 0;
	char line[256];
	FILE *stat = fopen("/proc/stat", "re");

	while (stat && fgets(line, sizeof(line), stat))
		if (sscanf(line, "ctxt %llu", &switches) == 1)
			break;
	if (!switches)
		errx(1, "/proc/stat has no ctxt");
	fclose(stat);
	return switches;
}

static void regulate(unsigned *interval_us, double target_per_s)
{
	struct pollfd end = { .fd = STDIN_FILENO, .events = POLLIN };
	unsigned long long before = host_switches(), now;

	while (!poll(&end, 1, 1000)) {
		double next_us;

		now = host_switches();
		next_us = *interval_us * (0.5 + 0.5 * (double)(now - before) / target_per_s);
		*interval_us = (unsigned)(next_us < INTERVAL_US_MIN   ? INTERVAL_US_MIN
					  : next_us > INTERVAL_US_MAX ? INTERVAL_US_MAX
								      : next_us);
		before = now;
	}
}

int main(int argc, char **argv)
{
	unsigned *interval_us =
		mmap(NULL, sizeof(*interval_us), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	double target_per_s = argc == 2 ? atof(argv[1]) : 0;
	char line[4096];
	int pairs = 0;

	if (interval_us == MAP_FAILED || target_per_s <= 0)
		errx(2, "usage: agent_load SWITCHES_PER_S < directories");
	*interval_us = INTERVAL_US_MAX;
	while (fgets(line, sizeof(line), stdin) && strcmp(line, "\n")) {
		pid_t pid;

		line[strcspn(line, "\n")] = 0;
		fork_bound_to_parent(&pid);
		if (!pid)
			pair(line, interval_us);
		pairs++;
	}
	*interval_us = (unsigned)(pairs * SWITCHES_PER_WAKE_GUESS / target_per_s * 1e6);
	regulate(interval_us, target_per_s);
	return 0;
}
