/* SPDX-License-Identifier: Apache-2.0 */
#include "message.h"
#include "reject.h"
#include "sluice/capture.h"
#include "table_store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int parse_header(const void *bytes, size_t length, struct sluice_message_header *ret,
			struct sluice_refusal *ret_refusal)
{
	if (length < sizeof(*ret) || length > SLUICE_MESSAGE_MAX)
		return reject(ret_refusal, -EPROTO, "message: %zu bytes; %zu to %u are possible", length, sizeof(*ret),
			      SLUICE_MESSAGE_MAX);
	memcpy(ret, bytes, sizeof(*ret));
	if (ret->magic != SLUICE_MESSAGE_MAGIC)
		return reject(ret_refusal, -EPROTO, "message: magic %08x, not %08x", ret->magic, SLUICE_MESSAGE_MAGIC);
	if (ret->abi < SLUICE_ABI_MIN || ret->abi > SLUICE_ABI)
		return reject(
		    ret_refusal, -EPROTONOSUPPORT,
		    "message: ABI %u, this program speaks %u to %u; upgrade the older of control plane and dataplane",
		    ret->abi, SLUICE_ABI_MIN, SLUICE_ABI);
	if (ret->bytes != length || ret->zero)
		return reject(ret_refusal, -EPROTO, "message of type %u: says %u bytes and %u, has %zu bytes and 0",
			      ret->type, ret->bytes, ret->zero, length);
	return 0;
}

static int check_length(const char *name, size_t length, size_t wanted, struct sluice_refusal *ret_refusal)
{
	if (length == wanted)
		return 0;
	return reject(ret_refusal, -EPROTO, "%s: %zu bytes, not %zu", name, length, wanted);
}

int message_parse(const void *bytes, size_t length, uint32_t descriptors, struct message *ret,
		  struct sluice_refusal *ret_refusal)
{
	struct sluice_message_header header = {0};
	struct message message = {0};
	uint32_t wanted = 1; /* descriptors */
	int error = parse_header(bytes, length, &header, ret_refusal);
	if (error)
		return error;

	message.type = header.type;
	switch (message.type) {
	case SLUICE_MESSAGE_STATES:
		error = check_length("STATES", length, sizeof(struct sluice_message_states), ret_refusal);
		break;
	case SLUICE_MESSAGE_LOOKUPS: {
		struct sluice_message_lookups lookups;
		error = check_length("LOOKUPS", length, sizeof(lookups), ret_refusal);
		if (error)
			break;
		memcpy(&lookups, bytes, sizeof(lookups));
		if (lookups.bytes < sizeof(struct sluice_lookups_header) || lookups.bytes > SLUICE_LOOKUPS_BLOB_MAX)
			error = reject(ret_refusal, -EPROTO, "LOOKUPS: a blob of %llu bytes; %zu to %llu are possible",
				       (unsigned long long)lookups.bytes, sizeof(struct sluice_lookups_header),
				       (unsigned long long)SLUICE_LOOKUPS_BLOB_MAX);
		message.bytes = lookups.bytes;
		break;
	}
	case SLUICE_MESSAGE_TABLE: {
		struct sluice_message_table table;
		error = check_length("TABLE", length, sizeof(table), ret_refusal);
		if (error)
			break;
		memcpy(&table, bytes, sizeof(table));
		if (!table.generation)
			error = reject(ret_refusal, -EPROTO, "TABLE: generation 0; they count from 1");
		else if (table.bytes < sizeof(struct sluice_table_header) || table.bytes > TABLE_STORE_TABLE_BYTES_MAX)
			error = reject(ret_refusal, -EPROTO, "TABLE: a table of %llu bytes; %zu to %llu are possible",
				       (unsigned long long)table.bytes, sizeof(struct sluice_table_header),
				       (unsigned long long)TABLE_STORE_TABLE_BYTES_MAX);
		message.generation = table.generation;
		message.bytes = table.bytes;
		break;
	}
	case SLUICE_MESSAGE_PARK: {
		struct sluice_message_park park;
		error = check_length("PARK", length, sizeof(park), ret_refusal);
		if (error)
			break;
		memcpy(&park, bytes, sizeof(park));
		if (park.zero)
			error = reject(ret_refusal, -EPROTO, "PARK: %u where zero must be", park.zero);
		message.ports = park.ports;
		wanted = 0;
		break;
	}
	case SLUICE_MESSAGE_CAPTURE: {
		struct sluice_message_capture capture;
		error = check_length("CAPTURE", length, sizeof(capture), ret_refusal);
		if (error)
			break;
		memcpy(&capture, bytes, sizeof(capture));
		if (capture.bytes &&
		    (capture.bytes < sluice_capture_bytes(1, 1) ||
		     capture.bytes > sluice_capture_bytes(SLUICE_CAPTURE_WRITERS_MAX, SLUICE_CAPTURE_RECORDS_MAX)))
			error = reject(ret_refusal, -EPROTO, "CAPTURE: a memory of %llu bytes is not possible",
				       (unsigned long long)capture.bytes);
		message.bytes = capture.bytes;
		wanted = capture.bytes != 0;
		break;
	}
	default:
		error = reject(ret_refusal, -EPROTO, "message: type %u is none that a dataplane receives", header.type);
	}
	if (!error && descriptors != wanted)
		error = reject(ret_refusal, -EPROTO, "message of type %u: %u descriptors, not %u", header.type,
			       descriptors, wanted);
	if (error)
		return error;
	*ret = message;
	return 0;
}

int message_map(const struct message *message, int fd, const void **ret, struct sluice_refusal *ret_refusal)
{
	const int wanted = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
	struct stat file = {0};
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & wanted) != wanted)
		return reject(ret_refusal, -EPROTO,
			      "descriptor: no memfd sealed against writing, shrinking and growing");
	if (fstat(fd, &file) || (uint64_t)file.st_size != message->bytes)
		return reject(ret_refusal, -EPROTO, "descriptor: %lld bytes, the message says %llu",
			      (long long)file.st_size, (unsigned long long)message->bytes);
	/* Private: a shared mapping of a sealed memfd is refused by kernels before 6.7. */
	void *map = mmap(NULL, message->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return reject(ret_refusal, -errno, "descriptor: cannot be mapped: %s", strerror(errno));
	*ret = map;
	return 0;
}
