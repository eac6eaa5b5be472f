/* SPDX-License-Identifier: Apache-2.0 */
/* The insides of identity, shared by identity.c (giving numbers) and identity_recover.c (after a restart). */
#ifndef CONTROLPLANE_IDENTITY_INTERNAL_H
#define CONTROLPLANE_IDENTITY_INTERNAL_H

#include "identity.h"

/* What a service is known by. */
struct identity_key {
	union sluice_address address;
	uint32_t ports; /* first | last << 16 */
	uint32_t protocol;
	uint32_t number;
};

int identity_key_compare(const void *a, const void *b);
struct identity_key identity_key_of_model(const struct model_service *s);
struct identity_key identity_key_of_service(const struct identity_service *s);

/* The used services, sorted by key. *ret is the caller's; NULL for none. 0 or -ENOMEM. */
int identity_keys_make(const struct identity *identity, struct identity_key **ret, uint32_t *ret_count);

/* For identity->past, which is sorted by key. */
int identity_past_compare(const void *a, const void *b);

/* Blocks that must not be used: those of services that keep theirs, and those that rest. The caller's. 0 or -ENOMEM. */
int identity_blocks_taken(const struct identity *identity, struct identity_block **ret, uint32_t *ret_count);
int identity_block_compare(const void *a, const void *b);

/* Ends of what is in use. */
void identity_trim(struct identity *identity);

#endif
