/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket from both of its ends: which bytes are a message, which descriptors are believed, and
 * the dialogue of a dataplane with a control plane that comes, misbehaves, goes and comes again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "capture_memory.h"
#include "control.h"
#include "log.h"
#include "message.h"
#include "table_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SEALS = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW };

/* ------------------------------------------------------------------------------- parser ---- */

static struct sluice_message_table make_table_message(void)
{
	return (struct sluice_message_table){
	    .header = {SLUICE_MESSAGE_MAGIC, SLUICE_ABI, SLUICE_MESSAGE_TABLE, sizeof(struct sluice_message_table), 0},
	    .generation = 3,
	    .bytes = 4096,
	};
}

static void test_parse_accepts(void **state)
{
	struct sluice_refusal refusal;
	struct message m;
	struct sluice_message_table table = make_table_message();
	struct sluice_message_lookups lookups = {
	    .header = {SLUICE_MESSAGE_MAGIC, SLUICE_ABI, SLUICE_MESSAGE_LOOKUPS, sizeof(lookups), 0}, .bytes = 64};
	struct sluice_message_states states = {
	    .header = {SLUICE_MESSAGE_MAGIC, SLUICE_ABI, SLUICE_MESSAGE_STATES, sizeof(states), 0}};
	(void)state;
	assert_int_equal(message_parse(&table, sizeof(table), 1, &m, &refusal), 0);
	assert_int_equal(m.type, SLUICE_MESSAGE_TABLE);
	assert_int_equal(m.generation, 3);
	assert_int_equal(m.bytes, 4096);
	assert_int_equal(message_parse(&lookups, sizeof(lookups), 1, &m, &refusal), 0);
	assert_int_equal(m.type, SLUICE_MESSAGE_LOOKUPS);
	assert_int_equal(m.bytes, 64);
	assert_int_equal(message_parse(&states, sizeof(states), 1, &m, &refusal), 0);
	assert_int_equal(m.type, SLUICE_MESSAGE_STATES);
}

static void test_parse_refuses_every_field(void **state)
{
	const struct sluice_message_table good = make_table_message();
	struct sluice_refusal refusal;
	struct message m = {.generation = 99};
	(void)state;
#define REFUSED(error, length, descriptors, change)                                                                    \
	do {                                                                                                           \
		struct sluice_message_table bad = good;                                                                \
		change;                                                                                                \
		refusal.text[0] = 0;                                                                                   \
		assert_int_equal(message_parse(&bad, length, descriptors, &m, &refusal), error);                       \
		assert_true(strlen(refusal.text) > 10);                                                                \
		assert_int_equal(m.generation, 99);                                                                    \
	} while (0)
	REFUSED(-EPROTO, sizeof(bad), 1, bad.header.magic ^= 1);
	REFUSED(-EPROTONOSUPPORT, sizeof(bad), 1, bad.header.abi = SLUICE_ABI + 1);
	REFUSED(-EPROTONOSUPPORT, sizeof(bad), 1, bad.header.abi = SLUICE_ABI_MIN - 1);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.header.type = 0);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.header.type = SLUICE_MESSAGE_HELLO);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.header.type = SLUICE_MESSAGE_ACK);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.header.type = SLUICE_MESSAGE_PARK); /* another length */
	REFUSED(-EPROTO, sizeof(bad), 1, bad.header.type = SLUICE_MESSAGE_PARKED);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.header.type = 9);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.header.type = SLUICE_MESSAGE_CAPTURE);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.header.type = SLUICE_MESSAGE_STATES); /* another length */
	REFUSED(-EPROTO, sizeof(bad), 1, bad.header.type = SLUICE_MESSAGE_LOOKUPS);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.header.bytes++);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.header.bytes--);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.header.zero = 1);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.generation = 0);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.bytes = sizeof(struct sluice_table_header) - 1);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.bytes = TABLE_STORE_TABLE_BYTES_MAX + 1);
	REFUSED(-EPROTO, sizeof(bad), 1, bad.bytes = UINT64_MAX);
	REFUSED(-EPROTO, sizeof(bad), 0, (void)bad);
	REFUSED(-EPROTO, sizeof(bad), 2, (void)bad);
	for (size_t length = 0; length < sizeof(good); length++)
		REFUSED(-EPROTO, length, 1, (void)bad);
