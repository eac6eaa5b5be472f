/* SPDX-License-Identifier: Apache-2.0 */
/* From a libconfig setting to a plain value, or an error that says what was found and what is wanted. */
#include "config_reader.h"
#include "quantity.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *type_text(const config_setting_t *setting)
{
	switch (config_setting_type(setting)) {
	case CONFIG_TYPE_GROUP: return "a group { ... }";
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64: return "a number";
	case CONFIG_TYPE_FLOAT: return "a number with a fraction";
	case CONFIG_TYPE_STRING: return "a string";
	case CONFIG_TYPE_BOOL: return "true or false";
	case CONFIG_TYPE_ARRAY: return "an array [ ... ]";
	case CONFIG_TYPE_LIST: return "a list ( ... )";
	default: return "nothing";
	}
}

void config_type_error(struct config_reader *reader, const config_setting_t *setting, const char *wanted)
{
	config_setting_error(reader, setting, "must be %s, not %s", wanted, type_text(setting));
}

/* ------------------------------------------------------------ nearest word ---- */

enum { NEAREST_BYTES = 32 };

/* Edits (insert, delete, replace, swap two neighbours; case is free) from a to b, both shorter than NEAREST_BYTES. */
static unsigned edit_distance(const char *a, const char *b)
{
	unsigned rows[3][NEAREST_BYTES + 1];
	unsigned *before = rows[0], *above = rows[1], *row = rows[2];
	size_t length = strlen(b);

	for (unsigned k = 0; k <= length; k++)
		row[k] = k;
	for (unsigned i = 1; a[i - 1]; i++) {
		unsigned *reused = before;
		before = above;
		above = row;
		row = reused;
		row[0] = i;
		for (unsigned k = 1; k <= length; k++) {
			int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[k - 1]);
			unsigned best = above[k - 1] + (x != y);
			if (above[k] + 1 < best)
				best = above[k] + 1;
			if (row[k - 1] + 1 < best)
				best = row[k - 1] + 1;
			bool swapped = i > 1 && k > 1 && x == tolower((unsigned char)b[k - 2]) &&
				       y == tolower((unsigned char)a[i - 2]);
			if (swapped && before[k - 2] + 1 < best)
				best = before[k - 2] + 1;
			row[k] = best;
		}
	}
	return row[length];
}

const char *config_nearest(const char *word, const char *(*nth)(const void *words, uint32_t n), const void *words)
{
	const char *nearest = NULL, *candidate;
	unsigned least = NEAREST_BYTES;

	if (strlen(word) >= NEAREST_BYTES)
		return NULL;
	for (uint32_t n = 0; (candidate = nth(words, n)); n++) {
		unsigned distance = edit_distance(word, candidate);
		if (distance < least) {
			least = distance;
			nearest = candidate;
		}
	}
	/* More edits than half the word make another word. */
	return nearest && least <= (strlen(nearest) + 1) / 2 ? nearest : NULL;
}

/* ------------------------------------------------------------------ groups ---- */

static const char *nth_key(const void *words, uint32_t n)
{
	return ((const struct config_key *)words)[n].name;
}

static void unknown_setting(struct config_reader *reader, const config_setting_t *setting,
			    const struct config_key *keys)
{
	char text[1024] = "", name[CONFIG_QUOTED_BYTES];
	const char *nearest = config_nearest(config_setting_name(setting), nth_key, keys);

	if (nearest) {
		snprintf(text, sizeof(text), "did you mean \"%s\"?", nearest);
	} else {
		size_t length = (size_t)snprintf(text, sizeof(text), "known here:");
		for (; keys->name && length < sizeof(text); keys++)
			if (keys->read)
				length += (size_t)snprintf(text + length, sizeof(text) - length, " %s", keys->name);
	}
	config_member_error(reader, setting, "unknown setting %s; %s",
			    config_quoted(config_setting_name(setting), name), text);
}

bool config_group(struct config_reader *reader, const config_setting_t *setting, const struct config_key *keys,
		  void *object, uint64_t *ret_present)
{
	const config_setting_t *members[64]; /* of the keys that are present */
	uint64_t present = 0;
	int length = config_setting_length(setting);

	if (!config_setting_is_group(setting)) {
		config_type_error(reader, setting, "a group { ... }");
		return false;
	}
	for (int i = 0; i < length; i++) {
		const config_setting_t *member = config_setting_get_elem(setting, (unsigned)i);
		uint32_t k = 0;
		while (keys[k].name && strcmp(keys[k].name, config_setting_name(member)))
			k++;
		if (!keys[k].name)
			unknown_setting(reader, member, keys);
		else if (!keys[k].read)
			config_setting_error(reader, member, "%s", keys[k].refusal);
		else {
			present |= 1ull << k;
			members[k] = member;
		}
	}
	for (uint32_t k = 0; keys[k].name; k++) {
		if (present & 1ull << k)
			keys[k].read(reader, members[k], object);
		else if (keys[k].required)
			config_setting_error(reader, setting, "%s is missing", keys[k].name);
	}
	*ret_present = present;
	return true;
}

bool config_list(struct config_reader *reader, const config_setting_t *setting, uint32_t most, const char *example,
		 uint32_t *ret_count)
{
	/* An empty array says the same as an empty list. */
	bool empty = config_setting_is_array(setting) && config_setting_length(setting) == 0;

	if (!config_setting_is_list(setting) && !empty) {
		config_setting_error(reader, setting, "must be a list in ( ), like %s, not %s", example,
				     type_text(setting));
		return false;
	}
	if ((uint32_t)config_setting_length(setting) > most) {
		config_setting_error(reader, setting, "has %d entries, more than %u", config_setting_length(setting),
				     most);
		return false;
	}
	*ret_count = (uint32_t)config_setting_length(setting);
	return true;
}

