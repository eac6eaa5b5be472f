/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers that stay: which number a service has, which block of backend numbers it holds
 * (first_backend, slots), and which slot in it each backend has. A service is known by its
 * address, protocol and ports, a backend by its address; names are for people and may change.
 *
 * An identity is a value: made from the one before and a model, then immutable and
 * reference-counted (any thread). A transaction that fails throws its new one away, and nothing has happened.
 *
 * What is given up rests before it is used again. A slot: for as long as an exception may hold it, in seconds; then the
 * longest free goes first, one that was never used before any other; a backend that comes back gets the one it had. A
 * service's slots rest even while the service itself is gone. A block or a service number: not in the
 * generation after the one that gave it up, so that no table that still names it is in use when another takes it.
 */
#ifndef CONTROLPLANE_IDENTITY_H
#define CONTROLPLANE_IDENTITY_H

#include "model.h"

struct identity_slot {
	union sluice_address address; /* of the backend; of the last one when not used */
	uint64_t freed;               /* generation that gave it up; 0: never used, or unknown */
	uint32_t rests_until_s;       /* CLOCK_MONOTONIC; when not used */
	bool used;
};

/* One service number. */
struct identity_service {
	union sluice_address address;
	uint16_t port_first, port_last; /* host order */
	uint8_t protocol;
	bool used;
	uint64_t freed;             /* generation that gave the number up, when not used */
	uint32_t first_backend;     /* number of slot 0 */
	uint32_t slots;             /* size of the block */
	struct identity_slot *slot; /* [slots] */
};

/* A block that was given up. */
struct identity_block {
	uint32_t first, count;
	uint64_t freed;
};

struct identity {
	_Atomic uint32_t references;
	uint64_t generation;               /* it was made for */
	struct identity_service *services; /* by number */
	uint32_t service_count;            /* the highest used number + 1 */
	uint32_t backend_count;            /* end of the last block in use */
	struct identity_block *resting;    /* blocks not to be used again yet */
	uint32_t resting_count;
	struct identity_service *past; /* services that are gone, whose slots rest; without number and block */
	uint32_t past_count;
	/* For the model that it was made for: flat[i] + k is the place of service i's k-th backend in backend_slots. */
	uint32_t model_services;
	uint32_t *service_numbers; /* by index in the model's services */
	uint32_t *flat;            /* [model_services + 1] */
	uint32_t *backend_slots;
};

/* Why numbers could not be given, for people. */
struct identity_refusal {
	char text[192];
};

/* When numbers are given: the generation, and for slots the clock (CLOCK_MONOTONIC) and how long they rest. */
struct identity_moment {
	uint64_t generation;
	uint32_t now_s, rest_s;
};

/*
 * Numbers for `model`, keeping all that `base` (NULL: nothing before) has given to what stays. Any
 * thread; base and model must not change meanwhile. *ret is one reference.
 * 0, -ENOMEM, or -ENOSPC when the limits of services or backends are passed (*ret_refusal says which).
 */
int identity_assign(const struct identity *base, const struct model *model, struct identity_moment moment,
		    struct identity **ret, struct identity_refusal *ret_refusal);

/*
 * Recover the numbers that a sound table uses, as the base for the next assignment. 0, -ENOMEM, or -EBADMSG when the
 * table's services overlap or name a thing twice (a table that this program did not make).
 */
int identity_recover(const struct sluice_table *table, struct identity **ret);

/* A slot that rests, as it was told before a restart; of a service that may be gone. */
struct identity_rest {
	union sluice_address service, backend;
	uint16_t port_first, port_last; /* host order */
	uint8_t protocol;
	uint32_t slots; /* size of the service's block */
	uint32_t slot;
	uint32_t rests_until_s; /* CLOCK_MONOTONIC */
};

/*
 * Once, after identity_recover() and before anyone else has the identity: these slots rest. Any order; one that is in
 * use, or out of bounds, is passed over; of two of one slot the later one counts. 0 or -ENOMEM.
 */
int identity_recover_rests(struct identity *identity, const struct identity_rest *rests, uint32_t count);

/* Whether a number is the same service's in two identities. */
bool identity_is_same_service(const struct identity *a, const struct identity *b, uint32_t number);

/* A slot of the service that nobody has, or SLUICE_NONE. */
uint32_t identity_vacant_slot(const struct identity_service *service);

struct identity *identity_get(struct identity *identity);
void identity_put(struct identity *identity); /* accepts NULL and half-built */

/* Number of the model's i-th service. The model must be the one that the identity was made for. */
static inline uint32_t identity_service_number(const struct identity *identity, uint32_t i)
{
	return identity->service_numbers[i];
}

/* Slot of the k-th backend of the model's i-th service. */
static inline uint32_t identity_backend_slot(const struct identity *identity, uint32_t i, uint32_t k)
{
	return identity->backend_slots[identity->flat[i] + k];
}

#endif
