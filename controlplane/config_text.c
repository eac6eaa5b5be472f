/* SPDX-License-Identifier: Apache-2.0 */
#include "config_text.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From `line` of the joined text on, lines are those of `file` from `file_line` on. */
struct config_text_segment {
	int line;
	uint32_t file;
	int file_line;
};

/* One file's bytes while they are read from left to right. */
struct cursor {
	const char *at, *end;
	uint32_t file;
	int line; /* in the file, from 1 */
	int include_depth;
	bool may_include;
};

void config_text_init(struct config_text *text, void (*report)(void *user, int line, const char *message), void *user)
{
	*text = (struct config_text){.report = report, .user = user};
	text->open[0].bracket = '{'; /* the file itself is a group */
}

void config_text_fini(struct config_text *text)
{
	for (uint32_t i = 0; i < text->file_count; i++)
		free(text->files[i]);
	free(text->files);
	free(text->segments);
	free(text->bytes);
	*text = (struct config_text){0};
}

__attribute__((format(printf, 3, 4))) static int report(struct config_text *text, int line, const char *format, ...)
{
	char message[PATH_MAX + 256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	text->bad = true;
	text->report(text->user, line, message);
	return -EINVAL;
}

/* The line of the joined text that is being written. */
static int line_now(const struct config_text *text)
{
	return text->lines + 1;
}

static int out_of_memory(struct config_text *text)
{
	text->no_memory = true;
	return -ENOMEM;
}

/* lines: newlines among the bytes. */
static int append(struct config_text *text, const char *bytes, size_t length, int lines)
{
	if (text->length + length + 1 > text->capacity) {
		size_t capacity = text->capacity ? text->capacity : 4096;
		while (capacity < text->length + length + 1)
			capacity *= 2;
		char *grown = realloc(text->bytes, capacity);
		if (!grown)
			return out_of_memory(text);
		text->bytes = grown;
		text->capacity = capacity;
	}
	memcpy(text->bytes + text->length, bytes, length);
	text->lines += lines;
	text->length += length;
	text->bytes[text->length] = 0;
	return 0;
}

static int segment_start(struct config_text *text, uint32_t file, int file_line)
{
	if (text->segment_count == text->segment_capacity) {
		uint32_t capacity = text->segment_capacity ? 2 * text->segment_capacity : 16;
		struct config_text_segment *grown = realloc(text->segments, capacity * sizeof(*grown));
		if (!grown)
			return out_of_memory(text);
		text->segments = grown;
		text->segment_capacity = capacity;
	}
	text->segments[text->segment_count++] = (struct config_text_segment){line_now(text), file, file_line};
	return 0;
}

static int file_add(struct config_text *text, const char *name, uint32_t *ret)
{
	char **grown = realloc(text->files, (text->file_count + 1) * sizeof(*grown));

	if (!grown)
		return out_of_memory(text);
	text->files = grown;
	text->files[text->file_count] = strdup(name);
	if (!text->files[text->file_count])
		return out_of_memory(text);
	*ret = text->file_count++;
	return 0;
}

const char *config_text_where(const struct config_text *text, int line, int *ret_line)
{
	uint32_t low = 0, high = text->segment_count;

	if (!high) {
		*ret_line = line;
		return text->file_count ? text->files[0] : "";
	}
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (text->segments[middle].line <= line)
			low = middle;
		else
			high = middle;
	}
	*ret_line = text->segments[low].file_line + (line - text->segments[low].line);
	return text->files[text->segments[low].file];
}

/* ------------------------------------------------------------------ lexing ---- */

/* Copy up to `to`, counting the file's lines. */
static int copy_to(struct config_text *text, struct cursor *cursor, const char *to)
{
	int lines = 0;

	for (const char *p = cursor->at; p < to; p++)
		lines += *p == '\n';
	int error = append(text, cursor->at, (size_t)(to - cursor->at), lines);
	cursor->line += lines;
	cursor->at = to;
	return error;
}