#undef REFUSED
}

static void test_parse_park(void **state)
{
	const struct sluice_message_park good = {
	    .header = {SLUICE_MESSAGE_MAGIC, SLUICE_ABI, SLUICE_MESSAGE_PARK, sizeof(good), 0}, .ports = 0x80000001};
	struct sluice_message_park bad = good;
	struct sluice_refusal refusal;
	struct message m = {.ports = 99};
	(void)state;
	for (size_t length = 0; length < sizeof(good); length++)
		assert_int_equal(message_parse(&good, length, 0, &m, &refusal), -EPROTO);
	assert_int_equal(message_parse(&good, sizeof(good), 1, &m, &refusal), -EPROTO);
	bad.zero = 1;
	assert_int_equal(message_parse(&bad, sizeof(bad), 0, &m, &refusal), -EPROTO);
	assert_true(strlen(refusal.text) > 10);
	assert_int_equal(m.ports, 99);
	assert_int_equal(message_parse(&good, sizeof(good), 0, &m, &refusal), 0);
	assert_int_equal(m.type, SLUICE_MESSAGE_PARK);
	assert_int_equal(m.ports, 0x80000001);
}

static void test_parse_capture(void **state)
{
	struct sluice_message_capture capture = {
	    .header = {SLUICE_MESSAGE_MAGIC, SLUICE_ABI, SLUICE_MESSAGE_CAPTURE, sizeof(capture), 0}, .bytes = 1 << 20};
	struct sluice_refusal refusal;
	struct message m = {.bytes = 99};
	(void)state;
	assert_int_equal(message_parse(&capture, sizeof(capture), 1, &m, &refusal), 0);
	assert_int_equal(m.type, SLUICE_MESSAGE_CAPTURE);
	assert_int_equal(m.bytes, 1 << 20);
	assert_int_equal(message_parse(&capture, sizeof(capture), 0, &m, &refusal), -EPROTO);
	capture.bytes = 0; /* the end: without a descriptor */
	assert_int_equal(message_parse(&capture, sizeof(capture), 0, &m, &refusal), 0);
	assert_int_equal(m.bytes, 0);
	assert_int_equal(message_parse(&capture, sizeof(capture), 1, &m, &refusal), -EPROTO);
	capture.bytes = UINT64_MAX;
	assert_int_equal(message_parse(&capture, sizeof(capture), 1, &m, &refusal), -EPROTO);
	assert_int_equal(message_parse(&capture, sizeof(capture) - 1, 1, &m, &refusal), -EPROTO);
}

static void test_map_refuses(void **state)
{
	static const uint8_t bytes[4096] = {1};
	struct message m = {.type = SLUICE_MESSAGE_TABLE, .bytes = sizeof(bytes)};
	struct sluice_refusal refusal;
	const void *map = NULL;
	(void)state;
	static const int weak[] = {0, SEALS & ~F_SEAL_WRITE, SEALS & ~F_SEAL_SHRINK, SEALS & ~F_SEAL_GROW};
	for (size_t i = 0; i < sizeof(weak) / sizeof(weak[0]); i++) {
		int fd = table_fixture_memfd(bytes, sizeof(bytes), weak[i]);
		assert_int_equal(message_map(&m, fd, &map, &refusal), -EPROTO);
		close(fd);
	}
	for (int longer = -1; longer <= 1; longer += 2) {
		int fd = table_fixture_memfd(bytes, sizeof(bytes) - 1, SEALS);
		m.bytes = sizeof(bytes) - 1 + (uint64_t)longer;
		assert_int_equal(message_map(&m, fd, &map, &refusal), -EPROTO);
		close(fd);
	}
	int file = open("/proc/self/exe", O_RDONLY);
	assert_int_equal(message_map(&m, file, &map, &refusal), -EPROTO);
	close(file);
	assert_null(map);
	m.bytes = sizeof(bytes);
	int fd = table_fixture_memfd(bytes, sizeof(bytes), SEALS);
	assert_int_equal(message_map(&m, fd, &map, &refusal), 0);
	assert_memory_equal(map, bytes, sizeof(bytes));
	munmap((void *)(uintptr_t)map, sizeof(bytes));
	close(fd);
}

