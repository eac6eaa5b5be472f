/* SPDX-License-Identifier: Apache-2.0 */
/* Feed each file of a corpus folder to a fuzzer's entry point: the corpus is a regression test in every build. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static int replay_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	if (!file)
		return -1;
	fseek(file, 0, SEEK_END);
	long size = ftell(file);
	rewind(file);
	/* An exact allocation, so that a read past the end is seen by the address sanitizer. */
	uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
	size_t got = data ? fread(data, 1, (size_t)size, file) : 0;
	fclose(file);
	if (data && got == (size_t)size)
		LLVMFuzzerTestOneInput(data, got);
	free(data);
	return got == (size_t)size ? 0 : -1;
}

int main(int argc, char **argv)
{
	unsigned files = 0;
	if (argc < 2) {
		fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
		return 2;
	}
	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	DIR *folder = opendir(argv[1]);
	if (!folder) {
		perror(argv[1]);
		return 1;
	}
	for (struct dirent *entry; (entry = readdir(folder));) {
		char path[4096];
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
		if (replay_file(path)) {
			perror(path);
			return 1;
		}
		files++;
	}
	closedir(folder);
	printf("%u inputs replayed\n", files);
	return files ? 0 : 1;
}
