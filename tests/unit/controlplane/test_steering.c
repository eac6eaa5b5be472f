/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steering on real veth pairs, in network and mount namespaces of this process alone. Needs root.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "log.h"
#include "steering_internal.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SKIPPED 77 /* meson's */

/* ----------------------------------------------------------------- fixture ---- */

struct fixture {
	char runtime[64];
	struct steering *steering;
	struct model model;
	struct model_interface interfaces[4];
};

static void run(const char *command)
{
	int status = system(command);
	if (status)
		fail_msg("%s: status %d", command, status);
}

static void make_veth(void)
{
	run("ip link add sv0 numtxqueues 1 numrxqueues 1 type veth peer name sv1 numtxqueues 1 numrxqueues 1");
	run("ip link set sv0 up && ip link set sv1 up");
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	strcpy(f->runtime, "/tmp/sluice-steering-XXXXXX");
	assert_non_null(mkdtemp(f->runtime));
	f->model.interfaces = f->interfaces;
	make_veth();
	assert_int_equal(steering_create(f->runtime, &f->steering), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char path[128];

	steering_destroy(f->steering);
	if (system("ip link del sv0 2>/dev/null")) { /* some tests take it away themselves */
	}
	snprintf(path, sizeof(path), "%s/bpf", f->runtime);
	assert_int_equal(umount2(path, MNT_DETACH), 0); /* all pins with it */
	rmdir(path);
	rmdir(f->runtime);
	free(f);
	return 0;
}

static void configure(struct fixture *f, const char *first, const char *second)
{
	f->model.interface_count = 0;
	memset(f->interfaces, 0, sizeof(f->interfaces));
	/* A port of another kind first: statuses count the kernel's only. */
	f->interfaces[f->model.interface_count++] =
	    (struct model_interface){.kind = MODEL_INTERFACE_VDEV, .name = (char *)"net_null0"};
	for (int i = 0; i < 2; i++) {
		const char *name = i ? second : first;
		if (name)
			f->interfaces[f->model.interface_count++] =
			    (struct model_interface){.kind = MODEL_INTERFACE_NAME, .name = (char *)name};
	}
}

static void restart(struct fixture *f)
{
	steering_destroy(f->steering);
	f->steering = NULL;
	assert_int_equal(steering_create(f->runtime, &f->steering), 0);
}

static struct steering_status status(struct fixture *f, uint32_t i)
{
	struct steering_status s;
	assert_int_equal(steering_status(f->steering, i, &s), 0);
	return s;
}

static uint32_t program_on(const char *interface)
{
	uint32_t id = 0;
	assert_int_equal(xdp_attached(if_nametoindex(interface), &id, NULL), 0);
	return id;
}

static int pinned(struct fixture *f, const char *leaf)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/bpf/%s", f->runtime, leaf);
	int fd = bpf_obj_get(path);
	if (fd < 0)
		errno = -fd;
	return fd;
}

/* A program that passes everything, of somebody else. */
static int foreign_program(void)
{
	const struct bpf_insn code[] = {
	    {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
	    {.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_XDP); /* as libbpf's SEC("xdp") */
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "somebody_else", "GPL", code, 2, &options);
	assert_true(fd >= 0);
	return fd;
}

/* ------------------------------------------------------------- attach, adopt ---- */

static void attaches_natively_and_pins(void **state)
{
	struct fixture *f = *state;
	static const char *const pins[] = {"sv0/xsks", "sv0/link", "sv0/program", "sv0/counters", "services"};
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info);

	configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_string_equal(status(f, 0).interface, "sv0");
	assert_true(status(f, 0).attached);
	assert_string_equal(status(f, 0).mode, "native");
	struct steering_status s;
	assert_int_equal(steering_status(f->steering, 1, &s), -ENOENT);
	for (size_t i = 0; i < sizeof(pins) / sizeof(pins[0]); i++) {
		int fd = pinned(f, pins[i]);
		assert_true(fd >= 0);
		close(fd);
	}
	int xsks = pinned(f, "sv0/xsks");
	assert_int_equal(bpf_obj_get_info_by_fd(xsks, &info, &length), 0);
	assert_int_equal(info.type, BPF_MAP_TYPE_XSKMAP);
	assert_int_equal(info.max_entries, STEERING_XSKS_MIN);
	close(xsks);
	run("ethtool -k sv0 | grep -q '^rx-vlan-offload: off'");
	run("ethtool -k sv0 | grep -q '^rx-vlan-stag-hw-parse: off'");
}

