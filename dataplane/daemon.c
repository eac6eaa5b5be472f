/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon.h"
#include "log.h"
#include "monotonic.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>

enum {
	VISIT_MS = 100,
	/* While all is parked: no packet waits for what a visit finds. */
	VISIT_PARKED_MS = 1000,
	/* A packet that was redirected has reached its ring by then. */
	DRAIN_MS = 20,
	/* So many times we look whether the rings are empty: 1 s, for workers that others' load holds up. */
	DRAIN_LOOKS = 50,
};

int daemon_block_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP); /* nothing is read again: without this a reload of the unit would end us */
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	signal(SIGPIPE, SIG_IGN);
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* Whether a signal asks to stop. */
static bool is_told_to_stop(int signals)
{
	struct signalfd_siginfo info;
	while (read(signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo != SIGHUP)
			return true;
		log_notice("SIGHUP: the control plane reloads services; `interfaces` and `dataplane` take a restart");
	}
	return false;
}

/* One line for `systemctl status`, when it has changed. */
static void tell_status(const struct daemon *d, uint64_t *told)
{
	const struct sluice_table *table = table_store_current(d->store);
	uint64_t generation = table ? table->header->generation : 0;
	bool connected = control_fd(d->control) >= 0;
	const char *parked = ports_are_parked(d->ports) ? "parked, the XDP program forwards; " : "";
	uint64_t now = generation << 2 | connected << 1 | !!parked[0];

	if (now == *told)
		return;
	*told = now;
	if (generation)
		sd_notifyf(0, "STATUS=%s%s table %llu, control plane %s", parked, parked[0] ? "has" : "forwarding by",
			   (unsigned long long)generation, connected ? "connected" : "away");
	else
		sd_notifyf(0, "STATUS=%sno table yet, control plane %s", parked, connected ? "connected" : "away");
}

/* Nothing new comes in, and what has come in goes out. */
static void retire(const struct daemon *d)
{
	const struct timespec drain = {.tv_nsec = DRAIN_MS * 1000000};
	sd_notify(0, "STOPPING=1\nSTATUS=stopping");
	ports_retire(d->ports);
	for (uint32_t i = 0; i < DRAIN_LOOKS; i++) {
		nanosleep(&drain, NULL);
		if (ports_are_drained(d->ports))
			break;
	}
	loops_wait(d->loops); /* of what was taken, nothing is in a worker's hands */
	loops_stop(d->loops);
}

int daemon_run(const struct daemon *d)
{
	uint64_t told = UINT64_MAX;
	int64_t next_visit = 0;
	int error = 0;

	for (;;) {
		int64_t now = (int64_t)monotonic_ms();
		if (now >= next_visit) {
			ports_visit(d->ports, table_store_current(d->store) != NULL);
			exceptions_map_visit(d->exceptions);
			fragments_map_visit(d->fragments);
			control_visit(d->control);
			tell_status(d, &told);
			if (!next_visit) {
				log_notice("ready");
				sd_notify(0, "READY=1");
			}
			bool is_quiet = ports_are_parked(d->ports) && control_fd(d->control) >= 0;
			next_visit = now + (is_quiet ? VISIT_PARKED_MS : VISIT_MS);
		}
		struct pollfd wait[] = {
		    {.fd = d->signals, .events = POLLIN},
		    {.fd = control_fd(d->control), .events = POLLIN},
		};
		int64_t left = next_visit - (int64_t)monotonic_ms();
		if (poll(wait, 2, left > 0 ? (int)left : 0) < 0 && errno != EINTR) {
			error = -errno;
			log_error("poll: %m");
			break;
		}
		if (wait[0].revents && is_told_to_stop(d->signals))
			break;
		if (wait[1].revents) {
			control_receive(d->control);
			tell_status(d, &told);
		}
	}
	retire(d);
	return error;
}
