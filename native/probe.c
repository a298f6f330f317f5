/* SPDX-License-Identifier: Apache-2.0 */
#include "native/events.h"
#include "native/probe.h"
#include "native/ring.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

enum {
	LINKS_MAX = 12,
	THROTTLES_MIN = 16384, /* groups with a quota x CPUs on which they ran into it; the oldest are forgotten */
	THROTTLES_PER_CPU = 256,
};

struct probe {
	struct bpf_object *object;
	struct bpf_link *links[LINKS_MAX];
	int n_links;
	struct bpf_link *stats_link;
	struct cgroup_cpu_stat *stat_rows; /* the mapped memory of its map */
	size_t stat_bytes;
	uint32_t *stat_count; /* in data */
	int flush_fd;
	int events_fd;
	int n_cpus;
	int n_rings;
	int *ring_fds;
	struct ring *rings;          /* n_rings wait rings, then the event ring */
	const struct wait_cpu *cpus; /* n_cpus, mapped */
	size_t cpus_bytes;
	uint32_t *sampling_factor; /* in data */
	void *data;                /* the object's .data, mapped */
	struct groups *groups;
	struct events *events;
	bool queue_throttles;
	uint64_t events_lost_told; /* by probe_take_cgroup_events */
};

/* ---- messages ------------------------------------------------------------------------------- */

/* libbpf's printer has no context, so the first warning of a step is kept here, by thread. */
static __thread char last_warning[PROBE_MESSAGE_BYTES - 128];

static int keep_warning(enum libbpf_print_level level, const char *format, va_list args)
{
	/* the first warning names the cause, later ones repeat it */
	if (level != LIBBPF_WARN || last_warning[0])
		return 0;
	vsnprintf(last_warning, sizeof(last_warning), format, args);
	last_warning[strcspn(last_warning, "\n")] = 0;
	return 0;
}

static struct probe *fail(struct probe *probe, int *error, char *message, int code, const char *step)
{
	*error = code < 0 ? code : -EIO;
	snprintf(message, PROBE_MESSAGE_BYTES, "%s: %s%s%s", step, strerror(-*error), last_warning[0] ? ": " : "",
		 last_warning);
	probe_close(probe);
	return NULL;
}

/* ---- what the kernel has -------------------------------------------------------------------- */

static bool has_member(const struct btf *btf, const char *type_name, const char *member_name)
{
	int id = btf__find_by_name_kind(btf, type_name, BTF_KIND_STRUCT);
	const struct btf_type *type = id > 0 ? btf__type_by_id(btf, id) : NULL;

	for (int i = 0; type && i < btf_vlen(type); i++)
		if (!strcmp(btf__name_by_offset(btf, btf_members(type)[i].name_off), member_name))
			return true;
	return false;
}

/* 0, or why a program cannot be attached to the entry of this function. */
static int try_fentry(const struct btf *btf, const char *function)
{
	struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_TRACE_FENTRY);
	int id = btf__find_by_name_kind(btf, function, BTF_KIND_FUNC), program, link;

	if (id < 0)
		return ENOENT;
	options.attach_btf_id = (uint32_t)id;
	program = bpf_prog_load(BPF_PROG_TYPE_TRACING, "slackwater_try", "GPL", nothing, 2, &options);
	if (program < 0)
		return errno;
	link = bpf_raw_tracepoint_open(NULL, program);
	if (link < 0) {
		int why = errno;

		close(program);
		return why;
	}
	close(link);
	close(program);
	return 0;
}

static int try_kprobe(const char *function)
{
	char line[512], name[128];
	int found = ENOENT;
	FILE *symbols;

	if (access("/sys/bus/event_source/devices/kprobe/type", R_OK))
		return ENOENT;
	symbols = fopen("/proc/kallsyms", "re");
	if (!symbols)
		return errno;
	while (found && fgets(line, sizeof(line), symbols))
		if (sscanf(line, "%*s %*c %127s", name) == 1 && !strcmp(name, function))
			found = 0;
	fclose(symbols);
	return found;
}