static void falls_back_to_generic(void **state)
{
	struct fixture *f = *state;
	run("ip link set lo mtu 1500 up");
	configure(f, "lo", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_true(status(f, 0).attached);
	assert_string_equal(status(f, 0).mode, "generic");
}

static void has_a_socket_slot_for_each_queue(void **state)
{
	struct fixture *f = *state;
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info);

	run("ip link add sw0 numrxqueues 100 type veth peer name sw1 numtxqueues 100");
	configure(f, "sw0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	int xsks = pinned(f, "sw0/xsks");
	assert_int_equal(bpf_obj_get_info_by_fd(xsks, &info, &length), 0);
	assert_int_equal(info.max_entries, 100);
	close(xsks);
	run("ip link del sw0");
}

static void outlives_us_and_is_adopted(void **state)
{
	struct fixture *f = *state;
	uint64_t values[256] = {41};
	uint32_t key = STEERING_DROPPED_NO_SOCKET;

	configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	uint32_t program = program_on("sv0");
	int counters = pinned(f, "sv0/counters");
	assert_int_equal(bpf_map_update_elem(counters, &key, values, BPF_ANY), 0);
	close(counters);
	steering_destroy(f->steering);
	f->steering = NULL;
	assert_int_equal(program_on("sv0"), program);

	assert_int_equal(steering_create(f->runtime, &f->steering), 0);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(program_on("sv0"), program);
	assert_int_equal(status(f, 0).dropped_no_socket, 41);
}

static uint32_t link_id(struct fixture *f)
{
	struct bpf_link_info info = {0};
	uint32_t length = sizeof(info);
	int fd = pinned(f, "sv0/link");
	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &length), 0);
	close(fd);
	return info.id;
}

static void another_version_is_replaced_through_the_link(void **state)
{
	struct fixture *f = *state;
	configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	uint32_t ours = program_on("sv0"), link = link_id(f);
	int old_version = foreign_program(), link_fd = pinned(f, "sv0/link");
	assert_int_equal(bpf_link_update(link_fd, old_version, NULL), 0);
	close(link_fd);
	close(old_version);
	uint32_t old = program_on("sv0");
	assert_int_not_equal(old, ours);

	restart(f);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(link_id(f), link); /* never detached */
	assert_int_not_equal(program_on("sv0"), old);
}

/* Pin a map that no version of ours understands. */
static void pin_other_map(struct fixture *f, const char *leaf, enum bpf_map_type type, uint32_t entries)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/bpf/%s", f->runtime, leaf);
	unlink(path);
	int fd = bpf_map_create(type, "other", 4, 4, entries, NULL);
	assert_true(fd >= 0);
	assert_int_equal(bpf_obj_pin(fd, path), 0);
	close(fd);
}

static void maps_of_another_layout_are_replaced(void **state)
{
	struct fixture *f = *state;
	struct model_service service = {.port_first = 80, .port_last = 80, .protocol = SLUICE_IP_TCP};
	struct steering_key key = {.port_be16 = SLUICE_BE16(80), .protocol = SLUICE_IP_TCP};
	struct steering_value value;

	key.address = service.address = sluice_address_v4(inet_addr("192.0.2.1"));
	configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	uint32_t program = program_on("sv0"), link = link_id(f);
	steering_destroy(f->steering);
	f->steering = NULL;
	pin_other_map(f, "services", BPF_MAP_TYPE_HASH, 10);
	pin_other_map(f, "sv0/xsks", BPF_MAP_TYPE_XSKMAP, STEERING_XSKS_MIN - 1);

	assert_int_equal(steering_create(f->runtime, &f->steering), 0);
	f->model.services = &service;
	f->model.service_count = 1;
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(link_id(f), link);
	assert_int_not_equal(program_on("sv0"), program);
	/* The program that ran got a filled map, before anybody published. */
	int fd = pinned(f, "services");
	assert_int_equal(bpf_map_lookup_elem(fd, &key, &value), 0);
	close(fd);
}

