/* SPDX-License-Identifier: Apache-2.0 */
#include "capture_text.h"

#include "audit.h"
#include "model.h"

#include "sluice/packet.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { ENDPOINT_BYTES = 64, NAME_BYTES = 300 };

char *capture_comment(const struct capture_view *view, char *ret)
{
	const struct sluice_capture_record *head = &view->record->head;
	const char *label = capture_outcome_label(head->outcome), *kind = capture_outcome_kind(head->outcome);
	int n = snprintf(ret, CAPTURE_TEXT_BYTES, "%s%s%s (%s)", kind, strcmp(kind, label) ? " " : "",
			 strcmp(kind, label) ? label : "", capture_outcome_help(head->outcome));

	if (view->service)
		n += snprintf(ret + n, CAPTURE_TEXT_BYTES - n, "; service %.*s", NAME_BYTES, view->service);
	if (view->backend)
		n += snprintf(ret + n, CAPTURE_TEXT_BYTES - n, "; backend %.*s", NAME_BYTES, view->backend);
	if (head->bucket != SLUICE_NONE)
		n += snprintf(ret + n, CAPTURE_TEXT_BYTES - n, "; bucket %" PRIu32, head->bucket);
	if (view->path == CAPTURE_PATH_XDP)
		snprintf(ret + n, CAPTURE_TEXT_BYTES - n, "; path xdp, CPU %" PRIu32 "\n", view->worker);
	else
		snprintf(ret + n, CAPTURE_TEXT_BYTES - n, "; path dpdk, worker %" PRIu32 " of %" PRIu32 "\n",
			 view->worker, view->pid);
	return ret;
}

/* ------------------------------------------------------------------ the client's packet ---- */

/* What its headers say, as far as they were copied. */
struct inside {
	const char *protocol; /* "tcp", "udp", "icmp", "ip"; "ethernet" when it has no IP header */
	char source[ENDPOINT_BYTES], destination[ENDPOINT_BYTES];
	char flags[8];
	uint32_t bytes; /* of the IP packet; 0: unknown */
};

static void endpoint_text(const union sluice_address *address, uint16_t port_be16, bool has_port, char *ret)
{
	char text[46];
	const char *format = !has_port ? "%s" : sluice_address_is_v4(address) ? "%s:%u" : "[%s]:%u";
	snprintf(ret, ENDPOINT_BYTES, format, model_address_text(address, text), SLUICE_BE16(port_be16));
}

static void flags_text(uint8_t flags, char *ret)
{
	static const struct {
		uint8_t bit;
		char letter;
	} letters[] = {
	    {SLUICE_TCP_SYN, 'S'}, {SLUICE_TCP_FIN, 'F'}, {SLUICE_TCP_RST, 'R'},
	    {SLUICE_TCP_PSH, 'P'}, {SLUICE_TCP_ACK, 'A'},
	};
	for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++)
		if (flags & letters[i].bit)
			*ret++ = letters[i].letter;
	*ret = '\0';
}

static const char *protocol_word(uint8_t protocol)
{
	switch (protocol) {
	case SLUICE_IP_TCP: return "tcp";
	case SLUICE_IP_UDP: return "udp";
	case SLUICE_IP_ICMP:
	case SLUICE_IP_ICMPV6: return "icmp";
	default: return "ip";
	}
}

