/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The latency-sensitive service of the demo: HTTP/1.1 with keep-alive on 127.0.0.1.
 *
 *   service PORT THREADS ROUNDS    prints the port it listens on (PORT 0: any free one) and serves until it is ended
 *   service calibrate              prints how many rounds of work take 1 ms of CPU time
 *
 * GET / is answered after ROUNDS of work, GET /metrics with the latencies of GET / as a Prometheus histogram: from
 * the request's arrival in the kernel (SO_TIMESTAMPNS), so that its wait for a thread and for the CPU counts, to its answer.
 *
 * All threads wait on one epoll instance and take one ready connection at a time: none idles while a request waits.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common.h"

enum {
	REQUEST_BYTES_MAX = 8192,
	THREADS_MAX = 256,
	BOUNDS = 41, /* of the histogram: 0.5 ms to 512 ms, four to the octave */
};

struct connection {
	int fd;
	size_t used;
	int64_t arrived_ns; /* CLOCK_REALTIME, of the bytes read last */
	char request[REQUEST_BYTES_MAX + 1];
};

static uint64_t rounds;
static int poller, listener;

static double bounds_s[BOUNDS];
static atomic_uint_fast64_t buckets[BOUNDS + 1], sum_ns;

static void fill_bounds(void)
{
	const double quarters[] = { 1, 1.189207115, 1.414213562, 1.681792831 };

	for (int i = 0; i < BOUNDS; i++)
		bounds_s[i] = 0.0005 * (double)(1 << i / 4) * quarters[i % 4];
}

static void observe(int64_t latency_ns)
{
	int i = 0;

	while (i < BOUNDS && (double)latency_ns > bounds_s[i] * 1e9)
		i++;
	atomic_fetch_add(&buckets[i], 1);
	atomic_fetch_add(&sum_ns, (uint64_t)latency_ns);
}

static void print_metrics(FILE *out)
{
	uint64_t count = 0;

	fputs("# HELP demo_request_seconds From a request's arrival in the kernel to its answer.\n"
	      "# TYPE demo_request_seconds histogram\n",
	      out);
	for (int i = 0; i < BOUNDS; i++) {
		count += atomic_load(&buckets[i]);
		fprintf(out, "demo_request_seconds_bucket{le=\"%.9g\"} %lu\n", bounds_s[i], count);
	}
	count += atomic_load(&buckets[BOUNDS]);
	fprintf(out, "demo_request_seconds_bucket{le=\"+Inf\"} %lu\n", count);
	fprintf(out, "demo_request_seconds_sum %.9f\n", (double)atomic_load(&sum_ns) * 1e-9);
	fprintf(out, "demo_request_seconds_count %lu\n", count);
}

/* False: the other side has gone. Answers are far smaller than a socket's buffer. */
static bool answer(int fd, const char *status, const char *type, const char *body, size_t length)
{
	char head[256];
	int size = snprintf(head, sizeof(head), "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n",
			    status, type, length);
	struct iovec parts[] = { { head, (size_t)size }, { (void *)body, length } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };

	return sendmsg(fd, &message, MSG_NOSIGNAL) == size + (ssize_t)length;
}

static bool answer_work(struct connection *c)
{
	char body[32];
	int size = snprintf(body, sizeof(body), "%016lx\n", work(rounds));

	observe(clock_ns(CLOCK_REALTIME) - c->arrived_ns);
	return answer(c->fd, "200 OK", "text/plain", body, (size_t)size);
}

static bool answer_metrics(struct connection *c)
{
	char *body;
	size_t size;
	FILE *out = open_memstream(&body, &size);
	bool ok;

	print_metrics(out);
	fclose(out);
	ok = answer(c->fd, "200 OK", "text/plain; version=0.0.4", body, size);
	free(body);
	return ok;
}

/* One request, whose head is complete and ends with a NUL. False: the connection is to be closed. */
static bool serve(struct connection *c)
{
	char method[8], path[256], version[16];

	if (sscanf(c->request, "%7s %255s %15s", method, path, version) != 3 || strncmp(version, "HTTP/1.", 7)) {
		answer(c->fd, "400 Bad Request", "text/plain", "", 0);
		return false;
	}
	if (strcmp(method, "GET")) { /* perhaps with a body, which nobody here would read */
		answer(c->fd, "405 Method Not Allowed", "text/plain", "", 0);
		return false;
	}
	if (!(!strcmp(path, "/")          ? answer_work(c)
	      : !strcmp(path, "/metrics") ? answer_metrics(c)
					  : answer(c->fd, "404 Not Found", "text/plain", "", 0)))
		return false;
	return !strcmp(version, "HTTP/1.1") && !strcasestr(c->request, "\r\nConnection: close");
}