static bool is_letter(char c)
{
	return (unsigned)((c | 0x20) - 'a') < 26;
}

static bool is_name(char c)
{
	return is_letter(c) || (unsigned)(c - '0') < 10 || c == '_' || c == '-' || c == '*';
}

static int bracket_open(struct config_text *text, char bracket)
{
	if (text->depth == CONFIG_TEXT_DEPTH_MAX)
		return report(text, line_now(text), "nested deeper than %d levels", CONFIG_TEXT_DEPTH_MAX);
	text->depth++;
	text->open[text->depth].bracket = bracket;
	text->open[text->depth].count = 0;
	return 0;
}

static int bracket_close(struct config_text *text)
{
	text->depth -= text->depth > 0; /* a stray one: libconfig will name its line */
	return 0;
}

static int separator(struct config_text *text, char c)
{
	bool group = text->open[text->depth].bracket == '{';

	if (group ? c != '=' && c != ':' : c != ',')
		return 0;
	uint32_t most = group ? CONFIG_TEXT_SETTINGS_MAX : CONFIG_TEXT_ITEMS_MAX - 1;
	if (++text->open[text->depth].count > most)
		return report(text, line_now(text), "more than %u %s", group ? most : most + 1,
			      group ? "settings in one group" : "items in one list");
	return 0;
}

static bool number_is_here(const struct cursor *cursor)
{
	const char *p = cursor->at;

	p += *p == '-' || *p == '+';
	return p < cursor->end && isdigit((unsigned char)*p);
}

/*
 * A number. libconfig wraps an integer that does not fit 32 bits without a word unless it is
 * marked "L": mark it, so that the range check of its setting sees the real value.
 */
static int number(struct config_text *text, struct cursor *cursor)
{
	const char *p = cursor->at;
	bool negative = *p == '-', hex;

	p += *p == '-' || *p == '+';
	hex = cursor->end - p > 2 && p[0] == '0' && (p[1] == 'x' || p[1] == 'X') && isxdigit((unsigned char)p[2]);
	if (hex)
		p += 2;
	uint64_t value = 0;
	bool overflow = false;
	for (; p < cursor->end && (hex ? isxdigit((unsigned char)*p) : isdigit((unsigned char)*p)); p++) {
		int digit = isdigit((unsigned char)*p) ? *p - '0' : tolower((unsigned char)*p) - 'a' + 10;
		overflow |= __builtin_mul_overflow(value, hex ? 16u : 10u, &value);
		overflow |= __builtin_add_overflow(value, (uint64_t)digit, &value);
	}
	if (!hex && p < cursor->end && (*p == '.' || *p == 'e' || *p == 'E')) {
		while (p < cursor->end && (isdigit((unsigned char)*p) || strchr(".eE+-", *p)))
			p++;
		return copy_to(text, cursor, p); /* no integer: what it is, is libconfig's to say */
	}
	for (int i = 0; i < 2 && p < cursor->end && *p == 'L'; i++)
		p++;
	if (overflow || value > INT64_MAX)
		return report(text, line_now(text), "number %.*s%s does not fit 64 bits",
			      (int)(p - cursor->at > 40 ? 40 : p - cursor->at), cursor->at,
			      p - cursor->at > 40 ? "..." : "");
	if (value <= INT32_MAX)
		return copy_to(text, cursor, p);
	char marked[32];
	int length = snprintf(marked, sizeof(marked), "%s%lluL", negative ? "-" : "", (unsigned long long)value);
	cursor->at = p;
	return append(text, marked, (size_t)length, 0);
}

