/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of the host's exception table (control.h says where it lies): adopted from a control plane before, or
 * made; and made anew in another size, with the flows that are remembered in the one before. At start, before it is
 * used here.
 */
#ifndef CONTROLPLANE_EXCEPTIONS_TABLE_H
#define CONTROLPLANE_EXCEPTIONS_TABLE_H

#include "sluice/exceptions.h"

struct exceptions_table {
	int fd; /* of the file or map; kept open for its lock */
	struct sluice_exceptions_header *header;
	uint64_t bytes; /* of the mapping */
};

/*
 * On a host without XDP: RUNTIME_DIR/exceptions, with 2^size_log2 entries. What is there and sound is adopted, and
 * keeps its size, with a warning, while a dataplane has it. What is not sound is set aside as exceptions.corrupt-N,
 * logged, and made anew. 0 or -errno.
 */
int exceptions_table_open_file(const char *runtime_dir, uint32_t size_log2, struct exceptions_table *ret);

/*
 * On a host with XDP: the BPF map pinned at RUNTIME_DIR/bpf/exceptions, likewise. in_use_fd: the array of maps by which
 * the host's programs find it.
 */
int exceptions_table_open_map(const char *runtime_dir, uint32_t size_log2, int in_use_fd, struct exceptions_table *ret);

void exceptions_table_close(struct exceptions_table *table);

#endif
