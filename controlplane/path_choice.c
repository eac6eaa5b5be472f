/* SPDX-License-Identifier: Apache-2.0 */
#include "path_choice.h"

#include "quantity.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void path_choice_init(struct path_choice *choice, const struct path_look *look)
{
	*choice = (struct path_choice){.begun_ns = look->now_ns, .since_wall_ns = look->wall_ns, .wants_parked = true};
	snprintf(choice->reason, sizeof(choice->reason), "no dataplane is connected");
}

/* Whether there is a new rate. *ret_from_ns: where the time it is of begins. */
static bool measure(struct path_choice *c, const struct path_look *look, uint64_t *ret_from_ns)
{
	if (!look->is_counted) {
		c->is_counted = c->has_rate = c->is_low = false;
		return false;
	}
	if (c->is_counted && look->packets >= c->packets) {
		const uint64_t elapsed_ns = look->now_ns - c->counted_ns;
		if (elapsed_ns < PATH_LOOK_LEAST_NS)
			return false;
		c->rate_pps = (uint64_t)((double)(look->packets - c->packets) * 1e9 / (double)elapsed_ns);
		c->has_rate = true;
		*ret_from_ns = c->counted_ns;
	} else {
		c->has_rate = false; /* the first, or the counters were made anew */
	}
	c->is_counted = true;
	c->counted_ns = look->now_ns;
	c->packets = look->packets;
	return c->has_rate;
}

static void want(struct path_choice *c, const struct path_look *look, bool parked, const struct path_switch *cause)
{
	c->wants_parked = parked;
	c->asked_ns = look->now_ns;
	c->cause = *cause;
	c->is_low = false;
}

static void want_by_rule(struct path_choice *c, const struct path_look *look, bool parked, const char *path)
{
	struct path_switch cause = {0};

	if (c->wants_parked == parked)
		return;
	snprintf(cause.reason, sizeof(cause.reason), "path = \"%s\" is configured", path);
	want(c, look, parked, &cause);
}

/* path = "auto", and the kernel's path cannot have the packets. */
static void want_without_kernel(struct path_choice *c, const struct path_look *look)
{
	struct path_switch cause = {.reason = "the XDP program has no table to forward by"};

	c->is_low = false;
	if (c->wants_parked)
		want(c, look, false, &cause);
}

/* path = "auto", and there is a new rate. */
static void want_by_rate(struct path_choice *c, const struct path_rule *rule, const struct path_look *look,
			 uint64_t from_ns)
{
	struct path_switch cause = {.is_by_rate = true, .rate_pps = c->rate_pps};
	char threshold[32], after[32];

	if (c->rate_pps >= rule->xdp_below_pps) {
		c->is_low = false;
		if (c->rate_pps <= rule->dpdk_above_pps || !c->wants_parked)
			return;
		cause.threshold_pps = rule->dpdk_above_pps;
		snprintf(cause.reason, sizeof(cause.reason), "%" PRIu64 " packets/s, above dpdk_above = %s",
			 c->rate_pps, rate_text(rule->dpdk_above_pps, threshold));
		want(c, look, false, &cause);
		return;
	}
	if (!c->is_low) {
		c->is_low = true;
		c->low_ns = from_ns;
		c->low_most_pps = 0;
	}
	if (c->rate_pps > c->low_most_pps)
		c->low_most_pps = c->rate_pps;
	if (c->wants_parked || look->now_ns - c->low_ns < rule->xdp_after_ns ||
	    look->now_ns - c->asked_ns < rule->xdp_after_ns)
		return;
	cause.threshold_pps = rule->xdp_below_pps;
	cause.rate_pps = c->low_most_pps;
	snprintf(cause.reason, sizeof(cause.reason), "at most %" PRIu64 " packets/s for %s, below xdp_below = %s",
		 c->low_most_pps, duration_text(rule->xdp_after_ns, after), rate_text(rule->xdp_below_pps, threshold));
	want(c, look, true, &cause);
}

static bool is_there(enum path_dataplane dataplane)
{
	return dataplane == PATH_DATAPLANE_PARKED || dataplane == PATH_DATAPLANE_POLLING;
}

/* A dataplane is there that was not: what it does is what is wanted. One that has still to get a table is to wait for
 * traffic. */
static void take_over(struct path_choice *c, const struct path_look *look)
{
	const struct path_switch none = {0};

	if (is_there(look->dataplane) != is_there(c->dataplane))
		want(c, look, look->dataplane != PATH_DATAPLANE_POLLING, &none);
}

