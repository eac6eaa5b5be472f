/* SPDX-License-Identifier: Apache-2.0 */
/* The command line, and the EAL's arguments that are made of it and the configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "eal.h"
#include "log.h"
#include "options.h"

#include <errno.h>
#include <string.h>

static enum options_outcome read_words(char **words, struct options *ret, char *ret_text, size_t room)
{
	int count = 0;
	while (words[count])
		count++;
	FILE *text = fmemopen(ret_text, room, "w");
	enum options_outcome outcome = options_read(count, words, text, text, ret);
	fclose(text);
	return outcome;
}

#define READ(...) read_words((char *[]){"sluice-dataplane", __VA_ARGS__, NULL}, &options, text, sizeof(text))

static void test_options(void **state)
{
	struct options options = {0};
	char text[2048];
	(void)state;
	assert_int_equal(read_words((char *[]){"sluice-dataplane", NULL}, &options, text, sizeof(text)), OPTIONS_RUN);
	assert_string_equal(options.config, "/etc/sluice/sluice.conf");
	assert_string_equal(options.runtime_dir, "/run/sluice");
	assert_int_equal(options.eal_count, 0);
	assert_int_equal(READ("--config", "a", "--runtime-dir=b", "--", "--config", "--x"), OPTIONS_RUN);
	assert_string_equal(options.config, "a");
	assert_string_equal(options.runtime_dir, "b");
	assert_int_equal(options.eal_count, 2);
	assert_string_equal(options.eal[0], "--config");
	assert_int_equal(READ("--help"), OPTIONS_DONE);
	assert_non_null(strstr(text, "usage:"));
	assert_int_equal(READ("--version"), OPTIONS_DONE);
	assert_int_equal(READ("--confg", "a"), OPTIONS_BAD);
	assert_non_null(strstr(text, "--confg"));
	assert_int_equal(READ("--config"), OPTIONS_BAD);
	assert_non_null(strstr(text, "--config needs a value"));
	assert_int_equal(READ("--config="), OPTIONS_BAD);
	assert_int_equal(READ("surplus"), OPTIONS_BAD);
	assert_non_null(strstr(text, "surplus"));
}

/* All arguments in one line. */
static void join(const struct eal_arguments *a, char *ret, size_t room)
{
	ret[0] = 0;
	for (int i = 0; i < a->argc; i++) {
		strncat(ret, a->argv[i], room - strlen(ret) - 1);
		strncat(ret, " ", room - strlen(ret) - 1);
	}
	assert_null(a->argv[a->argc]);
}

static void test_eal_arguments(void **state)
{
	static const uint32_t allowed[] = {0, 1, 2, 5};
	static char *extra[] = {"--vdev", "net_null9"};
	struct eal_surroundings s = {
	    .runtime_dir = "/run/sluice", .allowed = allowed, .allowed_count = 4, .memory_bytes = 100 << 20};
	struct config c = {.hugepages = true};
	struct eal_arguments a;
	char line[8192];
	(void)state;

	/* No cores: one worker, floating as the main thread does. */
	assert_int_equal(eal_arguments_make(&c, &s, &a), 0);
	join(&a, line, sizeof(line));
	assert_non_null(strstr(line, "--lcores=0@(0,1,2,5),1@(0,1,2,5) --main-lcore=0 --file-prefix=sluice --no-pci "));

	/* The main thread keeps away from the workers' cores. */
	c.core_count = 2;
	c.cores[0] = 5;
	c.cores[1] = 1;
	c.hugepages = false;
	s.extra = extra;
	s.extra_count = 2;
	assert_int_equal(eal_arguments_make(&c, &s, &a), 0);
	join(&a, line, sizeof(line));
	assert_non_null(strstr(line, "--lcores=0@(0,2),1@5,2@1 "));
	assert_non_null(strstr(line, "--no-huge --no-shconf "));
	assert_non_null(strstr(line, "-m 148 "));
	assert_non_null(strstr(line, " --vdev net_null9 "));

	/* Unless they have all of them. */
	c.core_count = 4;
	memcpy(c.cores, allowed, sizeof(allowed));
	assert_int_equal(eal_arguments_make(&c, &s, &a), 0);
	join(&a, line, sizeof(line));
	assert_non_null(strstr(line, "--lcores=0@(0,1,2,5),1@0,2@1,3@2,4@5 "));

	/* PCI devices are named one by one; instances do not share files. */
	c.hugepages = true;
	s.runtime_dir = "/tmp/other";
	c.port_count = 2;
	c.ports[0] = (struct config_port){.kind = CONFIG_PORT_PCI, .device = "0000:3b:00.0"};
	c.ports[1] = (struct config_port){.kind = CONFIG_PORT_VDEV, .device = "net_null0"};
	assert_int_equal(eal_arguments_make(&c, &s, &a), 0);
	join(&a, line, sizeof(line));
	assert_non_null(strstr(line, "--allow=0000:3b:00.0 "));
	assert_null(strstr(line, "--no-pci"));
	assert_null(strstr(line, "net_null0 "));
	assert_non_null(strstr(line, "--file-prefix=sluice-"));

	log_set_level(0);
	c.cores[3] = 7;
	assert_int_equal(eal_arguments_make(&c, &s, &a), -ERANGE);
	c.core_count = 0;
	s.extra_count = EAL_ARGUMENTS_MAX;
	static char *many[EAL_ARGUMENTS_MAX];
	for (int i = 0; i < EAL_ARGUMENTS_MAX; i++)
		many[i] = "x";
	s.extra = many;
	assert_int_equal(eal_arguments_make(&c, &s, &a), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_options), cmocka_unit_test(test_eal_arguments)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
