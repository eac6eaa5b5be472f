/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writer of pcapng (draft-ietf-opsawg-pcapng): one section of Ethernet frames, times in nanoseconds, a comment with
 * each packet. In native byte order, as the format allows. Pure; any thread.
 */
#ifndef CONTROLPLANE_PCAPNG_H
#define CONTROLPLANE_PCAPNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Bytes that grow at their end and are taken from their beginning. Zeroed: empty. What finds no memory sets `failed`,
 * and nothing is added from there on.
 */
struct pcapng_buffer {
	uint8_t *bytes;     /* malloc'ed */
	size_t count, room; /* up to the end */
	size_t taken;       /* of those */
	bool failed;
};

void pcapng_buffer_add(struct pcapng_buffer *buffer, const void *bytes, size_t count);
/* How many there are to be taken. */
size_t pcapng_buffer_left(const struct pcapng_buffer *buffer);
/* Take up to `room` bytes: how many. What is left moves up, so that the memory is of what waits, not of what was. */
size_t pcapng_buffer_take(struct pcapng_buffer *buffer, void *ret, size_t room);
void pcapng_buffer_fini(struct pcapng_buffer *buffer); /* leaves it empty */

/* The file's first block. application: who wrote it. */
void pcapng_section(struct pcapng_buffer *buffer, const char *application);

/* The next interface; the first one is number 0. snaplen: at most so many bytes of a frame. */
void pcapng_interface(struct pcapng_buffer *buffer, const char *name, const char *description, uint32_t snaplen);

struct pcapng_packet {
	uint32_t interface;   /* its number */
	uint64_t time_ns;     /* since 1970, UTC */
	const uint8_t *bytes; /* `copied` of them */
	uint32_t copied;
	uint32_t frame_bytes; /* of the whole frame */
	bool outbound;
	const char *comment;
};
void pcapng_packet(struct pcapng_buffer *buffer, const struct pcapng_packet *packet);

/* How it went on that interface, so far. time_ns: now; delivered, dropped: packets since start_ns. */
void pcapng_statistics(struct pcapng_buffer *buffer, uint32_t interface, uint64_t start_ns, uint64_t time_ns,
		       uint64_t delivered, uint64_t dropped);

#endif