/* A string, from its opening quote to its end. */
static int string(struct config_text *text, struct cursor *cursor)
{
	const char *p = cursor->at + 1;
	int first = line_now(text);
	bool nul = false;

	for (; p < cursor->end && *p != '"'; p++) {
		if (*p == '\\' && cursor->end - p > 1) {
			nul |= cursor->end - p > 3 && !memcmp(p + 1, "x00", 3);
			p++;
		}
	}
	if (p >= cursor->end)
		return report(text, first, "the string that starts here never ends: a closing \" is missing");
	if (nul)
		report(text, first, "\\x00 in a string");
	return copy_to(text, cursor, p + 1);
}

/* A comment, when there is one. -ENOENT when there is none. */
static int comment(struct config_text *text, struct cursor *cursor)
{
	size_t left = (size_t)(cursor->end - cursor->at);
	const char *p;

	if (*cursor->at == '#' || (left > 1 && !memcmp(cursor->at, "//", 2))) {
		p = memchr(cursor->at, '\n', left);
		return copy_to(text, cursor, p ? p : cursor->end);
	}
	if (left < 2 || memcmp(cursor->at, "/*", 2))
		return -ENOENT;
	p = memmem(cursor->at + 2, left - 2, "*/", 2);
	if (!p)
		return report(text, line_now(text), "the comment that starts here never ends: */ is missing");
	return copy_to(text, cursor, p + 2);
}

static int include(struct config_text *text, struct cursor *cursor);

/* Whether an @include line begins here: as libconfig's lexer sees it, at the start of a line. */
static bool include_is_here(const struct cursor *cursor)
{
	const char *p = cursor->at;

	while (p < cursor->end && (*p == ' ' || *p == '\t'))
		p++;
	return cursor->end - p >= 8 && !memcmp(p, "@include", 8);
}

/* The end of the character at the cursor, or of the name, and of the names and spaces behind it in this line: lex()
 * cares for none. */
static const char *plain_end(const struct cursor *cursor)
{
	const char *p = cursor->at, *start = NULL;

	if (!is_letter(*p) && *p != '*' && *p++ == '\n')
		return p;
	while (p < cursor->end && p != start) {
		start = p;
		if (is_letter(*p) || *p == '*') /* a name, whole, so that its digits are no number */
			while (p < cursor->end && is_name(*p))
				p++;
		while (p < cursor->end && (*p == ' ' || *p == '\t'))
			p++;
	}
	return p;
}

static int lex(struct config_text *text, struct cursor *cursor)
{
	bool line_start = true;

	while (cursor->at < cursor->end) {
		char c = *cursor->at;
		int error;
		if (line_start && include_is_here(cursor)) {
			error = include(text, cursor);
			if (error)
				return error;
			continue; /* at the end of the line */
		}
		line_start = c == '\n';
		error = comment(text, cursor);
		if (error == -ENOENT && c == '"')
			error = string(text, cursor);
		else if (error == -ENOENT && number_is_here(cursor))
			error = number(text, cursor);
		else if (error == -ENOENT) {
			if (c == '{' || c == '(' || c == '[')
				error = bracket_open(text, c);
			else if (c == '}' || c == ')' || c == ']')
				error = bracket_close(text);
			else
				error = separator(text, c);
			if (!error)
				error = copy_to(text, cursor, plain_end(cursor));
		}
		if (error)
			return error;
	}
	return 0;
}

/* Lex `length` bytes of the file numbered `file` into the text. */
static int bytes_add(struct config_text *text, uint32_t file, const char *bytes, size_t length, int include_depth,
		     bool may_include)
{
	struct cursor cursor = {.at = bytes,
				.end = bytes + length,
				.file = file,
				.line = 1,
				.include_depth = include_depth,
				.may_include = may_include};

	if (text->length + length > CONFIG_TEXT_BYTES_MAX)
		return report(text, line_now(text), "the configuration is larger than %u MiB",
			      CONFIG_TEXT_BYTES_MAX >> 20);
	if (segment_start(text, file, 1) || append(text, "", 0, 0))
		return -ENOMEM;
	const char *nul = memchr(bytes, 0, length);
	if (nul) {
		int line = line_now(text);
		for (const char *p = bytes; p < nul; p++)
			line += *p == '\n';
		return report(text, line, "a NUL byte: this is no text file");
	}
	return lex(text, &cursor);
}

