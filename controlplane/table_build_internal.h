/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of table_build.h share: a build under way. */
#ifndef CONTROLPLANE_TABLE_BUILD_INTERNAL_H
#define CONTROLPLANE_TABLE_BUILD_INTERNAL_H

#include "table_build.h"

#include <pthread.h>

struct table_build {
	struct table_build_options options;
	struct table_backend *backends;
	struct sluice_port *ports;
	uint8_t *running_states; /* NULL: not known */
	uint32_t *running_index; /* by number: position in running_model's services, or SLUICE_NONE; NULL: unknown */
	struct identity *identity;
	struct lookup **lookups;         /* by index in the model's services */
	struct previous_table *previous; /* likewise; one reference each */
	struct service_rule *rules;      /* likewise */
	_Atomic uint32_t next;           /* first service that no thread has taken */

	pthread_mutex_t lock;  /* of what follows */
	struct lookup **by_id; /* open addressing over the ids of this build */
	uint32_t by_id_mask;
	struct lookup_blob **blobs;
	uint32_t blob_count, blob_room;
	int error;
	char text[256];

	struct built_table *table;
};

/* The first failure is kept, for it tells most. Any thread. */
void table_build_fail(struct table_build *build, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool table_build_has_failed(struct table_build *build);

#endif
