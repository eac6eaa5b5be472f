/* SPDX-License-Identifier: Apache-2.0 */
/* Steering on a real veth pair, sv0 and sv1, in namespaces of this process alone. Needs root. */
#ifndef TESTS_STEERING_SITE_H
#define TESTS_STEERING_SITE_H

#include "steering_internal.h"

struct steering_site {
	char runtime[64];
	struct steering *steering;
	struct model model;
	struct model_interface interfaces[4];
};

/* Into the namespaces, once: 0, or with what the test is to exit (77: skipped). */
int steering_site_enter(void);

/* cmocka's fixtures: *state is the site. */
int steering_site_setup(void **state);
int steering_site_teardown(void **state);

void steering_site_run(const char *command);
void steering_site_veth(void);
/* The model's interfaces; NULL: there is none. */
void steering_site_configure(struct steering_site *f, const char *first, const char *second);
/* As a new process finds it. */
void steering_site_restart(struct steering_site *f);
struct steering_status steering_site_status(struct steering_site *f, uint32_t i);
/* The descriptor of what is pinned there; -1 with errno. */
int steering_site_pin(struct steering_site *f, const char *leaf);

#endif