static void find_features(const struct btf *btf, const struct probe_options *options, struct probe_features *found)
{
	const char *unthrottle = "unthrottle_cfs_rq";
	bool wakeups = options->force_wakeup_stamps || !has_member(btf, "sched_info", "last_queued") ||
		       !has_member(btf, "sched_entity", "cfs_rq");

	*found = (struct probe_features){
		.sched_info = !wakeups,
		/* 6.4: its own allocator; 7.0: kmalloc_nolock */
		.storage_nolock = has_member(btf, "bpf_local_storage_map", "bpf_ma") ||
				  has_member(btf, "bpf_local_storage_map", "use_kmalloc_nolock"),
		.throttle_per_task = has_member(btf, "task_struct", "throttled"),
		.fentry_errno =
			options->trace_unthrottle >= PROBE_UNTHROTTLE_FENTRY ? try_fentry(btf, unthrottle) : ECANCELED,
		.kprobe_errno = ECANCELED,
	};
	if (!found->fentry_errno)
		found->unthrottle = PROBE_UNTHROTTLE_FENTRY;
	else if (options->trace_unthrottle & PROBE_UNTHROTTLE_KPROBE)
		found->kprobe_errno = try_kprobe(unthrottle);
	if (!found->kprobe_errno)
		found->unthrottle = PROBE_UNTHROTTLE_KPROBE;
	if (btf__find_by_name_kind(btf, "btf_trace_cgroup_mkdir", BTF_KIND_TYPEDEF) < 0)
		found->cgroup_events_errno = ENOENT;
	if (options->cgroup_root_fd < 0)
		found->cgroup_stats_errno = ECANCELED;
	else if (btf__find_by_name_kind(btf, "bpf_iter__cgroup", BTF_KIND_STRUCT) < 0 ||
		 !has_member(btf, "task_group", "se"))
		found->cgroup_stats_errno = ENOENT;
}

/* ---- load and attach ------------------------------------------------------------------------ */

/* One more than the highest number that a CPU can have; numbers may have gaps. */
static int cpu_numbers(void)
{
	FILE *possible = fopen("/sys/devices/system/cpu/possible", "re");
	int number = 0, highest = 0;

	/* 0-3,8-11 */
	while (possible && fscanf(possible, "%d%*[-,]", &number) == 1)
		highest = number > highest ? number : highest;
	if (possible)
		fclose(possible);
	return highest + 1;
}

static struct bpf_map *section_map(struct bpf_object *object, const char *section)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object) if (bpf_map__is_internal(map) &&
						  strstr(bpf_map__name(map), section)) return map;
	return NULL;
}

/* Where a variable of that size is in the memory of its section; NULL: there is none. */
static void *variable(struct bpf_object *object, const char *section, void *memory, const char *name, size_t size)
{
	const struct btf *btf = bpf_object__btf(object);
	int id = btf__find_by_name_kind(btf, section, BTF_KIND_DATASEC);
	const struct btf_type *type = id > 0 ? btf__type_by_id(btf, id) : NULL;

	for (int i = 0; type && memory && i < btf_vlen(type); i++) {
		const struct btf_var_secinfo *info = &btf_var_secinfos(type)[i];
		const struct btf_type *var = btf__type_by_id(btf, info->type);

		if (!strcmp(btf__name_by_offset(btf, var->name_off), name) && info->size == size)
			return (char *)memory + info->offset;
	}
	return NULL;
}

static int set_parameters(struct probe *probe, const struct probe_options *options,
			  const struct probe_features *features)
{
	const struct {
		const char *name;
		uint64_t value;
		uint32_t size;
	} parameters[] = {
		{ "force_wakeup_stamps", options->force_wakeup_stamps, 1 },
		{ "groups_are_cgroup2", options->groups_are_cgroup2, 1 },
		{ "cpu_hierarchy_id", options->cpu_hierarchy_id, 4 },
		{ "exclude_reader", options->exclude_caller, 1 },
		{ "cpus_per_ring", options->cpus_per_ring, 4 },
		{ "cpu_count", (uint64_t)probe->n_cpus, 4 },
		{ "create_in_scheduler", features->storage_nolock ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0, 8 },
	};

	struct bpf_map *map = section_map(probe->object, ".rodata");
	size_t bytes;
	void *memory = map ? (void *)bpf_map__initial_value(map, &bytes) : NULL;

	for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++) {
		void *at = variable(probe->object, ".rodata", memory, parameters[i].name, parameters[i].size);

		if (!at)
			return -ENOENT;
		memcpy(at, &parameters[i].value, parameters[i].size); /* little-endian */
	}
	return 0;
}

