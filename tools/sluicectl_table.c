/* SPDX-License-Identifier: Apache-2.0 */
/* Aligned tables, units, and reading of documents. */
#include "sluicectl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void out_of_memory(void)
{
	fprintf(stderr, "sluicectl: out of memory\n");
	exit(CTL_FAILED);
}

/* Takes malloc'ed text. Control characters could do things to a terminal. */
static void cell_add(struct table *table, char *text)
{
	char **cells = reallocarray(table->cells, table->cell_count + 1, sizeof(*cells));
	if (!text || !cells)
		out_of_memory();
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	cells[table->cell_count++] = text;
	table->cells = cells;
}

void table_init(struct table *table, const char *headings)
{
	*table = (struct table){0};
	while (*headings) {
		size_t length = strcspn(headings, "|");
		bool right = headings[0] == '>';
		table->right[table->columns++] = right;
		cell_add(table, strndup(headings + right, length - right));
		headings += length + (headings[length] == '|');
	}
}

void table_cell(struct table *table, const char *format, ...)
{
	char *text = NULL;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	va_end(arguments);
	cell_add(table, text);
}

/* Columns that a text takes: code points, close enough for names. */
static size_t text_width(const char *text)
{
	size_t width = 0;
	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

void table_print(struct table *table, size_t max_rows)
{
	size_t widths[16] = {0}, rows = table->cell_count / table->columns;

	if (max_rows && rows > max_rows + 1)
		rows = max_rows + 1;
	for (size_t i = 0; i < rows * table->columns; i++) {
		size_t width = text_width(table->cells[i]);
		if (width > widths[i % table->columns])
			widths[i % table->columns] = width;
	}
	for (size_t i = 0; i < rows * table->columns; i++) {
		size_t column = i % table->columns, pad = widths[column] - text_width(table->cells[i]);
		bool last = column + 1 == table->columns,
		     ends_line = last || (column + 2 == table->columns && !table->cells[i + 1][0]);
		if (table->right[column])
			printf("%*s%s", (int)pad, "", table->cells[i]);
		else
			printf("%s%*s", table->cells[i], ends_line ? 0 : (int)pad, "");
		fputs(last ? "\n" : ends_line ? "" : "  ", stdout);
	}
	for (size_t i = 0; i < table->cell_count; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct table){0};
}

char *scaled_text(double value, const char *unit, char *ret)
{
	static const char prefixes[] = " kMGTPE";
	size_t at = 0;

	while (value >= 999.95 && at + 2 < sizeof(prefixes)) {
		value /= 1000;
		at++;
	}
	bool whole = at == 0 && value == (double)(long long)value;
	if (at == 0 && !unit[0])
		snprintf(ret, 24, whole ? "%.0f" : "%.1f", value);
	else if (at == 0)
		snprintf(ret, 24, whole ? "%.0f %s" : "%.1f %s", value, unit);
	else
		snprintf(ret, 24, "%.1f %c%s", value, prefixes[at], unit);
	return ret;
}

char *percent_text(double share, char *ret)
{
	snprintf(ret, 24, "%.1f%%", share * 100);
	return ret;
}

bool duration_parse(const char *text, double *ret_seconds)
{
	static const struct {
		const char *unit;
		double seconds;
	} units[] = {{"", 1}, {"ms", 0.001}, {"s", 1}, {"m", 60}, {"min", 60}, {"h", 3600}};
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	double value = strtod(text, &end);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].unit) || !(value * units[i].seconds > 0 && value * units[i].seconds < 1e9))
			continue;
		*ret_seconds = value * units[i].seconds;
		return true;
	}
	return false;
}

const char *text_of(const json_t *object, const char *member)
{
	const char *text = json_string_value(json_object_get(object, member));
	return text ? text : "";
}

long long number_of(const json_t *object, const char *member)
{
	return json_integer_value(json_object_get(object, member));
}

double real_of(const json_t *object, const char *member)
{
	return json_number_value(json_object_get(object, member));
}

void document_print(json_t *document)
{
	json_dumpf(document, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
	json_decref(document);
}
