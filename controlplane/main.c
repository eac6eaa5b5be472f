/* SPDX-License-Identifier: Apache-2.0 */
/* sluice-controlplane: start, what the service manager and signals ask for, stop. */
#include "api.h"
#include "apply.h"
#include "config.h"
#include "log.h"
#include "runtime.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum { EXIT_USAGE = 2 }; /* bad usage, or a configuration that cannot run */
enum { STOP_MS = 5000 }; /* what is still open then is left to the kernel */

struct options {
	const char *config_file, *runtime_dir, *state_dir;
};

struct controlplane {
	struct options options;
	uv_loop_t loop;
	uv_signal_t on_term, on_int, on_hup;
	uv_timer_t watchdog, stop_limit;
	struct apply *apply;
	struct api *api;
	uint32_t reloads; /* asked for by SIGHUP and not ended */
	bool stopping;
	int exit_code;
};

/* ------------------------------------------------------------------ usage ---- */

static void usage(FILE *out)
{
	fputs(
	    "usage: sluice-controlplane --config FILE [--runtime-dir DIR] [--state-dir DIR]\n"
	    "       sluice-controlplane --check FILE\n"
	    "\n"
	    "  --config FILE      what to run (see sluice.conf(5)); read again on SIGHUP\n"
	    "  --runtime-dir DIR  sockets of the dataplane and the API, bpffs (default /run/sluice)\n"
	    "  --state-dir DIR    what survives a restart (default /var/lib/sluice)\n"
	    "  --check FILE       check a configuration and end: silent and 0 when it is good, else its errors and 1\n"
	    "  --help             this\n"
	    "  --version          the version\n"
	    "\n"
	    "Stops on SIGTERM; forwarding goes on without it. Exits with 2 for bad usage or configuration.\n",
	    out);
}

/*
 * `sluicectl check`: touches nothing, needs no directories and no root. Silent when the file may run: scripts rely on
 * it. Warnings of such a file are told by plan, apply and at start.
 */
static int check(const char *file)
{
	struct config_messages messages = {0};
	struct model *model = NULL;
	int error = config_load(file, false, &model, &messages);

	for (uint32_t i = 0; error && i < messages.count; i++)
		fprintf(stderr, "%s\n", messages.lines[i]);
	config_messages_fini(&messages);
	model_put(model);
	return error ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* 0: run. Else *ret_exit_code says how to exit. */
static int options_parse(int argc, char **argv, struct options *ret, int *ret_exit_code)
{
	static const struct option known[] = {
	    {"config", required_argument, NULL, 'c'},
	    {"runtime-dir", required_argument, NULL, 'r'},
	    {"state-dir", required_argument, NULL, 's'},
	    {"check", required_argument, NULL, 'k'},
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'v'},
	    {NULL, 0, NULL, 0},
	};
	struct options options = {.runtime_dir = "/run/sluice", .state_dir = "/var/lib/sluice"};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'c': options.config_file = optarg; break;
		case 'r': options.runtime_dir = optarg; break;
		case 's': options.state_dir = optarg; break;
		case 'k': *ret_exit_code = check(optarg); return -ECANCELED;
		case 'h':
			usage(stdout);
			*ret_exit_code = EXIT_SUCCESS;
			return -ECANCELED;
		case 'v':
			printf("sluice-controlplane %s\n", SLUICE_VERSION);
			*ret_exit_code = EXIT_SUCCESS;
			return -ECANCELED;
		default: /* getopt has said what is wrong */ goto wrong;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "sluice-controlplane: unexpected argument \"%s\"\n", argv[optind]);
		goto wrong;
	}
	if (!options.config_file) {
		fputs("sluice-controlplane: --config FILE is missing\n", stderr);
		goto wrong;
	}
	*ret = options;
	return 0;
wrong:
	usage(stderr);
	*ret_exit_code = EXIT_USAGE;
	return -EINVAL;
}

/* ---------------------------------------------------------- service manager ---- */

/* sd_notify(3) says nothing and does nothing without a service manager. */
static void notify_ready(const struct controlplane *cp)
{
	const struct model *model = apply_model(cp->apply);
	sd_notifyf(0, "READY=1\nSTATUS=generation %" PRIu64 ", %u services", apply_generation(cp->apply),
		   model ? model->service_count : 0);
}

static void notify_reloading(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
		   (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u);
}

static void on_watchdog(uv_timer_t *timer)
{
	(void)timer;
	sd_notify(0, "WATCHDOG=1");
}

static void watchdog_start(struct controlplane *cp)
{
	uint64_t usec = 0;
	if (sd_watchdog_enabled(0, &usec) <= 0)
		return;
	uint64_t ms = usec / 2000 ? usec / 2000 : 1; /* twice in each period */
	uv_timer_start(&cp->watchdog, on_watchdog, ms, ms);
	uv_unref((uv_handle_t *)&cp->watchdog);
}

/* ------------------------------------------------------------------- stop ---- */

static void on_stop_limit(uv_timer_t *timer)
{
	struct controlplane *cp = timer->data;
	log_warning("stop: not everything has ended after %d s; leaving", STOP_MS / 1000);
	uv_stop(&cp->loop);
}

/* Everything is asked to end; the loop runs until it has. */
static void controlplane_stop(struct controlplane *cp, int exit_code)
{
	if (cp->stopping)
		return;
	cp->stopping = true;
	cp->exit_code = exit_code;
	sd_notify(0, "STOPPING=1");
	api_destroy(cp->api);
	cp->api = NULL;
	apply_destroy(cp->apply);
	cp->apply = NULL;
	uv_close((uv_handle_t *)&cp->on_hup, NULL);
	uv_close((uv_handle_t *)&cp->on_int, NULL);
	uv_close((uv_handle_t *)&cp->on_term, NULL);
	uv_close((uv_handle_t *)&cp->watchdog, NULL);
	uv_timer_start(&cp->stop_limit, on_stop_limit, STOP_MS, 0);
	uv_unref((uv_handle_t *)&cp->stop_limit);
}

