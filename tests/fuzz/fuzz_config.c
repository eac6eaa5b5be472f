/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any text as a configuration. Two readings of one text must agree, and what comes out must be a whole
 * model or messages, never neither. The first byte says whether the rest stands alone or follows a good
 * beginning, so that the fuzzer reaches the rules and not only the syntax.
 */
#include "config.h"
#include "config_text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(condition)                                                                                             \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			abort();                                                                                       \
	} while (0)

/* libconfig 1.5 itself forgets the string that it was reading when a syntax error ends it; nothing of ours is hidden.
 */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:strbuf_append\nleak:libconfig_yylex\n";
}

static const char beginning[] = "hash_key_file = \"/nonexistent/hash.key\"; interfaces = ( { name = \"eth0\"; } );\n";

static void model_is_whole(const struct model *model)
{
	REQUIRE(model->references == 1 && model->file && model->node_name && model->interface_count);
	for (uint32_t i = 0; i < model->service_count; i++) {
		const struct model_service *service = &model->services[i];
		REQUIRE(service->name && service->health.path && service->table_size && service->health.interval_ns);
		REQUIRE(service->port_first && service->port_first <= service->port_last);
		REQUIRE(service->protocol == SLUICE_IP_TCP || service->protocol == SLUICE_IP_UDP);
		REQUIRE(model_service_find(model, service->name) == service);
		for (uint32_t k = 0; k < service->backend_count; k++) {
			const struct model_backend *backend = &service->backends[k];
			REQUIRE(backend->name && backend->weight <= 65535);
			REQUIRE(model_backend_find(service, backend->name) == backend);
			REQUIRE(model_encap(service, backend) != SLUICE_ENCAP_NONE);
			REQUIRE(backend->interface < (int)model->interface_count);
			REQUIRE(!backend->has_mac || backend->interface >= 0);
		}
	}
}

static void parse(const char *text)
{
	struct config_messages messages, again;
	struct model *model = NULL;
	int error = config_parse(text, "fuzz", &model, &messages);

	REQUIRE(error == 0 || error == -22 /* EINVAL */);
	REQUIRE((error != 0) == (messages.errors != 0) && (error != 0) == (model == NULL));
	REQUIRE(messages.errors <= messages.count);
	for (uint32_t i = 0; i < messages.count; i++) {
		REQUIRE(!strncmp(messages.lines[i], "fuzz:", 5));
		for (const char *p = messages.lines[i]; *p; p++)
			REQUIRE(*p >= ' ' && *p < 0x7f); /* one line, and fit for JSON */
	}
	if (model)
		model_is_whole(model);
	model_put(model);

	model = NULL;
	REQUIRE(config_parse(text, "fuzz", &model, &again) == error && again.count == messages.count);
	for (uint32_t i = 0; i < messages.count; i++)
		REQUIRE(!strcmp(messages.lines[i], again.lines[i]));
	model_put(model);
	config_messages_fini(&messages);
	config_messages_fini(&again);
}

static void ignore(void *user, int line, const char *message)
{
	(void)user;
	(void)line;
	(void)message;
}

/* The bytes as a file would bring them: a NUL anywhere is refused. */
static void add_bytes(const uint8_t *data, size_t size)
{
	struct config_text text;

	config_text_init(&text, ignore, NULL);
	int error = config_text_add_bytes(&text, "fuzz", (const char *)data, size);
	REQUIRE(!memchr(data, 0, size) || error == -22);
	REQUIRE(error || (text.bytes && text.bytes[text.length] == 0));
	config_text_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	add_bytes(data + 1, size - 1);
	size_t before = data[0] & 1 ? sizeof(beginning) - 1 : 0;
	char *text = malloc(before + size);
	REQUIRE(text);
	memcpy(text, beginning, before);
	memcpy(text + before, data + 1, size - 1);
	text[before + size - 1] = 0; /* what follows a NUL is another input's business */
	parse(text);
	free(text);
	return 0;
}
