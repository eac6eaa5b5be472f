/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others do, as slow models over the same events. All but JET pick by the same Maglev table as Sluice does:
 *
 *   lru    Maglev (Eisenbud et al., NSDI 2016) and Katran: a connection table on each balancer, the least recently
 *          used entry gives way; what is not in it goes by the table of this moment and is entered. No entry expires.
 *   hash   the Maglev table alone
 *   jet    Mendelson et al., "Load Balancing with JET: Just Enough Tracking", CoNEXT 2020: weighted rendezvous over a
 *          table of buckets; a connection is entered when it would move if the horizon were added, which is every
 *          backend that is known and not in service: the next two to be added, and those that will be back
 *   full   every connection in a table of its balancer; with a bound that is never met
 *
 * They are given the best case: their tables follow a change at once, on all balancers.
 */
#include "churnsim.h"
#include "churnsim_table.h"

#include "maglev.h"

#include "sluice/decide.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const churn_model_names[CHURN_MODELS] = {
    [CHURN_SLUICE] = "sluice", [CHURN_LRU] = "maglev+lru",  [CHURN_HASH] = "maglev",
    [CHURN_JET] = "jet",       [CHURN_FULL] = "full table",
};

enum { CLOSING_MS = 120 * 1000 /* as Sluice keeps the entry of a connection that ended */ };

struct churn_models {
	const struct churn *churn;
	uint16_t *maglev; /* by bucket: slot */
	uint16_t *jet;
	bool *jet_moves;              /* by bucket: another owner when the horizon is added */
	float *distance[CHURN_SLOTS]; /* by bucket: of rendezvous hashing, over the weight; made when needed */
	struct churn_table tables[CHURN_MODELS][CHURN_BALANCERS_MAX];
};

uint32_t churn_entry_bytes(const struct churn_scenario *scenario, enum churn_model model)
{
	switch (model) {
	case CHURN_LRU: return scenario->lru_entry_bytes;
	case CHURN_HASH: return 0;
	default: return sizeof(struct sluice_exception);
	}
}

/* --------------------------------------------------------------- tables ---- */

static void maglev_follow(struct churn_models *models)
{
	const struct churn *churn = models->churn;
	const uint32_t size = churn->scenario->table_size;
	struct maglev_member *members = churn_allocate(churn->backend_count, sizeof(*members));
	uint32_t count = 0;

	for (uint32_t slot = 0; slot < churn->backend_count; slot++)
		if (churn->backends[slot].state == SLUICE_BACKEND_UP)
			members[count++] = (struct maglev_member){.address = churn->backends[slot].address,
								  .weight = churn->backends[slot].weight,
								  .slot = slot};
	maglev_sort(members, count);
	int error = maglev_populate(members, count, size, models->maglev);
	if (error) {
		fprintf(stderr, "churnsim: a Maglev table cannot be built: %s\n", strerror(-error));
		exit(1);
	}
	for (uint32_t b = 0; b < size; b++)
		models->maglev[b] = (uint16_t)members[models->maglev[b]].slot;
	free(members);
}

static const float *distances_of(struct churn_models *models, uint32_t slot)
{
	const uint32_t size = models->churn->scenario->table_size;
	if (models->distance[slot])
		return models->distance[slot];
	float *distance = churn_allocate(size, sizeof(*distance));
	for (uint32_t b = 0; b < size; b++) {
		struct churn_random random = {churn_mix64((uint64_t)slot << 32 | b)};
		distance[b] = (float)churn_random_exponential(&random, 1);
	}
	models->distance[slot] = distance;
	return distance;
}

/* Weighted rendezvous: the least of exponential numbers, each over its weight, falls to each by its weight. */
static void jet_follow(struct churn_models *models)
{
	const struct churn *churn = models->churn;
	const uint32_t size = churn->scenario->table_size;
	float *least[2]; /* in service; with the horizon */

	for (int i = 0; i < 2; i++) {
		least[i] = churn_allocate(size, sizeof(float));
		for (uint32_t b = 0; b < size; b++)
			least[i][b] = INFINITY;
	}
	for (uint32_t slot = 0; slot < churn->backend_count; slot++) {
		const struct churn_backend *backend = &churn->backends[slot];
		if (backend->is_gone) {
			free(models->distance[slot]);
			models->distance[slot] = NULL;
			continue;
		}
		/* What will leave for good is known not to be back. */
		const bool serves = backend->state == SLUICE_BACKEND_UP;
		if (!serves && backend->is_busy && backend->change == CHURN_REMOVE)
			continue;
		const float *distance = distances_of(models, slot);
		for (uint32_t b = 0; b < size; b++) {
			const float d = distance[b] / (float)backend->weight;
			if (d < least[1][b])
				least[1][b] = d;
			if (serves && d < least[0][b]) {
				least[0][b] = d;
				models->jet[b] = (uint16_t)slot;
			}
		}
	}
	for (uint32_t b = 0; b < size; b++)
		models->jet_moves[b] = least[1][b] < least[0][b];
	free(least[0]);
	free(least[1]);
}

