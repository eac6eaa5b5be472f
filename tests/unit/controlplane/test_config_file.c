/* SPDX-License-Identifier: Apache-2.0 */
/* What concerns files: syntax, includes and their lines, what is no configuration at all, and the hash key. */
#include "config_rows.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/sluice-config-XXXXXX";

static char *path_of(const char *name)
{
	static char paths[4][256];
	static unsigned turn;
	char *path = paths[turn++ % 4];
	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

static void file_write_bytes(const char *name, const char *bytes, size_t length, mode_t mode)
{
	int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, length), length);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void file_write(const char *name, const char *text)
{
	file_write_bytes(name, text, strlen(text), 0600);
}

/* Read `name`; the messages must be `expected`, in which each % stands for the folder. Returns what it made. */
static struct model *load(const char *name, bool make, int expected_error, const char *expected)
{
	struct config_messages messages;
	struct model *model = NULL;
	char wanted[8192] = "", *at = wanted;
	int error = config_load(path_of(name), make, &model, &messages);
	char *all = messages_join(&messages);

	for (; *expected; expected++)
		at += *expected == '%' ? sprintf(at, "%s", folder) : sprintf(at, "%c", *expected);
	assert_string_equal(all, wanted);
	assert_int_equal(error, expected_error);
	assert_true((model != NULL) == !error);
	free(all);
	config_messages_fini(&messages);
	return model;
}

#define INTERFACES "interfaces = ( { name = \"eth0\"; } );\n"

/* -------------------------------------------------------------------- text ---- */

#define NEXT " (what else may be wrong is told when this is mended)\n"

static void test_syntax(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    {"A syntax error has a line", TOP "node = { name = };\n", "t:2: syntax error" NEXT, NULL},
	    {"A missing bracket is found at the end", TOP "services = (\n\n", "t:4: syntax error" NEXT, NULL},
	    {"A setting twice is found by libconfig", TOP "node = {};\nnode = {};\n",
	     "t:3: duplicate setting name" NEXT, NULL},
	    {"A stray bracket", TOP "}\n", "t:2: syntax error" NEXT, NULL},
	    {"A string that never ends is told where it starts", TOP "node = { name = \"lb1; };\n\n",
	     "t:2: the string that starts here never ends: a closing \" is missing\n", NULL},
	    {"A comment that never ends too", TOP "\n/* node = {};\n\n",
	     "t:3: the comment that starts here never ends: */ is missing\n", NULL},
	    {"Comments of all kinds, with brackets and quotes inside",
	     TOP "# \" ( {\n// \" ( {\nnode = { /* \" ( {\n */ name = \"lb1\"; };\n", "", NULL},
	    {"Brackets and comment signs in strings are text",
	     TOP "node = { name = \"a\"; };\napi = { group = \"/*\\\"#(((\"; };\n",
	     "t:3: api, group: \"/*\"#(((\" may have letters, digits and . _ - : @ + only\n", NULL},
	    {"A NUL escape would cut a string short", TOP "node = { name = \"a\\x00b\"; };\n",
	     "t:2: \\x00 in a string\n", NULL},
	    {"Nesting has an end", TOP "node = ((((((((((((((((((((((((((((((((\n",
	     "t:2: nested deeper than 16 levels\n", NULL},
	    {"Other integers keep their values",
	     WEB("table_size = 0xfb; affinity = \"flow\"; health = { port = +80; rise = 010; };"), "", NULL},
	    {"A fraction is no integer", WEB("table_size = 251.99999999999999999;"),
	     "t:3: service \"web\", table_size: must be a whole number, not a number with a fraction\n", NULL},
	    {"The least 64-bit number", WEB("table_size = -99999999999999999999;"),
	     "t:3: number -99999999999999999999 does not fit 64 bits\n", NULL},
	    {"A digit in a name is no number", TOP "a99999999999999999999 = 1;\n",
	     "t:2: unknown setting \"a99999999999999999999\"; known here: node hash_key_file interfaces dataplane "
	     "encap_source encap_source6 services vips peers api\n",
	     NULL},
	    {"Text in memory includes nothing", TOP "@include \"/etc/hostname\"\n",
	     "t:2: @include works in files only\n", NULL},
	};
	ROWS_RUN(rows);
}

/* An error of the whole file names no line. */
static void test_no_file_of_text(void **state)
{
	struct config_messages messages;
	struct model *model = NULL;

	(void)state;
	assert_int_not_equal(config_load("/dev/null", false, &model, &messages), 0);
	assert_int_equal(messages.errors, 1);
	assert_int_equal(messages.placed_errors, 0);
	config_messages_fini(&messages);
}