/* ----------------------------------------------------------------------------- dialogue ---- */

static const char *const names[] = {"eth0"};

struct scene {
	char directory[32];
	struct config config;
	struct ports ports;
	struct counters_memory counters;
	struct table_store *store;
	struct control *control;
	int listener, peer; /* of the control plane played here */
	int fds[4];
	uint32_t fd_count;
};

static void listen_again(struct scene *s)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/" SLUICE_CONTROL_SOCKET, s->directory);
	unlink(address.sun_path);
	s->listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	assert_int_equal(bind(s->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(s->listener, 4), 0);
}

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));
	strcpy(s->directory, "/tmp/sluice-test-XXXXXX");
	assert_non_null(mkdtemp(s->directory));
	s->config.port_count = 1;
	strcpy(s->config.ports[0].name, "eth0");
	s->config.ports[0].ours = true;
	s->ports.count = 1;
	assert_int_equal(table_store_create(&s->config, 1, &s->store), 0);
	assert_int_equal(counters_memory_create(1, 1000000000, &s->counters), 0);
	const struct control_context context = {.runtime_dir = s->directory,
						.config = &s->config,
						.ports = &s->ports,
						.counters = &s->counters,
						.store = s->store,
						.workers = 1};
	assert_int_equal(control_create(&context, &s->control), 0);
	log_set_level(0);
	s->listener = s->peer = -1;
	*state = s;
	return 0;
}

static void drop_fds(struct scene *s)
{
	while (s->fd_count)
		close(s->fds[--s->fd_count]);
}

static int teardown(void **state)
{
	struct scene *s = *state;
	char path[64];
	drop_fds(s);
	close(s->peer);
	close(s->listener);
	control_destroy(s->control);
	table_store_destroy(s->store);
	counters_memory_destroy(&s->counters);
	snprintf(path, sizeof(path), "%s/" SLUICE_CONTROL_SOCKET, s->directory);
	unlink(path);
	assert_int_equal(rmdir(s->directory), 0);
	free(s);
	return 0;
}

/* The next message of the dataplane; its length. */
static ssize_t hear(struct scene *s, void *bytes, size_t room)
{
	struct iovec part = {bytes, room};
	char ancillary[CMSG_SPACE(4 * sizeof(int))];
	struct msghdr m = {
	    .msg_iov = &part, .msg_iovlen = 1, .msg_control = ancillary, .msg_controllen = sizeof(ancillary)};
	drop_fds(s);
	ssize_t length = recvmsg(s->peer, &m, MSG_DONTWAIT);
	struct cmsghdr *c = length > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c) {
		s->fd_count = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(s->fds, CMSG_DATA(c), s->fd_count * sizeof(int));
	}
	return length;
}

/* Say this to the dataplane and let it listen. */
static void say(struct scene *s, const void *bytes, size_t length, const int *fds, uint32_t fd_count)
{
	struct iovec part = {(void *)(uintptr_t)bytes, length};
	char ancillary[CMSG_SPACE(8 * sizeof(int))] = {0};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
	if (fd_count) {
		m.msg_control = ancillary;
		m.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
	}
	assert_int_equal(sendmsg(s->peer, &m, 0), length);
	control_receive(s->control);
}