/* ---------------------------------------------------------- refuse, try again ---- */

static void another_program_is_named_and_left_alone(void **state)
{
	struct fixture *f = *state;
	int foreign = foreign_program();

	assert_int_equal(bpf_xdp_attach((int)if_nametoindex("sv0"), foreign, XDP_FLAGS_DRV_MODE, NULL), 0);
	uint32_t id = program_on("sv0");
	configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), -EBUSY);
	assert_false(status(f, 0).attached);
	assert_non_null(strstr(status(f, 0).reason, "\"somebody_else\""));
	assert_non_null(strstr(status(f, 0).reason, "\"ip link set dev sv0 xdp off\""));
	assert_int_equal(program_on("sv0"), id);
	run("ethtool -k sv0 | grep -q '^rx-vlan-offload: on'"); /* nothing of the interface was changed */

	run("ip link set dev sv0 xdp off");
	for (int i = 0; i < 3; i++)
		steering_refresh(f->steering);
	assert_true(status(f, 0).attached);
	assert_string_equal(status(f, 0).reason, "");
	close(foreign);
}

static void another_link_is_named_and_left_alone(void **state)
{
	struct fixture *f = *state;
	char remedy[64];
	enum xdp_mode mode;
	struct bpf_link_info info = {0};
	uint32_t length = sizeof(info);
	int foreign = foreign_program(), link;
	char reason[XDP_REASON_BYTES];

	assert_int_equal(xdp_attach(if_nametoindex("sv0"), foreign, XDP_MODE_GENERIC, &link, &mode, reason), 0);
	assert_int_equal(bpf_obj_get_info_by_fd(link, &info, &length), 0);
	snprintf(remedy, sizeof(remedy), "\"bpftool link detach id %u\"", info.id);
	configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), -EBUSY);
	assert_non_null(strstr(status(f, 0).reason, remedy));
	assert_non_null(strstr(status(f, 0).reason, "generic"));
	close(link);
	close(foreign);
}

static void one_interface_does_not_stop_the_other(void **state)
{
	struct fixture *f = *state;
	configure(f, "absent0", "sv0");
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), -ENODEV);
	assert_false(status(f, 0).attached);
	assert_string_equal(status(f, 0).reason, "no such interface");
	assert_true(status(f, 1).attached);

	run("ip link add absent0 type veth peer name absent1");
	steering_refresh(f->steering);
	assert_true(status(f, 0).attached);
	run("ip link del absent0");
}

static void refuses_what_cannot_work(void **state)
{
	struct fixture *f = *state;
	run("ip link set sv0 mtu 9000 && ip link add sv0.7 type veth peer name sv7");
	configure(f, "sv0", "sv0.7");
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), -EINVAL);
	assert_non_null(strstr(status(f, 0).reason, "MTU of 9000"));
	assert_non_null(strstr(status(f, 0).reason, "ip link set dev sv0 mtu 3498"));
	assert_non_null(strstr(status(f, 1).reason, "dot"));
	assert_int_equal(program_on("sv0"), 0);

	run("ip link set sv0 mtu 3498");
	for (int i = 0; i < 3; i++)
		steering_refresh(f->steering);
	assert_true(status(f, 0).attached);
	assert_string_equal(status(f, 0).mode, "native"); /* the limit is the driver's, too */
	run("ip link del sv0.7");
}

static void a_recreated_interface_is_attached_again(void **state)
{
	struct fixture *f = *state;
	configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	run("ip link del sv0");
	steering_refresh(f->steering);
	assert_false(status(f, 0).attached);
	make_veth();
	assert_int_equal(program_on("sv0"), 0);
	steering_refresh(f->steering);
	assert_true(status(f, 0).attached);
	assert_int_not_equal(program_on("sv0"), 0);

	/* The same while no control plane watches. */
	steering_destroy(f->steering);
	f->steering = NULL;
	run("ip link del sv0");
	make_veth();
	assert_int_equal(steering_create(f->runtime, &f->steering), 0);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_not_equal(program_on("sv0"), 0);
}