/* Groups and lists that are too long for libconfig's linear checks, and many messages. */
static void test_floods(void **state)
{
	(void)state;
	struct config_messages messages;
	struct model *model = NULL;
	size_t bytes = 1 << 20, length;
	char *text = malloc(bytes), *at;

	assert_non_null(text);
	at = text + sprintf(text, "%s", TOP);
	for (int i = 0; i < 1024; i++)
		at += sprintf(at, "a%d = 1;\n", i);
	assert_int_equal(config_parse(text, "t", &model, &messages), -EINVAL);
	assert_int_equal(messages.count, 1);
	/* Two settings stand on line 1: the 1,025th is on line 1,024. */
	assert_string_equal(messages.lines[0], "t:1024: more than 1024 settings in one group");
	config_messages_fini(&messages);

	at = text + sprintf(text, "%sdataplane = { cores = [\n", TOP);
	for (int i = 0; i < (128 << 10); i++)
		at += sprintf(at, "1,\n");
	sprintf(at, "1 ]; };\n");
	assert_int_equal(config_parse(text, "t", &model, &messages), -EINVAL);
	assert_int_equal(messages.count, 1);
	assert_string_equal(messages.lines[0], "t:131074: more than 131072 items in one list");
	config_messages_fini(&messages);

	/* 1,500 errors: the first 1,000 are told, and how many more there are. */
	at = text + sprintf(text, "%svips = (\n", TOP);
	for (int i = 0; i < 1500; i++)
		at += sprintf(at, "%s%d\n", i ? "," : "", i);
	sprintf(at, ");\n");
	assert_int_equal(config_parse(text, "t", &model, &messages), -EINVAL);
	assert_int_equal(messages.count, 1001);
	assert_int_equal(messages.errors, 1001);
	assert_int_equal(messages.placed_errors, 1000); /* all but the last line, which tells of more */
	assert_string_equal(messages.lines[0], "t:3: vip number 1: must be a group { ... }, not a number");
	assert_string_equal(messages.lines[999], "t:1002: vip number 1000: must be a group { ... }, not a number");
	assert_string_equal(messages.lines[1000], "t: 500 more like these are not shown");
	config_messages_fini(&messages);

	/* A string of a mebibyte is quoted short. */
	length = (size_t)sprintf(text, "%snode = { name = \"", TOP);
	memset(text + length, 'x', bytes - length);
	strcpy(text + bytes - 8, "\"; };\n");
	assert_int_equal(config_parse(text, "t", &model, &messages), -EINVAL);
	assert_int_equal(messages.count, 1);
	assert_string_equal(
	    messages.lines[0],
	    "t:2: node, name: \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"... is longer "
	    "than 127 characters");
	config_messages_fini(&messages);
	assert_null(model);
	free(text);
}

static void test_no_configuration(void **state)
{
	(void)state;
	static const char nul[] = "hash_key_file = \"/nonexistent/hash.key\";\n# \0\n" INTERFACES;

	load("absent.conf", false, -ENOENT,
	     "%/absent.conf: cannot read the configuration: No such file or directory\n");
	assert_int_equal(mkdir(path_of("folder.conf"), 0700), 0);
	load("folder.conf", false, -EISDIR, "%/folder.conf: cannot read the configuration: Is a directory\n");
	assert_int_equal(mkfifo(path_of("fifo.conf"), 0600), 0);
	load("fifo.conf", false, -EINVAL, "%/fifo.conf: cannot read the configuration: not a regular file\n");
	file_write_bytes("nul.conf", nul, sizeof(nul) - 1, 0600);
	load("nul.conf", false, -EINVAL, "%/nul.conf:2: a NUL byte: this is no text file\n");
	file_write("large.conf", "");
	assert_int_equal(truncate(path_of("large.conf"), (256 << 20) + 1), 0);
	load("large.conf", false, -EFBIG, "%/large.conf: cannot read the configuration: too large\n");
	assert_int_equal(unlink(path_of("large.conf")), 0);
}

/* ---------------------------------------------------------------- includes ---- */

static char *with_folder(const char *text)
{
	static char out[8192];
	char *at = out;
	for (; *text; text++)
		at += *text == '%' ? sprintf(at, "%s", folder) : sprintf(at, "%c", *text);
	return out;
}