static void say_with_memfd(struct scene *s, const void *message, size_t length, const void *bytes, uint64_t count,
			   int seals)
{
	int fd = table_fixture_memfd(bytes, count, seals);
	say(s, message, length, &fd, 1);
	close(fd);
}

/* Connect, and take the HELLO. */
static struct sluice_message_hello meet(struct scene *s)
{
	struct sluice_message_hello hello;
	control_visit(s->control);
	assert_true(control_fd(s->control) >= 0);
	close(s->peer);
	s->peer = accept(s->listener, NULL, NULL);
	assert_int_equal(hear(s, &hello, sizeof(hello)), sizeof(hello));
	assert_int_equal(hello.header.magic, SLUICE_MESSAGE_MAGIC);
	assert_int_equal(hello.header.abi, SLUICE_ABI);
	assert_int_equal(hello.header.type, SLUICE_MESSAGE_HELLO);
	assert_int_equal(hello.header.bytes, sizeof(hello));
	assert_int_equal(hello.pid, getpid());
	assert_int_equal(hello.port_count, 1);
	assert_string_equal(hello.ports[0].name, "eth0");
	assert_int_equal(s->fd_count, hello.has_states ? 3 : 2);
	return hello;
}

static void send_states(struct scene *s)
{
	struct sluice_message_states m = {
	    .header = {SLUICE_MESSAGE_MAGIC, SLUICE_ABI, SLUICE_MESSAGE_STATES, sizeof(m), 0}};
	say_with_memfd(s, &m, sizeof(m), NULL, SLUICE_BACKENDS_MAX, F_SEAL_SHRINK | F_SEAL_GROW);
}

static void send_lookups(struct scene *s, const struct table_fixture *f)
{
	struct sluice_message_lookups m = {
	    .header = {SLUICE_MESSAGE_MAGIC, SLUICE_ABI, SLUICE_MESSAGE_LOOKUPS, sizeof(m), 0},
	    .bytes = f->blob->total_bytes};
	say_with_memfd(s, &m, sizeof(m), f->blob, f->blob->total_bytes, SEALS);
}

/* Send the table; the acknowledgement. */
static struct sluice_message_ack send_table(struct scene *s, const struct table_fixture *f, uint64_t generation,
					    int seals)
{
	struct sluice_message_ack ack = {0};
	struct sluice_message_table m = make_table_message();
	m.generation = generation;
	m.bytes = f->table->total_bytes;
	say_with_memfd(s, &m, sizeof(m), f->table, f->table->total_bytes, seals);
	assert_int_equal(hear(s, &ack, sizeof(ack)), sizeof(ack));
	assert_int_equal(ack.header.type, SLUICE_MESSAGE_ACK);
	assert_int_equal(ack.header.bytes, sizeof(ack));
	assert_int_equal(ack.generation, generation);
	return ack;
}

static struct table_fixture *make(uint64_t generation)
{
	struct table_fixture_spec spec = {
	    .generation = generation, .services = 3, .variant = (uint32_t)generation, .ports = names, .port_count = 1};
	return table_fixture_create(&spec);
}

