/* SPDX-License-Identifier: Apache-2.0 */
/* What routers say of the ways to backends: as JSON and as metrics. */
#include "api_context.h"

#include <inttypes.h>

json_t *api_underlay_json(const struct api *api)
{
	struct underlay_mtu_status s;
	json_t *messages = json_object();

	apply_underlay_status(api->apply, &s);
	for (int i = 0; i < UNDERLAY_OUTCOMES; i++)
		json_object_set_new(messages, underlay_outcome_word((enum underlay_outcome)i),
				    json_integer((json_int_t)s.messages[i]));
	return json_pack("{s:I, s:o, s:I}", "lowered", (json_int_t)s.lowered, "messages", messages, "pauses",
			 (json_int_t)s.pauses);
}

void api_underlay_metrics(FILE *out, const struct api *api)
{
	struct underlay_mtu_status s;

	apply_underlay_status(api->apply, &s);
	fprintf(
	    out,
	    "# HELP sluice_path_mtus_lowered Backend addresses whose tunnels heed a lower MTU than their link's.\n"
	    "# TYPE sluice_path_mtus_lowered gauge\n"
	    "sluice_path_mtus_lowered %u\n"
	    "# HELP sluice_underlay_too_big_total \"Too big\" from routers on the way to backends, by what became of "
	    "it.\n"
	    "# TYPE sluice_underlay_too_big_total counter\n",
	    s.lowered);
	for (int i = 0; i < UNDERLAY_OUTCOMES; i++)
		fprintf(out, "sluice_underlay_too_big_total{outcome=\"%s\"} %" PRIu64 "\n",
			underlay_outcome_word((enum underlay_outcome)i), s.messages[i]);
	fprintf(out,
		"# HELP sluice_underlay_pauses_total Seconds in which more \"too big\" came than are read.\n"
		"# TYPE sluice_underlay_pauses_total counter\n"
		"sluice_underlay_pauses_total %" PRIu64 "\n",
		s.pauses);
}
