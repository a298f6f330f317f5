/* SPDX-License-Identifier: Apache-2.0 */
#include "native/net.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct net {
	struct bpf_object *object;
	int program_fd;
	int groups_fd;
	int devices_fd;
	int counts_fd;
	int n_cpus;
	struct net_counts *of_cpus; /* n_cpus, for reading */
};

static int say_nothing(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level, (void)format, (void)args;
	return 0;
}

static struct net *fail(struct net *net, int *error, char *message, int code, const char *step)
{
	*error = code < 0 ? code : -EIO;
	snprintf(message, PROBE_MESSAGE_BYTES, "%s: %s", step, strerror(-*error));
	net_close(net);
	return NULL;
}

static int map_fd(const struct net *net, const char *name)
{
	return bpf_object__find_map_fd_by_name(net->object, name);
}

static int load(struct net *net, const void *object, size_t object_bytes, const struct net_options *options)
{
	LIBBPF_OPTS(bpf_object_open_opts, open_options, .object_name = "net_class");
	const struct {
		const char *map;
		uint32_t entries;
	} sizes[] = {
		{ "net_groups", options->max_groups },
		{ "net_devices", options->max_devices },
		{ "net_counts", options->max_groups + 1 },
	};
	bool use_net_cls = options->use_net_cls;
	struct bpf_map *map;

	net->object = bpf_object__open_mem(object, object_bytes, &open_options);
	if (!net->object)
		return -errno;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		bpf_map__set_max_entries(bpf_object__find_map_by_name(net->object, sizes[i].map), sizes[i].entries);
	/* its only read-only variable */
	bpf_object__for_each_map(map,
				 net->object) if (bpf_map__is_internal(map) && strstr(bpf_map__name(map), ".rodata"))
		bpf_map__set_initial_value(map, &use_net_cls, sizeof(use_net_cls));
	return bpf_object__load(net->object);
}

struct net *net_open(const void *object, size_t object_bytes, const struct net_options *options, int *error,
		     char *message)
{
	struct net *net = calloc(1, sizeof(*net));
	libbpf_print_fn_t print;
	int err;

	if (!net)
		return fail(net, error, message, -ENOMEM, "memory");
	net->n_cpus = libbpf_num_possible_cpus();
	if (net->n_cpus < 0)
		return fail(net, error, message, net->n_cpus, "number of CPUs");
	net->of_cpus = calloc((size_t)net->n_cpus, sizeof(*net->of_cpus));
	if (!net->of_cpus)
		return fail(net, error, message, -ENOMEM, "memory");
	print = libbpf_set_print(say_nothing);
	err = load(net, object, object_bytes, options);
	libbpf_set_print(print);
	if (err)
		return fail(net, error, message, err, "BPF load of the classifier");
	net->program_fd = bpf_program__fd(bpf_object__find_program_by_name(net->object, "net_class"));
	net->groups_fd = map_fd(net, "net_groups");
	net->devices_fd = map_fd(net, "net_devices");
	net->counts_fd = map_fd(net, "net_counts");
	return net;
}

void net_close(struct net *net)
{
	if (!net)
		return;
	bpf_object__close(net->object);
	free(net->of_cpus);
	free(net);
}

int net_program_fd(const struct net *net)
{
	return net->program_fd;
}

static int set(int fd, const void *key, const struct net_group *group)
{
	if (group)
		return bpf_map_update_elem(fd, key, group, BPF_ANY) ? -errno : 0;
	return bpf_map_delete_elem(fd, key) && errno != ENOENT ? -errno : 0;
}

int net_set_group(struct net *net, uint64_t cgroup_id, const struct net_group *group)
{
	return set(net->groups_fd, &cgroup_id, group);
}

int net_set_device(struct net *net, uint32_t ifindex, const struct net_group *group)
{
	return set(net->devices_fd, &ifindex, group);
}

int net_read_counts(struct net *net, struct net_counts *out, size_t n)
{
	for (uint32_t row = 0; row < n; row++) {
		if (bpf_map_lookup_elem(net->counts_fd, &row, net->of_cpus))
			return -errno;
		out[row] = (struct net_counts){ 0 };
		for (int cpu = 0; cpu < net->n_cpus; cpu++) {
			out[row].bytes += net->of_cpus[cpu].bytes;
			out[row].packets += net->of_cpus[cpu].packets;
		}
	}
	return 0;
}

int net_run_stats(const struct net *net, struct probe_run_stats *out)
{
	struct bpf_prog_info info = {};
	uint32_t bytes = sizeof(info);

	if (bpf_obj_get_info_by_fd(net->program_fd, &info, &bytes))
		return -errno;
	*out = (struct probe_run_stats){ .run_ns = info.run_time_ns, .runs = info.run_cnt };
	return 0;
}
