/* SPDX-License-Identifier: Apache-2.0 */
/* What a reading has to say, collected and put in the file's order. */
#include "config_reader.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct config_message {
	char *text;
	int line;       /* of the joined text */
	uint32_t order; /* of reporting: the lesser key */
	bool warning;
};

static void message_add(struct config_reader *reader, int line, bool warning, const char *prefix, const char *format,
			va_list arguments)
{
	char *text, *whole;

	/* Each kind has its own limit: a flood of warnings must not hide an error. */
	if ((warning ? reader->warning_count++ : reader->error_count++) >= CONFIG_MESSAGES_MAX)
		return;
	if (reader->message_count == reader->message_capacity) {
		uint32_t capacity = reader->message_capacity ? 2 * reader->message_capacity : 16;
		struct config_message *grown = realloc(reader->messages, capacity * sizeof(*grown));
		if (!grown) {
			reader->no_memory = true;
			return;
		}
		reader->messages = grown;
		reader->message_capacity = capacity;
	}
	if (vasprintf(&text, format, arguments) < 0) {
		reader->no_memory = true;
		return;
	}
	if (asprintf(&whole, "%s%s", prefix, text) < 0) {
		reader->no_memory = true;
		free(text);
		return;
	}
	free(text);
	reader->messages[reader->message_count] = (struct config_message){whole, line, reader->message_count, warning};
	reader->message_count++;
}

void config_error(struct config_reader *reader, int line, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	message_add(reader, line, false, "", format, arguments);
	va_end(arguments);
}

void config_warning(struct config_reader *reader, int line, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	message_add(reader, line, true, "", format, arguments);
	va_end(arguments);
}

char *config_quoted(const char *text, char *ret)
{
	enum { SHOWN = 60 };
	char *out = ret;
	int shown = 0;

	*out++ = '"';
	for (; *text && shown < SHOWN; text++, shown++) {
		if (*text >= ' ' && *text < 0x7f)
			*out++ = *text;
		else
			out += sprintf(out, "\\x%02x", (unsigned char)*text);
	}
	*out++ = '"';
	strcpy(out, *text ? "..." : "");
	return ret;
}

/* ------------------------------------------------- where a setting stands ---- */

/* What one element of the list of this name is called. */
static const char *element_noun(const char *list)
{
	static const char *const nouns[][2] = {
	    {"services", "service"}, {"backends", "backend"}, {"interfaces", "interface"}, {"vips", "vip"}};

	for (size_t i = 0; i < sizeof(nouns) / sizeof(nouns[0]); i++)
		if (!strcmp(nouns[i][0], list))
			return nouns[i][1];
	return list;
}

/* What people call this element: its name, else its address or device. NULL: nothing. */
static const char *element_name(const config_setting_t *element)
{
	static const char *const settings[] = {"name", "address", "pci", "vdev"};
	const char *name;

	if (!config_setting_is_group(element))
		return NULL;
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (config_setting_lookup_string(element, settings[i], &name))
			return name;
	return NULL;
}

static void path_add(char *path, size_t bytes, const char *separator, const char *text)
{
	size_t length = strlen(path);

	snprintf(path + length, bytes - length, "%s%s", length ? separator : "", text);
}

static void path_of(const config_setting_t *setting, char *path, size_t bytes)
{
	const config_setting_t *parent = config_setting_parent(setting);

	if (!parent)
		return;
	if (setting->name) {
		path_of(parent, path, bytes);
		path_add(path, bytes, ", ", setting->name);
		return;
	}
	/* An element is called by its noun: its list's name is left out. */
	const config_setting_t *grandparent = config_setting_parent(parent);
	if (grandparent)
		path_of(grandparent, path, bytes);
	char quoted[CONFIG_QUOTED_BYTES];
	const char *name = element_name(setting);
	path_add(path, bytes, ", ", element_noun(parent->name ? parent->name : "element"));
	if (name) {
		path_add(path, bytes, " ", config_quoted(name, quoted));
	} else {
		snprintf(quoted, sizeof(quoted), "number %d", config_setting_index(setting) + 1);
		path_add(path, bytes, " ", quoted);
	}
}

