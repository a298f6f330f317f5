/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The batch work of the demo: threads that compute without a pause and count what they have done.
 *
 *   batch THREADS ROUNDS COUNTS    COUNTS: a file of THREADS * 64 bytes; a uint64 of units done begins each 64 of them.
 *                                  A unit is ROUNDS of work, as for a request of the service.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"

enum { THREADS_MAX = 256 };

struct count {
	_Alignas(64) atomic_uint_fast64_t units; /* a cache line each */
};

static uint64_t rounds;

static void *compute(void *count)
{
	volatile uint64_t sink;

	for (;;) {
		sink = work(rounds);
		(void)sink;
		atomic_fetch_add_explicit(&((struct count *)count)->units, 1, memory_order_relaxed);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int threads = argc == 4 ? atoi(argv[1]) : 0, file;
	struct count *counts;

	rounds = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;
	if (threads < 1 || threads > THREADS_MAX || !rounds)
		errx(2, "usage: batch THREADS ROUNDS COUNTS");
	file = open(argv[3], O_RDWR | O_CLOEXEC);
	counts = mmap(NULL, (size_t)threads * sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (file < 0 || counts == MAP_FAILED)
		err(1, "%s", argv[3]);
	for (int i = 0; i < threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, compute, &counts[i]))
			errx(1, "no thread");
	}
	pause();
	return 0;
}
