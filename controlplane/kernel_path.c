/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel_path.h"

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct kernel_path {
	uv_loop_t *loop;
	int parts_fd;                /* our own */
	struct kernel_table *kernel; /* the job's while one is under way */
	struct kernel_table_running running;
	uint8_t *states;
	bool busy, closing;

	/* Of the publication under way. */
	uv_work_t work;
	struct built_table *table;
	kernel_path_done_fn done;
	void *user;
	int error;
};

static void path_free(struct kernel_path *path)
{
	kernel_table_destroy(path->kernel);
	if (path->states)
		munmap(path->states, SLUICE_BACKENDS_MAX);
	if (path->parts_fd >= 0)
		close(path->parts_fd);
	free(path);
}

int kernel_path_create(uv_loop_t *loop, const struct steering *steering, struct kernel_path **ret)
{
	const struct steering_kernel_maps maps = steering_kernel_maps(steering);
	struct kernel_path *path = calloc(1, sizeof(*path));
	int error = 0;

	if (!path)
		return -ENOMEM;
	path->loop = loop;
	path->parts_fd = fcntl(maps.parts_fd, F_DUPFD_CLOEXEC, 0);
	if (path->parts_fd < 0)
		error = -errno;
	if (!error) {
		void *states = mmap(NULL, SLUICE_BACKENDS_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, maps.states_fd, 0);
		if (states == MAP_FAILED)
			error = -errno;
		else
			path->states = states;
	}
	if (!error)
		error = kernel_table_create(path->parts_fd, &path->kernel);
	if (error) {
		log_error("kernel path: its maps cannot be used: %s: packets that no dataplane takes are dropped",
			  strerror(-error));
		path_free(path);
		return error;
	}
	path->running = kernel_table_running(path->kernel);
	if (path->running.generation)
		log_notice("kernel path: generation %llu adopted", (unsigned long long)path->running.generation);
	*ret = path;
	return 0;
}

void kernel_path_destroy(struct kernel_path *path)
{
	if (!path || path->closing)
		return;
	path->closing = true;
	if (!path->busy)
		path_free(path);
}

/* ---------------------------------------------------------------- publish ---- */

/* Worker thread. A port that is no interface of this network namespace has no index: its backends cannot be reached
 * from here. */
static void job_load(uv_work_t *work)
{
	struct kernel_path *path = work->data;
	const struct sluice_table *table = &path->table->view;
	uint32_t ifindexes[SLUICE_PORTS_MAX] = {0};

	for (uint32_t i = 0; i < table->header->ports.count && i < SLUICE_PORTS_MAX; i++)
		ifindexes[i] = if_nametoindex(table->ports[i].name);
	path->error = kernel_table_load(path->kernel, table, ifindexes);
}

static void after_load(uv_work_t *work, int status)
{
	struct kernel_path *path = work->data;
	const kernel_path_done_fn done = path->done;
	void *user = path->user;
	const int error = status ? status : path->error;

	path->busy = false;
	path->running = kernel_table_running(path->kernel);
	built_table_put(path->table);
	path->table = NULL;
	if (path->closing)
		path_free(path);
	done(user, error);
}

int kernel_path_publish(struct kernel_path *path, struct built_table *table, kernel_path_done_fn done, void *user)
{
	if (path->busy || path->closing)
		return -EBUSY;
	path->work.data = path;
	path->table = table;
	path->done = done;
	path->user = user;
	path->error = 0;
	int error = uv_queue_work(path->loop, &path->work, job_load, after_load);
	if (error)
		return error;
	built_table_get(table);
	path->busy = true;
	return 0;
}

void kernel_path_refresh(struct kernel_path *path)
{
	uint32_t ifindexes[SLUICE_PORTS_MAX] = {0}, count = 0;
	const char *name;

	if (path->busy)
		return;
	for (; count < SLUICE_PORTS_MAX && (name = kernel_table_port_name(path->kernel, count)); count++)
		ifindexes[count] = if_nametoindex(name);
	kernel_table_ports(path->kernel, ifindexes, count);
}

/* ----------------------------------------------------------------- status ---- */

struct kernel_table_running kernel_path_running(const struct kernel_path *path)
{
	return path->running;
}

uint8_t *kernel_path_states(const struct kernel_path *path)
{
	return path->states;
}

const struct sluice_counters_header *kernel_path_counters(const struct kernel_path *path)
{
	return path->busy ? NULL : kernel_table_counters(path->kernel);
}
