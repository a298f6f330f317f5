/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs of the demo share: a clock, and work that is the same everywhere. */
#ifndef DEMO_COMMON_H
#define DEMO_COMMON_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Registers only: what it takes is CPU time, whatever the caches hold. The result must be used. */
static inline uint64_t work(uint64_t rounds)
{
	uint64_t x = rounds | 1;

	while (rounds--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	return x;
}

#endif