static void a_link_detached_by_force_is_attached_again(void **state)
{
	struct fixture *f = *state;
	configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	int fd = pinned(f, "sv0/link");
	assert_int_equal(bpf_link_detach(fd), 0);
	close(fd);
	assert_int_equal(program_on("sv0"), 0);
	steering_refresh(f->steering);
	assert_int_not_equal(program_on("sv0"), 0);
}

static void detaches_what_leaves_the_configuration(void **state)
{
	struct fixture *f = *state;
	char path[128];

	configure(f, "sv0", "sv1");
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	uint32_t kept = program_on("sv1");
	configure(f, "sv1", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(program_on("sv0"), 0);
	assert_int_equal(program_on("sv1"), kept);
	snprintf(path, sizeof(path), "%s/bpf/sv0", f->runtime);
	assert_int_equal(access(path, F_OK), -1);

	/* It left the file while nobody ran. */
	restart(f);
	configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(program_on("sv1"), 0);
	assert_int_not_equal(program_on("sv0"), 0);
}

/* ---------------------------------------------------------------- packets ---- */

/* UDP from a peer's port, by hand: 192.0.2.1:53 unless the port says otherwise. */
static void send_udp(const char *interface, uint16_t port)
{
	uint8_t frame[60] = {0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17};
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(interface)};
	uint32_t vip = inet_addr("192.0.2.1");
	uint16_t port_be = htons(port), length_be = htons(8);
	int fd = socket(AF_PACKET, SOCK_RAW, 0);

	memcpy(frame + 30, &vip, 4);
	memcpy(frame + 36, &port_be, 2);
	memcpy(frame + 38, &length_be, 2);
	assert_true(fd >= 0);
	assert_int_equal(sendto(fd, frame, sizeof(frame), 0, (struct sockaddr *)&to, sizeof(to)), sizeof(frame));
	close(fd);
}

/* The kernel hands a veth's frames over in its own time. */
static void wait_for(struct fixture *f, size_t counter, uint64_t at_least)
{
	for (int i = 0; i < 500; i++) {
		struct steering_status s = status(f, 0);
		uint64_t value;
		memcpy(&value, (const char *)&s + counter, sizeof(value));
		if (value >= at_least)
			return;
		usleep(10000);
	}
	fail_msg("the counter never came to %llu", (unsigned long long)at_least);
}

static void packets_meet_the_published_services(void **state)
{
	struct fixture *f = *state;
	struct model_service service = {.port_first = 53, .port_last = 53, .protocol = SLUICE_IP_UDP};

	service.address = sluice_address_v4(inet_addr("192.0.2.1"));
	f->model.services = &service;
	f->model.service_count = 1;
	configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	uint64_t passed = status(f, 0).passed;
	send_udp("sv1", 53);
	wait_for(f, offsetof(struct steering_status, passed), passed + 1);
	assert_int_equal(status(f, 0).dropped_no_socket, 0);

	assert_int_equal(steering_publish_services(f->steering, &f->model), 0);
	send_udp("sv1", 53);
	wait_for(f, offsetof(struct steering_status, dropped_no_socket), 1);
	passed = status(f, 0).passed;
	send_udp("sv1", 54);
	wait_for(f, offsetof(struct steering_status, passed), passed + 1);
	assert_int_equal(status(f, 0).dropped_no_socket, 1);
}

/* ------------------------------------------------------------------- services ---- */

static uint32_t entries(struct fixture *f)
{
	struct steering_key key, next;
	uint32_t n = 0;
	int fd = pinned(f, "services");
	for (void *from = NULL; bpf_map_get_next_key(fd, from, &next) == 0; from = &key, key = next)
		n++;
	close(fd);
	return n;
}

