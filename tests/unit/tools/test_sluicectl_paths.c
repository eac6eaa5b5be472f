/* SPDX-License-Identifier: Apache-2.0 */
/* What `sluicectl paths` makes of the API's document: the tables, word for word; and lines of `sluicectl status`. */
#include "sluicectl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* In the place of sluicectl_http.c. */
static const char *document;

enum ctl_exit ctl_get(const struct ctl *ctl, const char *target, json_t **ret)
{
	(void)ctl;
	(void)target;
	*ret = json_loads(document, 0, NULL);
	assert_non_null(*ret);
	return CTL_OK;
}

/* What a command prints. */
static const char *printed_by(enum ctl_exit (*command)(const struct ctl *ctl), bool json)
{
	static char text[8192];
	const struct ctl ctl = {.json = json};
	FILE *file = tmpfile();
	int out = dup(STDOUT_FILENO);

	assert_non_null(file);
	fflush(stdout);
	dup2(fileno(file), STDOUT_FILENO);
	enum ctl_exit result = command(&ctl);
	fflush(stdout);
	dup2(out, STDOUT_FILENO);
	close(out);
	rewind(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = 0;
	fclose(file);
	assert_int_equal(result, CTL_OK);
	return text;
}

static const char *printed(bool json)
{
	return printed_by(command_paths, json);
}

static const char automatic[] =
    "{\"generation\": 7,"
    " \"dataplanes\": [{\"path\": \"dpdk\", \"state\": \"current\", \"pid\": 42, \"workers\": 2, \"generation\": 7,"
    "   \"reason\": \"\"}],"
    " \"interfaces\": [{\"interface\": \"eth0\", \"attached\": true, \"mode\": \"native\", \"reason\": \"\","
    "   \"redirected\": 10, \"forwarded\": 20, \"passed\": 30, \"dropped\": 1, \"dropped_no_socket\": 2,"
    "   \"queues\": [{\"queue\": 0, \"path\": \"dpdk\", \"hung\": false, \"hangs\": 1, \"takeovers\": 4},"
    "                {\"queue\": 1, \"path\": \"xdp\", \"hung\": true, \"hangs\": 0, \"takeovers\": 0}],"
    "   \"configured\": \"auto\", \"path\": \"dpdk\", \"state\": \"polling\", \"since\": \"2026-01-02T03:04:05Z\","
    "   \"path_reason\": \"123456 packets/s, above dpdk_above = 100kpps\", \"rate_pps\": 110000,"
    "   \"history\": [{\"time\": \"2026-01-02T03:04:05Z\", \"from\": \"xdp\", \"to\": \"dpdk\", \"rate_pps\": 123456,"
    "                  \"threshold_pps\": 100000, \"reason\": \"123456 packets/s, above dpdk_above = 100kpps\"},"
    "                 {\"time\": \"2026-01-02T04:04:05Z\", \"from\": \"dpdk\", \"to\": \"xdp\", \"rate_pps\": null,"
    "                  \"threshold_pps\": null, \"reason\": \"no dataplane is connected\"}]}]}";

static void test_tables(void **state)
{
	(void)state;
	document = automatic;
	assert_string_equal(
	    printed(false),
	    "generation 7\n"
	    "\n"
	    "PATH  STATE    PID  WORKERS  GENERATION  REASON\n"
	    "dpdk  current   42        2           7\n"
	    "\n"
	    "INTERFACE  XDP       MODE    REDIRECTED  FORWARDED  PASSED  DROPPED  REASON\n"
	    "eth0       attached  native          10         20      30        3\n"
	    "\n"
	    "INTERFACE  QUEUE  PATH  WORKER  HANGS  TAKEOVERS\n"
	    "eth0           0  dpdk  -           1          4\n"
	    "eth0           1  xdp   hung        0          0\n"
	    "\n"
	    "INTERFACE  CONFIGURED  PATH  STATE    SINCE                       RATE  WHY\n"
	    "eth0       auto        dpdk  polling  2026-01-02T03:04:05Z  110.0 kpps  123456 packets/s, above "
	    "dpdk_above = "
	    "100kpps\n"
	    "\n"
	    "SWITCHED              INTERFACE  FROM  TO          RATE   THRESHOLD  WHY\n"
	    "2026-01-02T03:04:05Z  eth0       xdp   dpdk  123.5 kpps  100.0 kpps  123456 packets/s, above dpdk_above = "
	    "100kpps\n"
	    "2026-01-02T04:04:05Z  eth0       dpdk  xdp            -           -  no dataplane is connected\n");
}

/* A host without interfaces of the kernel, and one that has not switched: no empty tables. */
static void test_nothing_to_tell(void **state)
{
	(void)state;
	document = "{\"generation\": 1, \"dataplanes\": [], \"interfaces\": []}";
	assert_string_equal(printed(false), "generation 1\n\nno dataplane is connected\n");
	document = "{\"generation\": 1, \"dataplanes\": [], \"interfaces\": [{\"interface\": \"eth0\", \"configured\": "
		   "\"xdp\", \"path\": \"xdp\", \"state\": \"no dataplane\", \"since\": null, \"rate_pps\": null, "
		   "\"path_reason\": \"no dataplane is connected\", \"history\": []}]}";
	const char *text = printed(false);
	assert_non_null(
	    strstr(text, "\neth0       xdp         xdp   no dataplane            -  no dataplane is connected\n"));
	assert_null(strstr(text, "SWITCHED"));
}

static void test_json(void **state)
{
	(void)state;
	document = automatic;
	json_t *as_is = json_loads(automatic, 0, NULL), *told = json_loads(printed(true), 0, NULL);
	assert_true(json_equal(as_is, told));
	json_decref(as_is);
	json_decref(told);
}

/* What the last change had to say, and that the dataplane hangs. */
static void test_status(void **state)
{
	static const struct {
		const char *document, *line;
	} rows[] = {
	    {"{\"last_config\": {\"action\": \"apply\", \"outcome\": \"ok\", \"time\": \"T\", \"text\": \"ok\","
	     " \"lines\": []}}",
	     "\nlast change    apply ok at T: ok\n"},
	    {"{\"last_config\": {\"action\": \"apply\", \"outcome\": \"ok\", \"time\": \"T\", \"text\": \"f:1: a\","
	     " \"lines\": [\"f:1: a\", \"f:2: b\"]}}",
	     "\nlast change    apply ok at T: f:1: a (and 1 more warning: status --json)\n"},
	    {"{\"last_config\": {\"action\": \"reload\", \"outcome\": \"failed\", \"time\": \"T\", \"text\": \"a\","
	     " \"lines\": [\"a\", \"b\", \"c\"]}}",
	     "\nlast change    reload failed at T: a (and 2 more messages: status --json)\n"},
	    {"{\"hang\": {\"queues\": 1, \"hung\": 1, \"all\": true, \"text\": \"the dataplane hangs\"}}",
	     "\nwarning        the dataplane hangs\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		document = rows[i].document;
		assert_non_null(strstr(printed_by(command_status, false), rows[i].line));
	}
	document = "{\"hang\": {\"queues\": 1, \"hung\": 0, \"all\": false, \"text\": \"\"}}";
	assert_null(strstr(printed_by(command_status, false), "warning"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_tables),
	    cmocka_unit_test(test_nothing_to_tell),
	    cmocka_unit_test(test_json),
	    cmocka_unit_test(test_status),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
