/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forwarding tables and lookup blobs as a control plane would send them: small, sound, and
 * to be spoiled by a test. Service n is tcp 192.0.2.(10 + n):80 by ipip over IPv4.
 */
#ifndef TABLE_FIXTURE_H
#define TABLE_FIXTURE_H

#include "sluice/table_check.h"

enum { TABLE_FIXTURE_BACKENDS = 3, TABLE_FIXTURE_SIZE = 251 };

struct table_fixture_spec {
	uint64_t generation;
	uint32_t services;
	uint32_t variant; /* another one gives other lookups */
	uint16_t backend_port;
	const char *const *ports; /* names */
	uint32_t port_count;
};

struct table_fixture {
	struct sluice_table_header *table;  /* at the start of the table's bytes */
	struct sluice_lookups_header *blob; /* of all lookups that it names */
	struct sluice_service *services;    /* in the table's bytes, as are these: */
	struct sluice_backend *backends;
	struct sluice_port *ports;
	struct sluice_lookup_ref *lookups;
};

struct table_fixture *table_fixture_create(const struct table_fixture_spec *spec);
void table_fixture_destroy(struct table_fixture *fixture);

/* After a change: make the table's checksum right again. */
void table_fixture_seal(struct table_fixture *fixture);

/* A memfd of these bytes with these seals. */
int table_fixture_memfd(const void *bytes, uint64_t length, int seals);

#endif