static void on_stop_signal(uv_signal_t *handle, int number)
{
	struct controlplane *cp = handle->data;
	log_notice("stop: %s; forwarding goes on with the last table", strsignal(number));
	controlplane_stop(cp, EXIT_SUCCESS);
}

/* ------------------------------------------------------- configuration runs ---- */

/* Each line names its file and line, and says itself when it is only a warning. */
static void log_outcome(const struct apply_outcome *outcome)
{
	for (uint32_t i = 0; i < outcome->line_count; i++)
		log_write_plain(outcome->error ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, "%s", outcome->lines[i]);
}

static void on_reloaded(void *user, const struct apply_outcome *outcome)
{
	struct controlplane *cp = user;

	cp->reloads--;
	if (cp->stopping)
		return;
	log_outcome(outcome);
	api_record_outcome(cp->api, "reload", outcome);
	if (outcome->error)
		log_error("reload: %s is refused (%s); what ran before still runs", cp->options.config_file,
			  strerror(-outcome->error));
	else
		api_configure(cp->api, apply_model(cp->apply));
	if (!cp->reloads)
		notify_ready(cp);
}

static void on_reload_signal(uv_signal_t *handle, int number)
{
	struct controlplane *cp = handle->data;

	(void)number;
	notify_reloading();
	cp->reloads++;
	apply_reload(cp->apply, on_reloaded, cp);
}

/* The API opens when there is something to show, so who can reach it need not wait. */
static int api_start(struct controlplane *cp)
{
	const struct api_options options = {
	    .loop = &cp->loop,
	    .apply = cp->apply,
	    .runtime_dir = cp->options.runtime_dir,
	    .state_dir = cp->options.state_dir,
	};
	int error = api_create(&options, &cp->api);
	if (!error)
		api_configure(cp->api, apply_model(cp->apply));
	return error;
}

static void on_started(void *user, const struct apply_outcome *outcome)
{
	struct controlplane *cp = user;

	if (cp->stopping)
		return;
	log_outcome(outcome);
	if (outcome->error) {
		log_error("start: %s cannot run: %s", cp->options.config_file, strerror(-outcome->error));
		/* What a person must mend in the file, or in the way we were called, is told apart from the rest. */
		bool usage_error = outcome->error == -EINVAL || outcome->error == -ENOENT || outcome->error == -EACCES;
		controlplane_stop(cp, usage_error ? EXIT_USAGE : EXIT_FAILURE);
		return;
	}
	if (api_start(cp)) {
		controlplane_stop(cp, EXIT_FAILURE);
		return;
	}
	log_notice("start: %s runs", cp->options.config_file);
	uv_signal_start(&cp->on_hup, on_reload_signal, SIGHUP);
	notify_ready(cp);
}

/* ------------------------------------------------------------------- start ---- */

static int controlplane_run(struct controlplane *cp)
{
	const struct apply_options options = {
	    .loop = &cp->loop,
	    .config_file = cp->options.config_file,
	    .runtime_dir = cp->options.runtime_dir,
	    .state_dir = cp->options.state_dir,
	};
	int error = uv_loop_init(&cp->loop);

	if (error) {
		log_error("start: no event loop: %s", uv_strerror(error));
		return EXIT_FAILURE;
	}
	uv_signal_init(&cp->loop, &cp->on_term);
	uv_signal_init(&cp->loop, &cp->on_int);
	uv_signal_init(&cp->loop, &cp->on_hup);
	uv_timer_init(&cp->loop, &cp->watchdog);
	uv_timer_init(&cp->loop, &cp->stop_limit);
	cp->on_term.data = cp->on_int.data = cp->on_hup.data = cp->stop_limit.data = cp;
	uv_signal_start(&cp->on_term, on_stop_signal, SIGTERM);
	uv_signal_start(&cp->on_int, on_stop_signal, SIGINT);
	watchdog_start(cp);

	error = apply_create(&options, &cp->apply);
	if (error) {
		log_error("start: %s", strerror(-error));
		controlplane_stop(cp, EXIT_FAILURE);
	} else {
		apply_reload(cp->apply, on_started, cp);
	}
	uv_run(&cp->loop, UV_RUN_DEFAULT);

	uv_close((uv_handle_t *)&cp->stop_limit, NULL);
	uv_run(&cp->loop, UV_RUN_NOWAIT);
	if (uv_loop_close(&cp->loop))
		log_debug("stop: the loop still had handles");
	return cp->exit_code;
}

int main(int argc, char **argv)
{
	struct controlplane cp = {.exit_code = EXIT_FAILURE};
	struct runtime_lock locks = RUNTIME_LOCK_NONE;
	int exit_code = EXIT_FAILURE;

	if (options_parse(argc, argv, &cp.options, &exit_code))
		return exit_code;
	if (getenv("DEBUG_INVOCATION"))
		log_set_level(LOG_LEVEL_DEBUG);
	umask(022);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* until there is something to reload */
	runtime_raise_files_limit();
	if (runtime_make_dirs(cp.options.runtime_dir, cp.options.state_dir))
		return EXIT_FAILURE;
	if (runtime_lock(cp.options.runtime_dir, cp.options.state_dir, &locks))
		return EXIT_FAILURE;
	exit_code = controlplane_run(&cp);
	runtime_unlock(&locks);
	return exit_code;
}
