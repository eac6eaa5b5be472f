/* SPDX-License-Identifier: Apache-2.0 */
/* A port on an interface of the kernel, its sockets, device and map made up: what it does when some of them fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "log.h"
#include "netdev.h"
#include "port.h"
#include "xsk_pin.h"
#include "xsk_queue.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QUEUES = 3, MAP_ID = 7 };

/* The world that the port sees. */
static struct {
	int device_error;
	uint32_t device_index;
	int open_error[QUEUES];
	uint32_t open;   /* sockets */
	uint64_t missed; /* by each of them */
	bool has_map;
	uint32_t refused_key; /* by the map; QUEUES: none */
	bool in_map[QUEUES];
	uint32_t logged; /* lines */
} world;

int __wrap_netdev_read(const char *name, struct netdev *ret);
int __wrap_netdev_read(const char *name, struct netdev *ret)
{
	(void)name;
	if (world.device_error)
		return world.device_error;
	*ret = (struct netdev){.index = world.device_index, .up = true, .mtu = 1500, .rx_queues = QUEUES};
	return 0;
}

int __wrap_xsk_queue_open(const char *interface, uint32_t number, struct frames *frames, uint16_t holder,
			  struct xsk_queue **ret);
int __wrap_xsk_queue_open(const char *interface, uint32_t number, struct frames *frames, uint16_t holder,
			  struct xsk_queue **ret)
{
	(void)interface;
	if (world.open_error[number])
		return world.open_error[number];
	*ret = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(**ret));
	assert_non_null(*ret);
	**ret = (struct xsk_queue){.frames = frames, .holder = holder, .fd = -1};
	world.open++;
	return 0;
}

void __wrap_xsk_queue_close(struct xsk_queue *queue);
void __wrap_xsk_queue_close(struct xsk_queue *queue)
{
	world.open -= queue != NULL;
	free(queue);
}

uint64_t __wrap_xsk_queue_missed(struct xsk_queue *queue);
uint64_t __wrap_xsk_queue_missed(struct xsk_queue *queue)
{
	assert_non_null(queue);
	return world.missed;
}

void __wrap_log_write(enum log_level level, const char *format, ...);
void __wrap_log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
	world.logged++;
}

int __wrap_bpf_obj_get(const char *path);
int __wrap_bpf_obj_get(const char *path)
{
	if (world.has_map && strstr(path, "/xsks"))
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	errno = ENOENT;
	return -1;
}

int __wrap_bpf_obj_get_info_by_fd(int fd, void *info, __u32 *length);
int __wrap_bpf_obj_get_info_by_fd(int fd, void *info, __u32 *length)
{
	(void)fd;
	assert_int_equal(*length, sizeof(struct bpf_map_info));
	*(struct bpf_map_info *)info =
	    (struct bpf_map_info){.type = BPF_MAP_TYPE_XSKMAP, .id = MAP_ID, .value_size = 4, .max_entries = QUEUES};
	return 0;
}

int __wrap_bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags);
int __wrap_bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags)
{
	uint32_t at = *(const uint32_t *)key;
	(void)fd;
	(void)value;
	(void)flags;
	assert_true(at < QUEUES);
	if (at == world.refused_key) {
		errno = EBUSY;
		return -1;
	}
	world.in_map[at] = true;
	return 0;
}

int __wrap_bpf_map_delete_elem(int fd, const void *key);
int __wrap_bpf_map_delete_elem(int fd, const void *key)
{
	uint32_t at = *(const uint32_t *)key;
	(void)fd;
	assert_true(at < QUEUES);
	world.in_map[at] = false;
	return 0;
}

static uint32_t in_map(void)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < QUEUES; i++)
		count += world.in_map[i];
	return count;
}

static void ignore(void *argument)
{
	(void)argument;
}

static struct frames frames = {.shift = 11};
static const struct config_port config = {.kind = CONFIG_PORT_KERNEL, .name = "made0", .ours = true};
static const struct port_context context = {
    .runtime_dir = "/nowhere", .workers = 1, .frames = &frames, .wait_for_workers = ignore};