static void test_includes(void **state)
{
	(void)state;
	file_write("main.conf", with_folder("hash_key_file = \"/nonexistent/hash.key\";\n"
					    "  @include \"%/interfaces.conf\"   # the machine's own\n"
					    "services = (\n"
					    "@include \"%/web.conf\"\n"
					    ",\n"
					    "@include \"%/dns.conf\" // no newline at its end\n"
					    ");\n"
					    "vips = ( { address = \"192.0.2.10\"; },\n"
					    "{ address = \"192.0.2.11\"; } );\n"));
	file_write("interfaces.conf", "\n" INTERFACES);
	file_write("web.conf", "{ name = \"web\"; address = \"192.0.2.10\"; port = 80;\n" BACKENDS "}\n");
	file_write("dns.conf", "\n{ name = \"dns\"; address = \"192.0.2.11\"; port = 53;\n" BACKENDS "}");
	struct model *model = load("main.conf", false, 0, "");
	assert_int_equal(model->service_count, 2);
	assert_int_equal(model->interfaces[0].line, 2);
	assert_int_equal(model->services[0].line, 1);
	assert_int_equal(model->services[0].backends[0].line, 2);
	assert_int_equal(model->services[1].line, 2);
	assert_int_equal(model->services[1].backends[0].line, 3);
	assert_int_equal(model->vips[1].line, 9);
	model_put(model);

	/* Lines after an include, inside one, and from one to another. */
	file_write("dns.conf", "\n{ name = \"web\"; address = \"192.0.2.11\"; port = 53; prot = 1;\n" BACKENDS "}");
	file_write("main.conf", with_folder("hash_key_file = \"/nonexistent/hash.key\";\n"
					    "@include \"%/interfaces.conf\"\n"
					    "services = (\n"
					    "@include \"%/web.conf\"\n"
					    ",\n"
					    "@include \"%/dns.conf\"\n"
					    ");\n"
					    "vps = ();\n"));
	load("main.conf", false, -EINVAL,
	     "%/dns.conf:2: service \"web\": unknown setting \"prot\"; did you mean \"port\"?\n"
	     "%/dns.conf:2: service \"web\" has the name of another one (%/web.conf:1)\n"
	     "%/main.conf:8: unknown setting \"vps\"; did you mean \"vips\"?\n");

	file_write("web.conf", "{ name = \"web\"; address = }\n");
	load("main.conf", false, -EINVAL, "%/web.conf:1: syntax error" NEXT);
	file_write("web.conf", "{ name = \"web; }\n");
	load("main.conf", false, -EINVAL,
	     "%/web.conf:1: the string that starts here never ends: a closing \" is missing\n");

	/* Whatever is wrong with includes is told at once. */
	file_write("main.conf", with_folder("@include \"%/absent.conf\"\n"
					    "@include web.conf\n"
					    "@include \"web.conf\"\n"
					    "@include \"%/web.conf\" ;\n"
					    "@include \"\"\n"
					    "@include \"%/fifo.conf\"\n"
					    "/*\n@include \"%/absent.conf\"\n*/\n"));
	load("main.conf", false, -EINVAL,
	     "%/main.conf:1: cannot read the included file %/absent.conf: No such file or directory\n"
	     "%/main.conf:2: @include wants the name of a file in quotes\n"
	     "%/main.conf:3: @include wants an absolute path\n"
	     "%/main.conf:4: @include must stand alone on its line\n"
	     "%/main.conf:5: @include wants the name of a file in quotes\n"
	     "%/main.conf:6: cannot read the included file %/fifo.conf: not a regular file\n");

	file_write("main.conf", with_folder("\n@include \"%/main.conf\"\n"));
	load("main.conf", false, -EINVAL, "%/main.conf:2: @include nested too deeply: does a file include itself?\n");
}

/* ---------------------------------------------------------------- hash key ---- */

#define MADE                                                                                                           \
	"%/key.conf:2: warning: hash_key_file %/hash.key was made: every node of a group needs the same, copy it to "  \
	"them\n"

static struct model *load_key(bool make, int expected_error, const char *expected)
{
	file_write("key.conf", with_folder(INTERFACES "hash_key_file = \"%/hash.key\";\n"));
	return load("key.conf", make, expected_error, expected);
}

