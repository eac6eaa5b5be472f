/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of configurations: one sentence, the text, and all that the reader must say of it or make of it. */
#ifndef TEST_CONFIG_ROWS_H
#define TEST_CONFIG_ROWS_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
	const char *sentence;
	const char *text;                         /* the file is called "t" */
	const char *messages;                     /* all of them, each ended by a newline; "" for none */
	void (*facts)(const struct model *model); /* of an accepted one; may be NULL */
};

/* Line 1 of most rows. The key is not there, which check and plan do not mind. */
#define TOP                                                                                                            \
	"hash_key_file = \"/nonexistent/hash.key\"; interfaces = ( { name = \"eth0\"; }, { pci = \"3b:00.0\"; }, { vdev = \"net_null0\"; } );\n"
/* One good service on lines 2 to 4; `more` on line 3 adds to it or spoils it. */
#define BACKENDS "backends = ( { name = \"w1\"; address = \"10.0.0.1\"; } );\n"
#define WEB(more)                                                                                                      \
	TOP "services = ( { name = \"web\"; address = \"192.0.2.10\"; port = 80;\n" more "\n" BACKENDS                 \
	    "} ); vips = ( { address = \"192.0.2.10\"; } );\n"
/* The same with the backends given, on line 3. */
#define WITH_BACKENDS(backends)                                                                                        \
	TOP "services = ( { name = \"web\"; address = \"192.0.2.10\"; port = 80;\n"                                    \
	    "backends = ( " backends " );\n"                                                                           \
	    "} ); vips = ( { address = \"192.0.2.10\"; } );\n"

static char *messages_join(const struct config_messages *messages)
{
	size_t length = 1;
	for (uint32_t i = 0; i < messages->count; i++)
		length += strlen(messages->lines[i]) + 1;
	char *all = calloc(1, length);
	assert_non_null(all);
	for (uint32_t i = 0; i < messages->count; i++) {
		strcat(all, messages->lines[i]);
		strcat(all, "\n");
	}
	return all;
}

/* Lines that are errors stand first and are counted; the others say that they are warnings. */
static void messages_are_in_order(const struct config_messages *messages)
{
	assert_true(messages->errors <= messages->count);
	for (uint32_t i = 0; i < messages->count; i++)
		assert_int_equal(strstr(messages->lines[i], ": warning: ") != NULL, i >= messages->errors);
}

/* Whether the row's messages came. */
static bool row_run(const struct row *row)
{
	struct model *const untouched = (struct model *)(uintptr_t)1;
	struct model *model = untouched;
	struct config_messages messages;
	int error = config_parse(row->text, "t", &model, &messages);
	char *all = messages_join(&messages);

	messages_are_in_order(&messages);
	bool same = !strcmp(all, row->messages);
	if (!same)
		print_error("%s:\n%s\nsays:\n%s\nand not:\n%s\n", row->sentence, row->text, all, row->messages);
	assert_int_equal(error, messages.errors ? -EINVAL : 0);
	if (error) {
		assert_ptr_equal(model, untouched);
		assert_null(row->facts);
	} else {
		assert_int_equal(model->references, 1);
		if (row->facts && same)
			row->facts(model);
		model_put(model);
	}
	free(all);
	config_messages_fini(&messages);
	return same;
}

static void rows_run(const struct row *rows, size_t count)
{
	size_t good = 0;
	for (size_t i = 0; i < count; i++)
		good += row_run(&rows[i]);
	assert_int_equal(good, count);
}

#define ROWS_RUN(rows) rows_run(rows, sizeof(rows) / sizeof((rows)[0]))

#endif