/* Lengths are as on the wire, of bytes there may be fewer: headers are read here, not judged. */
static void look_inside(const struct capture_record *record, struct inside *ret)
{
	const struct sluice_capture_record *head = &record->head;
	const uint8_t *l3 = record->bytes + head->inner_offset;
	uint32_t left = head->copied_bytes > head->inner_offset ? head->copied_bytes - head->inner_offset : 0;
	union sluice_address source, destination;
	uint32_t l4_offset;
	uint8_t protocol;
	bool is_later = false;

	*ret = (struct inside){.protocol = "ethernet"};
	if (!head->inner_offset)
		left = 0;
	if (left >= SLUICE_IPV4_BYTES && l3[0] >> 4 == 4) {
		source = sluice_address_v4(sluice_load32(l3 + 12));
		destination = sluice_address_v4(sluice_load32(l3 + 16));
		protocol = l3[9];
		l4_offset = (l3[0] & 15u) * 4;
		is_later = sluice_load16(l3 + 6) & SLUICE_BE16(0x1fff);
		ret->bytes = SLUICE_BE16(sluice_load16(l3 + 2));
	} else if (left >= SLUICE_IPV6_BYTES && l3[0] >> 4 == 6) {
		memcpy(source.bytes, l3 + 8, 16);
		memcpy(destination.bytes, l3 + 24, 16);
		protocol = l3[6];
		l4_offset = SLUICE_IPV6_BYTES;
		ret->bytes = SLUICE_IPV6_BYTES + SLUICE_BE16(sluice_load16(l3 + 4));
	} else {
		return;
	}
	const bool has_ports =
	    (protocol == SLUICE_IP_TCP || protocol == SLUICE_IP_UDP) && !is_later && left >= l4_offset + 4;
	ret->protocol = protocol_word(protocol);
	endpoint_text(&source, has_ports ? sluice_load16(l3 + l4_offset) : 0, has_ports, ret->source);
	endpoint_text(&destination, has_ports ? sluice_load16(l3 + l4_offset + 2) : 0, has_ports, ret->destination);
	if (has_ports && protocol == SLUICE_IP_TCP && left >= l4_offset + 14)
		flags_text(l3[l4_offset + 13], ret->flags);
}

/* ------------------------------------------------------------------------------ formats ---- */

char *capture_line(const struct capture_view *view, char *ret)
{
	const struct sluice_capture_record *head = &view->record->head;
	const char *label = capture_outcome_label(head->outcome), *kind = capture_outcome_kind(head->outcome);
	const time_t seconds = (time_t)(view->time_ns / 1000000000u);
	struct inside inside;
	char clock[16];
	struct tm tm;

	look_inside(view->record, &inside);
	gmtime_r(&seconds, &tm);
	strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	int n = snprintf(ret, CAPTURE_TEXT_BYTES, "%s.%06u %-4s %s%s%s", clock,
			 (unsigned)(view->time_ns / 1000 % 1000000), capture_path_word(view->path), kind,
			 strcmp(kind, label) ? ":" : "", strcmp(kind, label) ? label : "");
	n += snprintf(ret + n, CAPTURE_TEXT_BYTES - n, " %.*s/%.*s", NAME_BYTES, view->service ? view->service : "-",
		      NAME_BYTES, view->backend ? view->backend : "-");
	n += snprintf(ret + n, CAPTURE_TEXT_BYTES - n, " %s", inside.protocol);
	if (inside.source[0])
		n += snprintf(ret + n, CAPTURE_TEXT_BYTES - n, " %s > %s", inside.source, inside.destination);
	if (inside.flags[0])
		n += snprintf(ret + n, CAPTURE_TEXT_BYTES - n, " [%s]", inside.flags);
	snprintf(ret + n, CAPTURE_TEXT_BYTES - n, " length %" PRIu32 "%s%.*s\n",
		 inside.bytes ? inside.bytes : head->frame_bytes,
		 view->interface ? (head->flags & SLUICE_CAPTURE_LEAVES ? " out " : " in ") : "", NAME_BYTES,
		 view->interface ? view->interface : "");
	return ret;
}

static json_t *text_or_null(const char *text)
{
	return text && text[0] ? json_string(text) : json_null();
}

json_t *capture_json(const struct capture_view *view)
{
	const struct sluice_capture_record *head = &view->record->head;
	struct inside inside;
	char time[40];

	look_inside(view->record, &inside);
	return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:I, s:I}",
			 "time", audit_time_text(view->time_ns, time), "path", capture_path_word(view->path), "worker",
			 (json_int_t)view->worker, "verdict", capture_outcome_kind(head->outcome), "reason",
			 capture_outcome_label(head->outcome), "help", capture_outcome_help(head->outcome), "service",
			 text_or_null(view->service), "backend", text_or_null(view->backend), "bucket",
			 head->bucket == SLUICE_NONE ? json_null() : json_integer(head->bucket), "interface",
			 text_or_null(view->interface), "direction", head->flags & SLUICE_CAPTURE_LEAVES ? "out" : "in",
			 "proto", inside.protocol, "src", text_or_null(inside.source), "dst",
			 text_or_null(inside.destination), "flags", text_or_null(inside.flags), "bytes",
			 (json_int_t)inside.bytes, "frame_bytes", (json_int_t)head->frame_bytes);
}