static void test_dialogue(void **state)
{
	struct scene *s = *state;
	struct table_fixture *f = make(5), *bad = make(6);
	control_visit(s->control); /* nobody there */
	assert_int_equal(control_fd(s->control), -1);
	listen_again(s);

	struct sluice_message_hello hello = meet(s);
	assert_int_equal(hello.generation, 0);
	assert_int_equal(hello.held_lookups, 0);
	assert_int_equal(hello.has_states, 0);
	struct sluice_counters_header counters;
	assert_int_equal(pread(s->fds[0], &counters, sizeof(counters), 0), sizeof(counters));
	assert_true(counters.magic == SLUICE_COUNTERS_MAGIC);
	assert_int_equal(counters.total_bytes, lseek(s->fds[0], 0, SEEK_END));
	assert_int_equal(fcntl(s->fds[0], F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW);

	assert_int_equal(send_table(s, f, 5, SEALS).error, -ENOENT); /* lookups come first */
	send_states(s);
	send_lookups(s, f);
	assert_int_equal(send_table(s, f, 5, SEALS).error, 0);
	assert_int_equal(table_store_current(s->store)->header->generation, 5);

	/* Refusals leave the connection and the old table. */
	struct sluice_message_ack ack = send_table(s, bad, 6, SEALS);
	assert_int_equal(ack.error, -ENOENT);
	assert_non_null(strstr(ack.text, "has not been sent"));
	ack = send_table(s, f, 7, SEALS); /* says 7, is 5 */
	assert_int_equal(ack.error, -EINVAL);
	ack = send_table(s, f, 5, SEALS & ~F_SEAL_WRITE);
	assert_int_equal(ack.error, -EPROTO);
	assert_non_null(strstr(ack.text, "sealed"));
	assert_int_equal(table_store_current(s->store)->header->generation, 5);
	assert_true(control_fd(s->control) >= 0);

	struct sluice_message_table m = make_table_message(); /* a descriptor that is no memfd at all */
	say(s, &m, sizeof(m), &s->peer, 1);
	assert_int_equal(hear(s, &ack, sizeof(ack)), sizeof(ack));
	assert_int_equal(ack.error, -EPROTO);

	/* The control plane is killed and comes back: it is told what there is. */
	close(s->peer);
	s->peer = -1;
	control_receive(s->control);
	assert_int_equal(control_fd(s->control), -1);
	assert_int_equal(table_store_current(s->store)->header->generation, 5);
	close(s->listener);
	listen_again(s);
	hello = meet(s);
	assert_int_equal(hello.generation, 5);
	assert_true(hello.table_digest == f->table->checksum);
	assert_int_equal(hello.has_states, 1);
	assert_int_equal(hello.held_lookups, 3);
	uint64_t held[3];
	assert_int_equal(pread(s->fds[1], held, sizeof(held), 0), sizeof(held));
	for (int i = 0; i < 3; i++) /* in any order */
		assert_true(held[i] == f->lookups[0].id || held[i] == f->lookups[1].id || held[i] == f->lookups[2].id);
	assert_int_equal(lseek(s->fds[2], 0, SEEK_END), SLUICE_BACKENDS_MAX);
	uint8_t draining = SLUICE_BACKEND_DRAINING; /* it goes on writing in the same bytes */
	assert_int_equal(pwrite(s->fds[2], &draining, 1, 1), 1);
	assert_int_equal(table_store_current(s->store)->states[1], SLUICE_BACKEND_DRAINING);
	table_fixture_destroy(f);
	table_fixture_destroy(bad);
}

/* How many descriptors this process has. */
static uint32_t count_fds(void)
{
	uint32_t count = 0;
	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* What cannot be accepted ends the connection, keeps no descriptor, and the next connection is as good as ever. */
/* ------------------------------------------------------------------------------ parking ---- */

/* A port of the kernel without one: what it was told. */
static unsigned retired, visits;
static bool served;

static void fake_retire(struct port *port)
{
	assert_true(port->parked); /* a visit must not put back what is taken out */
	retired++;
}

static void fake_visit(struct port *port, bool serves)
{
	(void)port;
	visits++;
	served = serves;
}

static void fake_status(struct port *port, struct port_status *ret)
{
	(void)port;
	*ret = (struct port_status){.up = true, .mtu = 1500, .queues = 1};
}

static uint32_t ask_to_park(struct scene *s, uint32_t ports)
{
	struct sluice_message_park parked = {0};
	const struct sluice_message_park park = {
	    .header = {SLUICE_MESSAGE_MAGIC, SLUICE_ABI, SLUICE_MESSAGE_PARK, sizeof(park), 0}, .ports = ports};
	say(s, &park, sizeof(park), NULL, 0);
	assert_int_equal(hear(s, &parked, sizeof(parked)), sizeof(parked));
	assert_int_equal(parked.header.type, SLUICE_MESSAGE_PARKED);
	assert_int_equal(parked.header.bytes, sizeof(parked));
	assert_int_equal(s->fd_count, 0);
	return parked.ports;
}

static void test_parking(void **state)
{
	static const struct port_ops ops = {.retire = fake_retire, .visit = fake_visit, .status = fake_status};
	struct scene *s = *state;
	struct port port = {.ops = &ops, .config = &s->config.ports[0]};
	struct table_fixture *f = make(5);

	retired = visits = 0;
	s->ports.port[0] = &port;
	listen_again(s);
	assert_int_equal(meet(s).ports[0].flags, SLUICE_PORT_CAN_PARK);
	assert_int_equal(ask_to_park(s, 1), 1);
	assert_true(port.parked && ports_are_parked(&s->ports));
	assert_int_equal(retired, 1);
	assert_int_equal(ask_to_park(s, 0xffffffff), 1); /* ports that there are not are passed over */
	assert_int_equal(retired, 1);
	/* Who comes next is told how it is. */
	close(s->peer);
	s->peer = -1;
	control_receive(s->control);
	assert_int_equal(meet(s).ports[0].flags, SLUICE_PORT_CAN_PARK | SLUICE_PORT_PARKED);
	visits = 0;
	assert_int_equal(ask_to_park(s, 0), 0);
	assert_true(!port.parked && visits == 1 && !served); /* no table: nothing may come this way yet */
	send_states(s);
	send_lookups(s, f);
	assert_int_equal(send_table(s, f, 5, SEALS).error, 0);
	assert_int_equal(ask_to_park(s, 1), 1);
	assert_int_equal(ask_to_park(s, 0), 0);
	assert_true(served);

	/* What no other path has stays. */
	s->config.ports[0].kind = CONFIG_PORT_PCI;
	assert_int_equal(ask_to_park(s, 1), 0);
	assert_false(port.parked);
	s->ports.port[0] = NULL;
	assert_int_equal(ask_to_park(s, 1), 0); /* path = "xdp" */
	assert_false(ports_are_parked(&s->ports));
	table_fixture_destroy(f);
}

static void nobody_waits(void *argument)
{
	(void)argument;
}

/* A capture that cannot be had here is no reason to lose the control plane; one that is not sound is. */
static void test_capture_without_memory(void **state)
{
	struct scene *s = *state;
	struct sluice_capture_header header = {.magic = SLUICE_CAPTURE_MAGIC,
					       .abi = SLUICE_ABI,
					       .writers = 1,
					       .records = 16,
					       .total_bytes = sluice_capture_bytes(1, 16),
					       .filter = {.service = SLUICE_NONE, .sample = 1, .snaplen = 100}};
	struct sluice_message_capture message = {
	    .header = {SLUICE_MESSAGE_MAGIC, SLUICE_ABI, SLUICE_MESSAGE_CAPTURE, sizeof(message), 0},
	    .bytes = header.total_bytes};
	struct capture_memory *capture;
	char path[64];

	control_destroy(s->control);
	assert_int_equal(capture_memory_create(1, nobody_waits, NULL, &capture), 0);
	const struct control_context context = {.runtime_dir = s->directory,
						.config = &s->config,
						.ports = &s->ports,
						.counters = &s->counters,
						.store = s->store,
						.capture = capture,
						.workers = 1};
	assert_int_equal(control_create(&context, &s->control), 0);
	listen_again(s);
	meet(s);
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &header, sizeof(header), 0), sizeof(header));
	assert_int_equal(ftruncate(fd, (off_t)header.total_bytes), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int unwritable = open(path, O_RDONLY | O_CLOEXEC); /* no mapping of it can be written */
	assert_true(unwritable >= 0);
	say(s, &message, sizeof(message), &unwritable, 1);
	assert_true(control_fd(s->control) >= 0);
	assert_null(capture_memory_writer(capture, 0));
	say(s, &message, sizeof(message), &fd, 1);
	assert_non_null(capture_memory_writer(capture, 0));
	header.writers = 2;
	assert_int_equal(pwrite(fd, &header, sizeof(header), 0), sizeof(header));
	say(s, &message, sizeof(message), &fd, 1);
	assert_int_equal(control_fd(s->control), -1);
	assert_null(capture_memory_writer(capture, 0));
	close(unwritable);
	close(fd);
	control_destroy(s->control);
	s->control = NULL;
	capture_memory_destroy(capture);
}

static void test_misbehaviour(void **state)
{
	struct scene *s = *state;
	struct sluice_message_table table = make_table_message();
	struct sluice_message_lookups lookups = {
	    .header = {SLUICE_MESSAGE_MAGIC, SLUICE_ABI, SLUICE_MESSAGE_LOOKUPS, sizeof(lookups), 0}, .bytes = 64};
	struct sluice_message_states states = {
	    .header = {SLUICE_MESSAGE_MAGIC, SLUICE_ABI, SLUICE_MESSAGE_STATES, sizeof(states), 0}};
	struct sluice_message_capture capture = {
	    .header = {SLUICE_MESSAGE_MAGIC, SLUICE_ABI, SLUICE_MESSAGE_CAPTURE, sizeof(capture), 0}, .bytes = 8192};
	uint8_t huge[SLUICE_MESSAGE_MAX + 1] = {0};
	listen_again(s);
	meet(s);
	drop_fds(s);
	uint32_t fds_before = count_fds();

#define ENDS(what)                                                                                                     \
	do {                                                                                                           \
		what;                                                                                                  \
		assert_int_equal(control_fd(s->control), -1);                                                          \
		meet(s);                                                                                               \
		drop_fds(s);                                                                                           \
		assert_int_equal(count_fds(), fds_before);                                                             \
	} while (0)
	ENDS(say(s, "x", 1, NULL, 0));
	ENDS(say(s, huge, sizeof(huge), NULL, 0));
	ENDS(say(s, &table, sizeof(table), NULL, 0));
	ENDS(say(s, &table, sizeof(table), (int[]){0, 1}, 2));
	ENDS(say(s, &table, sizeof(table), (int[]){0, 1, 2, 0}, 4));
	ENDS(say(s, &table, sizeof(table), (int[]){0, 1, 2, 0, 1, 2}, 6));
	ENDS(say(s, &lookups, sizeof(lookups), (int[]){0}, 1));
	ENDS(say_with_memfd(s, &lookups, sizeof(lookups), huge, 64, SEALS));
	ENDS(say_with_memfd(s, &lookups, sizeof(lookups), huge, 64, 0));
	ENDS(say_with_memfd(s, &states, sizeof(states), NULL, 100, F_SEAL_SHRINK | F_SEAL_GROW));
	ENDS(say(s, &states, sizeof(states), (int[]){0}, 1));
	ENDS(say(s, &capture, sizeof(capture), (int[]){0}, 1)); /* not offered */
	send_states(s);
	fds_before++; /* the array, kept */
	assert_true(control_fd(s->control) >= 0);
	ENDS(send_states(s));
#undef ENDS
	assert_null(table_store_current(s->store));
}

static void test_long_path(void **state)
{
	struct control *control = NULL;
	char path[256];
	(void)state;
	memset(path, 'a', sizeof(path));
	path[sizeof(path) - 1] = 0;
	log_set_level(0);
	const struct control_context context = {.runtime_dir = path};
	assert_int_equal(control_create(&context, &control), -ENAMETOOLONG);
	assert_null(control);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parse_accepts),
	    cmocka_unit_test(test_parse_refuses_every_field),
	    cmocka_unit_test(test_parse_park),
	    cmocka_unit_test(test_parse_capture),
	    cmocka_unit_test(test_map_refuses),
	    cmocka_unit_test_setup_teardown(test_dialogue, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_parking, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_capture_without_memory, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_misbehaviour, setup, teardown),
	    cmocka_unit_test(test_long_path),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
