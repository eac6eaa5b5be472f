/* SPDX-License-Identifier: Apache-2.0 */
#include "model_spec.h"

#include "config.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <cmocka.h>

const char *model_spec_more;

union sluice_address address_of(const char *text)
{
	union sluice_address address;
	uint32_t v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return sluice_address_v4(v4);
	assert_int_equal(inet_pton(AF_INET6, text, address.bytes), 1);
	return address;
}

static void backend_write(FILE *out, char *text, int position)
{
	char *weight = strchr(text, '*');

	if (weight)
		*weight++ = 0;
	fprintf(out, "%s{ name = \"b%d\"; address = \"%s\"; weight = %s; }", position > 1 ? ",\n      " : "", position,
		text, weight ? weight : "1");
}

static void service_write(FILE *out, char *line, bool first)
{
	char *rest = NULL, *words[5], *word;
	int position = 0;

	for (int i = 0; i < 5; i++) {
		words[i] = strtok_r(i ? NULL : line, " ", &rest);
		assert_non_null(words[i]);
	}
	fprintf(out,
		"%s  { name = \"%s\"; address = \"%s\"; port = \"%s\"; protocol = \"%s\"; table_size = %s;\n"
		"    forward = \"ipip\"; health = { type = \"%s\"; }; %s\n    backends = (",
		first ? "" : ",\n", words[0], words[1], words[2], words[3], words[4],
		words[0][0] == 'h' ? "tcp" : "none", model_spec_more ? model_spec_more : "");
	while ((word = strtok_r(NULL, " ", &rest)))
		backend_write(out, word, ++position);
	fprintf(out, " ); }");
}

char *config_of(const char *spec)
{
	char *text = NULL, *copy = strdup(spec), *rest = NULL;
	size_t length;
	bool first = true;
	FILE *out = open_memstream(&text, &length);

	assert_non_null(out);
	fprintf(out, "node = { name = \"test\"; };\ninterfaces = ( { name = \"eth0\"; }, { name = \"eth1\"; } );\n"
		     "services = (\n");
	for (char *line = strtok_r(copy, ";", &rest); line; line = strtok_r(NULL, ";", &rest)) {
		service_write(out, line, first);
		first = false;
	}
	fprintf(out, "\n);\n");
	fclose(out);
	free(copy);
	return text;
}

struct model *model_of(const char *spec)
{
	struct config_messages messages;
	struct model *model = NULL;
	char *text = config_of(spec);
	int error = config_parse(text, "test.conf", &model, &messages);

	if (error)
		for (uint32_t i = 0; i < messages.count; i++)
			print_message("%s\n", messages.lines[i]);
	assert_int_equal(error, 0);
	config_messages_fini(&messages);
	free(text);
	return model;
}

struct built_table *spec_table(const struct model *model, struct built_table *before)
{
	static struct sluice_port ports[8]; /* one for each interface */
	struct table_backend backends[16];
	struct table_build *build;
	const char *text = "";

	for (int i = 0; i < 16; i++)
		backends[i] = (struct table_backend){.weight = 100,
						     .mtu = 1500,
						     .source = address_of("10.0.0.254"),
						     .destination_mac = {2},
						     .source_mac = {2, 1},
						     .state = SLUICE_BACKEND_UP,
						     .reachable = 1};
	const struct table_build_options options = {.model = (struct model *)model,
						    .generation = before ? before->generation + 1 : 1,
						    .backends = backends,
						    .ports = ports,
						    .base = before ? before->identity : NULL};
	assert_int_equal(table_build_create(&options, &build), 0);
	if (table_build_run(build, &text))
		fail_msg("%s", text);
	built_table_put(before);
	struct built_table *table = table_build_take(build);
	table_build_destroy(build);
	return table;
}
