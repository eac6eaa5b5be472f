/* SPDX-License-Identifier: Apache-2.0 */
/* What a configuration asks of this host that it has not. */
#include "model_doubts.h"

#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* model_doubt_fn; user: a text of 1024 bytes. */
static void on_doubt(void *user, const char *doubt)
{
	char *text = user;
	snprintf(text + strlen(text), 1024 - strlen(text), "%s\n", doubt);
}

static void doubts_of(const char *config, char *ret)
{
	struct config_messages messages;
	struct model *model = NULL;

	ret[0] = '\0';
	if (config_parse(config, "test.conf", &model, &messages))
		fail_msg("%s", messages.count ? messages.lines[0] : "");
	config_messages_fini(&messages);
	model_doubts(model, on_doubt, ret);
	model_put(model);
}

static void test_what_is_there_is_not_doubted(void **state)
{
	char text[1024];

	(void)state;
	doubts_of("interfaces = ( { name = \"lo\"; }, { pci = \"0000:3b:00.0\"; }, { vdev = \"net_null0\"; } );\n"
		  "dataplane = { cores = [0]; };\nvips = ( { address = \"192.0.2.1\"; interface = \"lo\"; } );\n",
		  text);
	assert_string_equal(text, "");
}

static void test_what_is_not_there_is_named(void **state)
{
	char text[1024];

	(void)state;
	doubts_of("interfaces = ( { name = \"nope0\"; } );\ndataplane = { cores = [0, 1023]; };\n"
		  "vips = ( { address = \"192.0.2.1\"; interface = \"nope1\"; } );\n",
		  text);
	assert_non_null(strstr(text, "dataplane.cores: there is no core 1023"));
	assert_non_null(strstr(text, "interfaces: nope0: there is no such interface now"));
	assert_non_null(strstr(text, "vips: 192.0.2.1: there is no interface nope1 now"));
	assert_null(strstr(text, "no core 0,"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_what_is_there_is_not_doubted),
	    cmocka_unit_test(test_what_is_not_there_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