/* As recv; the kernel's time of arrival comes along. */
static ssize_t receive(struct connection *c)
{
	char control[CMSG_SPACE(sizeof(struct timespec))];
	struct iovec part = { c->request + c->used, REQUEST_BYTES_MAX - c->used };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	ssize_t size = recvmsg(c->fd, &message, 0);
	struct cmsghdr *header = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	struct timespec arrived;

	if (header && header->cmsg_type == SCM_TIMESTAMPNS) {
		memcpy(&arrived, CMSG_DATA(header), sizeof(arrived));
		c->arrived_ns = arrived.tv_sec * 1000000000LL + arrived.tv_nsec;
	} else {
		c->arrived_ns = clock_ns(CLOCK_REALTIME);
	}
	return size;
}

/* All that has come. False: the connection is to be closed. */
static bool read_and_serve(struct connection *c)
{
	ssize_t size = receive(c);
	char *end;

	if (size <= 0)
		return size < 0 && errno == EAGAIN;
	c->used += (size_t)size;
	c->request[c->used] = 0;
	while ((end = strstr(c->request, "\r\n\r\n"))) {
		size_t rest = c->used - (size_t)(end + 4 - c->request);

		end[2] = 0;
		if (!serve(c))
			return false;
		memmove(c->request, end + 4, rest + 1);
		c->used = rest;
	}
	return c->used < REQUEST_BYTES_MAX;
}

static void watch(int operation, struct connection *c)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.ptr = c };

	if (epoll_ctl(poller, operation, c->fd, &event))
		err(1, "epoll_ctl");
}

static void accept_one(void)
{
	int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct connection *c;

	if (fd < 0) /* another thread was faster, or the client is gone already */
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof(one));
	c = calloc(1, sizeof(*c));
	if (!c)
		err(1, "calloc");
	c->fd = fd;
	watch(EPOLL_CTL_ADD, c);
}

static void *serve_connections(void *unused)
{
	(void)unused;
	for (;;) {
		struct epoll_event event;
		struct connection *c;

		if (epoll_wait(poller, &event, 1, -1) != 1)
			continue;
		c = event.data.ptr;
		if (!c) {
			accept_one();
		} else if (read_and_serve(c)) {
			watch(EPOLL_CTL_MOD, c);
		} else {
			close(c->fd);
			free(c);
		}
	}
	return NULL;
}

static int listen_on(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	socklen_t size = sizeof(address);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) || listen(fd, 1024) ||
	    getsockname(fd, (struct sockaddr *)&address, &size))
		err(1, "port %d", port);
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

/* The fastest of many: CPU time is lengthened by a neighbour on the core, never shortened. */
static void calibrate(void)
{
	const uint64_t probe_rounds = 1 << 20;
	int64_t best_ns = INT64_MAX;
	volatile uint64_t sink;

	for (int i = 0; i < 50; i++) {
		int64_t took_ns = -clock_ns(CLOCK_THREAD_CPUTIME_ID);

		sink = work(probe_rounds);
		took_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID);
		if (took_ns < best_ns)
			best_ns = took_ns;
	}
	(void)sink;
	printf("%lu\n", probe_rounds * 1000000 / (uint64_t)best_ns);
}

int main(int argc, char **argv)
{
	struct epoll_event event = { .events = EPOLLIN };
	int threads = argc == 4 ? atoi(argv[2]) : 0;

	if (argc == 2 && !strcmp(argv[1], "calibrate")) {
		calibrate();
		return 0;
	}
	if (threads < 1 || threads > THREADS_MAX)
		errx(2, "usage: service PORT THREADS ROUNDS | service calibrate");
	rounds = strtoull(argv[3], NULL, 10);
	fill_bounds();
	poller = epoll_create1(EPOLL_CLOEXEC);
	listener = listen_on(atoi(argv[1]));
	if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event))
		err(1, "epoll");
	for (int i = 0; i < threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, serve_connections, NULL))
			errx(1, "no thread");
	}
	pause();
	return 0;
}