static void test_hash_key_is_made(void **state)
{
	(void)state;
	char made[64], fingerprint[17];
	struct stat status;
	struct model *model;

	/* Check and plan write nothing. */
	unlink(path_of("hash.key"));
	model = load_key(false, 0, "");
	assert_string_equal(model->hash_key_fingerprint, "");
	model_put(model);
	assert_int_equal(access(path_of("hash.key"), F_OK), -1);

	/* Nor does a file with errors. */
	file_write("bad.conf", with_folder(INTERFACES "hash_key_file = \"%/hash.key\";\nnod = {};\n"));
	load("bad.conf", true, -EINVAL, "%/bad.conf:3: unknown setting \"nod\"; did you mean \"node\"?\n");
	assert_int_equal(access(path_of("hash.key"), F_OK), -1);

	mode_t mask = umask(0); /* not even then */
	model = load_key(true, 0, MADE);
	umask(mask);
	strcpy(fingerprint, model->hash_key_fingerprint);
	assert_int_equal(strlen(fingerprint), 16);
	assert_int_equal(strspn(fingerprint, "0123456789abcdef"), 16);
	assert_int_equal(stat(path_of("hash.key"), &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(status.st_size, 33);
	int fd = open(path_of("hash.key"), O_RDONLY);
	assert_int_equal(read(fd, made, sizeof(made)), 33);
	close(fd);
	made[16] = 0;
	assert_null(strstr(made, fingerprint)); /* no part of the key is shown */

	/* The same again, by who may make it and who may not. */
	struct model *again = load_key(true, 0, "");
	assert_memory_equal(&again->hash_key, &model->hash_key, sizeof(model->hash_key));
	assert_string_equal(again->hash_key_fingerprint, fingerprint);
	model_put(again);
	model_put(model);

	/* Another one is another one. */
	unlink(path_of("hash.key"));
	model = load_key(true, 0, MADE);
	assert_string_not_equal(model->hash_key_fingerprint, fingerprint);
	model_put(model);

	file_write("key.conf", with_folder(INTERFACES "hash_key_file = \"%/absent/hash.key\";\n"));
	load("key.conf", true, -EINVAL,
	     "%/key.conf:2: cannot make hash_key_file %/absent/hash.key: No such file or directory\n");
}

static void test_hash_key_is_read(void **state)
{
	(void)state;
	static const char digits[] = "000102030405060708090A0b0c0d0e0f";
	static const struct {
		const char *sentence, *bytes;
		mode_t mode;
		const char *messages;
	} rows[] = {
	    {"32 digits and a newline", "000102030405060708090A0b0c0d0e0f\n", 0600, ""},
	    {"32 digits alone", digits, 0400, ""},
	    {"Another line end", "000102030405060708090A0b0c0d0e0f\r\n", 0600, ""},
	    {"31 digits", "000102030405060708090A0b0c0d0e0\n", 0600, "must hold 32 hex digits and nothing else\n"},
	    {"33 digits", "000102030405060708090A0b0c0d0e0f0\n", 0600, "must hold 32 hex digits and nothing else\n"},
	    {"No digit", "000102030405060708090A0b0c0d0e0g\n", 0600, "must hold 32 hex digits and nothing else\n"},
	    {"Nothing", "", 0600, "must hold 32 hex digits and nothing else\n"},
	    {"Two keys", "000102030405060708090A0b0c0d0e0f\n000102030405060708090A0b0c0d0e0f\n", 0600,
	     "must hold 32 hex digits and nothing else\n"},
	    {"Readable by the group", digits, 0640,
	     "is open to others (mode 0640): whoever knows the key can aim connections at one backend; chmod 600 it\n"},
	    {"Readable by all", digits, 0604,
	     "is open to others (mode 0604): whoever knows the key can aim connections at one backend; chmod 600 it\n"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char expected[512] = "";
		if (rows[i].messages[0])
			snprintf(expected, sizeof(expected), "%%/key.conf:2: hash_key_file %%/hash.key %s",
				 rows[i].messages);
		unlink(path_of("hash.key"));
		file_write_bytes("hash.key", rows[i].bytes, strlen(rows[i].bytes), rows[i].mode);
		/* A bad key is never replaced, and check sees it too. */
		for (int make = 0; make < 2; make++) {
			struct model *model = load_key(make, expected[0] ? -EINVAL : 0, expected);
			if (!model)
				continue;
			assert_int_equal(model->hash_key.k0, 0x0706050403020100);
			assert_int_equal(model->hash_key.k1, 0x0f0e0d0c0b0a0908);
			model_put(model);
		}
	}
	unlink(path_of("hash.key"));
	assert_int_equal(mkdir(path_of("hash.key"), 0700), 0);
	load_key(true, -EINVAL, "%/key.conf:2: hash_key_file %/hash.key is not a regular file\n");
	assert_int_equal(rmdir(path_of("hash.key")), 0);
}

static int folder_make(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int folder_remove(void **state)
{
	static const char *const names[] = {"main.conf", "interfaces.conf", "web.conf", "dns.conf", "nul.conf",
					    "fifo.conf", "key.conf",        "bad.conf", "hash.key", "large.conf"};
	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(path_of(names[i]));
	rmdir(path_of("folder.conf"));
	return rmdir(folder);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_syntax),           cmocka_unit_test(test_floods),
	    cmocka_unit_test(test_no_file_of_text),  cmocka_unit_test(test_no_configuration),
	    cmocka_unit_test(test_includes),         cmocka_unit_test(test_hash_key_is_made),
	    cmocka_unit_test(test_hash_key_is_read),
	};
	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
