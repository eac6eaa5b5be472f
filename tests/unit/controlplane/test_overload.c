/* SPDX-License-Identifier: Apache-2.0 */
/* What is refused, looked at from both ends: counters that a dataplane would have written, shares that it would read.
 */
#include "overload.h"
#include "model_spec.h"
#include "windows.h"

#include "sluice/control.h"
#include "sluice/counters.h"
#include "sluice/refuse.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#define MS UINT64_C(1000000)

static const char *const spec = "web 192.0.2.10 80 tcp 251 10.0.0.1; dns 192.0.2.10 53 udp 251 10.0.0.1; "
				"shop 192.0.2.11 80 tcp 251 10.0.0.2";
enum { WEB, DNS, SHOP, SERVICES = 8 };

/* A dataplane of one worker, as its counters say. */
struct dataplane {
	int fd;
	struct sluice_counters_header *header;
	struct sluice_worker_counters *worker;
	struct sluice_service_counters *services;
	size_t bytes;
};

struct site {
	uv_loop_t loop;
	char dir[64];
	struct exceptions_memory *memory;
	struct overload *overload;
	struct model *model;
	struct built_table *table;
	struct dataplane planes[2];
	uint32_t planes_used;
	uint64_t now_ns;
};

static void dataplane_open(struct dataplane *d)
{
	const uint64_t worker_bytes = sizeof(*d->worker) + SERVICES * sizeof(*d->services);
	d->bytes = 128 + worker_bytes;
	d->fd = memfd_create("counters", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(d->fd, (off_t)d->bytes), 0);
	assert_int_equal(fcntl(d->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	d->header = mmap(NULL, d->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, d->fd, 0);
	assert_ptr_not_equal(d->header, MAP_FAILED);
	*d->header = (struct sluice_counters_header){.magic = SLUICE_COUNTERS_MAGIC,
						     .abi = SLUICE_ABI,
						     .workers = 1,
						     .service_capacity = SERVICES,
						     .tsc_hz = 1000,
						     .worker_offset = 128,
						     .worker_bytes = worker_bytes,
						     .service_offset = sizeof(*d->worker),
						     .backend_offset = worker_bytes,
						     .total_bytes = d->bytes,
						     .pid = (uint64_t)getpid(),
						     .verdicts = SLUICE_VERDICTS};
	d->worker = (void *)((uint8_t *)d->header + 128);
	d->services = (void *)(d->worker + 1);
}

static uint32_t sources(void *user, bool with_kernel, int *fds, uint32_t max)
{
	const struct site *site = user;
	(void)with_kernel;
	assert_true(max >= 2);
	for (uint32_t i = 0; i < site->planes_used; i++)
		fds[i] = site->planes[i].fd;
	return site->planes_used;
}

static bool is_in_kernel(void *user)
{
	(void)user;
	return false;
}

/* The configuration is changed, and comes into force. */
static void follow(struct site *site, const char *text, void (*change)(struct model *model))
{
	struct model *model = model_of(text);

	model->dataplane.shed_above = 75;
	if (change)
		change(model);
	site->table = spec_table(model, site->table);
	assert_int_equal(overload_follow(site->overload, model, site->table, site->memory), 0);
	model_put(site->model);
	site->model = model;
}

static int setup(void **state)
{
	struct site *site = calloc(1, sizeof(*site));

	uv_loop_init(&site->loop);
	snprintf(site->dir, sizeof(site->dir), "/tmp/sluice-overload-XXXXXX");
	assert_non_null(mkdtemp(site->dir));
	assert_int_equal(exceptions_memory_create(&site->loop, site->dir, 10, -1, &site->memory), 0);
	for (int i = 0; i < 2; i++)
		dataplane_open(&site->planes[i]);
	site->planes_used = 1;
	site->now_ns = 5000 * MS;
	const struct overload_options options = {
	    .loop = &site->loop, .sources = sources, .is_in_kernel = is_in_kernel, .user = site};
	assert_int_equal(overload_create(&options, &site->overload), 0);
	*state = site;
	return 0;
}

static int teardown(void **state)
{
	struct site *site = *state;
	char path[128];

	overload_destroy(site->overload);
	exceptions_memory_destroy(site->memory);
	uv_run(&site->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&site->loop), 0);
	built_table_put(site->table);
	model_put(site->model);
	for (int i = 0; i < 2; i++) {
		munmap(site->planes[i].header, site->planes[i].bytes);
		close(site->planes[i].fd);
	}
	snprintf(path, sizeof(path), "%s/" SLUICE_EXCEPTIONS_FILE, site->dir);
	unlink(path);
	assert_int_equal(rmdir(site->dir), 0);
	free(site);
	return 0;
}

/* What the paths find. */
static uint32_t share(const struct site *site, uint32_t number)
{
	return exceptions_memory_refused(site->memory, number);
}

static bool in_force(const struct site *site)
{
	return sluice_refuse_now(exceptions_memory_header(site->memory), windows_now_s());
}

/* A quarter of a second with so many first packets of a service; the dataplane refuses its share of them. */
static void pass(struct site *site, uint32_t number, uint32_t flows)
{
	const uint32_t refused = (uint32_t)((uint64_t)flows * share(site, number) / SLUICE_REFUSE_ALL);
	struct dataplane *d = &site->planes[0];

	d->services[number].new_flows += flows;
	d->services[number].drops += refused;
	/* Few in silence, most by a reset: either is refused. */
	d->worker->verdicts[SLUICE_DROP_REFUSED] += refused / 8;
	d->worker->verdicts[SLUICE_ANSWERED_RESET] += refused - refused / 8;
	site->now_ns += 250 * MS;
	overload_look(site->overload, site->now_ns);
}

/* The worker is busy for so much of its time, for so many seconds. */
static void work(struct site *site, uint64_t percent, uint32_t seconds)
{
	for (uint32_t i = 0; i < 4 * seconds; i++) {
		site->planes[0].worker->busy_tsc += percent;
		site->planes[0].worker->idle_tsc += 100 - percent;
		pass(site, WEB, 0);
	}
}

static void limit_web(struct model *model)
{
	model->services[WEB].max_new_flows_pps = 100;
}

static void priorities(struct model *model)
{
	model->services[WEB].priority = MODEL_PRIORITY_LOW;
	model->services[DNS].priority = MODEL_PRIORITY_LOW;
	model->services[SHOP].priority = MODEL_PRIORITY_HIGH;
}

static void test_limit(void **state)
{
	struct site *site = *state;
	struct overload_service_status status;

	follow(site, spec, limit_web);
	for (int i = 0; i < 8; i++)
		pass(site, WEB, 20);
	assert_int_equal(share(site, WEB), 0);
	assert_false(in_force(site));
	/* For as long as it lasts: who is refused has not been let in. */
	for (int i = 0; i < 200; i++)
		pass(site, WEB, 250);
	assert_in_range(share(site, WEB), SLUICE_REFUSE_ALL * 0.85, SLUICE_REFUSE_ALL * 0.95);
	assert_true(in_force(site));
	assert_int_equal(share(site, SHOP), 0);
	overload_service(site->overload, WEB, &status);
	assert_string_equal(status.cause, "limit");
	assert_non_null(strstr(status.reason, "1000 a second, max_new_flows = 100pps"));
	overload_service(site->overload, SHOP, &status);
	assert_string_equal(status.reason, "");
	for (int i = 0; i < 4; i++)
		pass(site, WEB, 20);
	assert_int_equal(share(site, WEB), 0);
	assert_false(in_force(site));
}

static void test_lease(void **state)
{
	struct site *site = *state;
	const struct sluice_exceptions_header *header = exceptions_memory_header(site->memory);

	follow(site, spec, limit_web);
	pass(site, WEB, 0);
	pass(site, WEB, 2500);
	/* Looked at once more and never again: it ends by itself. */
	assert_true(sluice_refuse_now(header, windows_now_s()));
	assert_false(sluice_refuse_now(header, windows_now_s() + 4));
}

/* A reload that changes the limit; one that takes it away. */
static void raise_limit(struct model *model)
{
	model->services[WEB].max_new_flows_pps = 100000;
}

static void test_reload(void **state)
{
	struct site *site = *state;

	follow(site, spec, limit_web);
	for (int i = 0; i < 20; i++)
		pass(site, WEB, 250);
	const uint32_t before = share(site, WEB);
	follow(site, spec, limit_web);
	assert_int_equal(share(site, WEB), before);
	follow(site, spec, raise_limit);
	pass(site, WEB, 250);
	assert_int_equal(share(site, WEB), 0);
	follow(site, spec, limit_web);
	pass(site, WEB, 250);
	assert_true(share(site, WEB) > 0);
	follow(site, spec, NULL);
	pass(site, WEB, 250);
	assert_int_equal(share(site, WEB), 0);
	assert_false(in_force(site));
}

/* What a number's former service had is not the new one's. */
static void test_number_passes_on(void **state)
{
	struct site *site = *state;

	follow(site, spec, limit_web);
	for (int i = 0; i < 20; i++)
		pass(site, WEB, 250);
	assert_true(share(site, WEB) > 0);
	follow(site, "other 192.0.2.12 80 tcp 251 10.0.0.1; shop 192.0.2.11 80 tcp 251 10.0.0.2", NULL);
	for (uint32_t n = 0; n < SERVICES; n++)
		assert_int_equal(share(site, n), 0);
}

/* What a process before this one has left, refuses nobody. */
static void test_start(void **state)
{
	struct site *site = *state;

	exceptions_memory_refuse(site->memory, WEB, SLUICE_REFUSE_ALL);
	exceptions_memory_refuse(site->memory, SLUICE_SERVICES_MAX - 1, 7);
	exceptions_memory_refuse_until(site->memory, windows_now_s() + 100);
	follow(site, spec, NULL);
	assert_int_equal(share(site, WEB), 0);
	assert_int_equal(share(site, SLUICE_SERVICES_MAX - 1), 0);
	assert_false(in_force(site));
}

/* A dataplane that connects brings what it has counted: that is nobody's rate. */
static void test_dataplane_comes(void **state)
{
	struct site *site = *state;

	follow(site, spec, limit_web);
	site->planes[0].services[WEB].new_flows = 1000000;
	for (int i = 0; i < 4; i++) {
		pass(site, WEB, 10);
		assert_int_equal(share(site, WEB), 0);
	}
	site->planes[1].services[WEB].new_flows = 9000000;
	site->planes_used = 2;
	for (int i = 0; i < 4; i++) {
		pass(site, WEB, 10);
		assert_int_equal(share(site, WEB), 0);
	}
}

static void test_capacity(void **state)
{
	struct site *site = *state;
	struct overload_service_status service;
	struct overload_status status;

	follow(site, spec, priorities);
	work(site, 70, 10);
	assert_int_equal(share(site, WEB), 0);
	assert_false(in_force(site));
	work(site, 90, 30);
	overload_status(site->overload, &status);
	assert_true(status.can_refuse && status.sheds);
	assert_float_equal(status.loads[OVERLOAD_WORKER], 0.9, 1e-9);
	assert_true(status.loads[OVERLOAD_SOFTIRQ] < 0);
	assert_int_equal(share(site, WEB), SLUICE_REFUSE_ALL);
	assert_int_equal(share(site, SHOP), 0);
	/* Nothing says which datagram of UDP begins a flow: nobody is told that any is refused. */
	assert_int_equal(share(site, DNS), 0);
	overload_service(site->overload, WEB, &service);
	assert_string_equal(service.cause, "worker");
	assert_string_equal(service.reason,
			    "100.0% of new flows refused: worker at 90%, shed_above = 75, priority = \"low\"");
	work(site, 10, 60);
	assert_int_equal(share(site, WEB), 0);
	assert_false(in_force(site));
}

static void never(struct model *model)
{
	priorities(model);
	model->dataplane.shed_above = 100;
}

static void quic(struct model *model)
{
	priorities(model);
	model->services[DNS].quic = true;
}

static void test_capacity_by_setting(void **state)
{
	struct site *site = *state;

	follow(site, spec, never);
	work(site, 100, 10);
	assert_int_equal(share(site, WEB), 0);
	follow(site, spec, quic);
	work(site, 100, 10);
	assert_int_equal(share(site, DNS), SLUICE_REFUSE_ALL);
	assert_in_range(share(site, SHOP), 1, SLUICE_REFUSE_ALL / 2 + 1);
	follow(site, spec, never);
	work(site, 100, 1);
	assert_int_equal(share(site, WEB), 0);
	assert_false(in_force(site));
}

static void test_nothing(void **state)
{
	struct overload_service_status service;
	struct overload_status status;
	(void)state;
	overload_status(NULL, &status);
	assert_false(status.can_refuse);
	overload_service(NULL, 3, &service);
	assert_string_equal(service.cause, "");
}

int main(void)
{
#define SITE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
	    SITE_TEST(test_limit),          SITE_TEST(test_lease),
	    SITE_TEST(test_reload),         SITE_TEST(test_number_passes_on),
	    SITE_TEST(test_start),          SITE_TEST(test_dataplane_comes),
	    SITE_TEST(test_capacity),       SITE_TEST(test_capacity_by_setting),
	    cmocka_unit_test(test_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
