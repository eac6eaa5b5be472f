/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "Too big" messages of strangers. The first byte says of which family: '6' an ICMPv6 message, else an IPv4 packet,
 * whose ICMP checksum is made right when the byte is '+', so that the fuzzer gets behind it.
 */
#include "underlay_message.h"

#include "sluice/encap.h"
#include "sluice/packet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HOLDS(x)                                                                                                       \
	do {                                                                                                           \
		if (!(x))                                                                                              \
			abort();                                                                                       \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sum_mend(uint8_t *packet, size_t bytes)
{
	const size_t header = bytes < 20 ? 0 : (packet[0] & 15u) * 4,
		     total = bytes < 20 ? 0 : packet[2] << 8 | packet[3];
	uint32_t sum = 0;

	if (header < 20 || total > bytes || total < header + 8)
		return;
	packet[header + 2] = packet[header + 3] = 0;
	for (size_t i = header; i < total; i += 2)
		sum += (uint32_t)packet[i] << 8 | (i + 1 < total ? packet[i + 1] : 0);
	sum = (uint16_t)~sluice_sum_fold(sum);
	packet[header + 2] = (uint8_t)(sum >> 8);
	packet[header + 3] = (uint8_t)sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct underlay_message m, untouched;

	if (!size || size > 4096)
		return 0;
	const bool v4 = data[0] != '6';
	const size_t bytes = size - 1;
	/* A buffer of exactly this size, for the sanitizer. */
	uint8_t *packet = malloc(bytes ? bytes : 1);
	memcpy(packet, data + 1, bytes);
	if (data[0] == '+')
		sum_mend(packet, bytes);
	memset(&m, 0xaa, sizeof(m));
	memcpy(&untouched, &m, sizeof(m));
	int error = v4 ? underlay_message_parse4(packet, bytes, &m) : underlay_message_parse6(packet, bytes, &m);
	HOLDS(error == 0 || error == -ENOMSG || error == -EBADMSG || error == -ERANGE);
	if (error) {
		HOLDS(!memcmp(&m, &untouched, sizeof(m)));
	} else {
		HOLDS(m.mtu >= (v4 ? UNDERLAY_MTU4_MIN : UNDERLAY_MTU6_MIN));
		HOLDS(m.protocol == SLUICE_IP_IPIP || m.protocol == SLUICE_IP_IPV6 || m.protocol == SLUICE_IP_GRE ||
		      m.protocol == SLUICE_IP_UDP);
		HOLDS(sluice_address_is_v4(&m.source) == v4 && sluice_address_is_v4(&m.destination) == v4);
	}
	free(packet);
	return 0;
}