/* Open, all being well. */
static struct port *open_port(void)
{
	struct port *port;
	memset(&world, 0, sizeof(world));
	world.device_index = 5;
	world.refused_key = QUEUES;
	assert_int_equal(port_af_xdp_open(&config, &context, &port), 0);
	assert_int_equal(world.open, QUEUES);
	return port;
}

static void close_port(struct port *port)
{
	port->ops->close(port);
	assert_int_equal(world.open, 0);
}

/* Sockets go with their device, and with nothing else that may fail. */
static void test_device_that_cannot_be_asked(void **state)
{
	static const int passing[] = {-EMFILE, -ENFILE, -ENOMEM, -ENOBUFS, -EPERM};
	struct port *port = open_port();
	(void)state;
	for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++) {
		world.device_error = passing[i];
		port->ops->visit(port, false);
		assert_int_equal(world.open, QUEUES);
	}
	world.device_error = -ENODEV;
	port->ops->visit(port, false);
	assert_int_equal(world.open, 0);
	world.device_error = -EMFILE;
	port->ops->visit(port, false);
	assert_int_equal(world.open, 0);
	world.device_error = 0;
	port->ops->visit(port, false);
	assert_int_equal(world.open, QUEUES);

	/* Another one of that name: the sockets are on the one that went. */
	uint32_t logged = world.logged;
	world.device_index = 6;
	port->ops->visit(port, false);
	assert_int_equal(world.open, QUEUES);
	assert_int_equal(world.logged, logged + 1 + QUEUES);
	close_port(port);
}

/* As long as one queue cannot be opened: all are tried again at each visit, one line tells of it. */
static void test_busy_queue_is_told_once(void **state)
{
	struct port *port = open_port();
	(void)state;
	world.device_error = -ENODEV;
	port->ops->visit(port, false);
	world.device_error = 0;
	world.open_error[1] = -EBUSY;
	uint32_t logged = world.logged;
	for (int i = 0; i < 20; i++) {
		port->ops->visit(port, false);
		assert_int_equal(world.open, 0);
	}
	assert_int_equal(world.logged, logged + 1);
	world.open_error[1] = 0;
	port->ops->visit(port, false);
	assert_int_equal(world.open, QUEUES);
	assert_int_equal(world.logged, logged + 1 + QUEUES);
	close_port(port);
}

/* A map that takes some of the sockets and not all has none in the end; the next visit tries again. */
static void test_map_that_takes_not_all(void **state)
{
	struct port *port = open_port();
	(void)state;
	world.has_map = true;
	for (uint32_t key = 0; key < QUEUES; key++) {
		world.refused_key = key;
		port->ops->visit(port, true);
		assert_int_equal(in_map(), 0);
	}
	world.refused_key = QUEUES;
	port->ops->visit(port, true);
	assert_int_equal(in_map(), QUEUES);
	port->ops->retire(port);
	assert_int_equal(in_map(), 0);
	close_port(port);
}

/* What its sockets have missed, those that have been closed among them. */
static void test_missed(void **state)
{
	struct port *port = open_port();
	struct sluice_port_losses losses[2] = {{0}};
	struct ports ports = {.port = {NULL, port}, .count = 2, .losses = losses};
	(void)state;
	world.missed = 5;
	ports_visit(&ports, false);
	assert_int_equal(losses[1].missed_packets, QUEUES * 5);
	world.device_error = -ENODEV;
	ports_visit(&ports, false);
	assert_int_equal(losses[1].missed_packets, QUEUES * 5);
	world.device_error = 0;
	world.missed = 0;
	ports_visit(&ports, false);
	assert_int_equal(losses[1].missed_packets, QUEUES * 5);
	world.missed = 1;
	ports_visit(&ports, false);
	assert_int_equal(losses[1].missed_packets, QUEUES * 6);
	assert_int_equal(losses[0].missed_packets, 0);
	assert_int_equal(losses[1].from_kernel_dropped, 0);
	close_port(port);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_device_that_cannot_be_asked),
	    cmocka_unit_test(test_busy_queue_is_told_once),
	    cmocka_unit_test(test_map_that_takes_not_all),
	    cmocka_unit_test(test_missed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