static void choose_programs(struct probe *probe, const struct probe_features *features)
{
	const struct {
		const char *name;
		bool load;
	} programs[] = {
		{ "unthrottle_fentry", features->unthrottle == PROBE_UNTHROTTLE_FENTRY },
		{ "unthrottle_kprobe", features->unthrottle == PROBE_UNTHROTTLE_KPROBE },
		{ "sched_wakeup", !features->sched_info },
		{ "sched_wakeup_new", !features->sched_info },
		{ "cgroup_mkdir", !features->cgroup_events_errno },
		{ "cgroup_rmdir", !features->cgroup_events_errno },
		{ "cgroup_rename", !features->cgroup_events_errno },
		{ "cgroup_stats", !features->cgroup_stats_errno },
	};

	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
		bpf_program__set_autoload(bpf_object__find_program_by_name(probe->object, programs[i].name),
					  programs[i].load);
}

static int attach(struct probe *probe, const char *name)
{
	struct bpf_program *program = bpf_object__find_program_by_name(probe->object, name);
	struct bpf_link *link;

	if (!program || !bpf_program__autoload(program))
		return 0;
	link = bpf_program__attach(program);
	if (!link)
		return -errno;
	probe->links[probe->n_links++] = link;
	return 0;
}

/* Run an iterator to its end; its programs write nothing to its file. */
static int run_iterator(struct bpf_link *link)
{
	int fd = bpf_iter_create(bpf_link__fd(link));
	char nothing[8];
	ssize_t got;

	if (fd < 0)
		return -errno;
	do
		got = read(fd, nothing, sizeof(nothing));
	while (got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN)));
	got = got < 0 ? -errno : 0;
	close(fd);
	return (int)got;
}

/* Every task gets its storage before it is looked at. */
static int prepare_tasks(struct probe *probe)
{
	int err = attach(probe, "task_free") ?: attach(probe, "task_exec") ?: attach(probe, "task_newtask");
	struct bpf_link *link;

	if (err)
		return err;
	link = bpf_program__attach_iter(bpf_object__find_program_by_name(probe->object, "tasks_at_start"), NULL);
	if (!link)
		return -errno;
	err = run_iterator(link);
	bpf_link__destroy(link);
	return err;
}

/* Births before samples, so that a group is known when its first sample comes. */
static int attach_all(struct probe *probe, const struct probe_options *options, struct probe_features *features)
{
	union bpf_iter_link_info where = {
		.cgroup = { .order = BPF_CGROUP_ITER_DESCENDANTS_PRE, .cgroup_fd = (uint32_t)options->cgroup_root_fd },
	};
	LIBBPF_OPTS(bpf_iter_attach_opts, iter, .link_info = &where, .link_info_len = sizeof(where));
	int err = prepare_tasks(probe);

	if (err)
		return err;
	if (!features->cgroup_events_errno &&
	    (attach(probe, "cgroup_mkdir") || attach(probe, "cgroup_rmdir") || attach(probe, "cgroup_rename")))
		features->cgroup_events_errno = errno;
	if (!features->cgroup_stats_errno) {
		probe->stats_link = bpf_program__attach_iter(
			bpf_object__find_program_by_name(probe->object, "cgroup_stats"), &iter);
		if (!probe->stats_link)
			features->cgroup_stats_errno = errno;
	}
	if (features->unthrottle == PROBE_UNTHROTTLE_FENTRY)
		features->fentry_errno = -attach(probe, "unthrottle_fentry");
	if (features->unthrottle == PROBE_UNTHROTTLE_KPROBE)
		features->kprobe_errno = -attach(probe, "unthrottle_kprobe");
	if (features->fentry_errno && features->kprobe_errno)
		features->unthrottle = PROBE_UNTHROTTLE_OFF;
	last_warning[0] = 0; /* what is optional may be refused */
	if (!features->sched_info)
		err = attach(probe, "sched_wakeup") ?: attach(probe, "sched_wakeup_new");
	return err ?: attach(probe, "sched_switch");
}

static int map_ring(struct ring *ring, int map_fd, uint64_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
	uint8_t *producer = mmap(NULL, page + 2 * bytes, PROT_READ, MAP_SHARED, map_fd, (off_t)page);

	*ring = (struct ring){ .size = bytes };
	if (consumer != MAP_FAILED)
		ring->consumer_pos = consumer;
	if (producer != MAP_FAILED) {
		ring->producer_pos = (const uint64_t *)producer;
		ring->data = producer + page;
	}
	return ring->consumer_pos && ring->data ? 0 : -errno;
}

