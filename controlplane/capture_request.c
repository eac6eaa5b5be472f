/* SPDX-License-Identifier: Apache-2.0 */
#include "capture_request.h"

#include "quantity.h"

#include "sluice/steering.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REMEDY_VERDICT                                                                                                 \
	"forward, pass, drop or answer, a label such as no_backend (`sluicectl counters` has all), or several with "   \
	"commas"
#define REMEDY_CLIENT "an address or a prefix, such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32"

/* The kernel's outcome beside the verdicts, as steering.h has it. */
static const char *const no_socket[] = {
#define X(name, label, help) [STEERING_##name] = label,
    STEERING_OUTCOME_LIST(X)
#undef X
};
static const char *const no_socket_help[] = {
#define X(name, label, help) [STEERING_##name] = help,
    STEERING_OUTCOME_LIST(X)
#undef X
};

const char *capture_path_word(enum capture_path path)
{
	return path == CAPTURE_PATH_XDP ? "xdp" : "dpdk";
}

const char *capture_outcome_label(uint32_t outcome)
{
	return outcome < SLUICE_VERDICTS ? sluice_verdict_text(outcome).label : no_socket[STEERING_DROPPED_NO_SOCKET];
}

const char *capture_outcome_kind(uint32_t outcome)
{
	return outcome < SLUICE_VERDICTS ? sluice_verdict_kind(outcome) : "drop";
}

const char *capture_outcome_help(uint32_t outcome)
{
	return outcome < SLUICE_VERDICTS ? sluice_verdict_text(outcome).help
					 : no_socket_help[STEERING_DROPPED_NO_SOCKET];
}

/* ------------------------------------------------------------------------ fields ---- */

static bool refuse(struct capture_problem *ret, const json_t *body, const char *field, const char *remedy,
		   const char *what)
{
	char *value = json_dumps(json_object_get(body, field), JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII);

	snprintf(ret->text, sizeof(ret->text), "%s %.60s: %s", field, value ? value : "", what);
	free(value);
	ret->field = field;
	ret->remedy = remedy;
	return false;
}

/* The member's string, `fallback` when it is not there, or NULL: it is no string, or an empty one. */
static const char *string_of(const json_t *body, const char *field, const char *fallback)
{
	const json_t *value = json_object_get(body, field);
	const char *text = json_string_value(value);

	if (!value)
		return fallback;
	return text && text[0] && strlen(text) == json_string_length(value) ? text : NULL;
}

static bool number_of(const json_t *body, const char *field, uint64_t least, uint64_t most, uint64_t fallback,
		      const char *remedy, uint64_t *ret, struct capture_problem *ret_problem)
{
	const json_t *value = json_object_get(body, field);
	json_int_t number = json_integer_value(value);

	if (!value) {
		*ret = fallback;
		return true;
	}
	if (!json_is_integer(value) || number < 0 || (uint64_t)number < least || (uint64_t)number > most)
		return refuse(ret_problem, body, field, remedy, "not a usable number");
	*ret = (uint64_t)number;
	return true;
}

/* The outcomes that a word of `length` bytes stands for: a kind or a label. 0: none. */
static uint64_t outcomes_of(const char *word, size_t length)
{
	uint64_t bits = 0;

	for (uint32_t i = 0; i <= SLUICE_VERDICTS; i++) {
		const uint32_t outcome = i < SLUICE_VERDICTS ? i : SLUICE_CAPTURE_NO_SOCKET;
		const char *names[] = {capture_outcome_label(outcome), capture_outcome_kind(outcome)};
		for (int n = 0; n < 2; n++)
			if (strlen(names[n]) == length && !memcmp(names[n], word, length))
				bits |= sluice_capture_bit(outcome);
	}
	return bits;
}

static bool parse_verdicts(const json_t *body, uint64_t *ret, struct capture_problem *ret_problem)
{
	const char *text = string_of(body, "verdict", "forward,pass,drop,answer");
	uint64_t all = 0;

	if (!text)
		return refuse(ret_problem, body, "verdict", REMEDY_VERDICT, "not a word");
	for (const char *word = text; word;) {
		const size_t length = strcspn(word, ",");
		const uint64_t bits = outcomes_of(word, length);
		if (!bits)
			return refuse(ret_problem, body, "verdict", REMEDY_VERDICT, "there is none of that name");
		all |= bits;
		word = word[length] ? word + length + 1 : NULL;
	}
	*ret = all;
	return true;
}

/* The first `bits` bits of 16 bytes. */
static union sluice_address mask_of(unsigned bits)
{
	union sluice_address mask = {.halves = {0, 0}};
	for (unsigned i = 0; i < bits; i++)
		mask.bytes[i / 8] |= (uint8_t)(0x80 >> (i % 8));
	return mask;
}

