/* SPDX-License-Identifier: Apache-2.0 */
/* What a dataplane says to the control plane. First byte: how many descriptors came with it; then the message. */
#include "publish_message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct publish_message message;
	struct publish_refusal refusal;

	if (size < 1)
		return 0;
	int error = publish_message_parse(data + 1, size - 1, data[0], &message, &refusal);
	if (error) {
		/* A refusal says why. */
		if (!memchr(refusal.text, 0, sizeof(refusal.text)) || !refusal.text[0])
			abort();
		return 0;
	}
	if (message.type == SLUICE_MESSAGE_HELLO) {
		if (message.hello.port_count > SLUICE_PORTS_MAX || message.hello.held_lookups > PUBLISH_HELD_MAX ||
		    data[0] != 2 + message.hello.has_states)
			abort();
		for (uint32_t i = 0; i < message.hello.port_count; i++)
			if (strlen(message.hello.ports[i].name) >= sizeof(message.hello.ports[i].name))
				abort();
	} else if (message.type == SLUICE_MESSAGE_PARKED) {
		if (data[0] || message.parked.zero)
			abort();
	} else if (message.type != SLUICE_MESSAGE_ACK || data[0] != 0 ||
		   strlen(message.ack.text) >= sizeof(message.ack.text)) {
		abort();
	}
	return 0;
}
