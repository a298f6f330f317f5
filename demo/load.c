/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load of the demo: requests at given times, whatever the service does meanwhile (an open loop).
 *
 *   load PORT CONNECTIONS START_NS GRACE_MS < schedule > latencies
 *
 * schedule: int64 in host order, ns after START_NS (CLOCK_MONOTONIC) at which GET / is due, ascending.
 * latencies: int64 triples, one per request in the order of the schedule: due, sent, answered; ns after START_NS.
 *
 * A latency counts from when the request was due. When all connections are busy it waits for one, and this wait counts
 * too: what a stalled service delays is not missing from the result (no coordinated omission). Requests that are not
 * answered GRACE_MS after the last was due, or not with status 200, have answered = -1; not sent: sent = -1.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

enum { CONNECTIONS_MAX = 4096, REQUESTS_MAX = 1 << 20, ANSWER_BYTES_MAX = 1024 };

static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

struct exchange {
	int64_t due_ns, sent_ns, answered_ns;
};

struct connection {
	int fd;
	struct exchange *open; /* the one it is busy with */
	size_t used;
	char answer[ANSWER_BYTES_MAX + 1];
};

static int64_t start_ns;
static struct connection *idle[CONNECTIONS_MAX]; /* the first `idles` of them */
static int idles, poller;

static int64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC) - start_ns;
}

static struct exchange *read_schedule(size_t *count)
{
	struct exchange *exchanges = calloc(REQUESTS_MAX, sizeof(*exchanges));
	int64_t due_ns;

	for (*count = 0; exchanges && fread(&due_ns, sizeof(due_ns), 1, stdin) == 1; ++*count) {
		if (*count == REQUESTS_MAX)
			errx(1, "more than %d requests", REQUESTS_MAX);
		exchanges[*count] = (struct exchange){ due_ns, -1, -1 };
	}
	if (!exchanges || !*count)
		errx(1, "no schedule on standard input");
	return exchanges;
}

static void connect_one(struct connection *c, int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };
	int one = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)))
		err(1, "port %d", port);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (fcntl(c->fd, F_SETFL, O_NONBLOCK) || epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event))
		err(1, "connection");
	idle[idles++] = c;
}

static void send_request(struct connection *c, struct exchange *exchange)
{
	c->open = exchange;
	exchange->sent_ns = now_ns();
	if (send(c->fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != sizeof(request) - 1)
		err(1, "send");
}

/* Length of the answer at the beginning of the buffer, 0: not all of it is there yet. */
static size_t answer_length(const struct connection *c)
{
	const char *end = strstr(c->answer, "\r\n\r\n"), *length = strcasestr(c->answer, "\r\nContent-Length:");
	size_t total;

	if (!end)
		return 0;
	if (!length || length > end)
		errx(1, "an answer without Content-Length");
	total = (size_t)(end + 4 - c->answer) + strtoul(length + strlen("\r\nContent-Length:"), NULL, 10);
	return c->used < total ? 0 : total;
}

/* 1: it has been answered. */
static int receive(struct connection *c)
{
	ssize_t size = recv(c->fd, c->answer + c->used, ANSWER_BYTES_MAX - c->used, 0);

	if (size < 0 && errno == EAGAIN)
		return 0;
	if (size <= 0 || !c->open)
		errx(1, "the service has closed a connection");
	c->used += (size_t)size;
	c->answer[c->used] = 0;
	if (!answer_length(c))
		return 0;
	if (!strncmp(c->answer, "HTTP/1.1 200 ", 13))
		c->open->answered_ns = now_ns();
	c->open = NULL;
	c->used = 0;
	idle[idles++] = c;
	return 1;
}

static void run(struct exchange *exchanges, size_t count, int64_t grace_ns)
{
	int64_t end_ns = exchanges[count - 1].due_ns + grace_ns, now;
	size_t next = 0, done = 0;

	while (done < count && (now = now_ns()) < end_ns) {
		struct epoll_event events[64];
		struct timespec timeout;
		int64_t wake_ns;
		int ready;

		for (; next < count && idles && exchanges[next].due_ns <= now; now = now_ns())
			send_request(idle[--idles], &exchanges[next++]);
		wake_ns = next < count && idles ? exchanges[next].due_ns : end_ns;
		wake_ns = wake_ns > now ? wake_ns - now : 0;
		timeout = (struct timespec){ wake_ns / 1000000000, wake_ns % 1000000000 };
		ready = epoll_pwait2(poller, events, 64, &timeout, NULL);
		for (int i = 0; i < ready; i++)
			done += (size_t)receive(events[i].data.ptr);
	}
}

int main(int argc, char **argv)
{
	int connections = argc == 5 ? atoi(argv[2]) : 0;
	struct connection *all = calloc(CONNECTIONS_MAX, sizeof(*all));
	struct exchange *exchanges;
	size_t count;

	if (connections < 1 || connections > CONNECTIONS_MAX || !all)
		errx(2, "usage: load PORT CONNECTIONS START_NS GRACE_MS < schedule > latencies");
	start_ns = strtoll(argv[3], NULL, 10);
	exchanges = read_schedule(&count);
	poller = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < connections; i++)
		connect_one(&all[i], atoi(argv[1]));
	mlockall(MCL_CURRENT);
	run(exchanges, count, strtoll(argv[4], NULL, 10) * 1000000);
	if (fwrite(exchanges, sizeof(*exchanges), count, stdout) != count || fflush(stdout))
		err(1, "latencies");
	return 0;
}
