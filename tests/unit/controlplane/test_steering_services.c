/* SPDX-License-Identifier: Apache-2.0 */
/* Steering: the map of services, and packets that meet it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "steering_site.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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
static void wait_for(struct steering_site *f, size_t counter, uint64_t at_least)
{
	for (int i = 0; i < 500; i++) {
		struct steering_status s = steering_site_status(f, 0);
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
	struct steering_site *f = *state;
	struct model_service service = {.port_first = 53, .port_last = 53, .protocol = SLUICE_IP_UDP};

	service.address = sluice_address_v4(inet_addr("192.0.2.1"));
	f->model.services = &service;
	f->model.service_count = 1;
	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	uint64_t passed = steering_site_status(f, 0).passed;
	send_udp("sv1", 53);
	wait_for(f, offsetof(struct steering_status, passed), passed + 1);
	assert_int_equal(steering_site_status(f, 0).dropped_no_socket, 0);

	assert_int_equal(steering_publish_services(f->steering, &f->model), 0);
	send_udp("sv1", 53);
	wait_for(f, offsetof(struct steering_status, dropped_no_socket), 1);
	passed = steering_site_status(f, 0).passed;
	send_udp("sv1", 54);
	wait_for(f, offsetof(struct steering_status, passed), passed + 1);
	assert_int_equal(steering_site_status(f, 0).dropped_no_socket, 1);
}

/* ------------------------------------------------------------------- services ---- */

static uint32_t entries(struct steering_site *f)
{
	struct steering_key key, next;
	uint32_t n = 0;
	int fd = steering_site_pin(f, "services");
	for (void *from = NULL; bpf_map_get_next_key(fd, from, &next) == 0; from = &key, key = next)
		n++;
	close(fd);
	return n;
}

/* The kind of the entry; EMPTY when there is none. */
static int entry(struct steering_site *f, const char *address, uint16_t port, uint8_t protocol,
		 struct steering_value *ret)
{
	struct steering_key key = {.port_be16 = SLUICE_BE16(port), .protocol = protocol};
	key.address = sluice_address_v4(inet_addr(address));
	int fd = steering_site_pin(f, "services");
	int error = bpf_map_lookup_elem(fd, &key, ret);
	close(fd);
	return error ? SLUICE_INDEX_EMPTY : ret->kind;
}

/* Whether the address may be a VIP; "" asks whether any may. */
static bool may_be_vip(struct steering_site *f, const char *address)
{
	uint64_t words[STEERING_VIPS_WORDS], any = 0;
	uint32_t zero = 0;
	const union sluice_address vip = sluice_address_v4(inet_addr(address));
	const uint64_t hash = steering_vip_hash(&vip);
	int fd = steering_site_pin(f, "vips");
	assert_int_equal(bpf_map_lookup_elem(fd, &zero, words), 0);
	close(fd);
	for (uint32_t i = 0; i < STEERING_VIPS_WORDS; i++)
		any |= words[i];
	return *address ? words[steering_vip_word(hash)] & steering_vip_bit(hash) : any;
}

static struct model_service service_at(const char *address, uint16_t first, uint16_t last, uint8_t protocol)
{
	struct model_service s = {.port_first = first, .port_last = last, .protocol = protocol};
	s.address = sluice_address_v4(inet_addr(address));
	return s;
}

static void the_map_says_what_the_model_says(void **state)
{
	struct steering_site *f = *state;
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
	assert_int_equal(v.range_count, 2);
	assert_int_equal(entry(f, "192.0.2.1", 0, 0, &v), SLUICE_INDEX_VIP);
	assert_int_equal(v.vip_flags, 0);
	assert_int_equal(entry(f, "192.0.2.2", 0, 0, &v), SLUICE_INDEX_VIP);
	assert_int_equal(v.vip_flags, SLUICE_VIP_ECHO);
	assert_int_equal(entry(f, "192.0.2.2", 53, SLUICE_IP_UDP, &v), SLUICE_INDEX_SERVICE);
	assert_true(may_be_vip(f, "192.0.2.1"));
	assert_true(may_be_vip(f, "192.0.2.2"));
	assert_false(may_be_vip(f, "192.0.2.3"));

	vips[1].icmp_echo = false;
	vips[2].icmp_echo = true;
	assert_int_equal(steering_publish_services(f->steering, &f->model), 0);
	assert_int_equal(entry(f, "192.0.2.1", 0, 0, &v), SLUICE_INDEX_VIP);
	assert_int_equal(v.vip_flags, SLUICE_VIP_ECHO);
	assert_int_equal(entry(f, "192.0.2.2", 0, 0, &v), SLUICE_INDEX_VIP);
	assert_int_equal(v.vip_flags, 0);

	steering_site_restart(f); /* the difference is to what the kernel holds, not to what we remember */
	f->model.services = after;
	f->model.service_count = 3;
	assert_int_equal(steering_publish_services(f->steering, &f->model), 0);
	assert_int_equal(entries(f), 5);
	assert_int_equal(entry(f, "192.0.2.1", 0, SLUICE_IP_TCP, &v), SLUICE_INDEX_WILDCARD);
	assert_int_equal(v.range_count, 1);
	assert_int_equal(v.ranges[0].first, 2000);
	assert_int_equal(v.ranges[0].last, 2999);
	assert_int_equal(entry(f, "192.0.2.2", 53, SLUICE_IP_UDP, &v), SLUICE_INDEX_EMPTY);
	assert_int_equal(entry(f, "192.0.2.2", 0, 0, &v), SLUICE_INDEX_EMPTY);
	assert_int_equal(entry(f, "192.0.2.3", 53, SLUICE_IP_UDP, &v), SLUICE_INDEX_SERVICE);
	assert_true(may_be_vip(f, "192.0.2.1"));
	assert_false(may_be_vip(f, "192.0.2.2"));
	assert_true(may_be_vip(f, "192.0.2.3"));

	/* Ahead of a change what goes is steered no more, and looked at still. */
	f->model.service_count = 0;
	assert_int_equal(steering_narrow_services(f->steering, &f->model), 0);
	assert_int_equal(entries(f), 0);
	assert_true(may_be_vip(f, "192.0.2.1"));
	assert_true(may_be_vip(f, "192.0.2.3"));

	assert_int_equal(steering_publish_services(f->steering, &f->model), 0);
	assert_int_equal(entries(f), 0);
	assert_false(may_be_vip(f, ""));
	f->model.vips = NULL;
	f->model.vip_count = 0;
}

static void too_many_ranges_change_nothing(void **state)
{
	struct steering_site *f = *state;
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
	assert_int_equal(v.range_count, SLUICE_WILDCARD_RANGES);
}

/* The most there can be, then all others: additions come before removals and must find room. */
static void every_service_can_change_at_once(void **state)
{
	struct steering_site *f = *state;
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
#define STEERING_TEST(name) cmocka_unit_test_setup_teardown(name, steering_site_setup, steering_site_teardown)
	const struct CMUnitTest tests[] = {
	    STEERING_TEST(packets_meet_the_published_services),
	    STEERING_TEST(the_map_says_what_the_model_says),
	    STEERING_TEST(too_many_ranges_change_nothing),
	    STEERING_TEST(every_service_can_change_at_once),
	};
	int status = steering_site_enter();
	return status ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