static void unmap_ring(struct ring *ring)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (ring->consumer_pos)
		munmap(ring->consumer_pos, page);
	if (ring->producer_pos)
		munmap((void *)ring->producer_pos, page + 2 * ring->size);
}

/* Less for each on a machine with many. */
static uint32_t ring_bytes(const struct probe *probe, const struct probe_options *options)
{
	uint32_t bytes = options->ring_bytes, least = (uint32_t)sysconf(_SC_PAGESIZE) * 16;

	while (bytes > least && (uint64_t)bytes * (uint32_t)probe->n_rings > PROBE_RINGS_BYTES)
		bytes /= 2;
	return bytes;
}

static int make_rings(struct probe *probe, const struct probe_options *options)
{
	uint32_t bytes = ring_bytes(probe, options);
	int rings_fd = bpf_object__find_map_fd_by_name(probe->object, "wait_rings"), err;
	struct bpf_map *events = bpf_object__find_map_by_name(probe->object, "events");

	for (uint32_t i = 0; i < (uint32_t)probe->n_rings; i++) {
		probe->ring_fds[i] = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "wait_ring", 0, 0, bytes, NULL);
		if (probe->ring_fds[i] < 0 || bpf_map_update_elem(rings_fd, &i, &probe->ring_fds[i], BPF_ANY))
			return -errno;
		err = map_ring(&probe->rings[i], probe->ring_fds[i], bytes);
		if (err)
			return err;
	}
	probe->events_fd = bpf_map__fd(events);
	return map_ring(&probe->rings[probe->n_rings], probe->events_fd, bpf_map__max_entries(events));
}

static void *map_memory(struct bpf_map *map, size_t bytes, int protection)
{
	void *memory = map ? mmap(NULL, bytes, protection, MAP_SHARED, bpf_map__fd(map), 0) : MAP_FAILED;

	return memory == MAP_FAILED ? NULL : memory;
}

/* What is shared with the programs while they run. */
static int map_shared(struct probe *probe, const struct probe_options *options)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct bpf_map *rows = bpf_object__find_map_by_name(probe->object, "cgroup_stat_rows");

	probe->data = map_memory(section_map(probe->object, ".data"), page, PROT_READ | PROT_WRITE);
	probe->sampling_factor = variable(probe->object, ".data", probe->data, "sampling_factor", sizeof(uint32_t));
	probe->stat_count = variable(probe->object, ".data", probe->data, "cgroup_stat_count", sizeof(uint32_t));
	probe->stat_bytes = (options->max_groups * sizeof(*probe->stat_rows) + page - 1) & ~(page - 1);
	probe->stat_rows = map_memory(rows, probe->stat_bytes, PROT_READ);
	probe->cpus_bytes = ((size_t)probe->n_cpus * sizeof(*probe->cpus) + page - 1) & ~(page - 1);
	probe->cpus = map_memory(bpf_object__find_map_by_name(probe->object, "cpus"), probe->cpus_bytes, PROT_READ);
	return probe->sampling_factor && probe->stat_count && probe->stat_rows && probe->cpus ? 0 : -ENOMEM;
}

static int load(struct probe *probe, const void *object, size_t object_bytes, const struct probe_options *options,
		const struct probe_features *features)
{
	LIBBPF_OPTS(bpf_object_open_opts, open_options, .object_name = "slackwater");
	const struct {
		const char *map;
		uint32_t entries;
	} sizes[] = {
		{ "wait_rings", (uint32_t)probe->n_rings },
		{ "cpus", (uint32_t)probe->n_cpus },
		{ "throttles", THROTTLES_MIN + THROTTLES_PER_CPU * (uint32_t)probe->n_cpus },
		{ "cgroup_stat_rows", options->max_groups },
	};
	int err;

	probe->object = bpf_object__open_mem(object, object_bytes, &open_options);
	if (!probe->object)
		return -errno;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		bpf_map__set_max_entries(bpf_object__find_map_by_name(probe->object, sizes[i].map), sizes[i].entries);
	err = set_parameters(probe, options, features);
	if (err)
		return err;
	choose_programs(probe, features);
	return bpf_object__load(probe->object);
}

