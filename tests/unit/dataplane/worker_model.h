/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the worker shall do, slowly: one packet at a time, services found by looking at each, outer headers
 * written field by field from the RFCs. It shares with the product the parser and the hash only, which
 * tests/packet and tests/unit/include check.
 */
#ifndef WORKER_MODEL_H
#define WORKER_MODEL_H

#include "worker_fixture.h"

struct expectation {
	enum sluice_verdict verdict;
	uint32_t service, backend; /* numbers, or SLUICE_NONE */
	uint32_t inner_bytes;
	uint32_t bytes; /* of the frame that leaves */
	uint8_t frame[2048];
};

/*
 * What shall become of a frame in one buffer with enough headroom. vlan: the tag of all of the fixture's
 * templates, or 0.
 */
void model(const struct fixture *f, uint16_t vlan, const uint8_t *bytes, uint32_t length, struct expectation *ret);

/* Of an IPv4 header without options, host order; its checksum field counts as 0. */
uint16_t model_checksum(const uint8_t *header);

#endif