/* The kind of the entry; EMPTY when there is none. */
static int entry(struct fixture *f, const char *address, uint16_t port, uint8_t protocol, struct steering_value *ret)
{
	struct steering_key key = {.port_be16 = SLUICE_BE16(port), .protocol = protocol};
	key.address = sluice_address_v4(inet_addr(address));
	int fd = pinned(f, "services");
	int error = bpf_map_lookup_elem(fd, &key, ret);
	close(fd);
	return error ? SLUICE_INDEX_EMPTY : ret->kind;
}

static struct model_service service_at(const char *address, uint16_t first, uint16_t last, uint8_t protocol)
{
	struct model_service s = {.port_first = first, .port_last = last, .protocol = protocol};
	s.address = sluice_address_v4(inet_addr(address));
	return s;
}

static void the_map_says_what_the_model_says(void **state)
{
	struct fixture *f = *state;
	struct steering_value v;
	struct model_service before[] = {
	    service_at("192.0.2.1", 80, 80, SLUICE_IP_TCP), service_at("192.0.2.1", 1000, 1999, SLUICE_IP_TCP),
	    service_at("192.0.2.1", 1, 65535, SLUICE_IP_TCP), service_at("192.0.2.2", 53, 53, SLUICE_IP_UDP)};
	struct model_service after[] = {service_at("192.0.2.1", 80, 80, SLUICE_IP_TCP),
					service_at("192.0.2.1", 2000, 2999, SLUICE_IP_TCP),
					service_at("192.0.2.3", 53, 53, SLUICE_IP_UDP)};

	struct model_vip vips[] = {{.address = sluice_address_v4(inet_addr("192.0.2.9")), .icmp_echo = true},
				   {.address = sluice_address_v4(inet_addr("192.0.2.2")), .icmp_echo = true},
				   {.address = sluice_address_v4(inet_addr("192.0.2.1"))}};

	f->model.vips = vips;
	f->model.vip_count = 3;
	f->model.services = before;
	f->model.service_count = 4;
	assert_int_equal(steering_publish_services(f->steering, &f->model), 0);
	assert_int_equal(entries(f), 5); /* 2 services, 1 list of ranges, 2 VIPs */
	assert_int_equal(entry(f, "192.0.2.1", 80, SLUICE_IP_TCP, &v), SLUICE_INDEX_SERVICE);
	assert_int_equal(entry(f, "192.0.2.1", 0, SLUICE_IP_TCP, &v), SLUICE_INDEX_WILDCARD);
	assert_int_equal(v.count, 2);
	assert_int_equal(entry(f, "192.0.2.1", 0, 0, &v), SLUICE_INDEX_VIP);
	assert_int_equal(v.count, 0);
	assert_int_equal(entry(f, "192.0.2.2", 0, 0, &v), SLUICE_INDEX_VIP);
	assert_int_equal(v.count, SLUICE_VIP_ECHO);
	assert_int_equal(entry(f, "192.0.2.2", 53, SLUICE_IP_UDP, &v), SLUICE_INDEX_SERVICE);

	vips[1].icmp_echo = false;
	vips[2].icmp_echo = true;
	assert_int_equal(steering_publish_services(f->steering, &f->model), 0);
	assert_int_equal(entry(f, "192.0.2.1", 0, 0, &v), SLUICE_INDEX_VIP);
	assert_int_equal(v.count, SLUICE_VIP_ECHO);
	assert_int_equal(entry(f, "192.0.2.2", 0, 0, &v), SLUICE_INDEX_VIP);
	assert_int_equal(v.count, 0);

	restart(f); /* the difference is to what the kernel holds, not to what we remember */
	f->model.services = after;
	f->model.service_count = 3;
	assert_int_equal(steering_publish_services(f->steering, &f->model), 0);
	assert_int_equal(entries(f), 5);
	assert_int_equal(entry(f, "192.0.2.1", 0, SLUICE_IP_TCP, &v), SLUICE_INDEX_WILDCARD);
	assert_int_equal(v.count, 1);
	assert_int_equal(v.ranges[0].first, 2000);
	assert_int_equal(v.ranges[0].last, 2999);
	assert_int_equal(entry(f, "192.0.2.2", 53, SLUICE_IP_UDP, &v), SLUICE_INDEX_EMPTY);
	assert_int_equal(entry(f, "192.0.2.2", 0, 0, &v), SLUICE_INDEX_EMPTY);
	assert_int_equal(entry(f, "192.0.2.3", 53, SLUICE_IP_UDP, &v), SLUICE_INDEX_SERVICE);

	f->model.service_count = 0;
	assert_int_equal(steering_publish_services(f->steering, &f->model), 0);
	assert_int_equal(entries(f), 0);
	f->model.vips = NULL;
	f->model.vip_count = 0;
}

