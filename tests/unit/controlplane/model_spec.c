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
