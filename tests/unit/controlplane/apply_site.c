/* SPDX-License-Identifier: Apache-2.0 */
#include "apply_site.h"

#include "model_spec.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <jansson.h>
#include <cmocka.h>

enum { SITE_WAIT_MS = 8000 };

int apply_site_setup(void **state)
{
	struct apply_site *site = calloc(1, sizeof(*site));

	fake_modules_reset();
	model_spec_more = NULL;
	assert_int_equal(uv_loop_init(&site->loop), 0);
	snprintf(site->dir, sizeof(site->dir), "/tmp/sluice-apply-XXXXXX");
	assert_non_null(mkdtemp(site->dir));
	snprintf(site->config, sizeof(site->config), "%s/sluice.conf", site->dir);
	snprintf(site->other, sizeof(site->other), "%s/other.conf", site->dir);
	snprintf(site->socket, sizeof(site->socket), "%s/control.sock", site->dir);
	*state = site;
	return 0;
}

static void directory_remove(const char *path)
{
	DIR *dir = opendir(path);
	char file[512];

	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		if (entry->d_name[0] != '.')
			unlink(file);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}

int apply_site_teardown(void **state)
{
	struct apply_site *site = *state;
	apply_site_close(site);
	assert_int_equal(uv_loop_close(&site->loop), 0);
	json_decref(site->plan);
	directory_remove(site->dir);
	free(site);
	return 0;
}

