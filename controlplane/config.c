/* SPDX-License-Identifier: Apache-2.0 */
/* The journey of a configuration: text, settings, model, rules; or messages. And the small sections. */
#include "config_reader.h"

#include "sluice/exceptions.h"
#include "sluice/icmp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HASH_KEY_FILE_DEFAULT "/etc/sluice/hash.key"

enum { EXCEPTIONS_LOG2_DEFAULT = 20 };
enum { CORES_MAX = 64, CORE_MAX = 1023 }; /* as the dataplane has them */

/* -------------------------------------------------------------------- node ---- */

static void read_node_name(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_name(reader, setting, &((struct model *)object)->node_name);
}

static void read_node_zone(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_name(reader, setting, &((struct model *)object)->node_zone);
}

static void read_node_region(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_name(reader, setting, &((struct model *)object)->node_region);
}

static const struct config_key node_keys[] = {
    {"name", read_node_name}, {"zone", read_node_zone}, {"region", read_node_region}, {NULL}};

static void read_node(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	uint64_t present;

	config_group(reader, setting, node_keys, object, &present);
}

/* --------------------------------------------------------------- dataplane ---- */

static void read_cores(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model *model = object;
	int count = config_setting_length(setting);

	if (!config_setting_is_array(setting) && !config_setting_is_list(setting)) {
		config_type_error(reader, setting, "an array of core numbers, like [2, 3]");
		return;
	}
	if (count < 1 || count > CORES_MAX) {
		config_setting_error(reader, setting, "must have 1 to %d core numbers, not %d", CORES_MAX, count);
		return;
	}
	model->dataplane.cores = calloc((size_t)count, sizeof(*model->dataplane.cores));
	if (!model->dataplane.cores) {
		reader->no_memory = true;
		return;
	}
	for (int i = 0; i < count; i++) {
		const config_setting_t *element = config_setting_get_elem(setting, (unsigned)i);
		uint32_t have = model->dataplane.core_count;
		int64_t core;
		if (!config_integer(reader, element, 0, CORE_MAX, &core))
			continue;
		for (uint32_t k = 0; k < have; k++)
			if (model->dataplane.cores[k] == core)
				config_setting_error(reader, element,
						     "core %d is listed twice: each worker needs its own", (int)core);
		model->dataplane.cores[model->dataplane.core_count++] = (uint32_t)core;
	}
}

static void read_idle(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	static const struct config_word words[] = {{"sleep", 1, false}, {"spin", 0, false}, {NULL}};
	int sleep;

	if (config_word(reader, setting, words, &sleep))
		((struct model *)object)->dataplane.idle_sleep = sleep;
}

static void read_hugepages(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_bool(reader, setting, &((struct model *)object)->dataplane.hugepages);
}

static void read_exceptions(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	const int64_t least = 1ll << SLUICE_EXCEPTIONS_SIZE_LOG2_MIN, most = 1ll << SLUICE_EXCEPTIONS_SIZE_LOG2_MAX;
	int64_t entries;

	if (!config_integer(reader, setting, least, most, &entries))
		return;
	if (entries & (entries - 1))
		config_setting_error(reader, setting, "must be a power of two, %lld to %lld; %lld is not",
				     (long long)least, (long long)most, (long long)entries);
	else
		((struct model *)object)->dataplane.exceptions_log2 = (uint32_t)__builtin_ctzll((uint64_t)entries);
}

static void read_icmp_rate(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	int64_t rate;

	if (config_integer(reader, setting, 0, SLUICE_ICMP_PER_SECOND_MAX, &rate))
		((struct model *)object)->dataplane.icmp_rate = (uint32_t)rate;
}

static void read_shed_above(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	int64_t percent;

	if (config_integer(reader, setting, 1, 100, &percent))
		((struct model *)object)->dataplane.shed_above = (uint32_t)percent;
}

static const struct config_key dataplane_keys[] = {{"cores", read_cores},
						   {"idle", read_idle},
						   {"hugepages", read_hugepages},
						   {"exceptions", read_exceptions},
						   {"icmp_rate", read_icmp_rate},
						   {"shed_above", read_shed_above},
						   {NULL}};

static void read_dataplane(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	uint64_t present;

	config_group(reader, setting, dataplane_keys, object, &present);
}

/* --------------------------------------------------------------------- api ---- */

static void read_listen(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_listen(reader, setting, &((struct model *)object)->api.listen);
}

static void read_group(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	config_name(reader, setting, &((struct model *)object)->api.group);
}

static const struct config_key api_keys[] = {
    {"listen", read_listen},
    {"group", read_group},
    {"tls", NULL, .refusal = "is not supported by this version: the TCP listener is read-only on loopback"},
    {NULL}};

static void read_api(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	uint64_t present;

	config_group(reader, setting, api_keys, object, &present);
}

/* --------------------------------------------------------------- top level ---- */

static void read_hash_key_file(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	char quoted[CONFIG_QUOTED_BYTES];
	const char *path;

	(void)object;
	free(reader->hash_key_file);
	reader->hash_key_file = NULL;
	reader->hash_key_line = (int)config_setting_source_line(setting);
	if (!config_string(reader, setting, &path))
		return;
	size_t length = strlen(path);
	if (path[0] != '/' || path[length - 1] == '/')
		config_setting_error(reader, setting, "%s must be the absolute path of a file",
				     config_quoted(path, quoted));
	else
		config_string_copy(reader, setting, &reader->hash_key_file);
}