/* A kernel that refuses a program that is not needed must not cost those that are. False: there was none. */
static bool without_options(struct probe_features *features)
{
	bool any = features->unthrottle || !features->cgroup_events_errno || !features->cgroup_stats_errno;

	features->unthrottle = PROBE_UNTHROTTLE_OFF;
	features->fentry_errno = features->fentry_errno ?: EINVAL;
	features->kprobe_errno = features->kprobe_errno ?: EINVAL;
	features->cgroup_events_errno = features->cgroup_events_errno ?: EINVAL;
	features->cgroup_stats_errno = features->cgroup_stats_errno ?: EINVAL;
	return any;
}

struct probe *probe_open(const void *object, size_t object_bytes, const struct probe_options *options,
			 struct groups *groups, struct probe_features *features, int *error, char *message)
{
	struct probe *probe = calloc(1, sizeof(*probe));
	struct btf *btf;
	int err;

	last_warning[0] = 0;
	if (!probe)
		return fail(probe, error, message, -ENOMEM, "memory");
	libbpf_set_print(keep_warning);
	probe->groups = groups;
	probe->n_cpus = cpu_numbers();
	probe->n_rings = (probe->n_cpus + (int)options->cpus_per_ring - 1) / (int)options->cpus_per_ring;
	probe->ring_fds = calloc((size_t)probe->n_rings, sizeof(*probe->ring_fds));
	probe->rings = calloc((size_t)probe->n_rings + 1, sizeof(*probe->rings));
	probe->events = events_new();
	if (!probe->ring_fds || !probe->rings || !probe->events)
		return fail(probe, error, message, -ENOMEM, "memory");

	btf = btf__load_vmlinux_btf();
	if (!btf)
		return fail(probe, error, message, errno == ESRCH ? -ENOENT : -errno, "kernel BTF");
	find_features(btf, options, features);
	btf__free(btf);
	last_warning[0] = 0;

	err = load(probe, object, object_bytes, options, features);
	if (err && without_options(features)) {
		bpf_object__close(probe->object);
		last_warning[0] = 0;
		err = load(probe, object, object_bytes, options, features);
	}
	if (err)
		return fail(probe, error, message, err, "BPF load");
	probe->flush_fd = bpf_program__fd(bpf_object__find_program_by_name(probe->object, "flush_cpu"));
	err = make_rings(probe, options);
	if (err)
		return fail(probe, error, message, err, "ring buffers");
	err = map_shared(probe, options);
	if (err)
		return fail(probe, error, message, err, "shared memory");
	err = attach_all(probe, options, features);
	if (err)
		return fail(probe, error, message, err, "attach to sched_switch");
	return probe;
}

void probe_detach(struct probe *probe)
{
	while (probe->n_links)
		bpf_link__destroy(probe->links[--probe->n_links]);
}

void probe_close(struct probe *probe)
{
	if (!probe)
		return;
	probe_detach(probe);
	bpf_link__destroy(probe->stats_link);
	if (probe->stat_rows)
		munmap(probe->stat_rows, probe->stat_bytes);
	if (probe->cpus)
		munmap((void *)probe->cpus, probe->cpus_bytes);
	if (probe->data)
		munmap(probe->data, (size_t)sysconf(_SC_PAGESIZE));
	for (int i = 0; probe->rings && i <= probe->n_rings; i++)
		unmap_ring(&probe->rings[i]);
	for (int i = 0; probe->ring_fds && i < probe->n_rings; i++)
		if (probe->ring_fds[i] > 0)
			close(probe->ring_fds[i]);
	bpf_object__close(probe->object);
	events_free(probe->events);
	free(probe->ring_fds);
	free(probe->rings);
	free(probe);
}

/* ---- at work -------------------------------------------------------------------------------- */

int probe_event_fd(const struct probe *probe)
{
	return probe->events_fd;
}

static void on_throttle_event(struct probe *probe, const struct throttle_event *event)
{
	groups_on_throttle(probe->groups, event);
	if (event->kind == EVENT_THROTTLE_BEGIN && probe->queue_throttles)
		events_add_throttle(probe->events, event);
}

static void on_cgroup_event(struct probe *probe, const struct cgroup_event *event)
{
	if (event->kind == EVENT_CGROUP_MKDIR)
		groups_on_born(probe->groups, event->id);
	else if (event->kind == EVENT_CGROUP_RMDIR)
		groups_on_removed(probe->groups, event->id);
	events_add_cgroup(probe->events, event);
}

