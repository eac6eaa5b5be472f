/* SPDX-License-Identifier: Apache-2.0 */
#include "pcapng.h"

#include <stdlib.h>
#include <string.h>

enum {
	BLOCK_INTERFACE = 1,
	BLOCK_STATISTICS = 5,
	BLOCK_PACKET = 6,
	BLOCK_SECTION = 0x0a0d0d0a,
	LINK_ETHERNET = 1,
	OPTION_END = 0,
	OPTION_COMMENT = 1,
	SECTION_USERAPPL = 4,
	INTERFACE_NAME = 2,
	INTERFACE_DESCRIPTION = 3,
	INTERFACE_TSRESOL = 9,
	PACKET_FLAGS = 2,
	STATISTICS_START = 2,
	STATISTICS_END = 3,
	STATISTICS_DROPPED = 5,
	STATISTICS_DELIVERED = 8,
	OPTION_BYTES_MAX = 65535,
};
#define BYTE_ORDER_MAGIC 0x1a2b3c4du

void pcapng_buffer_add(struct pcapng_buffer *buffer, const void *bytes, size_t count)
{
	if (buffer->failed || !count)
		return;
	if (count > buffer->room - buffer->count) {
		size_t room = buffer->room ? buffer->room : 4096;
		while (room - buffer->count < count)
			room *= 2;
		uint8_t *larger = realloc(buffer->bytes, room);
		if (!larger) {
			buffer->failed = true;
			return;
		}
		buffer->bytes = larger;
		buffer->room = room;
	}
	memcpy(buffer->bytes + buffer->count, bytes, count);
	buffer->count += count;
}

size_t pcapng_buffer_left(const struct pcapng_buffer *buffer)
{
	return buffer->count - buffer->taken;
}

size_t pcapng_buffer_take(struct pcapng_buffer *buffer, void *ret, size_t room)
{
	const size_t left = pcapng_buffer_left(buffer), bytes = left < room ? left : room;

	if (!bytes)
		return 0;
	memcpy(ret, buffer->bytes + buffer->taken, bytes);
	buffer->taken += bytes;
	/* No more is moved than was taken since: a byte moves once in the mean. */
	if (buffer->taken >= left - bytes) {
		memmove(buffer->bytes, buffer->bytes + buffer->taken, left - bytes);
		buffer->count = left - bytes;
		buffer->taken = 0;
	}
	return bytes;
}

void pcapng_buffer_fini(struct pcapng_buffer *buffer)
{
	free(buffer->bytes);
	*buffer = (struct pcapng_buffer){0};
}

/* -------------------------------------------------------------------------- pieces ---- */

static void add16(struct pcapng_buffer *buffer, uint16_t value)
{
	pcapng_buffer_add(buffer, &value, sizeof(value));
}

static void add32(struct pcapng_buffer *buffer, uint32_t value)
{
	pcapng_buffer_add(buffer, &value, sizeof(value));
}

/* Its upper half first, whatever the byte order. */
static void add_time(struct pcapng_buffer *buffer, uint64_t time_ns)
{
	add32(buffer, (uint32_t)(time_ns >> 32));
	add32(buffer, (uint32_t)time_ns);
}

static void add_padded(struct pcapng_buffer *buffer, const void *bytes, size_t count)
{
	static const uint8_t zeros[4];
	pcapng_buffer_add(buffer, bytes, count);
	pcapng_buffer_add(buffer, zeros, (4 - count % 4) % 4);
}

static void add_option(struct pcapng_buffer *buffer, uint16_t code, const void *bytes, size_t count)
{
	if (count > OPTION_BYTES_MAX)
		count = OPTION_BYTES_MAX;
	add16(buffer, code);
	add16(buffer, (uint16_t)count);
	add_padded(buffer, bytes, count);
}

static void add_text(struct pcapng_buffer *buffer, uint16_t code, const char *text)
{
	if (text && text[0])
		add_option(buffer, code, text, strlen(text));
}

/* Where its length is to be written when it is known. */
static size_t block_begin(struct pcapng_buffer *buffer, uint32_t type)
{
	add32(buffer, type);
	add32(buffer, 0);
	return buffer->count - 8;
}

/* After its options, if it has any. */
static void block_end(struct pcapng_buffer *buffer, size_t begin)
{
	add32(buffer, OPTION_END);
	add32(buffer, 0);
	if (buffer->failed)
		return;
	uint32_t bytes = (uint32_t)(buffer->count - begin);
	memcpy(buffer->bytes + begin + 4, &bytes, 4);
	memcpy(buffer->bytes + buffer->count - 4, &bytes, 4);
}

/* -------------------------------------------------------------------------- blocks ---- */

void pcapng_section(struct pcapng_buffer *buffer, const char *application)
{
	const uint64_t unknown_length = UINT64_MAX;
	size_t begin = block_begin(buffer, BLOCK_SECTION);
	add32(buffer, BYTE_ORDER_MAGIC);
	add16(buffer, 1); /* version 1.0 */
	add16(buffer, 0);
	pcapng_buffer_add(buffer, &unknown_length, sizeof(unknown_length));
	add_text(buffer, SECTION_USERAPPL, application);
	block_end(buffer, begin);
}

void pcapng_interface(struct pcapng_buffer *buffer, const char *name, const char *description, uint32_t snaplen)
{
	static const uint8_t nanoseconds = 9;
	size_t begin = block_begin(buffer, BLOCK_INTERFACE);
	add16(buffer, LINK_ETHERNET);
	add16(buffer, 0);
	add32(buffer, snaplen);
	add_text(buffer, INTERFACE_NAME, name);
	add_text(buffer, INTERFACE_DESCRIPTION, description);
	add_option(buffer, INTERFACE_TSRESOL, &nanoseconds, 1);
	block_end(buffer, begin);
}

void pcapng_packet(struct pcapng_buffer *buffer, const struct pcapng_packet *packet)
{
	const uint32_t flags = packet->outbound ? 2 : 1;
	size_t begin = block_begin(buffer, BLOCK_PACKET);
	add32(buffer, packet->interface);
	add_time(buffer, packet->time_ns);
	add32(buffer, packet->copied);
	add32(buffer, packet->frame_bytes);
	add_padded(buffer, packet->bytes, packet->copied);
	add_option(buffer, PACKET_FLAGS, &flags, sizeof(flags));
	add_text(buffer, OPTION_COMMENT, packet->comment);
	block_end(buffer, begin);
}

static void add_time_option(struct pcapng_buffer *buffer, uint16_t code, uint64_t time_ns)
{
	const uint32_t halves[2] = {(uint32_t)(time_ns >> 32), (uint32_t)time_ns};
	add_option(buffer, code, halves, sizeof(halves));
}

void pcapng_statistics(struct pcapng_buffer *buffer, uint32_t interface, uint64_t start_ns, uint64_t time_ns,
		       uint64_t delivered, uint64_t dropped)
{
	size_t begin = block_begin(buffer, BLOCK_STATISTICS);
	add32(buffer, interface);
	add_time(buffer, time_ns);
	add_time_option(buffer, STATISTICS_START, start_ns);
	add_time_option(buffer, STATISTICS_END, time_ns);
	add_option(buffer, STATISTICS_DROPPED, &dropped, sizeof(dropped));
	add_option(buffer, STATISTICS_DELIVERED, &delivered, sizeof(delivered));
	block_end(buffer, begin);
}
