/* SPDX-License-Identifier: Apache-2.0 */
/* What the node's load is, and what is refused of new flows: as JSON and as metrics. */
#include "api_context.h"

json_t *api_overload_json(const struct api *api)
{
	struct overload_status s;
	json_t *loads = json_object(), *pressures = json_object(), *shares = json_object(),
	       *remembering = json_object();

	overload_status(apply_overload(api->apply), &s);
	for (int i = 0; i < OVERLOAD_SOURCES; i++) {
		const char *word = overload_source_word((enum overload_source)i);
		json_object_set_new(loads, word, s.loads[i] < 0 ? json_null() : json_real(s.loads[i]));
		json_object_set_new(pressures, word, json_real(s.pressures[i]));
	}
	for (int i = MODEL_PRIORITY_LOW; i <= MODEL_PRIORITY_HIGH; i++) {
		json_object_set_new(shares, overload_priority_word(i), json_real(s.shares[i]));
		json_object_set_new(remembering, overload_priority_word(i), json_real(s.remembering_shares[i]));
	}
	return json_pack("{s:b, s:f, s:o, s:o, s:b, s:o, s:o}", "can_refuse", s.can_refuse, "shed_above", s.above * 100,
			 "load", loads, "pressure", pressures, "shedding", s.sheds, "refused_share", shares,
			 "refused_share_remembering", remembering);
}

void api_overload_metrics(FILE *out, const struct api *api)
{
	struct overload_status s;

	overload_status(apply_overload(api->apply), &s);
	fputs("# HELP sluice_load_ratio What may come to its end, 0 to 1: busiest worker, softirq time of the busiest "
	      "CPU, "
	      "exception table.\n"
	      "# TYPE sluice_load_ratio gauge\n",
	      out);
	for (int i = 0; i < OVERLOAD_SOURCES; i++)
		if (s.loads[i] >= 0)
			fprintf(out, "sluice_load_ratio{source=\"%s\"} %.6g\n",
				overload_source_word((enum overload_source)i), s.loads[i]);
	fprintf(out,
		"# HELP sluice_shed_above_ratio The load above which new flows are refused; 1: never.\n"
		"# TYPE sluice_shed_above_ratio gauge\n"
		"sluice_shed_above_ratio %.6g\n",
		s.above);
}
