/* SPDX-License-Identifier: Apache-2.0 */
/* VIPs on interfaces of a network namespace of this process alone. Needs root. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "log.h"
#include "vips.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SKIPPED 77 /* meson's */
enum { PATIENCE_MS = 10000 };

struct fixture {
	uv_loop_t loop;
	char dir[64];
	struct vips *vips;
};

/* True when the command ends with 0. */
__attribute__((format(printf, 1, 2))) static bool says(const char *format, ...)
{
	char command[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(command, sizeof(command), format, arguments);
	va_end(arguments);
	return system(command) == 0;
}

static bool has(const char *interface, const char *address)
{
	return says("ip addr show dev %s 2>/dev/null | grep -qF ' %s '", interface, address);
}

/* ADDRESS@INTERFACE, ..., NULL. */
static struct model *model_of(const char *const *vips)
{
	struct model *model = calloc(1, sizeof(*model));

	assert_non_null(model);
	model->references = 1;
	while (vips[model->vip_count])
		model->vip_count++;
	model->vips = calloc(model->vip_count + 1, sizeof(*model->vips));
	for (uint32_t i = 0; i < model->vip_count; i++) {
		char address[64];
		struct in_addr in;
		snprintf(address, sizeof(address), "%s", vips[i]);
		char *at = strchr(address, '@');
		*at = '\0';
		model->vips[i].interface = strdup(at + 1);
		if (inet_pton(AF_INET, address, &in) == 1)
			model->vips[i].address = sluice_address_v4(in.s_addr);
		else
			assert_int_equal(inet_pton(AF_INET6, address, model->vips[i].address.bytes), 1);
	}
	return model;
}

#define CONFIGURE(f, ...) configure(f, (const char *const[]){__VA_ARGS__, NULL})
#define CONFIGURE_NONE(f) configure(f, (const char *const[]){NULL})

/* ... and wait until all has been tried: work on the pool counts as an active request. */
static void configure(struct fixture *f, const char *const *vips)
{
	struct model *model = model_of(vips);
	assert_int_equal(vips_configure(f->vips, model), 0);
	model_put(model);
	while (f->loop.active_reqs.count)
		uv_run(&f->loop, UV_RUN_ONCE);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	log_set_level((enum log_level)0);
	strcpy(f->dir, "/tmp/sluice-vips-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_true(says("ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up"));
	assert_int_equal(uv_loop_init(&f->loop), 0);
	assert_int_equal(vips_create(&f->loop, f->dir, &f->vips), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int error;

	vips_destroy(f->vips);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	error = uv_loop_close(&f->loop);
	assert_true(
	    says("ip link del v0 2>/dev/null; ip link del late0 2>/dev/null; ip addr flush dev lo; rm -r %s", f->dir));
	free(f);
	return error;
}

/* Another control plane in the same state directory. */
static void restart(struct fixture *f)
{
	vips_destroy(f->vips);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(vips_create(&f->loop, f->dir, &f->vips), 0);
}

static void on_patience(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

static void on_tick(uv_timer_t *timer)
{
	(void)timer;
}

#define RUN_UNTIL(f, condition)                                                                                        \
	do {                                                                                                           \
		uv_timer_t patience_, tick_;                                                                           \
		bool over_ = false;                                                                                    \
		uv_timer_init(&(f)->loop, &patience_);                                                                 \
		uv_timer_init(&(f)->loop, &tick_);                                                                     \
		patience_.data = &over_;                                                                               \
		uv_timer_start(&patience_, on_patience, PATIENCE_MS, 0);                                               \
		uv_timer_start(&tick_, on_tick, 50, 50);                                                               \
		while (!(condition) && !over_)                                                                         \
			uv_run(&(f)->loop, UV_RUN_ONCE);                                                               \
		uv_close((uv_handle_t *)&patience_, NULL);                                                             \
		uv_close((uv_handle_t *)&tick_, NULL);                                                                 \
		uv_run(&(f)->loop, UV_RUN_NOWAIT);                                                                     \
		if (over_)                                                                                             \
			fail_msg("never came: %s", #condition);                                                        \
	} while (0)

static void test_comes_and_goes(void **state)
{
	struct fixture *f = *state;

	CONFIGURE(f, "192.0.2.10@lo", "192.0.2.11@v0", "2001:db8::10@v0");
	assert_true(has("lo", "192.0.2.10/32"));
	assert_true(has("v0", "192.0.2.11/32"));
	assert_true(has("v0", "2001:db8::10/128"));
	assert_true(says("ip addr show dev v0 | grep 2001:db8::10 | grep -q nodad"));
	CONFIGURE(f, "192.0.2.10@v0", "2001:db8::10@v0");
	assert_false(has("lo", "192.0.2.10/32")); /* moved */
	assert_true(has("v0", "192.0.2.10/32"));
	assert_false(has("v0", "192.0.2.11/32"));
	assert_true(has("v0", "2001:db8::10/128"));
	CONFIGURE_NONE(f);
	assert_false(says("ip addr | grep -qE '192.0.2.1|2001:db8::10'"));
}

/* Changes in a row: the last one is what stands. One that ends in the middle does so in peace. */
static void test_in_a_row(void **state)
{
	struct fixture *f = *state;
	char vip[32];

	for (int i = 1; i <= 20; i++) {
		snprintf(vip, sizeof(vip), "192.0.2.%d@lo", i);
		struct model *model = model_of((const char *const[]){vip, NULL});
		assert_int_equal(vips_configure(f->vips, model), 0);
		model_put(model);
		if (i % 3 == 0)
			uv_run(&f->loop, UV_RUN_NOWAIT);
	}
	while (f->loop.active_reqs.count)
		uv_run(&f->loop, UV_RUN_ONCE);
	assert_true(has("lo", "192.0.2.20/32"));
	assert_true(says("test $(ip addr show dev lo | grep -c 192.0.2.) = 1"));
	struct model *model = model_of((const char *const[]){"192.0.2.30@lo", NULL});
	assert_int_equal(vips_configure(f->vips, model), 0);
	model_put(model);
	restart(f); /* while it is under way: it ends first */
	assert_true(has("lo", "192.0.2.30/32"));
	CONFIGURE_NONE(f);
	assert_false(says("ip addr | grep -q 192.0.2."));
}

/* On exit all stay; what was added is known after a restart, and goes when it leaves the configuration. */
static void test_restart(void **state)
{
	struct fixture *f = *state;

	CONFIGURE(f, "192.0.2.10@lo", "192.0.2.11@lo");
	restart(f);
	assert_true(has("lo", "192.0.2.10/32") && has("lo", "192.0.2.11/32"));
	CONFIGURE(f, "192.0.2.11@lo");
	assert_false(has("lo", "192.0.2.10/32"));
	assert_true(has("lo", "192.0.2.11/32"));
	restart(f);
	CONFIGURE_NONE(f);
	assert_false(has("lo", "192.0.2.11/32"));
}

/* What others put there is theirs, with whatever prefix length. */
static void test_not_ours(void **state)
{
	struct fixture *f = *state;

	assert_true(says("ip addr add 192.0.2.10/24 dev v0 && ip addr add 192.0.2.12/32 dev lo"));
	CONFIGURE(f, "192.0.2.10@v0");
	assert_false(has("v0", "192.0.2.10/32"));
	CONFIGURE_NONE(f);
	assert_true(has("v0", "192.0.2.10/24"));
	assert_true(has("lo", "192.0.2.12/32"));
}

static void test_taken_away(void **state)
{
	struct fixture *f = *state;

	CONFIGURE(f, "192.0.2.10@lo", "2001:db8::10@v0");
	assert_true(says("ip addr del 192.0.2.10/32 dev lo"));
	RUN_UNTIL(f, has("lo", "192.0.2.10/32"));
	/* The kernel drops IPv6 addresses of a link that goes down. */
	assert_true(says("ip link set v0 down && ip link set v0 up"));
	RUN_UNTIL(f, has("v0", "2001:db8::10/128"));
}

static int state_of(const struct fixture *f, const char *address, const char *interface)
{
	struct in_addr in;
	assert_int_equal(inet_pton(AF_INET, address, &in), 1);
	const union sluice_address wanted = sluice_address_v4(in.s_addr);
	return vips_state(f->vips, &wanted, interface);
}

/* Who asks is told of each whether it is there. */
static void test_state(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(state_of(f, "192.0.2.10", "v0"), -EAGAIN);
	CONFIGURE(f, "192.0.2.10@v0", "192.0.2.11@late0");
	assert_int_equal(state_of(f, "192.0.2.10", "v0"), 0);
	assert_int_equal(state_of(f, "192.0.2.10", "lo"), -EAGAIN);
	assert_int_equal(state_of(f, "192.0.2.11", "late0"), -ENODEV);
	assert_int_equal(state_of(f, "192.0.2.12", "v0"), -EAGAIN);
	CONFIGURE(f, "192.0.2.12@v0");
	assert_int_equal(state_of(f, "192.0.2.12", "v0"), 0);
	assert_int_equal(state_of(f, "192.0.2.10", "v0"), -EAGAIN);
}

static void test_late_interface(void **state)
{
	struct fixture *f = *state;

	CONFIGURE(f, "192.0.2.10@late0", "192.0.2.11@lo");
	assert_true(has("lo", "192.0.2.11/32")); /* one does not stop the others */
	assert_true(says("ip link add late0 type veth peer name late1"));
	RUN_UNTIL(f, has("late0", "192.0.2.10/32"));
	assert_true(says("ip link del late0 && ip link add late0 type veth peer name late1"));
	RUN_UNTIL(f, has("late0", "192.0.2.10/32"));
}

/* A file that lies or is torn costs the memory of what was ours, nothing else. */
static void test_corrupt(void **state)
{
	static const char *const rows[] = {"",
					   "{",
					   "[]",
					   "{\"version\": 1}",
					   "{\"version\": 1, \"added\": []}",
					   "{\"version\": 1, \"added\": {\"lo\": 3}}",
					   "{\"version\": 9, \"added\": {}}"};
	struct fixture *f = *state;
	char path[128];

	CONFIGURE(f, "192.0.2.10@lo");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(path, sizeof(path), "%s/vips.json", f->dir);
		FILE *out = fopen(path, "w");
		fputs(rows[i], out);
		fclose(out);
		restart(f);
		CONFIGURE_NONE(f);
		assert_true(has("lo", "192.0.2.10/32"));
		snprintf(path, sizeof(path), "%s/vips.json.corrupt-1", f->dir);
		assert_int_equal(unlink(path), 0);
	}
}

/* Without a place to remember it, no address is added that nobody would remove. */
static void test_cannot_remember(void **state)
{
	struct fixture *f = *state;
	char path[128];

	snprintf(path, sizeof(path), "%s/vips.json.tmp", f->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	CONFIGURE(f, "192.0.2.10@lo");
	assert_false(has("lo", "192.0.2.10/32"));
	assert_int_equal(rmdir(path), 0);
	CONFIGURE(f, "192.0.2.10@lo");
	assert_true(has("lo", "192.0.2.10/32"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_comes_and_goes, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_in_a_row, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_not_ours, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_taken_away, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_late_interface, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_state, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_corrupt, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cannot_remember, setup, teardown),
	};
	if (unshare(CLONE_NEWNET)) {
		fputs("skipped: needs root for a network namespace of its own\n", stderr);
		return SKIPPED;
	}
	alarm(60); /* the end of a test that hangs */
	if (!says("ip link set lo up"))
		return EXIT_FAILURE;
	return cmocka_run_group_tests_name("vips", tests, NULL, NULL);
}
