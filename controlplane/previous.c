/* SPDX-License-Identifier: Apache-2.0 */
#include "previous.h"

#include "transition.h"

#include <errno.h>
#include <stdlib.h>

struct service_rule service_rule_of(const struct model_service *service)
{
	struct service_rule rule = {.table_size = service->table_size,
				    .affinity = (uint8_t)model_affinity(service),
				    .tracking = (uint8_t)model_tracking(service)};

	if (service->algorithm == MODEL_ALGORITHM_ROUND_ROBIN)
		rule.algorithm = SLUICE_ALGORITHM_ROUND_ROBIN;
	else if (service->algorithm == MODEL_ALGORITHM_LEAST_CONNECTIONS)
		rule.algorithm = SLUICE_ALGORITHM_LEAST_CONNECTIONS;
	return rule;
}

uint32_t previous_closes_s(const struct previous_table *table, uint32_t window_s)
{
	return transition_closes_s(table->window, window_s);
}

/* Whether flows that nobody remembers would be taken elsewhere. */
static bool needs_previous(const struct service_rule *rule, const struct previous_inputs *in)
{
	bool all_at_once = in->service->protocol == SLUICE_IP_UDP && rule->tracking == SLUICE_TRACKING_ALL &&
			   in->before->tracking == SLUICE_TRACKING_CHANGES;
	return !service_rule_is_same(rule, in->before) || all_at_once;
}

/* The table that is kept, a moment later. False: every path knows that it is closing, and it goes. */
static bool previous_goes_on(const struct previous_inputs *in, struct previous_step *step)
{
	const uint32_t window_s = model_window_s(in->service);

	step->table = in->kept;
	step->table.extended = false;
	if (in->kept.closing)
		return false;
	if (in->now_s < previous_closes_s(&in->kept, window_s))
		return true;
	if (in->insertions_fail && transition_extensions(in->kept.window) < TRANSITION_EXTENSIONS) {
		step->table.window++; /* extensions */
		step->table.extended = true;
		return true;
	}
	step->table.closing = true;
	return true;
}

/* The M, affinity and algorithm that the service has go on. */
static void rule_waits(const struct previous_inputs *in, struct service_rule *rule)
{
	rule->table_size = in->before->lookup_size;
	rule->affinity = in->before->affinity;
	rule->algorithm = in->before->algorithm;
	if (rule->algorithm != SLUICE_ALGORITHM_TABLE)
		rule->tracking = SLUICE_TRACKING_ALL;
	rule->waits = true;
}

struct previous_step previous_decide(const struct previous_inputs *in)
{
	struct previous_step step = {.action = PREVIOUS_NONE, .rule = service_rule_of(in->service)};
	const struct sluice_service *before = in->before;

	if (!before || before->lookup == SLUICE_NONE || step.rule.tracking == SLUICE_TRACKING_NONE)
		return step;
	if (in->kept.lookup && previous_goes_on(in, &step)) {
		if (!service_rule_is_same(&step.rule, before))
			rule_waits(in, &step.rule);
		step.rule.tracking = SLUICE_TRACKING_ALL;
		step.action = PREVIOUS_KEEP;
		return step;
	}
	step.table = (struct previous_table){0};
	if (!needs_previous(&step.rule, in))
		return step;
	if (!in->has_members) {
		rule_waits(in, &step.rule);
		return step;
	}
	step.action = PREVIOUS_MAKE;
	step.table.window = transition_window_make(in->now_s, 0);
	step.table.affinity = before->affinity;
	step.rule.tracking = SLUICE_TRACKING_ALL;
	return step;
}

int previous_freeze(const struct transition *t, struct lookup_scratch *scratch, struct lookup **ret)
{
	const struct lookup *from = t->previous;
	uint16_t *slots = malloc(from->size * sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (uint32_t b = 0; b < from->size; b++) {
		const uint32_t prev = sluice_bucket_prev(lookup_buckets(from)[b]);
		const uint32_t owner = transition_owner_before(t, b, prev);
		slots[b] = (uint16_t)(owner == SLUICE_NONE ? prev : owner);
	}
	int error = lookup_of_slots(slots, from->size, scratch, ret);
	free(slots);
	return error;
}