/* ----------------------------------------------------------------- scalars ---- */

bool config_string(struct config_reader *reader, const config_setting_t *setting, const char **ret)
{
	if (config_setting_type(setting) != CONFIG_TYPE_STRING) {
		config_type_error(reader, setting, "a string");
		return false;
	}
	const char *text = config_setting_get_string(setting);
	if (!text || !text[0]) {
		config_setting_error(reader, setting, "must not be empty");
		return false;
	}
	*ret = text;
	return true;
}

static bool string_set(struct config_reader *reader, const char *text, char **ret)
{
	char *copy = strdup(text);

	if (!copy) {
		reader->no_memory = true;
		return false;
	}
	free(*ret);
	*ret = copy;
	return true;
}

bool config_string_copy(struct config_reader *reader, const config_setting_t *setting, char **ret)
{
	const char *text;

	return config_string(reader, setting, &text) && string_set(reader, text, ret);
}

bool config_integer(struct config_reader *reader, const config_setting_t *setting, int64_t least, int64_t most,
		    int64_t *ret)
{
	int type = config_setting_type(setting);

	if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64) {
		config_type_error(reader, setting, "a whole number");
		return false;
	}
	int64_t value = type == CONFIG_TYPE_INT ? config_setting_get_int(setting) : config_setting_get_int64(setting);
	if (value < least || value > most) {
		config_setting_error(reader, setting, "must be %" PRId64 " to %" PRId64 ", not %" PRId64, least, most,
				     value);
		return false;
	}
	*ret = value;
	return true;
}

bool config_bool(struct config_reader *reader, const config_setting_t *setting, bool *ret)
{
	if (config_setting_type(setting) != CONFIG_TYPE_BOOL) {
		config_type_error(reader, setting, "true or false");
		return false;
	}
	*ret = config_setting_get_bool(setting);
	return true;
}

/* A quantity in a string, with its unit. */
static bool read_quantity(struct config_reader *reader, const config_setting_t *setting, const char *example,
			  int (*parse)(const char *, uint64_t *, char *, size_t), char *(*write)(uint64_t, char *),
			  uint64_t least, uint64_t most, uint64_t *ret)
{
	char quoted[CONFIG_QUOTED_BYTES], wrong[160], least_text[32], most_text[32];
	const char *text;
	uint64_t value;

	if (config_setting_type(setting) != CONFIG_TYPE_STRING) {
		snprintf(wrong, sizeof(wrong), "a string with a unit, like \"%s\"", example);
		config_type_error(reader, setting, wrong);
		return false;
	}
	if (!config_string(reader, setting, &text))
		return false;
	if (parse(text, &value, wrong, sizeof(wrong))) {
		config_setting_error(reader, setting, "%s %s", config_quoted(text, quoted), wrong);
		return false;
	}
	if (value < least || value > most) {
		config_setting_error(reader, setting, "must be %s to %s, not %s", write(least, least_text),
				     write(most, most_text), config_quoted(text, quoted));
		return false;
	}
	*ret = value;
	return true;
}

bool config_duration(struct config_reader *reader, const config_setting_t *setting, uint64_t least, uint64_t most,
		     uint64_t *ret_ns)
{
	return read_quantity(reader, setting, "250ms", duration_parse, duration_text, least, most, ret_ns);
}

bool config_rate(struct config_reader *reader, const config_setting_t *setting, uint64_t least, uint64_t most,
		 uint64_t *ret_pps)
{
	return read_quantity(reader, setting, "100kpps", rate_parse, rate_text, least, most, ret_pps);
}

static const char *nth_word(const void *words, uint32_t n)
{
	return ((const struct config_word *)words)[n].word;
}

bool config_word(struct config_reader *reader, const config_setting_t *setting, const struct config_word *words,
		 int *ret)
{
	char supported[256] = "", quoted[CONFIG_QUOTED_BYTES];
	const struct config_word *word = words;
	const char *text;

	if (!config_string(reader, setting, &text))
		return false;
	while (word->word && strcmp(word->word, text))
		word++;
	if (word->word && !word->later) {
		*ret = word->value;
		return true;
	}
	for (uint32_t i = 0; words[i].word; i++) {
		size_t length = strlen(supported);
		if (!words[i].later)
			snprintf(supported + length, sizeof(supported) - length, "%s\"%s\"", length ? ", " : "",
				 words[i].word);
	}
	const char *nearest = config_nearest(text, nth_word, words);
	if (word->word)
		config_setting_error(reader, setting, "\"%s\" is not supported by this version, which has %s", text,
				     supported);
	else if (nearest)
		config_setting_error(reader, setting, "%s is unknown; did you mean \"%s\"?",
				     config_quoted(text, quoted), nearest);
	else
		config_setting_error(reader, setting, "%s is unknown; this version has %s", config_quoted(text, quoted),
				     supported);
	return false;
}

bool config_name(struct config_reader *reader, const config_setting_t *setting, char **ret)
{
	enum { NAME_MAX_BYTES = 127 };
	char quoted[CONFIG_QUOTED_BYTES];
	const char *text;

	if (!config_string(reader, setting, &text))
		return false;
	if (strlen(text) > NAME_MAX_BYTES) {
		config_setting_error(reader, setting, "%s is longer than %d characters", config_quoted(text, quoted),
				     NAME_MAX_BYTES);
		return false;
	}
	for (const char *p = text; *p; p++) {
		bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
		if (!plain && !strchr("._-:@+", *p)) {
			config_setting_error(reader, setting, "%s may have letters, digits and . _ - : @ + only",
					     config_quoted(text, quoted));
			return false;
		}
	}
	return string_set(reader, text, ret);
}
