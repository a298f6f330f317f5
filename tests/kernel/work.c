/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workloads of the kernel tests. Each begins when a byte comes from the descriptor GATE: until then it sleeps, so that it
 * can be put into a cgroup and onto a CPU without a wait of its own.
 *
 *   work GATE loop SECONDS                busy until the monotonic clock says so
 *   work GATE exec COMMAND...             becomes COMMAND
 *   work GATE spawn N PARALLEL BURN_US    N children, each burns BURN_US of CPU time and ends; prints the ns that they
 *                                         waited, from /proc/PID/schedstat of the dead, so that their way out is in it
 *   work GATE serve BURN_US               burns BURN_US of CPU time for each byte on stdin, to its end
 *   work GATE touch PAGES                 that many page faults
 *   work GATE wake INTERVAL_US COUNT FD.. writes a byte to each FD, COUNT times
 *   work GATE pingpong COUNT              two processes pass a byte to and fro COUNT times
 *   work GATE breed N INTERVAL_US SECONDS N processes, each of which forks every INTERVAL_US and leaves its life to the child
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
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

static unsigned long long waited_ns(pid_t pid)
{
	unsigned long long wait;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%*u %llu", &wait) != 1)
		err(1, "%s", path);
	fclose(f);
	return wait;
}

/* Wait for any child's end; what it waited in its life. */
static unsigned long long reap(void)
{
	unsigned long long waited;
	siginfo_t dead;

	if (waitid(P_ALL, 0, &dead, WEXITED | WNOWAIT))
		err(1, "waitid");
	waited = waited_ns(dead.si_pid);
	waitid(P_PID, (id_t)dead.si_pid, &dead, WEXITED);
	return waited;
}

static void spawn(int n, int parallel, long us)
{
	unsigned long long waited = 0;

	for (int i = 0; i < n; i++) {
		pid_t pid;

		if (i >= parallel)
			waited += reap();
		pid = fork();
		if (pid < 0)
			err(1, "fork");
		if (pid == 0) {
			burn_us(us);
			_exit(0);
		}
	}
	for (int i = 0; i < n && i < parallel; i++)
		waited += reap();
	printf("%llu\n", waited);
}

static void serve(long us)
{
	char byte;

	while (read(STDIN_FILENO, &byte, 1) == 1)
		burn_us(us);
}

static void touch(long pages)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (size_t)pages * page;
	volatile char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || madvise((void *)memory, bytes, MADV_NOHUGEPAGE))
		err(1, "mmap");
	for (size_t i = 0; i < bytes; i += page)
		memory[i] = 1;
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

/* A line of processes: each lives for an interval, forks, and ends. The first interval is of any length up to that. */
static void lineage(long interval_us, long long end_ns)
{
	long life_us = getpid() % 1000 * (interval_us / 1000);

	while (clock_ns(CLOCK_MONOTONIC) < end_ns) {
		usleep(life_us);
		life_us = interval_us;
		if (fork())
			_exit(0);
	}
	_exit(0);
}

static void breed(int n, long interval_us, double seconds)
{
	int all_there[2];
	char none;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1) || pipe(all_there)) /* orphans are ours to wait for */
		err(1, "breed");
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			err(1, "fork");
		if (pid == 0) {
			close(all_there[1]);
			if (read(all_there[0], &none, 1) != 0)
				err(1, "pipe");
			lineage(interval_us, clock_ns(CLOCK_MONOTONIC) + (long long)(seconds * 1e9));
		}
	}
	close(all_there[1]);
	while (wait(NULL) > 0)
		;
}

int main(int argc, char **argv)
{
	const char *mode;
	char byte;

	if (argc < 4)
		errx(2, "usage: see the source");
	mode = argv[2];
	if (read(atoi(argv[1]), &byte, 1) != 1)
		return 1;
	if (!strcmp(mode, "exec")) {
		execvp(argv[3], argv + 3);
		err(1, "%s", argv[3]);
	}
	if (!strcmp(mode, "loop"))
		burn_until(CLOCK_MONOTONIC, clock_ns(CLOCK_MONOTONIC) + (long long)(atof(argv[3]) * 1e9));
	else if (!strcmp(mode, "spawn") && argc == 6)
		spawn(atoi(argv[3]), atoi(argv[4]), atol(argv[5]));
	else if (!strcmp(mode, "serve"))
		serve(atol(argv[3]));
	else if (!strcmp(mode, "wake") && argc > 5)
		wake(atol(argv[3]), atol(argv[4]), argv + 5);
	else if (!strcmp(mode, "touch"))
		touch(atol(argv[3]));
	else if (!strcmp(mode, "pingpong"))
		pingpong(atol(argv[3]));
	else if (!strcmp(mode, "breed") && argc == 6)
		breed(atoi(argv[3]), atol(argv[4]), atof(argv[5]));
	else
		errx(2, "%s: no such workload", mode);
	return 0;
}
