/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The path of each interface of the kernel (path_choice.h decides): looks at the rates of those with path = "auto"
 * every 250 ms, and asks dataplanes to park or unpark. Knows nothing that must survive: a dataplane goes on as it was
 * asked last, and tells the next control plane. Loop thread only.
 */
#ifndef CONTROLPLANE_PATHS_H
#define CONTROLPLANE_PATHS_H

#include "kernel_path.h"
#include "path_choice.h"
#include "publish.h"
#include "steering.h"

struct paths;

/*
 * steering may be NULL: no interface of the kernel can be had; kernel too: its path has no table, ever. All outlive it.
 * 0 or -errno.
 */
int paths_create(uv_loop_t *loop, const struct steering *steering, const struct kernel_path *kernel,
		 struct publish *publish, struct paths **ret);
/* Dataplanes stay as they are. Completes asynchronously on the loop. Accepts NULL. */
void paths_destroy(struct paths *paths);

/* Follow this model from now on. -ENOMEM: the one before is followed still. */
int paths_configure(struct paths *paths, const struct model *model);

/* A dataplane has come, gone or answered. Before the first model nothing is asked of it: it goes on as it is. */
void paths_look(struct paths *paths);

struct paths_status {
	const char *interface;
	const struct path_rule *rule;
	const struct path_choice *choice;
};
/* The i-th interface of the kernel, in the model's order; false beyond the last. Valid until the next return to the
 * loop. */
bool paths_status(const struct paths *paths, uint32_t i, struct paths_status *ret);

/*
 * A dataplane that polls an interface and leaves packets unanswered: the XDP program sees it by itself, queue by queue,
 * and forwards what comes by those (steering.h). It changes no path_choice: nobody has switched anything.
 */
struct paths_hang {
	uint32_t queues; /* that a dataplane polls */
	uint32_t hung;   /* of them */
	bool is_whole;   /* the interface's packets go by XDP: all its queues hang, but those that have never had any */
	bool is_silent;  /* no queue hangs, and none has ever had packets for services */
};
/* Of the i-th interface, as it is now; all 0 when no dataplane polls it. */
struct paths_hang paths_hang(const struct paths *paths, uint32_t i);

#endif
