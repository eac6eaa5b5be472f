/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster's 128-bit secret: read, made, and told apart from others by a fingerprint. */
#include "config_reader.h"
#include "state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY_BYTES = 16, KEY_DIGITS = 32 };

/*
 * One SipHash of the key over words that no flow has (a flow's are 2 or 5): to who does not know
 * the key it is a random number, and two keys have the same with a chance of 2^-64.
 */
static void fingerprint(const struct sluice_hash_key *key, char ret[17])
{
	static const uint64_t words[4] = {0x68206563696c7573ull, 0x2079656b20687361ull, 0x746e697270726567ull,
					  32ull << 56};

	snprintf(ret, 17, "%016llx", (unsigned long long)sluice_sip13(key, words, 4));
}

/* 32 hex digits and a newline; the first 16 are k0's bytes as they lie in memory. */
static bool key_decode(const char *text, size_t length, struct sluice_hash_key *ret)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t bytes[KEY_BYTES] = {0};

	while (length && strchr(" \t\r\n", text[length - 1]))
		length--;
	if (length != KEY_DIGITS)
		return false;
	for (size_t i = 0; i < KEY_DIGITS; i++) {
		char c = text[i] >= 'A' && text[i] <= 'F' ? (char)(text[i] - 'A' + 'a') : text[i];
		const char *at = c ? strchr(digits, c) : NULL;
		if (!at)
			return false;
		bytes[i / 2] = (uint8_t)(bytes[i / 2] << 4 | (at - digits));
	}
	memcpy(&ret->k0, bytes, 8);
	memcpy(&ret->k1, bytes + 8, 8);
	explicit_bzero(bytes, sizeof(bytes));
	return true;
}

/* 0, -ENOENT when there is no such file, -EINVAL when something was reported. */
static int key_read(struct config_reader *reader, struct sluice_hash_key *ret)
{
	const char *path = reader->hash_key_file;
	char text[128];
	struct stat status;
	ssize_t length;
	int error = -EINVAL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 || fstat(fd, &status)) {
		config_error(reader, reader->hash_key_line, "cannot read hash_key_file %s: %s", path, strerror(errno));
		goto out;
	}
	if (!S_ISREG(status.st_mode)) {
		config_error(reader, reader->hash_key_line, "hash_key_file %s is not a regular file", path);
		goto out;
	}
	if (status.st_mode & 077) {
		config_error(reader, reader->hash_key_line,
			     "hash_key_file %s is open to others (mode %04o): whoever knows the key can aim "
			     "connections at one backend; chmod 600 it",
			     path, status.st_mode & 07777);
		goto out;
	}
	length = read(fd, text, sizeof(text));
	if (length < 0)
		config_error(reader, reader->hash_key_line, "cannot read hash_key_file %s: %s", path, strerror(errno));
	else if (!key_decode(text, (size_t)length, ret))
		config_error(reader, reader->hash_key_line, "hash_key_file %s must hold 32 hex digits and nothing else",
			     path);
	else
		error = 0;
	explicit_bzero(text, sizeof(text));
out:
	if (fd >= 0)
		close(fd);
	return error;
}

static int folder_sync(const char *path)
{
	char *folder = strdup(path);
	int error = 0, fd;

	if (!folder)
		return -ENOMEM;
	strrchr(folder, '/')[1] = 0; /* the path is absolute */
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd))
		error = -errno;
	if (fd >= 0)
		close(fd);
	free(folder);
	return error;
}

/*
 * Write a new key, whole or not at all: a crash leaves no half a key, and when another process makes one at the
 * same time the first of them stays (-EEXIST).
 */
static int key_make(const char *path)
{
	uint8_t bytes[KEY_BYTES];
	char text[KEY_DIGITS + 2], *temporary;
	int error = 0, fd;

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return -EIO;
	for (size_t i = 0; i < KEY_BYTES; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
	strcat(text, "\n");
	if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
		error = -ENOMEM;
		goto wipe;
	}
	fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
	if (fd < 0) {
		error = -errno;
		goto free_name;
	}
	error = state_file_write_all(fd, text, strlen(text));
	if (!error && fsync(fd))
		error = -errno;
	close(fd);
	if (!error && link(temporary, path))
		error = -errno;
	unlink(temporary);
	if (!error)
		error = folder_sync(path);
free_name:
	free(temporary);
wipe:
	explicit_bzero(bytes, sizeof(bytes));
	explicit_bzero(text, sizeof(text));
	return error;
}

void config_hash_key(struct config_reader *reader, bool make)
{
	struct model *model = reader->model;
	const char *path = reader->hash_key_file;
	int error = key_read(reader, &model->hash_key);

	if (error == -ENOENT && make) {
		error = key_make(path);
		if (!error)
			config_warning(
			    reader, reader->hash_key_line,
			    "hash_key_file %s was made: every node of a group needs the same, copy it to them", path);
		else if (error != -EEXIST)
			config_error(reader, reader->hash_key_line, "cannot make hash_key_file %s: %s", path,
				     strerror(-error));
		if (!error || error == -EEXIST)
			error = key_read(reader, &model->hash_key);
	}
	if (!error)
		fingerprint(&model->hash_key, model->hash_key_fingerprint);
}
