/* SPDX-License-Identifier: Apache-2.0 */
#include "publish_message.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REFUSE(refusal, ...) (snprintf((refusal)->text, sizeof((refusal)->text), __VA_ARGS__), -EPROTO)

static int header_check(const void *bytes, size_t length, struct sluice_message_header *ret,
			struct publish_refusal *ret_refusal)
{
	struct sluice_message_header h;

	if (length < sizeof(h))
		return REFUSE(ret_refusal, "a message of %zu bytes, shorter than its header", length);
	memcpy(&h, bytes, sizeof(h));
	if (h.magic != SLUICE_MESSAGE_MAGIC)
		return REFUSE(ret_refusal, "not a message of a dataplane (magic %08x)", h.magic);
	if (h.abi < SLUICE_ABI_MIN || h.abi > SLUICE_ABI) {
		snprintf(ret_refusal->text, sizeof(ret_refusal->text),
			 "the dataplane speaks ABI %u, this control plane %u to %u; upgrade the older of the two",
			 h.abi, SLUICE_ABI_MIN, SLUICE_ABI);
		return -EPROTONOSUPPORT;
	}
	if (h.bytes != length || h.zero)
		return REFUSE(ret_refusal, "a message that says %u bytes and has %zu", h.bytes, length);
	*ret = h;
	return 0;
}

static int hello_check(const struct sluice_message_hello *hello, uint32_t fd_count, struct publish_refusal *ret_refusal)
{
	if (hello->has_states > 1 || hello->features > SLUICE_FEATURES)
		return REFUSE(ret_refusal, "HELLO: has_states %u, features %u", hello->has_states, hello->features);
	if (fd_count != 2 + hello->has_states)
		return REFUSE(ret_refusal, "HELLO: %u descriptors, %u expected", fd_count, 2 + hello->has_states);
	if (hello->held_lookups > PUBLISH_HELD_MAX)
		return REFUSE(ret_refusal, "HELLO: %u lookup tables held, at most %u", hello->held_lookups,
			      PUBLISH_HELD_MAX);
	if (hello->port_count > SLUICE_PORTS_MAX)
		return REFUSE(ret_refusal, "HELLO: %u ports, at most %u", hello->port_count, SLUICE_PORTS_MAX);
	for (uint32_t i = 0; i < hello->port_count; i++)
		if (!memchr(hello->ports[i].name, 0, sizeof(hello->ports[i].name)))
			return REFUSE(ret_refusal, "HELLO: the name of port %u is not terminated", i);
		else if ((hello->ports[i].flags & SLUICE_PORT_PARKED) &&
			 !(hello->ports[i].flags & SLUICE_PORT_CAN_PARK))
			return REFUSE(ret_refusal, "HELLO: port %u is parked, and cannot be", i);
	return 0;
}

int publish_message_parse(const void *bytes, size_t length, uint32_t fd_count, struct publish_message *ret,
			  struct publish_refusal *ret_refusal)
{
	struct sluice_message_header header;
	struct publish_message message;
	int error = header_check(bytes, length, &header, ret_refusal);

	if (error)
		return error;
	memset(&message, 0, sizeof(message));
	switch (header.type) {
	case SLUICE_MESSAGE_HELLO:
		if (length != sizeof(message.hello))
			return REFUSE(ret_refusal, "HELLO: %zu bytes, %zu expected", length, sizeof(message.hello));
		memcpy(&message.hello, bytes, sizeof(message.hello));
		message.type = SLUICE_MESSAGE_HELLO;
		error = hello_check(&message.hello, fd_count, ret_refusal);
		break;
	case SLUICE_MESSAGE_ACK:
		if (length != sizeof(message.ack))
			return REFUSE(ret_refusal, "ACK: %zu bytes, %zu expected", length, sizeof(message.ack));
		memcpy(&message.ack, bytes, sizeof(message.ack));
		message.type = SLUICE_MESSAGE_ACK;
		if (fd_count || message.ack.error > 0 || !memchr(message.ack.text, 0, sizeof(message.ack.text)))
			error = REFUSE(ret_refusal, "ACK: %u descriptors, error %d", fd_count, message.ack.error);
		break;
	case SLUICE_MESSAGE_PARKED:
		if (length != sizeof(message.parked))
			return REFUSE(ret_refusal, "PARKED: %zu bytes, %zu expected", length, sizeof(message.parked));
		memcpy(&message.parked, bytes, sizeof(message.parked));
		message.type = SLUICE_MESSAGE_PARKED;
		if (fd_count || message.parked.zero)
			error = REFUSE(ret_refusal, "PARKED: %u descriptors, %u expected zero", fd_count,
				       message.parked.zero);
		break;
	default: return REFUSE(ret_refusal, "a message of type %u, which no dataplane sends", header.type);
	}
	if (!error)
		*ret = message;
	return error;
}

static int id_compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

int publish_held_read(int fd, uint32_t count, uint64_t **ret)
{
	const size_t bytes = count * sizeof(**ret);
	uint64_t *ids = malloc(bytes + 1);
	size_t done = 0;

	if (!ids)
		return -ENOMEM;
	/* Read, not mapped: the file may shrink under us. */
	while (done < bytes) {
		ssize_t n = pread(fd, (uint8_t *)ids + done, bytes - done, (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int error = n < 0 ? -errno : -EPROTO;
			free(ids);
			return error;
		}
		done += (size_t)n;
	}
	qsort(ids, count, sizeof(*ids), id_compare);
	*ret = ids;
	return 0;
}
