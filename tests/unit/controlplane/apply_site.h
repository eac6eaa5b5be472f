/* SPDX-License-Identifier: Apache-2.0 */
/* A control plane for tests: apply with its loop, directories and a configuration file; the modules around are fakes.
 */
#ifndef TESTS_APPLY_SITE_H
#define TESTS_APPLY_SITE_H

#include "apply.h"
#include "fake_dataplane.h"
#include "fake_modules.h"

struct apply_site {
	uv_loop_t loop;
	char dir[64], config[128], other[128], socket[128];
	struct apply *apply;
	uint64_t hello_wait_ms, exceptions_retry_ms; /* of apply_site_open(); 0: as the program */
	uint32_t ended, runs;                        /* transactions that told; models that came into force */
	int error;                                   /* of the last */
	uint64_t generation;
	char lines[2048]; /* of the last, with newlines */
	struct json_t *plan;
};

/* cmocka's fixtures: *state is the site, not started. */
int apply_site_setup(void **state);
int apply_site_teardown(void **state);

/* Write the configuration (model_spec.h) into `file`. */
void apply_site_write(struct apply_site *site, const char *file, const char *spec);
void apply_site_write_text(const char *file, const char *text);

/* Create apply; stop it as the program ends. */
void apply_site_open(struct apply_site *site);
void apply_site_close(struct apply_site *site);

/* open, write, reload and wait: a running control plane. */
void apply_site_start(struct apply_site *site, const char *spec);

/* For apply's callbacks, with the site as user. */
void apply_site_done(void *user, const struct apply_outcome *outcome);
void apply_site_planned(void *user, const struct apply_outcome *outcome, struct json_t *plan);

/* Turn the loop until one more transaction has told: its error. At most 8 s, else the test fails. */
int apply_site_wait(struct apply_site *site, uint32_t ended_before);
int apply_site_reload(struct apply_site *site);
int apply_site_order(struct apply_site *site, const char *service, const char *backend, struct operator_order order);

/* Turn the loop until `reached`, at most 8 s; or for a while. */
void apply_site_until(struct apply_site *site, bool (*reached)(struct apply_site *site));
void apply_site_turn(struct apply_site *site, uint32_t milliseconds);

/* Of the running model. */
struct apply_backend_status apply_site_backend(struct apply_site *site, const char *service, const char *backend);

/* A dataplane, connected and at the generation in force. */
struct fake_dataplane *apply_site_dataplane(struct apply_site *site, const struct fake_dataplane_options *options);
void apply_site_synced(struct apply_site *site, struct fake_dataplane *dataplane);

/* Stop and free it; the test fails when it saw anything that a dataplane must not. */
void apply_site_finish(struct fake_dataplane *dataplane);

/* A file of the site's directory: its text, until the next call. */
char *apply_site_file(struct apply_site *site, const char *name);
bool apply_site_has_file(struct apply_site *site, const char *name);

/* A running control plane with one probed service, both backends up, and a dataplane that forwards for it. */
#define APPLY_SITE_PROBED "hot 192.0.2.20 80 tcp 1021 10.0.0.1 10.0.0.2"
struct fake_dataplane *apply_site_start_probed(struct apply_site *site);
bool apply_site_b1_has_all(struct apply_site *site);
bool apply_site_b1_has_half(struct apply_site *site);

/* A backend's number in the table. */
uint32_t apply_site_number(struct apply_site *site, const char *service, const char *backend);

#endif