static void too_many_ranges_change_nothing(void **state)
{
	struct fixture *f = *state;
	struct model_service services[SLUICE_WILDCARD_RANGES + 1];

	for (uint16_t i = 0; i <= SLUICE_WILDCARD_RANGES; i++)
		services[i] = service_at("192.0.2.1", (uint16_t)(10 * i + 1), (uint16_t)(10 * i + 5), SLUICE_IP_TCP);
	f->model.services = services;
	f->model.service_count = SLUICE_WILDCARD_RANGES;
	assert_int_equal(steering_publish_services(f->steering, &f->model), 0);
	assert_int_equal(entries(f), 2);
	f->model.service_count = SLUICE_WILDCARD_RANGES + 1;
	assert_int_equal(steering_publish_services(f->steering, &f->model), -E2BIG);
	struct steering_value v;
	assert_int_equal(entry(f, "192.0.2.1", 0, SLUICE_IP_TCP, &v), SLUICE_INDEX_WILDCARD);
	assert_int_equal(v.count, SLUICE_WILDCARD_RANGES);
}

/* The most there can be, then all others: additions come before removals and must find room. */
static void every_service_can_change_at_once(void **state)
{
	struct fixture *f = *state;
	uint32_t count = SLUICE_SERVICES_MAX;
	struct model_service *services = calloc(count, sizeof(*services));

	assert_non_null(services);
	f->model.services = services;
	f->model.service_count = count;
	for (uint32_t turn = 1; turn <= 2; turn++) {
		for (uint32_t i = 0; i < count; i++) {
			services[i].port_first = services[i].port_last = 80;
			services[i].protocol = SLUICE_IP_TCP;
			services[i].address = sluice_address_v4(SLUICE_BE32(turn << 24 | i));
		}
		assert_int_equal(steering_publish_services(f->steering, &f->model), 0);
		assert_int_equal(entries(f), 2 * count);
	}
	free(services);
}

int main(void)
{
#define STEERING_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    STEERING_TEST(attaches_natively_and_pins),
	    STEERING_TEST(falls_back_to_generic),
	    STEERING_TEST(has_a_socket_slot_for_each_queue),
	    STEERING_TEST(outlives_us_and_is_adopted),
	    STEERING_TEST(another_version_is_replaced_through_the_link),
	    STEERING_TEST(maps_of_another_layout_are_replaced),
	    STEERING_TEST(another_program_is_named_and_left_alone),
	    STEERING_TEST(another_link_is_named_and_left_alone),
	    STEERING_TEST(one_interface_does_not_stop_the_other),
	    STEERING_TEST(refuses_what_cannot_work),
	    STEERING_TEST(a_recreated_interface_is_attached_again),
	    STEERING_TEST(a_link_detached_by_force_is_attached_again),
	    STEERING_TEST(detaches_what_leaves_the_configuration),
	    STEERING_TEST(packets_meet_the_published_services),
	    STEERING_TEST(the_map_says_what_the_model_says),
	    STEERING_TEST(too_many_ranges_change_nothing),
	    STEERING_TEST(every_service_can_change_at_once),
	};

	if (geteuid() != 0) {
		fputs("needs root: network namespaces and BPF\n", stderr);
		return SKIPPED;
	}
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		perror("namespaces of our own");
		return 1;
	}
	/* Neighbour discovery would be counted among what the tests send. */
	run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
