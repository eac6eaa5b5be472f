/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stand-ins for the modules around apply that need a network: adjacency, health, steering and VIPs, with the
 * functions of their headers. The test says what they answer, and sees what they were told.
 */
#ifndef TESTS_FAKE_MODULES_H
#define TESTS_FAKE_MODULES_H

#include "adjacency.h"
#include "health.h"
#include "kernel_path.h"
#include "steering.h"
#include "vips.h"

/* All as at first: everything is resolved and settled, health is UP for type none and UNKNOWN else. */
void fake_modules_reset(void);

/* What a backend is of which nothing else was said. */
void fake_health_default(enum health_state state);

/* A probe's result: tells who made the module. */
void fake_health_set(const char *service, const char *backend, enum health_state state);
/* An address that is resolved or not, from now on; tells who made the module. */
void fake_adjacency_set(const char *address, bool resolved);

/* From now on it cannot be told of services (0: it can), but for those that stay of them. */
void fake_steering_fail(int error);
/* What steering was last told. */
bool fake_steering_has(const char *vip, uint16_t port);
/* Called with each publication of services, when set. */
extern void (*fake_steering_published)(uint32_t services);

uint32_t fake_vips_configured(void); /* how often */

/* From the next control plane on there is a kernel's path, which keeps its table from one to the next. */
void fake_kernel_start(void);
/* Each load takes so long, and ends so: 0 or -errno. */
void fake_kernel_loads(uint32_t milliseconds, int error);
uint32_t fake_kernel_loaded(void); /* how often, failures among them */
/* Whether it forwards by the table that is in force. */
bool fake_kernel_has(const struct built_table *table);

#endif
