/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the dataplane reads of the configuration file: `interfaces` and `dataplane`, nothing else
 * (services and all the rest are the control plane's). Within these two, every error is
 * reported at once, with file and line.
 */
#ifndef DATAPLANE_CONFIG_H
#define DATAPLANE_CONFIG_H

#include "sluice/counters.h"
#include "sluice/icmp.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { CONFIG_CORES_MAX = 64, CONFIG_QUEUES_MAX = 64 };
enum { CONFIG_ICMP_RATE = SLUICE_ICMP_PER_SECOND, CONFIG_ICMP_RATE_MAX = SLUICE_ICMP_PER_SECOND_MAX };

enum config_port_kind {
	CONFIG_PORT_KERNEL, /* an interface of the kernel: AF_XDP */
	CONFIG_PORT_PCI,
	CONFIG_PORT_VDEV,
};

struct config_port {
	enum config_port_kind kind;
	char *device;       /* as written; never NULL */
	char name[64];      /* how tables and people call it: `device`, of a vdev what stands before the first comma */
	char tap[16];       /* name of the TAP that is the kernel's side; "" for none */
	bool ours;          /* false: path = "xdp", the port exists for its number only */
	bool starts_parked; /* path = "auto": no packet until the control plane says so */
	uint32_t queues;    /* receive queues; 0: all of a kernel interface, one for each worker elsewhere */
	int line;
};

struct config {
	struct config_port ports[SLUICE_PORTS_MAX]; /* in the file's order; a table's may be another */
	uint32_t port_count;
	uint32_t cores[CONFIG_CORES_MAX]; /* one worker each */
	uint32_t core_count;              /* 0: one worker, on whatever core this process may use */
	bool idle_sleep;
	bool hugepages;
	uint32_t icmp_rate; /* answers a second that each worker may send, of each kind */
};

/*
 * Read `path`. 0 and *ret (to be given to config_fini()); -EINVAL when the file has errors, each of which
 * is one line on `errors`: "FILE:LINE: text"; -errno when it cannot be read (explained too). *ret is untouched on
 * failure.
 */
int config_load(const char *path, FILE *errors, struct config *ret);

/* The same for text in memory; `name` stands for the file. */
int config_load_text(const char *text, const char *name, FILE *errors, struct config *ret);

/* Frees what it holds. Accepts NULL and a zeroed one. */
void config_fini(struct config *config);

/* How many workers it asks for. */
static inline uint32_t config_workers(const struct config *config)
{
	return config->core_count ? config->core_count : 1;
}

/* Whether two port names, of a table and of the configuration, mean one port: what follows a comma is a vdev's
 * arguments. */
bool config_port_name_equal(const char *a, const char *b);

#endif