static void reason_write(const struct path_choice *c, const struct path_look *look, char *ret)
{
	const char *text = "";

	switch (look->dataplane) {
	case PATH_DATAPLANE_NONE: text = "no dataplane is connected"; break;
	case PATH_DATAPLANE_WITHOUT:
		text = "the dataplane was started with path = \"xdp\" for it: restart sluice-dataplane to change that";
		break;
	case PATH_DATAPLANE_NEW: text = "the dataplane has no table yet"; break;
	case PATH_DATAPLANE_PARKED:
	case PATH_DATAPLANE_POLLING:
		if (!look->can_park)
			text = "the dataplane has it, and is of a version that cannot park";
		else if (c->cause.reason[0] && (look->dataplane == PATH_DATAPLANE_PARKED) == c->wants_parked)
			text = c->cause.reason;
		else if (look->dataplane == PATH_DATAPLANE_PARKED)
			text = "the dataplane was parked when it connected";
		else
			text = "the dataplane was polling when it connected";
		break;
	}
	snprintf(ret, PATH_REASON_BYTES, "%s", text);
}

static void remember(struct path_choice *c, const struct path_look *look, enum path_side to)
{
	struct path_switch *s = &c->history[(c->to_dpdk + c->to_xdp) % PATH_HISTORY];

	*s = (struct path_switch){.wall_ns = look->wall_ns, .from = c->side, .to = to};
	if (is_there(look->dataplane) && c->cause.is_by_rate) {
		s->is_by_rate = true;
		s->rate_pps = c->cause.rate_pps;
		s->threshold_pps = c->cause.threshold_pps;
	}
	memcpy(s->reason, c->reason, sizeof(s->reason));
	if (to == PATH_SIDE_DPDK)
		c->to_dpdk++;
	else
		c->to_xdp++;
}

/* What has become of it. */
static void follow(struct path_choice *c, const struct path_look *look)
{
	const enum path_side side = look->dataplane == PATH_DATAPLANE_POLLING ? PATH_SIDE_DPDK : PATH_SIDE_XDP;
	const bool is_new = look->dataplane != c->dataplane;

	c->is_settled |= look->now_ns - c->begun_ns >= PATH_SETTLE_NS;
	if (is_new)
		reason_write(c, look, c->reason);
	c->dataplane = look->dataplane;
	if (side != c->side) {
		if (c->is_settled)
			remember(c, look, side);
		c->side = side;
		c->since_wall_ns = look->wall_ns;
	}
	c->is_settled |= look->dataplane != PATH_DATAPLANE_NONE;
}

bool path_choice_look(struct path_choice *choice, const struct path_rule *rule, const struct path_look *look)
{
	uint64_t from_ns = 0;
	const bool has_new_rate = measure(choice, look, &from_ns);

	take_over(choice, look);
	follow(choice, look);
	if (rule->path == MODEL_PATH_DPDK)
		want_by_rule(choice, look, false, "dpdk");
	else if (rule->path == MODEL_PATH_XDP)
		want_by_rule(choice, look, true, "xdp");
	else if (!is_there(look->dataplane) || !look->can_park)
		return choice->wants_parked;
	else if (!look->kernel_has_table)
		want_without_kernel(choice, look);
	else if (has_new_rate)
		want_by_rate(choice, rule, look, from_ns);
	return choice->wants_parked;
}

const struct path_switch *path_choice_history(const struct path_choice *choice, uint32_t i)
{
	const uint64_t count = choice->to_dpdk + choice->to_xdp;
	const uint64_t first = count > PATH_HISTORY ? count - PATH_HISTORY : 0;

	return first + i < count ? &choice->history[(first + i) % PATH_HISTORY] : NULL;
}

const char *path_side_word(enum path_side side)
{
	return side == PATH_SIDE_DPDK ? "dpdk" : "xdp";
}

const char *path_choice_state(const struct path_choice *choice)
{
	switch (choice->dataplane) {
	case PATH_DATAPLANE_WITHOUT: return "no port";
	case PATH_DATAPLANE_NEW: return "no table";
	case PATH_DATAPLANE_PARKED: return choice->wants_parked ? "parked" : "waking";
	case PATH_DATAPLANE_POLLING: return choice->wants_parked ? "parking" : "polling";
	default: return "no dataplane";
	}
}