static void read_encap_source(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model *model = object;

	model->has_encap_source4 =
	    config_source_prefix(reader, setting, true, &model->encap_source4, &model->spread_mask4_be32);
}

static void read_encap_source6(struct config_reader *reader, const config_setting_t *setting, void *object)
{
	struct model *model = object;

	model->has_encap_source6 =
	    config_source_prefix(reader, setting, false, &model->encap_source6, &model->spread_mask6_be32);
}

static const struct config_key root_keys[] = {
    {"node", read_node},
    {"hash_key_file", read_hash_key_file},
    {"interfaces", config_read_interfaces, .required = true}, /* before services: backends name them */
    {"dataplane", read_dataplane},
    {"encap_source", read_encap_source},
    {"encap_source6", read_encap_source6},
    {"services", config_read_services},
    {"vips", config_read_vips},
    {"peers", config_read_peers}, /* after vips: none of them is a node's own address */
    {"api", read_api},
    {"cluster", NULL, .refusal = "is not supported by this version: a node runs from its file"},
    {NULL}};

/* ----------------------------------------------------------------- journey ---- */

static void text_report(void *user, int line, const char *message)
{
	config_error(user, line, "%s", message);
}

static bool model_prepare(struct config_reader *reader, const char *name)
{
	char host[256] = "";
	struct model *model = calloc(1, sizeof(*model));

	reader->model = model;
	if (!model)
		return false;
	model->references = 1;
	model->dataplane.idle_sleep = true;
	model->dataplane.hugepages = true;
	model->dataplane.exceptions_log2 = EXCEPTIONS_LOG2_DEFAULT;
	model->dataplane.icmp_rate = SLUICE_ICMP_PER_SECOND;
	model->dataplane.shed_above = MODEL_SHED_ABOVE;
	gethostname(host, sizeof(host) - 1);
	model->file = strdup(name);
	model->node_name = strdup(host[0] ? host : "node");
	reader->hash_key_file = strdup(HASH_KEY_FILE_DEFAULT);
	return model->file && model->node_name && reader->hash_key_file;
}

/* From the joined text to the model, as far as it can be read. */
static void read_settings(struct config_reader *reader)
{
	config_t file;
	uint64_t present;

	config_init(&file);
	/* Includes are in the text already: if one were left, it would not be found. */
	config_set_include_dir(&file, "/dev/null");
	if (config_read_string(&file, reader->text.bytes ? reader->text.bytes : "")) {
		config_group(reader, config_root_setting(&file), root_keys, reader->model, &present);
	} else {
		config_error(reader, config_error_line(&file),
			     "%s (what else may be wrong is told when this is mended)", config_error_text(&file));
	}
	config_destroy(&file);
}

/* Lines of the joined text become lines of the files. */
static void lines_settle(struct config_reader *reader)
{
	struct model *model = reader->model;

	for (uint32_t i = 0; i < model->interface_count; i++)
		config_text_where(&reader->text, model->interfaces[i].line, &model->interfaces[i].line);
	for (uint32_t i = 0; i < model->vip_count; i++)
		config_text_where(&reader->text, model->vips[i].line, &model->vips[i].line);
	for (uint32_t i = 0; i < model->service_count; i++) {
		struct model_service *service = &model->services[i];
		config_text_where(&reader->text, service->line, &service->line);
		for (uint32_t k = 0; k < service->backend_count; k++)
			config_text_where(&reader->text, service->backends[k].line, &service->backends[k].line);
	}
}

/* `text` NULL: the file `name` itself. */
static int read_all(const char *name, const char *text, bool make_hash_key, struct model **ret,
		    struct config_messages *ret_messages)
{
	struct config_reader reader = {0};
	int error;

	*ret_messages = (struct config_messages){0};
	config_text_init(&reader.text, text_report, &reader);
	if (!model_prepare(&reader, name)) {
		error = -ENOMEM;
		goto out;
	}
	error = text ? config_text_add_bytes(&reader.text, name, text, strlen(text))
		     : config_text_add_file(&reader.text, name);
	if (error)
		goto messages;
	read_settings(&reader);
	config_check(&reader);
	if (reader.hash_key_file)
		config_hash_key(&reader, make_hash_key && !reader.error_count);
	if (reader.error_count)
		error = -EINVAL;
	else if (reader.no_memory || model_index(reader.model))
		error = -ENOMEM;
messages:
	if (reader.no_memory)
		error = -ENOMEM;
	if (config_messages_finish(&reader, name, ret_messages))
		error = -ENOMEM;
	ret_messages->files = reader.text.file_count;
	if (!error) {
		lines_settle(&reader);
		*ret = reader.model;
		reader.model = NULL;
	}
out:
	config_messages_drop(&reader);
	free(reader.hash_key_file);
	config_text_fini(&reader.text);
	model_put(reader.model);
	return error;
}

int config_load(const char *path, bool make_hash_key, struct model **ret, struct config_messages *ret_messages)
{
	return read_all(path, NULL, make_hash_key, ret, ret_messages);
}

int config_parse(const char *text, const char *name, struct model **ret, struct config_messages *ret_messages)
{
	return read_all(name, text, false, ret, ret_messages);
}
