/* SPDX-License-Identifier: Apache-2.0 */
/* sluice-decap show: read back from the kernel, as a table for people or as JSON. */
#include "decap.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <jansson.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *label, *help;
} outcomes[DECAP_OUTCOMES] = {
#define X(name, label, help) {label, help},
    DECAP_OUTCOME_LIST(X)
#undef X
};

static int open_pin(const struct decap_options *options, const char *leaf)
{
	char path[DECAP_PATH_BYTES];
	int error = decap_pin_path(options, leaf, path);
	return error ? error : bpf_obj_get(path);
}

/* Texts of all keys of a map, as JSON strings: both kinds of key fit struct decap_source. */
static json_t *keys_of(int map_fd, char *(*text_of)(const void *key, char *ret))
{
	struct decap_source key, next;
	char text[DECAP_TEXT_BYTES];
	json_t *list = json_array();

	for (void *from = NULL; bpf_map_get_next_key(map_fd, from, &next) == 0; from = &key, key = next)
		json_array_append_new(list, json_string(text_of(&next, text)));
	return list;
}

static char *vip_text(const void *key, char *ret)
{
	return decap_address_text(key, ret);
}

static char *source_text(const void *key, char *ret)
{
	return decap_source_text(key, ret);
}

static json_t *counters_of(int map_fd)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *values = cpus > 0 ? calloc((size_t)cpus, sizeof(*values)) : NULL;
	json_t *counters = json_object();

	for (uint32_t i = 0; values && i < DECAP_OUTCOMES; i++) {
		uint64_t sum = 0;
		if (bpf_map_lookup_elem(map_fd, &i, values) == 0)
			for (int cpu = 0; cpu < cpus; cpu++)
				sum += values[cpu];
		json_object_set_new(counters, outcomes[i].label, json_integer((json_int_t)sum));
	}
	free(values);
	return counters;
}

static void print_list(const char *title, const json_t *list)
{
	printf("%-10s", title);
	for (size_t i = 0; i < json_array_size(list); i++)
		printf("%s%s", i ? " " : "", json_string_value(json_array_get(list, i)));
	putchar('\n');
}

static void print_table(const json_t *document)
{
	const json_t *counters = json_object_get(document, "counters");

	printf("interface %s (%s XDP)\n", json_string_value(json_object_get(document, "interface")),
	       json_string_value(json_object_get(document, "mode")));
	print_list("vips", json_object_get(document, "vips"));
	print_list("sources", json_object_get(document, "sources"));
	putchar('\n');
	for (uint32_t i = 0; i < DECAP_OUTCOMES; i++)
		printf("%12" JSON_INTEGER_FORMAT "  %-18s  %s\n",
		       json_integer_value(json_object_get(counters, outcomes[i].label)), outcomes[i].label,
		       outcomes[i].help);
}

int decap_show(const struct decap_options *options)
{
	uint32_t ifindex = 0, program = 0, attached = 0;
	enum xdp_mode mode;
	int result = DECAP_EXIT_FAILED;

	int link = open_pin(options, "link"), vips = open_pin(options, "vips"), sources = open_pin(options, "sources"),
	    counters = open_pin(options, "counters");
	if (link < 0 || vips < 0 || sources < 0 || counters < 0) {
		decap_complain("%s: nothing is attached (as pinned in %s)", options->interface, options->pin_dir);
		goto close_all;
	}
	if (xdp_link_query(link, &ifindex, &program) || !ifindex || ifindex != if_nametoindex(options->interface) ||
	    xdp_attached(ifindex, &attached, &mode) || attached != program) {
		decap_complain("%s: no longer attached, the interface was re-created: attach again",
			       options->interface);
		goto close_all;
	}
	json_t *document = json_pack("{s:s, s:s, s:o, s:o, s:o}", "interface", options->interface, "mode",
				     xdp_mode_text(mode), "vips", keys_of(vips, vip_text), "sources",
				     keys_of(sources, source_text), "counters", counters_of(counters));
	if (!document) {
		decap_complain("out of memory");
		goto close_all;
	}
	if (options->json) {
		json_dumpf(document, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		print_table(document);
	}
	json_decref(document);
	result = DECAP_EXIT_OK;
close_all:
	if (link >= 0)
		close(link);
	if (vips >= 0)
		close(vips);
	if (sources >= 0)
		close(sources);
	if (counters >= 0)
		close(counters);
	return result;
}
