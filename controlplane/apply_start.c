/* SPDX-License-Identifier: Apache-2.0 */
/* The first transaction, over a dataplane that may be forwarding by the table of an earlier control plane. */
#include "apply_internal.h"

#include "log.h"

/* A dataplane is forwarding: who lives there lives, and who is in no file any more keeps its connections. */
static void wait_adopt(struct transaction *t)
{
	struct apply *apply = t->apply;
	struct model *model;

	/* Twice, where the kernel's path and a dataplane introduce themselves: from the file's each time. */
	if (apply_retire(apply, retire_origin(t->model), &model)) {
		log_error("apply: out of memory: backends that are in no file any more lose their connections");
		model = model_get(t->model);
	}
	if (model != t->model) {
		model_put(apply->model);
		apply->model = model_get(model);
		apply_follow(apply, model);
	}
	model_put(t->model);
	t->model = model;
	apply_adopt_health(apply, t->model); /* before a first probe says otherwise */
}

/* Whether every backend has answered a probe, or failed to. */
static bool health_is_known(const struct apply *apply, const struct model *model)
{
	struct health_report report;

	for (uint32_t i = 0; i < model->service_count; i++)
		for (uint32_t k = 0; k < model->services[i].backend_count; k++)
			if (!health_find(apply->health, model->services[i].name, model->services[i].backends[k].name,
					 &report) &&
			    report.state == HEALTH_UNKNOWN)
				return false;
	return true;
}

/*
 * What is not known yet must not be taken for dead: a dataplane may be forwarding by the table of the control
 * plane before this one, even when the state directory has none. Where that table is known, so is who lived by it;
 * where not, the first probes have to say. Without such a dataplane there is nothing to disturb.
 */
static void wait_poll(uv_timer_t *timer)
{
	struct apply *apply = timer->data;
	struct transaction *t = apply->active;
	const uint64_t waited_ms = (uv_hrtime() - t->started_ns) / 1000000;
	const bool met = publish_peer_count(apply->publish) > 0 || waited_ms >= apply->hello_wait_ms;
	const bool in_kernel = apply->kernel && kernel_path_running(apply->kernel).generation;
	const bool alone = met && publish_peer_count(apply->publish) == 0 && !in_kernel;
	const bool late = waited_ms >= APPLY_START_SETTLE_MS || alone;

	if (apply->adopt)
		wait_adopt(t);
	if (!met || !(late || adjacency_settled(apply->adjacency)) ||
	    !(late || !apply->stranger || health_is_known(apply, t->model)))
		return;
	uv_timer_stop(timer);
	transaction_gather(t);
}

void transaction_wait(struct transaction *t)
{
	struct apply *apply = t->apply;

	/* Nothing runs yet: the first model is followed before its table, so that the table can know something. */
	apply->model = model_get(t->model);
	if (apply->steering)
		steering_configure_interfaces(apply->steering, t->model);
	apply_follow(apply, t->model);
	t->started_ns = uv_hrtime();
	uv_timer_start(&apply->step, wait_poll, 0, APPLY_START_POLL_MS);
}
