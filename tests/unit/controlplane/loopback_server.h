/* SPDX-License-Identifier: Apache-2.0 */
/* A real server on loopback, and the event loop that it shares with what is tested. */
#ifndef TESTS_LOOPBACK_SERVER_H
#define TESTS_LOOPBACK_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum { PATIENCE_MS = 10000 };

/* Accepts, and answers each connection's first bytes with `answer`. */
struct server {
	uv_tcp_t listener;
	uint16_t port;
	const char *answer; /* NULL: silence; "": close */
	bool endless;       /* `tail` over and over after it */
	const char *tail;
	char request[1024]; /* the last one */
	uint32_t accepted, open, open_most;
	bool closed;
};

/* port 0: a free one. */
void server_open(uv_loop_t *loop, struct server *server, const char *address, uint16_t port);
void server_close(struct server *server);

/* A port where nobody listens: one that was free a moment ago. */
uint16_t dead_port(uv_loop_t *loop);

/* cmocka's fixtures: *state is the loop. All that was closed must end by itself: a handle that leaks makes the second
 * hang or fail. */
int loop_setup(void **state);
int loop_teardown(void **state);

void patience_over(uv_timer_t *timer); /* of RUN_UNTIL */

/* Run until *done is not 0; fails the test after PATIENCE_MS. */
#define RUN_UNTIL(loop, condition)                                                                                     \
	do {                                                                                                           \
		uv_timer_t patience_;                                                                                  \
		bool over_ = false;                                                                                    \
		uv_timer_init(loop, &patience_);                                                                       \
		patience_.data = &over_;                                                                               \
		uv_timer_start(&patience_, patience_over, PATIENCE_MS, 0);                                             \
		while (!(condition) && !over_)                                                                         \
			uv_run(loop, UV_RUN_ONCE);                                                                     \
		bool met_ = (condition);                                                                               \
		uv_close((uv_handle_t *)&patience_, NULL);                                                             \
		uv_run(loop, UV_RUN_NOWAIT);                                                                           \
		if (!met_)                                                                                             \
			fail_msg("never came: %s", #condition);                                                        \
	} while (0)

#endif
