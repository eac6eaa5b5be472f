/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a file to an acknowledged table, by the control plane's own code (apply), with a dataplane that
 * copies and checks everything as a real one does. Health, adjacency and steering are stand-ins that answer at once.
 *
 *   publish_bench [SERVICES [BACKENDS [TABLE_SIZE]]]        5000 x 10, M = 16381
 */
#include "apply.h"
#include "fake_dataplane.h"
#include "fake_modules.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

struct bench {
	uv_loop_t loop;
	struct apply *apply;
	char dir[64], config[96], socket[96];
	uint32_t services, backends, table_size;
	bool ended;
	int error;
};

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Of this process, the dataplane's thread included: what a machine with other work on it makes of the wall's time. */
static double cpu_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void on_tick(uv_timer_t *timer)
{
	(void)timer;
}

static void on_done(void *user, const struct apply_outcome *outcome)
{
	struct bench *b = user;
	b->ended = true;
	b->error = outcome->error;
	for (uint32_t i = 0; i < outcome->line_count && outcome->error; i++)
		fprintf(stderr, "%s\n", outcome->lines[i]);
}

/* `change` in an address's last byte makes another backend of the first one of each service. */
static int config_write(const struct bench *b, uint32_t change)
{
	FILE *out = fopen(b->config, "w");
	if (!out)
		return -1;
	fprintf(
	    out,
	    "node = { name = \"bench\"; };\nhash_key_file = \"%s/hash.key\";\ninterfaces = ( { name = \"eth0\"; } );\n"
	    "services = (\n",
	    b->dir);
	for (uint32_t i = 0; i < b->services; i++) {
		fprintf(out,
			"%s{ name = \"h%u\"; address = \"192.%u.%u.%u\"; port = 80; protocol = \"tcp\"; forward = "
			"\"ipip\"; "
			"table_size = %u; health = { type = \"tcp\"; }; backends = (",
			i ? ",\n" : "", i, i >> 16, i >> 8 & 255, i & 255, b->table_size);
		for (uint32_t k = 0; k < b->backends; k++) {
			uint32_t n = i * b->backends + k + 1 + (k == 0 ? change << 21 : 0);
			fprintf(out, "%s{ name = \"b%u\"; address = \"10.%u.%u.%u\"; }", k ? ", " : "", k,
				n >> 16 & 255, n >> 8 & 255, n & 255);
		}
		fprintf(out, "); }");
	}
	fprintf(out, " );\n");
	return fclose(out);
}

static void reload(struct bench *b, const char *what)
{
	const double start = now_ms(), start_cpu = cpu_ms();
	b->ended = false;
	apply_reload(b->apply, on_done, b);
	while (!b->ended)
		uv_run(&b->loop, UV_RUN_ONCE);
	printf("%-58s %9.1f ms (%.0f ms of CPU)\n", what, now_ms() - start, cpu_ms() - start_cpu);
}

static bool dataplane_is_current(struct bench *b)
{
	struct apply_dataplane_status status;
	return apply_dataplanes(b->apply, &status, 1) == 1 && status.generation == apply_generation(b->apply);
}

/* Nothing is left to do: health and adjacency have been asked again after the reload. */
static void settle(struct bench *b)
{
	for (uint64_t seen = 0; seen != apply_generation(b->apply) || !dataplane_is_current(b);) {
		double start = now_ms();
		seen = apply_generation(b->apply);
		while (now_ms() - start < 2000)
			uv_run(&b->loop, UV_RUN_ONCE);
	}
}

static void measure(struct bench *b)
{
	struct fake_dataplane *d;
	double start, ms;
	struct apply_backend_status status;

	printf("%u services x %u backends, M = %u\n", b->services, b->backends, b->table_size);
	reload(b, "start, no dataplane");
	start = now_ms();
	d = fake_dataplane_start(&(struct fake_dataplane_options){.socket = b->socket});
	while (!dataplane_is_current(b))
		uv_run(&b->loop, UV_RUN_ONCE);
	printf("%-58s %9.1f ms\n", "a dataplane connects and has the table", now_ms() - start);
	settle(b);
	reload(b, "the same file again: check, publish");
	settle(b);
	for (uint32_t change = 1; change <= 3 && !b->error; change++) {
		if (config_write(b, change))
			return;
		reload(b, "every service changed: check, compile, publish, acknowledge");
		settle(b);
	}
	const struct model_service *s = &apply_model(b->apply)->services[b->services / 2];
	apply_backend_status(b->apply, s, &s->backends[1], &status);
	uint64_t generation = apply_generation(b->apply);
	start = now_ms();
	fake_health_set(s->name, s->backends[1].name, HEALTH_DOWN);
	ms = now_ms() - start;
	printf("%-58s %9.3f ms (state %u)\n", "a backend dies: its byte", ms, fake_dataplane_state(d, status.number));
	while (apply_generation(b->apply) == generation || !dataplane_is_current(b))
		uv_run(&b->loop, UV_RUN_ONCE);
	printf("%-58s %9.1f ms\n", "the table follows, acknowledged", now_ms() - start);
	fake_dataplane_stop(d);
	if (fake_dataplane_fault(d)[0])
		printf("the dataplane complains: %s\n", fake_dataplane_fault(d));
	fake_dataplane_free(d);
}

int main(int argc, char **argv)
{
	struct bench b = {.services = argc > 1 ? (uint32_t)atoi(argv[1]) : 5000,
			  .backends = argc > 2 ? (uint32_t)atoi(argv[2]) : 10,
			  .table_size = argc > 3 ? (uint32_t)atoi(argv[3]) : 16381};
	static const char *const files[] = {"sluice.conf",    "hash.key",        "table.last",   "table.next",
					    "config.current", "config.previous", "operator.json"};
	uv_timer_t tick;

	if (getenv("DEBUG_INVOCATION")) /* how long each step took */
		log_set_level(LOG_LEVEL_DEBUG);
	fake_modules_reset();
	fake_health_default(HEALTH_UP);
	snprintf(b.dir, sizeof(b.dir), "/tmp/sluice-bench-XXXXXX");
	if (!mkdtemp(b.dir))
		return 1;
	snprintf(b.config, sizeof(b.config), "%s/sluice.conf", b.dir);
	snprintf(b.socket, sizeof(b.socket), "%s/control.sock", b.dir);
	uv_loop_init(&b.loop);
	uv_timer_init(&b.loop, &tick);
	uv_timer_start(&tick, on_tick, 5, 5);
	const struct apply_options options = {
	    .loop = &b.loop, .config_file = b.config, .runtime_dir = b.dir, .state_dir = b.dir};
	int error = config_write(&b, 0) || apply_create(&options, &b.apply);
	if (!error)
		measure(&b);
	apply_destroy(b.apply);
	uv_close((uv_handle_t *)&tick, NULL);
	uv_run(&b.loop, UV_RUN_DEFAULT);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char path[128];
		snprintf(path, sizeof(path), "%s/%s", b.dir, files[i]);
		unlink(path);
	}
	rmdir(b.dir);
	return error || b.error;
}
