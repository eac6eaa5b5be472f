/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sluice-decap: opens tunnels on a backend host by an XDP program that is pinned, with
 * its link and maps, in PIN_DIR/IFACE and goes on without this tool. Pins and layouts: sluice/decap.h.
 */
#ifndef TOOLS_DECAP_H
#define TOOLS_DECAP_H

#include "sluice/decap.h"
#include "xdp_attach.h"

#include <stddef.h>
#include <stdint.h>

enum decap_exit { DECAP_EXIT_OK = 0, DECAP_EXIT_FAILED = 1, DECAP_EXIT_USAGE = 2 };

struct decap_options {
	const char *interface;
	const char *pin_dir;
	const union sluice_address *vips;
	uint32_t vip_count;
	const struct decap_source *sources;
	uint32_t source_count;
	enum xdp_mode mode;
	bool json;
};

/* The commands. Each writes its own messages and returns an enum decap_exit. */
int decap_attach(const struct decap_options *options);
int decap_detach(const struct decap_options *options);
int decap_show(const struct decap_options *options);

/* "sluice-decap: ..." and a newline to stderr. */
void decap_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define DECAP_PATH_BYTES 4096
/* PIN_DIR/IFACE[/leaf] into ret (DECAP_PATH_BYTES). 0 or -ENAMETOOLONG. */
int decap_pin_path(const struct decap_options *options, const char *leaf, char *ret);

#define DECAP_TEXT_BYTES 64
/* As the command line takes them. ret: DECAP_TEXT_BYTES. Returns ret. */
char *decap_address_text(const union sluice_address *address, char *ret);
char *decap_source_text(const struct decap_source *source, char *ret);

#endif
