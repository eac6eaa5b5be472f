/* SPDX-License-Identifier: Apache-2.0 */
/* A dataplane that hangs, over all interfaces: whose packets go by XDP then. */
#include "api_context.h"

#include <stdio.h>

/* Over all interfaces of the kernel. */
struct hang {
	uint32_t queues, hung; /* as struct paths_hang, summed */
	bool is_whole;         /* nothing goes to the dataplane any more */
	char interfaces[256];  /* "eth0 1 of 4 queues, eth1 2 of 2 queues": those with some that hang */
};

static struct hang hang_find(const struct api *api)
{
	struct hang hang = {.is_whole = true};
	struct paths_status s;
	size_t length = 0;

	for (uint32_t i = 0; paths_status(apply_paths(api->apply), i, &s); i++) {
		const struct paths_hang h = paths_hang(apply_paths(api->apply), i);
		hang.queues += h.queues;
		hang.hung += h.hung;
		hang.is_whole &= h.is_whole || h.is_silent || !h.queues;
		if (h.hung && length < sizeof(hang.interfaces))
			length +=
			    (size_t)snprintf(hang.interfaces + length, sizeof(hang.interfaces) - length,
					     "%s%s %u of %u queues", length ? ", " : "", s.interface, h.hung, h.queues);
	}
	hang.is_whole &= hang.hung > 0;
	return hang;
}

json_t *api_hang_json(const struct api *api)
{
	const struct hang hang = hang_find(api);
	char text[384] = "";

	if (hang.is_whole)
		snprintf(text, sizeof(text), "the dataplane hangs, and the XDP program forwards in its place: %s",
			 hang.interfaces);
	else if (hang.hung)
		snprintf(text, sizeof(text),
			 "the dataplane hangs on some queues, and the XDP program forwards what comes by these: %s",
			 hang.interfaces);
	return json_pack("{s:I, s:I, s:b, s:s}", "queues", (json_int_t)hang.queues, "hung", (json_int_t)hang.hung,
			 "all", hang.is_whole, "text", text);
}

bool api_all_by_xdp(const struct api *api)
{
	const struct model *model = api->names.model;
	struct paths_status s;
	uint32_t interfaces = 0, hung = 0, silent = 0;

	for (uint32_t i = 0; paths_status(apply_paths(api->apply), i, &s); i++) {
		const struct paths_hang h = paths_hang(apply_paths(api->apply), i);
		const bool by_xdp =
		    s.rule->path == MODEL_PATH_XDP || s.choice->dataplane == PATH_DATAPLANE_PARKED || h.is_whole;
		interfaces += by_xdp;
		silent += !by_xdp && h.is_silent;
		hung += h.is_whole;
	}
	/* One that nothing comes by does not say that the dataplane forwards, when it hangs on the others. */
	if (hung)
		interfaces += silent;
	return model && model->interface_count && interfaces == model->interface_count;
}
