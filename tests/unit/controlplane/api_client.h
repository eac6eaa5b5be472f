/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the API's tests share: an API on a folder of its own over a fake apply, and a client that speaks
 * raw bytes to it from a thread of its own while the loop runs in the test's.
 */
#ifndef TESTS_API_CLIENT_H
#define TESTS_API_CLIENT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "api.h"
#include "api_context.h"
#include "fake_apply.h"

extern uv_loop_t loop;
extern struct apply *apply;
extern struct api *api;
extern char folder[64]; /* runtime and state directory */

/* cmocka fixtures. teardown() insists that the loop ends up empty and the folder too. */
int setup(void **state);
int teardown(void **state);

/* One exchange of raw bytes. */
struct client {
	const char *bytes;
	size_t length;
	uint16_t tcp_port; /* 0: the Unix socket */
	char *answer;
	size_t answer_length;
	uv_async_t done; /* .data: the client */
	bool ended;
};

int client_connect(const struct client *client); /* a descriptor, or -1 */
void *client_run(void *client);                  /* a thread's function; sends `done` at the end */
void client_ended(uv_async_t *async);

struct answer {
	int status; /* 0: no answer */
	char *text; /* headers and body */
	json_t *json;
};

/* Send, run the loop and end pending transactions until the answer is whole. */
struct answer exchange(const char *bytes, size_t length, uint16_t tcp_port);
struct answer ask_at(uint16_t tcp_port, const char *method, const char *target, const char *body);
struct answer get(const char *target);
struct answer post(const char *target, const char *body);
void answer_free(struct answer *answer);

const char *member(const json_t *json, const char *name); /* "" when it is no string */
long long number(const json_t *json, const char *name);   /* fails the test when it is no integer */
json_t *audit_last(unsigned *ret_lines); /* the audit log's last line, parsed, and how many there are */

#endif
