/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams that are said to be a peer's. With '+' as the first byte the MAC is made right, so that the fuzzer gets
 * behind it.
 */
#include "peers_message.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#define HOLDS(x)                                                                                                       \
	do {                                                                                                           \
		if (!(x))                                                                                              \
			abort();                                                                                       \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct sluice_hash_key cluster = {1, 2};
	struct peers_message m, untouched;
	struct peers_window window = {0};
	struct peers_key key;

	if (!size || size > 4096 || peers_key_make(&cluster, &key))
		return 0;
	const size_t bytes = size - 1;
	/* A buffer of exactly this size, for the sanitizer. */
	uint8_t *datagram = malloc(bytes ? bytes : 1);
	memcpy(datagram, data + 1, bytes);
	if (data[0] == '+' && bytes >= PEERS_MAC_BYTES)
		gnutls_hmac_fast(GNUTLS_MAC_SHA256, key.bytes, sizeof(key.bytes), datagram, bytes - PEERS_MAC_BYTES,
				 datagram + bytes - PEERS_MAC_BYTES);
	memset(&m, 0xaa, sizeof(m));
	memcpy(&untouched, &m, sizeof(m));
	int error = peers_message_read(&key, datagram, bytes, &m);
	HOLDS(error == 0 || error == -EBADMSG || error == -EPROTONOSUPPORT || error == -EACCES);
	if (error) {
		HOLDS(!memcmp(&m, &untouched, sizeof(m)));
	} else {
		uint8_t again[PEERS_MESSAGE_MAX];
		HOLDS(m.header.count <= PEERS_ENTRIES_MAX);
		for (uint32_t i = 0; i < m.header.count; i++)
			HOLDS(m.entries[i].kind >= PEERS_ENTRY_ESTABLISHED && m.entries[i].kind <= PEERS_ENTRY_FIRST);
		/* All of it was read: written again it is the same. */
		HOLDS(peers_message_write(&key, &m, again) == (int)bytes && !memcmp(again, datagram, bytes));
		if (peers_window_take(&window, m.header.epoch, m.header.sequence))
			HOLDS(!peers_window_take(&window, m.header.epoch, m.header.sequence));
	}
	free(datagram);
	return 0;
}