void apply_site_write_text(const char *file, const char *text)
{
	FILE *out = fopen(file, "w");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

void apply_site_write(struct apply_site *site, const char *file, const char *spec)
{
	char *config = config_of(spec), *text;

	assert_true(asprintf(&text, "hash_key_file = \"%s/hash.key\";\n%s", site->dir, config) > 0);
	apply_site_write_text(file, text);
	free(text);
	free(config);
}

static void on_running(void *user, struct model *model)
{
	struct apply_site *site = user;
	site->runs++;
	assert_ptr_equal(model, apply_model(site->apply));
}

void apply_site_open(struct apply_site *site)
{
	assert_int_equal(apply_create(&(struct apply_options){.loop = &site->loop,
							      .config_file = site->config,
							      .runtime_dir = site->dir,
							      .state_dir = site->dir,
							      .running = on_running,
							      .user = site,
							      .hello_wait_ms = site->hello_wait_ms,
							      .close_every_ms = 30,
							      .exceptions_retry_ms = site->exceptions_retry_ms},
				      &site->apply),
			 0);
}

void apply_site_close(struct apply_site *site)
{
	apply_destroy(site->apply);
	site->apply = NULL;
	uv_run(&site->loop, UV_RUN_DEFAULT);
}

void apply_site_start(struct apply_site *site, const char *spec)
{
	apply_site_write(site, site->config, spec);
	site->hello_wait_ms = 1; /* nobody runs yet */
	apply_site_open(site);
	site->hello_wait_ms = 0;
	assert_int_equal(apply_site_reload(site), 0);
}

void apply_site_done(void *user, const struct apply_outcome *outcome)
{
	struct apply_site *site = user;

	site->ended++;
	site->error = outcome->error;
	site->generation = outcome->generation;
	site->lines[0] = 0;
	for (uint32_t i = 0; i < outcome->line_count; i++)
		snprintf(site->lines + strlen(site->lines), sizeof(site->lines) - strlen(site->lines), "%s\n",
			 outcome->lines[i]);
}

void apply_site_planned(void *user, const struct apply_outcome *outcome, struct json_t *plan)
{
	struct apply_site *site = user;
	json_decref(site->plan);
	site->plan = plan;
	apply_site_done(user, outcome);
}

static void on_limit(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

void apply_site_until(struct apply_site *site, bool (*reached)(struct apply_site *site))
{
	bool late = false;
	uv_timer_t limit, tick;

	uv_timer_init(&site->loop, &limit);
	uv_timer_init(&site->loop, &tick);
	limit.data = &late;
	tick.data = &(bool){false};
	uv_timer_start(&limit, on_limit, SITE_WAIT_MS, 0);
	uv_timer_start(&tick, on_limit, 1, 1); /* the dataplane is a thread: look again */
	while (!reached(site) && !late)
		uv_run(&site->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&limit, NULL);
	uv_close((uv_handle_t *)&tick, NULL);
	uv_run(&site->loop, UV_RUN_NOWAIT);
	assert_false(late);
}

static uint32_t ended_before_wait;

static bool one_more_ended(struct apply_site *site)
{
	return site->ended > ended_before_wait;
}

int apply_site_wait(struct apply_site *site, uint32_t ended_before)
{
	ended_before_wait = ended_before;
	apply_site_until(site, one_more_ended);
	assert_int_equal(site->ended, ended_before + 1);
	return site->error;
}

int apply_site_reload(struct apply_site *site)
{
	uint32_t before = site->ended;
	apply_reload(site->apply, apply_site_done, site);
	return apply_site_wait(site, before);
}

int apply_site_order(struct apply_site *site, const char *service, const char *backend, struct operator_order order)
{
	uint32_t before = site->ended;
	int error = apply_order(site->apply, service, backend, &order, apply_site_done, site);
	return error ? error : apply_site_wait(site, before);
}

void apply_site_turn(struct apply_site *site, uint32_t milliseconds)
{
	bool over = false;
	uv_timer_t limit;

	uv_timer_init(&site->loop, &limit);
	limit.data = &over;
	uv_timer_start(&limit, on_limit, milliseconds, 0);
	while (!over)
		uv_run(&site->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&limit, NULL);
	uv_run(&site->loop, UV_RUN_NOWAIT);
}

struct apply_backend_status apply_site_backend(struct apply_site *site, const char *service, const char *backend)
{
	struct apply_backend_status status;
	const struct model_service *s = model_service_find(apply_model(site->apply), service);
	assert_non_null(s);
	const struct model_backend *b = model_backend_find(s, backend);
	assert_non_null(b);
	assert_int_equal(apply_backend_status(site->apply, s, b, &status), 0);
	return status;
}

static struct fake_dataplane *synced;

static bool is_synced(struct apply_site *site)
{
	struct apply_dataplane_status status[8];
	uint32_t count = apply_dataplanes(site->apply, status, 8);
	for (uint32_t i = 0; i < count; i++)
		if (status[i].generation != apply_generation(site->apply))
			return false;
	return count > 0 && fake_dataplane_generation(synced) == apply_generation(site->apply);
}

void apply_site_synced(struct apply_site *site, struct fake_dataplane *dataplane)
{
	synced = dataplane;
	apply_site_until(site, is_synced);
}

struct fake_dataplane *apply_site_dataplane(struct apply_site *site, const struct fake_dataplane_options *more)
{
	struct fake_dataplane_options options = more ? *more : (struct fake_dataplane_options){0};
	options.socket = site->socket;
	struct fake_dataplane *dataplane = fake_dataplane_start(&options);
	apply_site_synced(site, dataplane);
	return dataplane;
}

void apply_site_finish(struct fake_dataplane *d)
{
	fake_dataplane_stop(d);
	assert_string_equal(fake_dataplane_fault(d), "");
	fake_dataplane_free(d);
}

char *apply_site_file(struct apply_site *site, const char *name)
{
	static char text[8192];
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", site->dir, name);
	FILE *file = fopen(path, "r");
	size_t n = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
	text[n] = 0;
	if (file)
		fclose(file);
	return text;
}

bool apply_site_has_file(struct apply_site *site, const char *name)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", site->dir, name);
	return access(path, F_OK) == 0;
}

uint32_t apply_site_number(struct apply_site *site, const char *service, const char *backend)
{
	return apply_site_backend(site, service, backend).number;
}

bool apply_site_b1_has_all(struct apply_site *site)
{
	return apply_site_backend(site, "hot", "b1").share == 1;
}

bool apply_site_b1_has_half(struct apply_site *site)
{
	double share = apply_site_backend(site, "hot", "b1").share;
	return share > .4 && share < .6;
}

struct fake_dataplane *apply_site_start_probed(struct apply_site *site)
{
	apply_site_start(site, APPLY_SITE_PROBED);
	assert_string_equal(apply_site_backend(site, "hot", "b1").state, "down");
	struct fake_dataplane *dataplane = apply_site_dataplane(site, NULL);
	fake_health_set("hot", "b1", HEALTH_UP);
	fake_health_set("hot", "b2", HEALTH_UP);
	apply_site_until(site, apply_site_b1_has_half);
	apply_site_synced(site, dataplane);
	return dataplane;
}
