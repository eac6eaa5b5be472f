/* SPDX-License-Identifier: Apache-2.0 */
/* What somebody wants captured, as the API's body says it. Pure; any thread. */
#ifndef CONTROLPLANE_CAPTURE_REQUEST_H
#define CONTROLPLANE_CAPTURE_REQUEST_H

#include "sluice/capture.h"

#include <jansson.h>

enum capture_path { CAPTURE_PATH_DPDK, CAPTURE_PATH_XDP, CAPTURE_PATHS };
enum capture_format { CAPTURE_FORMAT_PCAPNG, CAPTURE_FORMAT_TEXT, CAPTURE_FORMAT_JSON };

#define CAPTURE_COUNT_DEFAULT 10000u
#define CAPTURE_COUNT_MAX 10000000u
#define CAPTURE_DURATION_DEFAULT_NS 60000000000ull
#define CAPTURE_DURATION_MAX_NS (24ull * 3600 * 1000000000)
#define CAPTURE_SNAPLEN_DEFAULT 256u
#define CAPTURE_SNAPLEN_MIN 14u
#define CAPTURE_SAMPLE_MAX 1000000000u

struct capture_request {
	char service[256];                   /* its name; "": any. filter.service is not set by the parser */
	struct sluice_capture_filter filter; /* .service: SLUICE_NONE */
	bool paths[CAPTURE_PATHS];
	uint64_t count;       /* ends after so many packets */
	uint64_t duration_ns; /* or then */
	enum capture_format format;
	char text[512]; /* what was asked for, in words: "verdict drop, client 192.0.2.0/24" */
};

struct capture_problem {
	char text[192];
	const char *field;  /* a constant */
	const char *remedy; /* a constant */
};

/*
 * `body`: an object, or NULL for all defaults; members that it does not know are the caller's to refuse. True and
 * *ret; or false, *ret_problem says why and *ret is untouched.
 */
bool capture_request_parse(const json_t *body, struct capture_request *ret, struct capture_problem *ret_problem);

/* "dpdk", "xdp". */
const char *capture_path_word(enum capture_path path);

/* Label, kind and help of an outcome that a record may have (sluice/capture.h). */
const char *capture_outcome_label(uint32_t outcome);
const char *capture_outcome_kind(uint32_t outcome);
const char *capture_outcome_help(uint32_t outcome);

#endif
