/* SPDX-License-Identifier: Apache-2.0 */
/* A service's `health`. */
#include "config_reader.h"
#include "quantity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_YET "is not supported by this version"
#define MILLISECOND 1000000ull
#define SECOND 1000000000ull

enum { STREAK_MAX = 1000, TARGET_MAX = 1024 };

static const uint64_t interval_default = SECOND, timeout_default = 500 * MILLISECOND;

void config_health_defaults(struct config_reader *reader, struct model_health *health)
{
	*health = (struct model_health){.type = MODEL_HEALTH_TCP,
					.path = strdup("/"),
					.status_first = 200,
					.status_last = 399,
					.interval_ns = interval_default,
					.timeout_ns = timeout_default,
					.rise = 2,
					.fall = 3};
	reader->no_memory |= !health->path;
}

static void read_type(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	static const struct config_word words[] = {{"none", MODEL_HEALTH_NONE, false},
						   {"tcp", MODEL_HEALTH_TCP, false},
						   {"http", MODEL_HEALTH_HTTP, false},
						   {"https", 0, true},
						   {"grpc", 0, true},
						   {"dns", 0, true},
						   {"udp", 0, true},
						   {"icmp", 0, true},
						   {"exec", 0, true},
						   {NULL}};
	int type;

	if (config_word(reader, setting, words, &type))
		((struct model_health *)object)->type = (enum model_health_type)type;
}

static void read_port(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	int64_t port;

	if (config_integer(reader, setting, 1, 65535, &port))
		((struct model_health *)object)->port = (uint16_t)port;
}

/* A string that goes into a request as it is: no byte may end a line or a word of it. */
static bool request_word(struct config_reader *reader, const config_setting_t *setting, const char **ret)
{
	const char *text;

	if (!config_string(reader, setting, &text))
		return false;
	for (const char *p = text; *p; p++) {
		if (*p <= ' ' || *p >= 0x7f || p - text >= TARGET_MAX) {
			config_setting_error(reader, setting,
					     "may have at most %d characters, and no spaces or control characters",
					     TARGET_MAX);
			return false;
		}
	}
	*ret = text;
	return true;
}

static void read_path(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_health *health = object;
	char quoted[CONFIG_QUOTED_BYTES];
	const char *text;

	if (!request_word(reader, setting, &text))
		return;
	if (text[0] != '/')
		config_setting_error(reader, setting, "%s must begin with \"/\"", config_quoted(text, quoted));
	else
		config_string_copy(reader, setting, &health->path);
}

static void read_host(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	const char *text;

	if (request_word(reader, setting, &text))
		config_string_copy(reader, setting, &((struct model_health *)object)->host);
}

/* 200 or "200-399". */
static void read_status(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_health *health = object;
	char quoted[CONFIG_QUOTED_BYTES];
	unsigned first, last;
	const char *text;
	int64_t status;
	int end = 0;

	if (config_setting_type(setting) == CONFIG_TYPE_INT || config_setting_type(setting) == CONFIG_TYPE_INT64) {
		if (config_integer(reader, setting, 100, 599, &status))
			health->status_first = health->status_last = (uint32_t)status;
		return;
	}
	if (config_setting_type(setting) != CONFIG_TYPE_STRING) {
		config_type_error(reader, setting, "a number or a range like \"200-399\"");
		return;
	}
	if (!config_string(reader, setting, &text))
		return;
	bool plain = strspn(text, "0123456789-") == strlen(text);
	if (plain && sscanf(text, "%3u%n", &first, &end) == 1 && !text[end])
		last = first;
	else if (!plain || sscanf(text, "%3u-%3u%n", &first, &last, &end) != 2 || text[end])
		first = last = 0;
	if (first < 100 || last > 599 || first > last)
		config_setting_error(reader, setting, "%s is no status of 100 to 599 or range like \"200-399\"",
				     config_quoted(text, quoted));
	else {
		health->status_first = first;
		health->status_last = last;
	}
}

static void read_interval(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_duration(reader, setting, 10 * MILLISECOND, 3600 * SECOND,
			&((struct model_health *)object)->interval_ns);
}

static void read_timeout(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_duration(reader, setting, MILLISECOND, 3600 * SECOND, &((struct model_health *)object)->timeout_ns);
}

static void read_rise(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	int64_t rise;

	if (config_integer(reader, setting, 1, STREAK_MAX, &rise))
		((struct model_health *)object)->rise = (uint32_t)rise;
}

static void read_fall(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	int64_t fall;

	if (config_integer(reader, setting, 1, STREAK_MAX, &fall))
		((struct model_health *)object)->fall = (uint32_t)fall;
}

static const struct config_key health_keys[] = {
    {"type", read_type},
    {"port", read_port},
    {"path", read_path},
    {"host", read_host},
    {"status", read_status},
    {"interval", read_interval},
    {"timeout", read_timeout},
    {"rise", read_rise},
    {"fall", read_fall},
    {"expect", NULL, .refusal = NOT_YET ": status = \"200-399\" tells which answers are good"},
    {"fast_interval", NULL, .refusal = NOT_YET},
    {"jitter", NULL, .refusal = NOT_YET},
    {"via", NULL, .refusal = NOT_YET},
    {NULL},
};

void config_read_health(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model_health *health = &((struct model_service *)object)->health;
	char timeout[32], interval[32];
	uint64_t present;
	uint32_t errors = reader->error_count;

	health->timeout_ns = 0; /* not given */
	/* What the settings mean together is said of good ones only: "typ" must not be told that it is no http. */
	if (!config_group(reader, setting, health_keys, health, &present) || reader->error_count != errors)
		return;
	for (uint32_t k = 0; health_keys[k].name && health->type == MODEL_HEALTH_TCP; k++) {
		bool http_only = health_keys[k].read == read_path || health_keys[k].read == read_host ||
				 health_keys[k].read == read_status;
		if (http_only && present & 1ull << k)
			config_setting_error(reader, config_setting_get_member(setting, health_keys[k].name),
					     "is for type = \"http\" only");
	}
	if (!health->timeout_ns)
		health->timeout_ns = health->interval_ns < timeout_default ? health->interval_ns : timeout_default;
	if (health->timeout_ns > health->interval_ns)
		config_setting_error(
		    reader, setting, "timeout %s is longer than interval %s: a probe must end before the next begins",
		    duration_text(health->timeout_ns, timeout), duration_text(health->interval_ns, interval));
}
