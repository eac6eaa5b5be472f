/* SPDX-License-Identifier: Apache-2.0 */
/* A captured packet as people and programs read it. Pure; any thread. */
#ifndef CONTROLPLANE_CAPTURE_TEXT_H
#define CONTROLPLANE_CAPTURE_TEXT_H

#include "capture_request.h"
#include "capture_source.h"

/* Room for any comment and any line. */
#define CAPTURE_TEXT_BYTES 2048u

/* A packet with all names; NULL where there is none. */
struct capture_view {
	uint64_t time_ns; /* since 1970, UTC */
	enum capture_path path;
	uint32_t pid;    /* of the dataplane */
	uint32_t worker; /* or CPU */
	const char *service, *backend, *interface;
	const struct capture_record *record;
};

/*
 * Verdict, reason, service, backend, bucket, path and worker: a packet's comment. It ends with a line feed, without
 * which some readers (scapy 2.5) do not take it for one. Returns ret.
 */
char *capture_comment(const struct capture_view *view, char *ret);

/* One line: time, path, verdict, service/backend, the client's packet, length; with its line feed. Returns ret. */
char *capture_line(const struct capture_view *view, char *ret);

/* The same as an object; a new reference, or NULL without memory. */
json_t *capture_json(const struct capture_view *view);

#endif
