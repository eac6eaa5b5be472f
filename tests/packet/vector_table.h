/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of vectors.py in memory: the forwarding table that they describe and
 * the packets. Every path's runner uses this, so all run the same rows.
 */
#ifndef TESTS_VECTOR_TABLE_H
#define TESTS_VECTOR_TABLE_H

#include "sluice/table_check.h"

#define VECTOR_LOOKUP_SIZE 251u
#define VECTOR_FRAME_MAX 2048u
#define VECTOR_OUTPUT_MAX (2 * VECTOR_FRAME_MAX)
#define VECTOR_FRAMES_MAX 16u

struct vector {
	enum sluice_verdict verdict;
	uint32_t backend; /* its number, when forwarded */
	uint8_t input[VECTOR_FRAME_MAX];
	uint32_t input_bytes;
	/* What leaves, frame behind frame; nothing: 0 frames. */
	uint8_t output[VECTOR_OUTPUT_MAX];
	uint32_t output_frames, output_bytes[VECTOR_FRAMES_MAX];
	char sentence[160];
};

struct vector_table {
	struct sluice_table table; /* ready for use: lookups and states point below */
	uint8_t *bytes;
	uint64_t total_bytes;
	uint8_t *states;
	const sluice_bucket **lookups;
	struct vector *vectors;
	uint32_t vector_count;
};

/* Read what vectors.py printed to `path`. Ends the program with a message when it cannot: there is nothing to test
 * then. */
void vector_table_load(const char *path, struct vector_table *ret);
void vector_table_free(struct vector_table *table);

#endif