int config_text_add_bytes(struct config_text *text, const char *name, const char *bytes, size_t length)
{
	uint32_t file;
	int error = file_add(text, name, &file);

	if (!error)
		error = bytes_add(text, file, bytes, length, 0, false);
	return error ? error : text->bad ? -EINVAL : 0;
}

/* ------------------------------------------------------------------- files ---- */

/* depth 0: the configuration file; else one that it includes: the reading goes on without one that cannot be read. */
static int file_include(struct config_text *text, const char *path, int depth)
{
	char *bytes = NULL;
	size_t length = 0;
	uint32_t file = 0;
	int error;

	if (!depth && file_add(text, path, &file)) /* first, so that "cannot read" can be said of it */
		return -ENOMEM;
	error = config_file_read(path, &bytes, &length);
	if (error == -ENOMEM)
		return out_of_memory(text);
	if (error && !depth) {
		report(text, 0, "cannot read the configuration: %s", config_file_error_text(error));
		return error;
	}
	if (error) {
		report(text, line_now(text), "cannot read the included file %s: %s", path,
		       config_file_error_text(error));
		return 0;
	}
	if (depth)
		error = file_add(text, path, &file);
	if (!error)
		error = bytes_add(text, file, bytes, length, depth, true);
	/* The including file goes on at a new line. */
	if (!error && depth && text->length && text->bytes[text->length - 1] != '\n')
		error = append(text, "\n", 1, 1);
	free(bytes);
	return error;
}

int config_text_add_file(struct config_text *text, const char *path)
{
	int error = file_include(text, path, 0);

	return error ? error : text->bad ? -EINVAL : 0;
}

/* The line at the cursor is an @include: put the file in its place. Leaves the cursor at the line's end. */
static int include(struct config_text *text, struct cursor *cursor)
{
	const char *line_end = memchr(cursor->at, '\n', (size_t)(cursor->end - cursor->at));
	if (!line_end)
		line_end = cursor->end;
	const char *p = (const char *)memchr(cursor->at, '@', (size_t)(line_end - cursor->at)) + 8;
	int line = line_now(text), error;
	cursor->at = line_end;

	while (p < line_end && (*p == ' ' || *p == '\t'))
		p++;
	const char *name = p < line_end && *p == '"' ? p + 1 : NULL;
	const char *name_end = name ? memchr(name, '"', (size_t)(line_end - name)) : NULL;
	const char *rest = name_end ? name_end + 1 : line_end;
	while (rest < line_end && isspace((unsigned char)*rest))
		rest++;
	bool comment_follows = rest < line_end && (*rest == '#' || !strncmp(rest, "//", 2));

	const char *wrong = NULL;
	if (!name_end || name_end == name)
		wrong = "@include wants the name of a file in quotes";
	else if (rest < line_end && !comment_follows)
		wrong = "@include must stand alone on its line";
	else if (name[0] != '/') /* the daemons that read this file do not share a working directory */
		wrong = "@include wants an absolute path";
	else if (!cursor->may_include)
		wrong = "@include works in files only";
	else if (cursor->include_depth == CONFIG_TEXT_INCLUDE_MAX)
		wrong = "@include nested too deeply: does a file include itself?";
	else if (text->file_count >= CONFIG_TEXT_FILES_MAX)
		wrong = "too many included files";
	if (wrong) {
		report(text, line, "%s", wrong);
		return 0; /* go on: there may be more to report */
	}
	char *path = strndup(name, (size_t)(name_end - name));
	if (!path)
		return out_of_memory(text);
	error = file_include(text, path, cursor->include_depth + 1);
	free(path);
	return error ? error : segment_start(text, cursor->file, cursor->line);
}
