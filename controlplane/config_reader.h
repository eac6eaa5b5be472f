/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader's insides, shared by the config_*.c files: one reading of a configuration, the messages it
 * collects, and how a libconfig setting becomes a value. A function here either returns true and has
 * its value, or has said why not.
 */
#ifndef CONTROLPLANE_CONFIG_READER_H
#define CONTROLPLANE_CONFIG_READER_H

#include "config.h"
#include "config_text.h"
#include "model.h"

#include <libconfig.h>

/* One reading. */
struct config_reader {
	struct config_text text;
	struct model *model; /* half-built; lines are those of the joined text until the end */
	int hash_key_line;
	char *hash_key_file;
	struct config_message *messages;
	uint32_t message_count, message_capacity;
	uint32_t error_count, warning_count; /* of either kind the first CONFIG_MESSAGES_MAX are kept */
	bool no_memory;
};

#define CONFIG_MESSAGES_MAX 1000

/* --------------------------------------------------------------- messages ---- */

/* `line` of the joined text; 0: of the whole file. */
void config_error(struct config_reader *reader, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void config_warning(struct config_reader *reader, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Of this setting; begins with where it stands: `service "web", backend "w1", weight: `. */
void config_setting_error(struct config_reader *reader, const config_setting_t *setting, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, but begins with where its group stands: for what is said of the setting's name. */
void config_member_error(struct config_reader *reader, const config_setting_t *setting, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void config_setting_warning(struct config_reader *reader, const config_setting_t *setting, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "FILE:LINE" of a line, for "first at ...". ret: at least CONFIG_WHERE_BYTES. Returns ret. */
#define CONFIG_WHERE_BYTES 256
char *config_where(const struct config_reader *reader, int line, char *ret);

/* What a file holds, fit for a terminal and for JSON: in quotes, cut at 60 bytes, escaped unless printable ASCII. */
#define CONFIG_QUOTED_BYTES 272
char *config_quoted(const char *text, char *ret);

/* Hand over the collected messages in order. -ENOMEM when some are lost. */
int config_messages_finish(struct config_reader *reader, const char *name, struct config_messages *ret);
/* Free what was collected. */
void config_messages_drop(struct config_reader *reader);

/* --------------------------------------------------------------- settings ---- */

/* A setting that a group may have. Settings are read in the order of their table, not of the file. */
struct config_key {
	const char *name;
	/* Reads it into `object`; NULL: this version refuses it, and says why in `refusal`. */
	void (*read)(struct config_reader *reader, const config_setting_t *setting, void *object);
	bool required;
	const char *refusal;
};

/*
 * Read a group's settings by its keys (ended by a NULL name). Unknown ones are errors with the nearest
 * known one, and so are missing ones that are required. *ret_present gets bit i for the i-th key that is there, good or
 * bad. False when it is no group.
 */
bool config_group(struct config_reader *reader, const config_setting_t *setting, const struct config_key *keys,
		  void *object, uint64_t *ret_present);

/* The number of elements of a list of groups, at most `most`. False when it is no list or longer. */
bool config_list(struct config_reader *reader, const config_setting_t *setting, uint32_t most, const char *example,
		 uint32_t *ret_count);

/* A string that is not empty, owned by libconfig. */
bool config_string(struct config_reader *reader, const config_setting_t *setting, const char **ret);
/* The same, copied over *ret (what was there is freed). */
bool config_string_copy(struct config_reader *reader, const config_setting_t *setting, char **ret);
bool config_integer(struct config_reader *reader, const config_setting_t *setting, int64_t least, int64_t most,
		    int64_t *ret);
bool config_bool(struct config_reader *reader, const config_setting_t *setting, bool *ret);
/* A duration from `least` to `most`, in nanoseconds. */
bool config_duration(struct config_reader *reader, const config_setting_t *setting, uint64_t least, uint64_t most,
		     uint64_t *ret_ns);

/* A rate from `least` to `most`, in packets a second. */
bool config_rate(struct config_reader *reader, const config_setting_t *setting, uint64_t least, uint64_t most,
		 uint64_t *ret_pps);

/* One of several words. `later`: known, but not in this version. Ended by a NULL word. */
struct config_word {
	const char *word;
	int value;
	bool later;
};
bool config_word(struct config_reader *reader, const config_setting_t *setting, const struct config_word *words,
		 int *ret);

/* A name that operators type, as SERVICE/BACKEND: letters, digits and . _ - : @ +, at most 127. Copied. */
bool config_name(struct config_reader *reader, const config_setting_t *setting, char **ret);

/* Complain of a setting with the wrong type: what was found and what is wanted. */
void config_type_error(struct config_reader *reader, const config_setting_t *setting, const char *wanted);

/* The nearest of several words to a mistyped one, by edit distance, or NULL when none is near. */
const char *config_nearest(const char *word, const char *(*nth)(const void *words, uint32_t n), const void *words);

/* ----------------------------------------------------------------- values ---- */

/* An IPv4 or IPv6 address that one host can have and others can reach. */
bool config_address(struct config_reader *reader, const config_setting_t *setting, union sluice_address *ret);

/* "10.127.0.0/16" or "10.127.0.1", of the family. ret_mask_be32: the bits that vary, of the last 32. */
bool config_source_prefix(struct config_reader *reader, const config_setting_t *setting, bool v4,
			  union sluice_address *ret, uint32_t *ret_mask_be32);

/* 443, "1000-1999" or "any". */
bool config_port_range(struct config_reader *reader, const config_setting_t *setting, uint16_t *ret_first,
		       uint16_t *ret_last);

/* "ADDRESS:PORT" on loopback, copied. */
bool config_listen(struct config_reader *reader, const config_setting_t *setting, char **ret);

/* "ADDRESS:PORT" or "[ADDRESS]:PORT" of a host that others can reach. */
bool config_endpoint(struct config_reader *reader, const config_setting_t *setting, struct model_endpoint *ret);

bool config_mac(struct config_reader *reader, const config_setting_t *setting, uint8_t ret[6]);

/* A name that the kernel takes for an interface, copied. */
bool config_interface_name(struct config_reader *reader, const config_setting_t *setting, char **ret);

/* --------------------------------------------------------------- sections ---- */

#define CONFIG_TABLE_SIZES 7
extern const uint32_t config_table_sizes[CONFIG_TABLE_SIZES]; /* the primes that M may be, ascending */

void config_read_interfaces(struct config_reader *reader, const config_setting_t *setting, void *model);
void config_read_services(struct config_reader *reader, const config_setting_t *setting, void *model);
void config_health_defaults(struct config_reader *reader, struct model_health *health);
void config_read_health(struct config_reader *reader, const config_setting_t *setting, void *service);
void config_read_peers(struct config_reader *reader, const config_setting_t *setting, void *model);
void config_read_vips(struct config_reader *reader, const config_setting_t *setting, void *model);

/* The index of an interface by its name, PCI address, vdev string or vdev name; -1 when there is none. */
int config_interface_find(const struct model *model, const char *name);

/* The rules that look at more than one object. The model is complete, as far as it could be read. */
void config_check(struct config_reader *reader);

/*
 * The hash key of reader->hash_key_file into the model, with its fingerprint. Made when it is not there and
 * `make`; else a missing one leaves the key 0 and the fingerprint empty.
 */
void config_hash_key(struct config_reader *reader, bool make);

#endif
