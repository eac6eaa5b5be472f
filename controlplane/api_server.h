/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP on one listening socket: libmicrohttpd without threads of its own, driven by the loop
 * through its epoll descriptor. Bodies, connections, idle time and memory are bounded. Loop thread only.
 */
#ifndef CONTROLPLANE_API_SERVER_H
#define CONTROLPLANE_API_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct api;
struct api_server;

#define API_CONNECTIONS_MAX 64u
#define API_IDLE_SECONDS 30u
#define API_CONNECTION_BYTES_MAX (64u * 1024) /* of memory for one connection's headers */

/* Serve `listen_fd` (taken over when 0 is returned). 0 or -errno. */
int api_server_create(uv_loop_t *loop, struct api *api, int listen_fd, bool read_only, struct api_server **ret);

/*
 * End all connections and close the socket. No exchange of this server may be deferred any more. Accepts
 * NULL. `closed` is called from the loop when its handles are closed.
 */
void api_server_destroy(struct api_server *server, void (*closed)(void *user), void *user);

#endif