void churn_models_follow(struct churn_models *models)
{
	maglev_follow(models);
	jet_follow(models);
}

/* --------------------------------------------------------------- packets ---- */

static uint32_t tracked_packet(struct churn_models *models, enum churn_model model, const struct churn_packet *packet)
{
	const struct churn *churn = models->churn;
	struct churn_table *table = &models->tables[model][packet->balancer];
	const uint32_t bucket = sluice_hash_bucket(packet->key, churn->scenario->table_size);
	const bool ends = packet->role == SLUICE_ROLE_FIN && model != CHURN_LRU;

	churn_table_expire(table, packet->now_ms);
	struct churn_connection *entry = churn_table_find(table, packet->key);
	if (entry && !sluice_state_lives(churn->backends[entry->backend].state)) {
		churn_table_remove(table, entry);
		entry = NULL;
	}
	if (!entry) {
		const uint32_t slot = model == CHURN_JET ? models->jet[bucket] : models->maglev[bucket];
		if (model == CHURN_JET && !models->jet_moves[bucket])
			return slot;
		entry = churn_table_insert(table, packet->key, packet->now_ms);
		entry->backend = (uint16_t)slot;
	}
	if (ends)
		churn_table_close(table, entry, packet->now_ms);
	else
		churn_table_touch(table, entry, packet->now_ms);
	return entry->backend;
}

uint32_t churn_models_packet(struct churn_models *models, enum churn_model model, const struct churn_packet *packet)
{
	if (model == CHURN_HASH)
		return models->maglev[sluice_hash_bucket(packet->key, models->churn->scenario->table_size)];
	return tracked_packet(models, model, packet);
}

uint64_t churn_models_entries(struct churn_models *models, enum churn_model model, uint32_t now_ms)
{
	uint64_t count = 0;
	for (uint32_t i = 0; i < models->churn->scenario->balancers && model != CHURN_HASH; i++) {
		churn_table_expire(&models->tables[model][i], now_ms);
		count += models->tables[model][i].count;
	}
	return count;
}

/* -------------------------------------------------------------- lifetime ---- */

struct churn_models *churn_models_create(const struct churn *churn)
{
	const struct churn_scenario *s = churn->scenario;
	struct churn_models *models = churn_allocate(1, sizeof(*models));
	const uint32_t idle_ms = churn_idle_s(s) * 1000;

	models->churn = churn;
	models->maglev = churn_allocate(s->table_size, sizeof(*models->maglev));
	models->jet = churn_allocate(s->table_size, sizeof(*models->jet));
	models->jet_moves = churn_allocate(s->table_size, sizeof(*models->jet_moves));
	for (uint32_t i = 0; i < s->balancers; i++) {
		churn_table_init(&models->tables[CHURN_LRU][i], s->lru_entries, 0, 0);
		churn_table_init(&models->tables[CHURN_JET][i], 0, idle_ms, CLOSING_MS);
		churn_table_init(&models->tables[CHURN_FULL][i], 0, idle_ms, CLOSING_MS);
	}
	churn_models_follow(models);
	return models;
}

void churn_models_forget(struct churn_models *models, uint32_t balancer)
{
	churn_table_clear(&models->tables[CHURN_LRU][balancer]);
	churn_table_clear(&models->tables[CHURN_JET][balancer]);
	churn_table_clear(&models->tables[CHURN_FULL][balancer]);
}

void churn_models_destroy(struct churn_models *models)
{
	for (uint32_t model = 0; model < CHURN_MODELS; model++)
		for (uint32_t i = 0; i < CHURN_BALANCERS_MAX; i++)
			churn_table_fini(&models->tables[model][i]);
	for (uint32_t slot = 0; slot < CHURN_SLOTS; slot++)
		free(models->distance[slot]);
	free(models->maglev);
	free(models->jet);
	free(models->jet_moves);
	free(models);
}
