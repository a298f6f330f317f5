/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workloads of the kernel tests. Each process joins its cgroup first and prints what it waited before (ns,
 * field 2 of its own /proc/self/schedstat); as its last act it prints by how much that has grown since: a
 * wait that is not over is in neither figure.
 *
 *   work CGROUP_DIR CPU loop SECONDS                busy until the monotonic clock says so (CPU -1: not pinned)
 *   work CGROUP_DIR CPU exec COMMAND...             becomes COMMAND, does not print again
 *   work CGROUP_DIR CPU spawn N PARALLEL BURN_US    N children, each burns BURN_US of CPU time and ends
 *   work CGROUP_DIR CPU serve BURN_US               burns BURN_US of CPU time for each byte on stdin, to its end
 *   work CGROUP_DIR CPU wake INTERVAL_US COUNT FD.. writes a byte to each FD, COUNT times
 *   work CGROUP_DIR CPU pingpong COUNT              two processes pass a byte to and fro COUNT times
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void burn_until(clockid_t clock, long long end_ns)
{
	while (clock_ns(clock) < end_ns)
		;
}

static void burn_us(long us)
{
	burn_until(CLOCK_THREAD_CPUTIME_ID, clock_ns(CLOCK_THREAD_CPUTIME_ID) + us * 1000LL);
}

static unsigned long long waited_ns(void)
{
	unsigned long long wait;
	FILE *f = fopen("/proc/self/schedstat", "re");

	if (!f || fscanf(f, "%*u %llu", &wait) != 1)
		err(1, "/proc/self/schedstat");
	fclose(f);
	return wait;
}

static void join(const char *dir, int cpu)
{
	char path[4096];
	int fd;
	cpu_set_t set;

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		err(1, "%s", path);
	close(fd);
	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "CPU %d", cpu);
}

static void reap(void)
{
	if (wait(NULL) < 0)
		err(1, "wait");
}

static void spawn(int n, int parallel, long us)
{
	for (int i = 0; i < n; i++) {
		pid_t pid;

		if (i >= parallel)
			reap();
		pid = fork();
		if (pid < 0)
			err(1, "fork");
		if (pid == 0) {
			burn_us(us);
			_exit(0);
		}
	}
	for (int i = 0; i < n && i < parallel; i++)
		reap();
}

static void serve(long us)
{
	char byte;

	while (read(STDIN_FILENO, &byte, 1) == 1)
		burn_us(us);
}

static void wake(long interval_us, long count, char **fds)
{
	for (; count; count--) {
		for (char **fd = fds; *fd; fd++)
			if (write(atoi(*fd), "x", 1) != 1)
				err(1, "fd %s", *fd);
		usleep(interval_us);
	}
}

static void echo(int from, int to, long count)
{
	char byte = 'x';

	while (count-- && read(from, &byte, 1) == 1 && write(to, &byte, 1) == 1)
		;
}

static void pingpong(long count)
{
	int ping[2], pong[2];
	pid_t pid;

	if (pipe(ping) || pipe(pong))
		err(1, "pipe");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		echo(ping[0], pong[1], count);
		_exit(0);
	}
	if (write(ping[1], "x", 1) != 1)
		err(1, "pipe");
	echo(pong[0], ping[1], count);
	reap();
}

int main(int argc, char **argv)
{
	unsigned long long before_ns;
	const char *mode;

	if (argc < 5)
		errx(2, "usage: see the source");
	mode = argv[3];
	join(argv[1], atoi(argv[2]));
	before_ns = waited_ns();
	printf("%llu\n", before_ns);
	fflush(stdout);
	if (!strcmp(mode, "exec")) {
		execvp(argv[4], argv + 4);
		err(1, "%s", argv[4]);
	}
	if (!strcmp(mode, "loop"))
		burn_until(CLOCK_MONOTONIC, clock_ns(CLOCK_MONOTONIC) + (long long)(atof(argv[4]) * 1e9));
	else if (!strcmp(mode, "spawn") && argc == 7)
		spawn(atoi(argv[4]), atoi(argv[5]), atol(argv[6]));
	else if (!strcmp(mode, "serve"))
		serve(atol(argv[4]));
	else if (!strcmp(mode, "wake") && argc > 6)
		wake(atol(argv[4]), atol(argv[5]), argv + 6);
	else if (!strcmp(mode, "pingpong"))
		pingpong(atol(argv[4]));
	else
		errx(2, "%s: no such workload", mode);
	printf("%llu\n", waited_ns() - before_ns);
	return 0;
}
