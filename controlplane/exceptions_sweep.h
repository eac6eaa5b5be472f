/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over the exception table, in slices: what is over is forgotten, and the "surely none" bits are
 * made anew in the generation that nobody reads.
 *
 *   begin    the other generation is cleared
 *   slices   each living entry sets its bit there
 *   end      readers use that generation from now on
 *
 * Who inserts publishes the entry first and sets its bit in both generations then: an insertion that comes after "begin"
 * leaves its bit, one that came before is met by a slice. One sweeper a host; writers need not stop.
 */
#ifndef CONTROLPLANE_EXCEPTIONS_SWEEP_H
#define CONTROLPLANE_EXCEPTIONS_SWEEP_H

#include "sluice/exceptions.h"

struct exceptions_sweep {
	struct sluice_exceptions_header *header;
	uint32_t next_group;
	uint64_t by_kind[SLUICE_EXCEPTION_KINDS]; /* living ones so far */
	uint64_t reclaimed;
};

/* Any one thread at a time. */
void exceptions_sweep_begin(struct exceptions_sweep *sweep, struct sluice_exceptions_header *header);
/* At most so many groups of 8 entries. True: there are more. */
bool exceptions_sweep_slice(struct exceptions_sweep *sweep, uint32_t groups, uint32_t now_s);
void exceptions_sweep_end(struct exceptions_sweep *sweep);

#endif
