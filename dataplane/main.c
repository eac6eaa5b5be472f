/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sluice-dataplane: what must be there before a packet can be forwarded, in the order
 * in which one thing needs the other, and all of it undone backwards.
 */
#include "capture_memory.h"
#include "control.h"
#include "counters_memory.h"
#include "daemon.h"
#include "eal.h"
#include "exceptions_map.h"
#include "fragments_map.h"
#include "last_table.h"
#include "log.h"
#include "loop.h"
#include "options.h"
#include "pools.h"
#include "port.h"
#include "runtime_dir.h"
#include "table_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_cycles.h>

enum { EXIT_BAD_USAGE = 2, ALLOWED_CORES_MAX = 1024 };

/* loops_wait() for ports, which may be opened before there are loops: then there is nobody to wait for. */
static void wait_for_workers(void *argument)
{
	struct loops **loops = argument;
	if (*loops)
		loops_wait(*loops);
}

/* The kernel's traffic of a PCI device has nowhere else to go. */
static void name_missing_taps(struct config *config)
{
	for (uint8_t i = 0; i < config->port_count; i++) {
		struct config_port *port = &config->ports[i];
		if (port->kind == CONFIG_PORT_PCI && !port->tap[0])
			snprintf(port->tap, sizeof(port->tap), "sluice%u", i);
	}
}

/* The EAL is up: everything on top of it. 0, or -errno, explained. */
static int serve(const struct config *config, const char *runtime_dir, const struct pools_plan *plan, int signals)
{
	uint32_t workers = config_workers(config);
	struct counters_memory counters;
	struct table_store *store;
	struct pools pools;
	struct ports ports;
	struct loops *loops = NULL;
	struct exceptions_map *exceptions;
	struct fragments_map *fragments;
	struct capture_memory *capture;
	struct last_table_writer *writer;
	struct control *control;

	int error = counters_memory_create(workers, rte_get_tsc_hz(), &counters);
	if (error) {
		log_error("no memory for counters: %s", strerror(-error));
		return error;
	}
	error = table_store_create(config, workers, &store);
	if (error) {
		log_error("no memory for tables: %s", strerror(-error));
		goto destroy_counters;
	}
	error = last_table_load(runtime_dir, store);
	if (!error)
		log_notice("forwarding by the last table, generation %llu",
			   (unsigned long long)table_store_current(store)->header->generation);
	error = pools_create(plan, &pools);
	if (error)
		goto destroy_store;
	const struct port_context port_context = {.runtime_dir = runtime_dir,
						  .workers = workers,
						  .frames = pools.frames,
						  .mbufs = pools.mbufs,
						  .losses = counters_memory_losses(&counters),
						  .wait_for_workers = wait_for_workers,
						  .wait_argument = &loops};
	error = ports_open(config, &port_context, &ports);
	if (error)
		goto destroy_pools;
	error = exceptions_map_create(runtime_dir, wait_for_workers, &loops, &exceptions);
	if (error)
		goto close_ports;
	exceptions_map_visit(exceptions);
	error = fragments_map_create(runtime_dir, wait_for_workers, &loops, &fragments);
	if (error)
		goto destroy_exceptions;
	fragments_map_visit(fragments);
	error = capture_memory_create(workers, wait_for_workers, &loops, &capture);
	if (error) {
		log_error("no memory for captures: %s", strerror(-error));
		goto destroy_fragments;
	}
	const struct loops_context loops_context = {.config = config,
						    .store = store,
						    .counters = &counters,
						    .exceptions = exceptions,
						    .fragments = fragments,
						    .capture = capture,
						    .mbufs = pools.mbufs,
						    .workers = workers};
	error = loops_create(&loops_context, &loops);
	if (error) {
		log_error("no memory for workers: %s", strerror(-error));
		goto destroy_capture;
	}
	error = last_table_writer_create(runtime_dir, &writer);
	if (error) {
		log_error("no thread to save tables: %s", strerror(-error));
		goto destroy_loops;
	}
	const struct control_context control_context = {.runtime_dir = runtime_dir,
							.config = config,
							.ports = &ports,
							.loops = loops,
							.counters = &counters,
							.store = store,
							.capture = capture,
							.writer = writer,
							.workers = workers};
	error = control_create(&control_context, &control);
	if (error)
		goto destroy_writer;
	error = loops_start(loops, &ports);
	if (!error) {
		const struct daemon daemon = {.signals = signals,
					      .ports = &ports,
					      .loops = loops,
					      .control = control,
					      .store = store,
					      .exceptions = exceptions,
					      .fragments = fragments};
		error = daemon_run(&daemon);
	}
	loops_stop(loops);
	/* Backends have gone up and down since the table came. */
	last_table_writer_offer(writer, table_store_get(store));
	control_destroy(control);
destroy_writer:
	last_table_writer_destroy(writer);
destroy_loops:
	loops_destroy(loops);
	loops = NULL;
destroy_capture:
	capture_memory_destroy(capture);
destroy_fragments:
	fragments_map_destroy(fragments);
destroy_exceptions:
	exceptions_map_destroy(exceptions);
close_ports:
	ports_close(&ports);
destroy_pools:
	pools_destroy(&pools);
destroy_store:
	table_store_destroy(store);
destroy_counters:
	counters_memory_destroy(&counters);
	return error;
}

/* What can be known before DPDK is up, then DPDK. 0, or -errno, explained. */
static int start(const struct config *config, const struct options *options, int signals)
{
	static uint32_t allowed[ALLOWED_CORES_MAX];
	struct runtime_dir runtime_dir;
	struct pools_plan plan;

	int error = runtime_dir_open(options->runtime_dir, &runtime_dir);
	if (error)
		return error;
	error = pools_plan(config, &plan);
	if (error)
		goto close_runtime_dir;
	const struct eal_surroundings surroundings = {
	    .runtime_dir = runtime_dir.path,
	    .allowed = allowed,
	    .allowed_count = eal_allowed_cores(allowed, ALLOWED_CORES_MAX),
	    .memory_bytes = plan.memory_bytes,
	    .extra = options->eal,
	    .extra_count = options->eal_count,
	};
	error = eal_start(config, &surroundings);
	if (error)
		goto close_runtime_dir;
	error = serve(config, runtime_dir.path, &plan, signals);
	eal_stop();
close_runtime_dir:
	runtime_dir_close(&runtime_dir);
	return error;
}

int main(int argc, char **argv)
{
	struct options options;
	struct config config;

	switch (options_read(argc, argv, stdout, stderr, &options)) {
	case OPTIONS_DONE: return EXIT_SUCCESS;
	case OPTIONS_BAD: return EXIT_BAD_USAGE;
	case OPTIONS_RUN: break;
	}
	if (config_load(options.config, stderr, &config))
		return EXIT_BAD_USAGE;
	name_missing_taps(&config);
	int signals = daemon_block_signals();
	int error = signals < 0 ? signals : start(&config, &options, signals);
	if (!error)
		log_notice("stopped");
	close(signals);
	config_fini(&config);
	return error ? EXIT_FAILURE : EXIT_SUCCESS;
}
