/* SPDX-License-Identifier: Apache-2.0 */
#include "peers_message.h"

#include "sluice/forwarding.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

int peers_key_make(const struct sluice_hash_key *cluster, struct peers_key *ret)
{
	static const char purpose[] = "sluice: exceptions between peers, 1";
	struct peers_key key;
	uint8_t bytes[16];

	memcpy(bytes, &cluster->k0, 8);
	memcpy(bytes + 8, &cluster->k1, 8);
	int error = gnutls_hmac_fast(GNUTLS_MAC_SHA256, bytes, sizeof(bytes), purpose, sizeof(purpose) - 1, key.bytes)
			? -EIO
			: 0;
	explicit_bzero(bytes, sizeof(bytes));
	if (!error)
		*ret = key;
	explicit_bzero(&key, sizeof(key));
	return error;
}

uint64_t peers_service_id(const union sluice_address *address, uint16_t port_first, uint16_t port_last,
			  uint8_t protocol)
{
	uint8_t bytes[21];

	memcpy(bytes, address->bytes, 16);
	memcpy(bytes + 16, &port_first, 2);
	memcpy(bytes + 18, &port_last, 2);
	bytes[20] = protocol;
	return sluice_checksum(bytes, sizeof(bytes));
}

static int mac(const struct peers_key *key, const uint8_t *bytes, size_t length, uint8_t ret[PEERS_MAC_BYTES])
{
	return gnutls_hmac_fast(GNUTLS_MAC_SHA256, key->bytes, sizeof(key->bytes), bytes, length, ret) ? -EIO : 0;
}

int peers_message_write(const struct peers_key *key, const struct peers_message *message, uint8_t *ret)
{
	struct peers_header header = message->header;
	const size_t length = sizeof(header) + header.count * sizeof(struct peers_entry);

	header.magic = PEERS_MAGIC;
	header.version = PEERS_VERSION;
	memset(header.zero, 0, sizeof(header.zero));
	memcpy(ret, &header, sizeof(header));
	memcpy(ret + sizeof(header), message->entries, length - sizeof(header));
	int error = mac(key, ret, length, ret + length);
	return error ? error : (int)(length + PEERS_MAC_BYTES);
}

static bool is_zero(const uint8_t *bytes, size_t length)
{
	uint8_t any = 0;
	for (size_t i = 0; i < length; i++)
		any |= bytes[i];
	return any == 0;
}

static bool entry_is_sound(const struct peers_entry *entry)
{
	const bool names = entry->kind != PEERS_ENTRY_ENDED;
	return entry->kind >= PEERS_ENTRY_ESTABLISHED && entry->kind <= PEERS_ENTRY_FIRST && !entry->zero &&
	       !entry->zeros && (entry->kind == PEERS_ENTRY_FIRST || !entry->sequence) &&
	       (names || (!entry->service && is_zero(entry->backend.bytes, 16)));
}

int peers_message_read(const struct peers_key *key, const uint8_t *bytes, size_t length, struct peers_message *ret)
{
	struct peers_message message = {0};
	uint8_t expected[PEERS_MAC_BYTES];

	if (length < sizeof(message.header) + PEERS_MAC_BYTES)
		return -EBADMSG;
	memcpy(&message.header, bytes, sizeof(message.header));
	if (message.header.magic != PEERS_MAGIC)
		return -EBADMSG;
	if (message.header.version != PEERS_VERSION)
		return -EPROTONOSUPPORT;
	const uint32_t count = message.header.count;
	const size_t signed_bytes = length - PEERS_MAC_BYTES;
	if (count > PEERS_ENTRIES_MAX || signed_bytes != sizeof(message.header) + count * sizeof(struct peers_entry))
		return -EBADMSG;
	/* In a time that does not tell how much of it was right. */
	if (mac(key, bytes, signed_bytes, expected) ||
	    gnutls_memcmp(expected, bytes + signed_bytes, PEERS_MAC_BYTES) != 0)
		return -EACCES;
	memcpy(message.entries, bytes + sizeof(message.header), count * sizeof(struct peers_entry));
	if (!is_zero(message.header.zero, sizeof(message.header.zero)))
		return -EBADMSG;
	for (uint32_t i = 0; i < count; i++)
		if (!entry_is_sound(&message.entries[i]))
			return -EBADMSG;
	*ret = message;
	return 0;
}

bool peers_epoch_is_possible(uint64_t epoch, uint64_t now_s)
{
	return epoch / 1000000u <= now_s + PEERS_CLOCK_S;
}

bool peers_window_take(struct peers_window *window, uint64_t epoch, uint64_t sequence)
{
	if (epoch < window->epoch || sequence == 0)
		return false;
	if (epoch > window->epoch)
		*window = (struct peers_window){.epoch = epoch};
	if (sequence > window->highest) {
		const uint64_t ahead = sequence - window->highest;
		window->taken = (ahead < 64 ? window->taken << ahead : 0) | 1;
		window->highest = sequence;
		return true;
	}
	const uint64_t behind = window->highest - sequence;
	if (behind >= 64 || window->taken >> behind & 1)
		return false;
	window->taken |= 1ull << behind;
	return true;
}
