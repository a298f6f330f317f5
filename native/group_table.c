/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the groups, and their rows by id. */
#include "native/group_table.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
	OCTAVES_PER_GROUP = 24, /* room in the arena; a group that waits uses 10 to 15 in a tick */
	PAIRS_PER_GROUP = 8,
};

/* ---- memory --------------------------------------------------------------------------------- */

/* Zeroed, and only what is touched costs memory. */
static void *lazy_alloc(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void lazy_free(void *memory, size_t bytes)
{
	if (memory)
		munmap(memory, bytes);
}

static bool index_init(struct index *index, uint32_t entries_max)
{
	index->bytes = sizeof(*index->slots) << index_bits(entries_max);
	index->slots = lazy_alloc(index->bytes);
	if (index->slots)
		index_reset(index, 0);
	return index->slots;
}

struct groups *groups_new(uint32_t max_groups)
{
	struct groups *groups;

	if (max_groups < 16 || max_groups > 65536)
		return NULL;
	groups = calloc(1, sizeof(*groups));
	if (!groups)
		return NULL;
	groups->max_groups = max_groups;
	groups->pairs_max = max_groups * PAIRS_PER_GROUP;
	groups->rows = lazy_alloc((max_groups + 1) * sizeof(*groups->rows));
	groups->pairs = lazy_alloc((groups->pairs_max + 1) * sizeof(*groups->pairs));
	groups->totals = lazy_alloc((max_groups + 1) * sizeof(*groups->totals));
	if (!groups->rows || !groups->pairs || !groups->totals || !index_init(&groups->row_of, max_groups) ||
	    !index_init(&groups->pair_of, groups->pairs_max) ||
	    sketch_arena_init(&groups->arena, max_groups * OCTAVES_PER_GROUP)) {
		groups_free(groups);
		return NULL;
	}
	groups->pairs[0].victim = groups->rows; /* nobody: what finds cell 0 need not ask first */
	return groups;
}

void groups_free(struct groups *groups)
{
	if (!groups)
		return;
	lazy_free(groups->rows, (groups->max_groups + 1) * sizeof(*groups->rows));
	lazy_free(groups->pairs, (groups->pairs_max + 1) * sizeof(*groups->pairs));
	lazy_free(groups->totals, (groups->max_groups + 1) * sizeof(*groups->totals));
	lazy_free(groups->row_of.slots, groups->row_of.bytes);
	lazy_free(groups->pair_of.slots, groups->pair_of.bytes);
	sketch_arena_free(&groups->arena);
	free(groups);
}

/* ---- rows ----------------------------------------------------------------------------------- */

static void row_of_grow(struct groups *groups)
{
	index_reset(&groups->row_of, 2 * (uint32_t)groups->counters.groups_live);
	for (uint32_t row = 1; row <= groups->high_water; row++)
		if (groups->rows[row].id)
			index_put(&groups->row_of, spread(groups->rows[row].id), row);
}

struct group *group_add(struct groups *groups, uint64_t id)
{
	uint32_t row = groups->first_free;

	if (row)
		groups->first_free = groups->rows[row].next_free;
	else if (groups->high_water < groups->max_groups)
		row = groups->high_water + 1;
	else
		return NULL;
	if (index_is_full(&groups->row_of, (uint32_t)groups->counters.groups_live))
		row_of_grow(groups);
	if (row > groups->high_water)
		groups->high_water = row;
	index_put(&groups->row_of, spread(id), row);
	groups->rows[row].id = id;
	groups->counters.groups_born++;
	groups->counters.groups_live++;
	return &groups->rows[row];
}

void group_clear(struct groups *groups, struct group *group)
{
	size_t row = (size_t)(group - groups->rows);

	for (int class = 0; class < WAIT_CLASSES; class ++)
		if (group->total_count[class])
			memset(groups->totals[row][class], 0, sizeof(groups->totals[row][class]));
	*group = (struct group){ .id = group->id };
}

/* Linear probing without tombstones: what follows in the cluster moves up if it may. */
static void id_delete(struct groups *groups, uint64_t id)
{
	struct index *index = &groups->row_of;
	uint32_t hole = id_slot(groups, id), next = hole, row;

	while ((row = index->slots[next = (next + 1) & index->mask])) {
		uint32_t home = index_home(index, spread(groups->rows[row].id));

		if (((next - home) & index->mask) >= ((next - hole) & index->mask)) {
			index->slots[hole] = row;
			hole = next;
		}
	}
	index->slots[hole] = 0;
}

void group_delete(struct groups *groups, struct group *group)
{
	id_delete(groups, group->id);
	group_clear(groups, group);
	group->id = 0;
	group->next_free = groups->first_free;
	groups->first_free = (uint32_t)(group - groups->rows);
	groups->counters.groups_live--;
}