static bool parse_client(const json_t *body, struct sluice_capture_filter *filter, struct capture_problem *ret_problem)
{
	char address[INET6_ADDRSTRLEN];
	union sluice_address v6;
	struct in_addr v4;

	if (!json_object_get(body, "client"))
		return true;
	const char *text = string_of(body, "client", NULL), *slash = text ? strchr(text, '/') : NULL;
	const size_t length = !text ? 0 : slash ? (size_t)(slash - text) : strlen(text);
	if (!length || length >= sizeof(address))
		return refuse(ret_problem, body, "client", REMEDY_CLIENT, "not an address");
	memcpy(address, text, length);
	address[length] = '\0';
	const bool is_v4 = inet_pton(AF_INET, address, &v4) == 1;
	if (is_v4)
		filter->client = sluice_address_v4(v4.s_addr);
	else if (inet_pton(AF_INET6, address, v6.bytes) == 1 && !sluice_address_is_v4(&v6))
		filter->client = v6;
	else
		return refuse(ret_problem, body, "client", REMEDY_CLIENT, "not an address");
	unsigned long bits = is_v4 ? 32 : 128;
	if (slash) {
		const unsigned long most = bits;
		char *end;
		bits = slash[1] >= '0' && slash[1] <= '9' ? strtoul(slash + 1, &end, 10) : most + 1;
		if (bits > most || *end)
			return refuse(ret_problem, body, "client", REMEDY_CLIENT, "not a length of a prefix");
	}
	/* IPv4 is v4-mapped: "any" of it still is IPv4. Any IPv6 address is any address. */
	filter->client_mask = mask_of((unsigned)bits + (is_v4 ? 96 : 0));
	return true;
}

static bool parse_paths(const json_t *body, bool *paths, struct capture_problem *ret_problem)
{
	const char *text = string_of(body, "path", "");
	bool found = false;

	for (int i = 0; text && i < CAPTURE_PATHS; i++) {
		paths[i] = !text[0] || !strcmp(text, capture_path_word((enum capture_path)i));
		found |= paths[i];
	}
	return found || refuse(ret_problem, body, "path", "dpdk or xdp; without it both", "there is none of that name");
}

static bool parse_duration(const json_t *body, uint64_t *ret, struct capture_problem *ret_problem)
{
	const char *text = string_of(body, "duration", "60s");
	const char *remedy = "such as 500ms, 30s or 10min; up to 24h";
	char why[128] = "not a duration";
	uint64_t ns = 0;

	if (!text || duration_parse(text, &ns, why, sizeof(why)))
		return refuse(ret_problem, body, "duration", remedy, why);
	if (ns < 1000000 || ns > CAPTURE_DURATION_MAX_NS)
		return refuse(ret_problem, body, "duration", remedy, "shorter than 1ms or longer than 24h");
	*ret = ns;
	return true;
}

static bool parse_format(const json_t *body, enum capture_format *ret, struct capture_problem *ret_problem)
{
	static const char *const words[] = {"pcapng", "text", "json"};
	const char *text = string_of(body, "format", "pcapng");

	for (int i = 0; text && i < 3; i++)
		if (!strcmp(text, words[i])) {
			*ret = (enum capture_format)i;
			return true;
		}
	return refuse(ret_problem, body, "format", "pcapng, text or json", "there is none of that name");
}

static bool parse_service(const json_t *body, char *ret, size_t room, struct capture_problem *ret_problem)
{
	const char *text = string_of(body, "service", "");

	if (!text || strlen(text) >= room)
		return refuse(ret_problem, body, "service", "see `sluicectl services` for the names", "not a name");
	if (json_object_get(body, "service"))
		memcpy(ret, text, strlen(text) + 1);
	return true;
}

/* In words, for the audit log. What does not fit is left out. */
static void describe(const json_t *body, struct capture_request *request)
{
	static const char *const fields[] = {"service", "client", "verdict", "path"};
	size_t used = 0;

	request->text[0] = '\0';
	for (int i = 0; i < 4; i++) {
		const char *value = string_of(body, fields[i], NULL);
		if (value && used < sizeof(request->text))
			used += (size_t)snprintf(request->text + used, sizeof(request->text) - used, "%s%s %s",
						 used ? ", " : "", fields[i], value);
	}
	if (used < sizeof(request->text))
		snprintf(request->text + used, sizeof(request->text) - used, "%s%llu packets, %.3f s, %u bytes of each",
			 used ? ", " : "", (unsigned long long)request->count, (double)request->duration_ns / 1e9,
			 request->filter.snaplen);
}

bool capture_request_parse(const json_t *body, struct capture_request *ret, struct capture_problem *ret_problem)
{
	struct capture_request request = {.filter = {.service = SLUICE_NONE}};
	uint64_t snaplen, sample;

	if (!parse_service(body, request.service, sizeof(request.service), ret_problem) ||
	    !parse_client(body, &request.filter, ret_problem) ||
	    !parse_verdicts(body, &request.filter.verdicts, ret_problem) ||
	    !parse_paths(body, request.paths, ret_problem) ||
	    !number_of(body, "count", 1, CAPTURE_COUNT_MAX, CAPTURE_COUNT_DEFAULT, "1 to 10000000 packets",
		       &request.count, ret_problem) ||
	    !parse_duration(body, &request.duration_ns, ret_problem) ||
	    !number_of(body, "snaplen", CAPTURE_SNAPLEN_MIN, SLUICE_CAPTURE_SNAP_MAX, CAPTURE_SNAPLEN_DEFAULT,
		       "14 to 1984 bytes of each frame", &snaplen, ret_problem) ||
	    !number_of(body, "sample", 1, CAPTURE_SAMPLE_MAX, 1, "one packet in so many, 1 to 1000000000", &sample,
		       ret_problem) ||
	    !parse_format(body, &request.format, ret_problem))
		return false;
	request.filter.snaplen = (uint32_t)snaplen;
	request.filter.sample = (uint32_t)sample;
	describe(body, &request);
	*ret = request;
	return true;
}