/* `where` tells the place in words; the line is the setting's. */
static void setting_message(struct config_reader *reader, const config_setting_t *setting,
			    const config_setting_t *where, bool warning, const char *format, va_list arguments)
{
	char path[1024] = "";

	if ((warning ? reader->warning_count : reader->error_count) < CONFIG_MESSAGES_MAX) {
		path_of(where, path, sizeof(path) - 3);
		if (path[0])
			strcat(path, ": ");
	}
	message_add(reader, (int)config_setting_source_line(setting), warning, path, format, arguments);
}

void config_setting_error(struct config_reader *reader, const config_setting_t *setting, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	setting_message(reader, setting, setting, false, format, arguments);
	va_end(arguments);
}

void config_member_error(struct config_reader *reader, const config_setting_t *setting, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	setting_message(reader, setting, config_setting_parent(setting), false, format, arguments);
	va_end(arguments);
}

void config_setting_warning(struct config_reader *reader, const config_setting_t *setting, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	setting_message(reader, setting, setting, true, format, arguments);
	va_end(arguments);
}

/* ------------------------------------------------------------------- order ---- */

char *config_where(const struct config_reader *reader, int line, char *ret)
{
	int file_line;
	const char *file = config_text_where(&reader->text, line, &file_line);

	snprintf(ret, CONFIG_WHERE_BYTES, "%s:%d", file, file_line);
	return ret;
}

static int message_compare(const void *a, const void *b)
{
	const struct config_message *x = a, *y = b;

	if (x->warning != y->warning)
		return x->warning - y->warning;
	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

/* Names of files come from the command line and from @include: keep them to one line of plain text. */
static void make_printable(char *line)
{
	for (; *line; line++)
		if (*line < ' ' || *line == 0x7f)
			*line = '?';
}

static char *message_line(const struct config_reader *reader, const struct config_message *message, const char *name)
{
	const char *warning = message->warning ? "warning: " : "", *file = name;
	int file_line = 0, length;
	char *line;

	if (message->line)
		file = config_text_where(&reader->text, message->line, &file_line);
	if (file_line)
		length = asprintf(&line, "%s:%d: %s%s", file, file_line, warning, message->text);
	else
		length = asprintf(&line, "%s: %s%s", file, warning, message->text);
	if (length < 0)
		return NULL;
	make_printable(line);
	return line;
}

static char *hidden_line(const char *name, const char *warning, uint32_t hidden)
{
	char *line;

	if (asprintf(&line, "%s: %s%u more like these are not shown", name, warning, hidden) < 0)
		return NULL;
	make_printable(line);
	return line;
}

int config_messages_finish(struct config_reader *reader, const char *name, struct config_messages *ret)
{
	uint32_t shown_errors = 0, placed_errors = 0, count = 0;
	char **lines = calloc(reader->message_count + 3, sizeof(*lines));

	if (!lines)
		return -ENOMEM;
	if (reader->message_count)
		qsort(reader->messages, reader->message_count, sizeof(*reader->messages), message_compare);
	while (shown_errors < reader->message_count && !reader->messages[shown_errors].warning)
		shown_errors++;

	for (uint32_t i = 0; i < shown_errors; i++) {
		lines[count++] = message_line(reader, &reader->messages[i], name);
		placed_errors += reader->messages[i].line != 0;
	}
	if (reader->error_count > shown_errors)
		lines[count++] = hidden_line(name, "", reader->error_count - shown_errors);
	uint32_t errors = count, warnings = reader->message_count - shown_errors;
	for (uint32_t i = shown_errors; i < reader->message_count; i++)
		lines[count++] = message_line(reader, &reader->messages[i], name);
	if (reader->warning_count > warnings)
		lines[count++] = hidden_line(name, "warning: ", reader->warning_count - warnings);

	ret->lines = lines;
	ret->count = count;
	ret->errors = errors;
	ret->placed_errors = placed_errors;
	for (uint32_t i = 0; i < count; i++) {
		if (!lines[i]) {
			config_messages_fini(ret);
			return -ENOMEM;
		}
	}
	return 0;
}

void config_messages_drop(struct config_reader *reader)
{
	for (uint32_t i = 0; i < reader->message_count; i++)
		free(reader->messages[i].text);
	free(reader->messages);
	reader->messages = NULL;
	reader->message_count = reader->message_capacity = 0;
}

void config_messages_fini(struct config_messages *messages)
{
	for (uint32_t i = 0; i < messages->count; i++)
		free(messages->lines[i]);
	free(messages->lines);
	*messages = (struct config_messages){0};
}