static void on_event(void *context, const void *data, uint32_t bytes)
{
	uint32_t kind = bytes >= sizeof(kind) ? *(const uint32_t *)data : 0;

	if (bytes == sizeof(struct throttle_event) && kind <= EVENT_THROTTLE_END)
		on_throttle_event(context, data);
	else if (bytes == sizeof(struct cgroup_event) && kind >= EVENT_CGROUP_MKDIR && kind <= EVENT_CGROUP_RENAME)
		on_cgroup_event(context, data);
}

int64_t probe_drain_events(struct probe *probe)
{
	return ring_drain(&probe->rings[probe->n_rings], on_event, probe);
}

int64_t probe_drain(struct probe *probe)
{
	int64_t records = probe_drain_events(probe);

	for (int i = 0; i < probe->n_rings; i++) {
		int64_t batches = ring_drain(&probe->rings[i], groups_on_batch, probe->groups);

		records = batches < 0 || records < 0 ? -EBADMSG : records + batches;
	}
	return records;
}

/* Samples in the batch that is being filled. */
static bool has_pending(const struct wait_cpu *cpu)
{
	return __atomic_load_n(&cpu->batch.count, __ATOMIC_RELAXED) != 0;
}

int probe_flush(struct probe *probe)
{
	int flushed = 0;

	for (int cpu = 0; cpu < probe->n_cpus; cpu++) {
		LIBBPF_OPTS(bpf_test_run_opts, run, .flags = BPF_F_TEST_RUN_ON_CPU, .cpu = (uint32_t)cpu);

		/* an offline CPU refuses; what it held was sent, or comes when it is back */
		if (has_pending(&probe->cpus[cpu]) && !bpf_prog_test_run_opts(probe->flush_fd, &run))
			flushed++;
	}
	return flushed;
}

void probe_set_sampling_factor(struct probe *probe, uint32_t factor)
{
	__atomic_store_n(probe->sampling_factor, factor, __ATOMIC_RELAXED);
}

void probe_counters(const struct probe *probe, struct probe_counters *out)
{
	*out = (struct probe_counters){ 0 };
	for (int i = 0; i < probe->n_cpus; i++) {
		const struct wait_cpu *cpu = &probe->cpus[i];

		out->switches += cpu->waits + cpu->idles;
		out->waits += cpu->waits;
		out->produced += cpu->produced;
		out->dropped += cpu->dropped;
		out->sampled_out += cpu->sampled_out;
		out->own += cpu->own;
		out->own_wait_ns += cpu->own_wait_ns;
		out->unknown += cpu->unknown;
		out->events_lost += cpu->events_lost;
	}
}

size_t probe_take_cgroup_events(struct probe *probe, struct cgroup_event *out, size_t n, uint64_t *lost)
{
	size_t taken = events_take_cgroup(probe->events, out, n, lost);
	struct probe_counters counters;

	probe_counters(probe, &counters);
	*lost += counters.events_lost - probe->events_lost_told;
	probe->events_lost_told = counters.events_lost;
	return taken;
}

void probe_queue_throttles(struct probe *probe, uint32_t on)
{
	probe->queue_throttles = on;
}

size_t probe_take_throttles(struct probe *probe, struct throttle_event *out, size_t n, uint64_t *lost)
{
	return events_take_throttle(probe->events, out, n, lost);
}

int64_t probe_cgroup_stats(struct probe *probe, const struct cgroup_cpu_stat **rows)
{
	int err;

	if (!probe->stats_link)
		return -EOPNOTSUPP;
	*probe->stat_count = 0;
	*rows = probe->stat_rows;
	err = run_iterator(probe->stats_link);
	return err ?: (int64_t)*probe->stat_count;
}

int probe_stats_enable(void)
{
	int fd = bpf_enable_stats(BPF_STATS_RUN_TIME);

	return fd < 0 ? -errno : fd;
}

int probe_run_stats(const struct probe *probe, struct probe_run_stats *out)
{
	struct bpf_program *program;

	*out = (struct probe_run_stats){ 0 };
	bpf_object__for_each_program(program, probe->object)
	{
		struct bpf_prog_info info = {};
		uint32_t bytes = sizeof(info);

		if (bpf_program__fd(program) < 0)
			continue;
		if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &bytes))
			return -errno;
		out->run_ns += info.run_time_ns;
		out->runs += info.run_cnt;
	}
	return 0;
}
