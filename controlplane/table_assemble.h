/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last step of a build: the flat table, written, checked as its receivers will
 * check it, and sealed. For table_build.c.
 */
#ifndef CONTROLPLANE_TABLE_ASSEMBLE_H
#define CONTROLPLANE_TABLE_ASSEMBLE_H

#include "table_build.h"

struct table_assembly {
	const struct table_build_options *options;
	struct identity *identity;
	const struct table_backend *backends; /* by identity->flat */
	const struct sluice_port *ports;
	struct lookup *const *lookups;         /* by index in the model's services; their blobs are sealed */
	const struct previous_table *previous; /* likewise */
	const struct service_rule *rules;      /* likewise */
};

/*
 * Any thread. 0 and one reference in *ret; -E2BIG (more than 15 port ranges at one address), -ENOSPC (no index with
 * short probes), -EPROTO (its own check fails: a bug), -ENOMEM, -errno, with the reason in `text`.
 */
int table_assemble(const struct table_assembly *assembly, struct built_table **ret, char *text, size_t text_bytes);

/*
 * The service index alone: entries[0..count) placed by *ret_seed into *ret_index of 1 << *ret_bits entries (the
 * caller's to free), every one within SLUICE_INDEX_PROBES of its home. The same on every node. 0, -ENOMEM or -ENOSPC.
 */
int table_index_build(const struct sluice_index_entry *entries, uint32_t count, struct sluice_index_entry **ret_index,
		      uint32_t *ret_bits, uint64_t *ret_seed);

#endif
