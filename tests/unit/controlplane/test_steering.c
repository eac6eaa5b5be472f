/* SPDX-License-Identifier: Apache-2.0 */
/* Steering: what is attached to an interface, adopted, refused, and tried again. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "sluice/kernel.h"
#include "steering_site.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

static uint32_t program_on(const char *interface)
{
	uint32_t id = 0;
	assert_int_equal(xdp_attached(if_nametoindex(interface), &id, NULL), 0);
	return id;
}

/* A program that passes everything, of somebody else. */
static int program_named(const char *name)
{
	const struct bpf_insn code[] = {
	    {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
	    {.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_XDP); /* as libbpf's SEC("xdp") */
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, name, "GPL", code, 2, &options);
	assert_true(fd >= 0);
	return fd;
}

static int foreign_program(void)
{
	return program_named("somebody_else");
}

/* ------------------------------------------------------------- attach, adopt ---- */

static void attaches_natively_and_pins(void **state)
{
	struct steering_site *f = *state;
	static const char *const pins[] = {"sv0/xsks",     "sv0/link",   "sv0/program", "sv0/counters",
					   "sv0/progress", "sv0/queues", "services"};
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info);

	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_string_equal(steering_site_status(f, 0).interface, "sv0");
	assert_true(steering_site_status(f, 0).attached);
	assert_string_equal(steering_site_status(f, 0).mode, "native");
	struct steering_status s;
	assert_int_equal(steering_status(f->steering, 1, &s), -ENOENT);
	for (size_t i = 0; i < sizeof(pins) / sizeof(pins[0]); i++) {
		int fd = steering_site_pin(f, pins[i]);
		assert_true(fd >= 0);
		close(fd);
	}
	int xsks = steering_site_pin(f, "sv0/xsks");
	assert_int_equal(bpf_obj_get_info_by_fd(xsks, &info, &length), 0);
	assert_int_equal(info.type, BPF_MAP_TYPE_XSKMAP);
	assert_int_equal(info.max_entries, STEERING_XSKS_MIN);
	close(xsks);
	steering_site_run("ethtool -k sv0 | grep -q '^rx-vlan-offload: off'");
	steering_site_run("ethtool -k sv0 | grep -q '^rx-vlan-stag-hw-parse: off'");
}

static uint32_t hang_after_us(struct steering_site *f)
{
	int fd = steering_site_pin(f, "sv0/progress");
	struct steering_progress last;
	uint32_t key = STEERING_XSKS_MIN - 1;
	assert_int_equal(bpf_map_lookup_elem(fd, &key, &last), 0);
	close(fd);
	return last.hang_after_us;
}

static void tells_how_long_a_worker_may_hang(void **state)
{
	struct steering_site *f = *state;
	struct steering_queue_status q;

	steering_site_configure(f, "sv0", NULL);
	f->model.interfaces[1].hang_after_ns = 30000000;
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(hang_after_us(f), 30000);
	uint32_t program = program_on("sv0");
	f->model.interfaces[1].hang_after_ns = 20000000;
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(hang_after_us(f), 20000);
	assert_int_equal(program_on("sv0"), program);
	assert_int_equal(steering_queue_status(f->steering, 0, 0, &q), 0);
	assert_string_equal(q.path, "none");
	assert_false(q.hung);
	assert_int_equal(steering_queue_status(f->steering, 0, 1, &q), -ENOENT);
	assert_int_equal(steering_queue_status(f->steering, 1, 0, &q), -ENOENT);
}

static void falls_back_to_generic(void **state)
{
	struct steering_site *f = *state;
	steering_site_run("ip link set lo mtu 1500 up");
	steering_site_configure(f, "lo", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_true(steering_site_status(f, 0).attached);
	assert_string_equal(steering_site_status(f, 0).mode, "generic");
}

static void has_a_socket_slot_for_each_queue(void **state)
{
	struct steering_site *f = *state;
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info);

	steering_site_run("ip link add sw0 numrxqueues 100 type veth peer name sw1 numtxqueues 100");
	steering_site_configure(f, "sw0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	int xsks = steering_site_pin(f, "sw0/xsks");
	assert_int_equal(bpf_obj_get_info_by_fd(xsks, &info, &length), 0);
	assert_int_equal(info.max_entries, 100);
	close(xsks);
	steering_site_run("ip link del sw0");
}

static void outlives_us_and_is_adopted(void **state)
{
	struct steering_site *f = *state;
	uint64_t values[256] = {41};
	uint32_t key = STEERING_DROPPED_NO_SOCKET;

	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	uint32_t program = program_on("sv0");
	int counters = steering_site_pin(f, "sv0/counters");
	assert_int_equal(bpf_map_update_elem(counters, &key, values, BPF_ANY), 0);
	close(counters);
	steering_destroy(f->steering);
	f->steering = NULL;
	assert_int_equal(program_on("sv0"), program);

	assert_int_equal(steering_create(f->runtime, &f->steering), 0);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(program_on("sv0"), program);
	assert_int_equal(steering_site_status(f, 0).dropped_no_socket, 41);
}

/* What path = "auto" goes by: packets for services, whatever became of them; what the kernel gets is none. */
static void counts_packets_for_services(void **state)
{
	struct steering_site *f = *state;
	uint64_t values[256] = {0}, packets = 7, wanted = 0;
	const int cpus = libbpf_num_possible_cpus();

	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_service_packets(f->steering, "sv0", &packets), -ENOENT); /* no program yet */
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(steering_service_packets(f->steering, "sv1", &packets), -ENOENT);
	assert_int_equal(packets, 7);
	assert_int_equal(steering_service_packets(f->steering, "sv0", &packets), 0);
	assert_int_equal(packets, 0);
	int counters = steering_site_pin(f, "sv0/counters");
	for (uint32_t key = 0; key < STEERING_COUNTERS; key++) {
		values[0] = UINT64_C(1) << key % 40;
		values[cpus - 1] += key;
		assert_int_equal(bpf_map_update_elem(counters, &key, values, BPF_ANY), 0);
		bool is_pass = key >= STEERING_VERDICT && sluice_verdict_is_pass(key - STEERING_VERDICT);
		for (int cpu = 0; cpu < cpus && !is_pass; cpu++)
			wanted += values[cpu];
	}
	close(counters);
	assert_int_equal(steering_service_packets(f->steering, "sv0", &packets), 0);
	assert_int_equal(packets, wanted);
}

static uint32_t link_id(struct steering_site *f)
{
	struct bpf_link_info info = {0};
	uint32_t length = sizeof(info);
	int fd = steering_site_pin(f, "sv0/link");
	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &length), 0);
	close(fd);
	return info.id;
}

static void another_version_is_replaced_through_the_link(void **state)
{
	struct steering_site *f = *state;
	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	uint32_t ours = program_on("sv0"), link = link_id(f);
	int old_version = foreign_program(), link_fd = steering_site_pin(f, "sv0/link");
	assert_int_equal(bpf_link_update(link_fd, old_version, NULL), 0);
	close(link_fd);
	close(old_version);
	uint32_t old = program_on("sv0");
	assert_int_not_equal(old, ours);

	steering_site_restart(f);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(link_id(f), link); /* never detached */
	assert_int_not_equal(program_on("sv0"), old);
}

/* Pin a map that no version of ours understands. */
static void pin_other_map(struct steering_site *f, const char *leaf, enum bpf_map_type type, uint32_t entries)
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
	struct steering_site *f = *state;
	struct model_service service = {.port_first = 80, .port_last = 80, .protocol = SLUICE_IP_TCP};
	struct steering_key key = {.port_be16 = SLUICE_BE16(80), .protocol = SLUICE_IP_TCP};
	struct steering_value value;

	key.address = service.address = sluice_address_v4(inet_addr("192.0.2.1"));
	steering_site_configure(f, "sv0", NULL);
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
	int fd = steering_site_pin(f, "services");
	assert_int_equal(bpf_map_lookup_elem(fd, &key, &value), 0);
	close(fd);
}

/* Of two maps that say one thing, a new one is filled before any program reads it. */
static void vips_that_are_gone_are_filled_again(void **state)
{
	struct steering_site *f = *state;
	struct model_service service = {.port_first = 80, .port_last = 80, .protocol = SLUICE_IP_TCP};
	uint64_t words[STEERING_VIPS_WORDS], hash;
	uint32_t zero = 0;
	char path[128];

	service.address = sluice_address_v4(inet_addr("192.0.2.1"));
	hash = steering_vip_hash(&service.address);
	f->model.services = &service;
	f->model.service_count = 1;
	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(steering_publish_services(f->steering, &f->model), 0);
	const uint32_t program = program_on("sv0"), link = link_id(f);
	snprintf(path, sizeof(path), "%s/bpf/vips", f->runtime);
	assert_int_equal(unlink(path), 0);
	steering_site_restart(f);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(link_id(f), link);
	assert_int_not_equal(program_on("sv0"), program);
	int fd = steering_site_pin(f, "vips");
	assert_int_equal(bpf_map_lookup_elem(fd, &zero, words), 0);
	close(fd);
	assert_true(words[steering_vip_word(hash)] & steering_vip_bit(hash));
}

static uint32_t map_id(struct steering_site *f, const char *leaf)
{
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info);
	int fd = steering_site_pin(f, leaf);
	assert_true(fd >= 0);
	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &length), 0);
	close(fd);
	return info.id;
}

/* The maps have the same shapes, and another version's numbers in them; then none that tells. */
static void content_of_another_layout_is_made_anew(void **state)
{
	static const char *const leaves[] = {"services",          "vips",      "parts", "states",
					     "exceptions_in_use", "fragments", "cpus"};
	struct steering_site *f = *state;
	uint32_t zero = 0, layout = SLUICE_KERNEL_LAYOUT + 1, ids[7];
	char path[128];

	snprintf(path, sizeof(path), "%s/bpf/layout", f->runtime);
	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	const uint32_t link = link_id(f), counters = map_id(f, "sv0/counters");
	for (int round = 0; round < 3; round++) {
		const uint32_t program = program_on("sv0");
		int fd = steering_site_pin(f, "layout");
		assert_true(fd >= 0);
		if (round == 0)
			assert_int_equal(bpf_map_update_elem(fd, &zero, &layout, BPF_ANY), 0);
		else if (round == 1)
			assert_int_equal(unlink(path), 0);
		close(fd);
		for (uint32_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
			ids[i] = map_id(f, leaves[i]);
		steering_site_restart(f);
		assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
		assert_int_equal(program_on("sv0") != program, round < 2);
		for (uint32_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
			assert_int_equal(map_id(f, leaves[i]) != ids[i], round < 2);
	}
	assert_int_equal(link_id(f), link); /* never detached */
	assert_int_equal(map_id(f, "sv0/counters"), counters);
}

/* Likewise an interface's own. Without a number they are the first layout's. */
static void own_maps_of_another_layout_are_made_anew(void **state)
{
	static const char *const leaves[] = {"sv0/counters", "sv0/xsks", "sv0/progress", "sv0/queues"};
	struct steering_site *f = *state;
	const uint32_t zero = 0, other = STEERING_LAYOUT + 1;
	uint32_t ids[4], layout;
	char path[128];

	snprintf(path, sizeof(path), "%s/bpf/sv0/layout", f->runtime);
	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	const uint32_t link = link_id(f), parts = map_id(f, "parts");
	for (int round = 0; round < 3; round++) {
		const uint32_t program = program_on("sv0");
		const bool is_anew = round == 0 || (round == 1 && STEERING_LAYOUT != 1);
		int fd = steering_site_pin(f, "sv0/layout");
		assert_true(fd >= 0);
		if (round == 0)
			assert_int_equal(bpf_map_update_elem(fd, &zero, &other, BPF_ANY), 0);
		else if (round == 1)
			assert_int_equal(unlink(path), 0);
		close(fd);
		for (uint32_t i = 0; i < 4; i++)
			ids[i] = map_id(f, leaves[i]);
		steering_site_restart(f);
		assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
		assert_int_equal(program_on("sv0") != program, is_anew);
		for (uint32_t i = 0; i < 4; i++)
			assert_int_equal(map_id(f, leaves[i]) != ids[i], is_anew);
		fd = steering_site_pin(f, "sv0/layout");
		assert_int_equal(bpf_map_lookup_elem(fd, &zero, &layout), 0);
		assert_int_equal(layout, STEERING_LAYOUT);
		close(fd);
	}
	assert_int_equal(link_id(f), link); /* never detached */
	assert_int_equal(map_id(f, "parts"), parts);
}

/* ------------------------------------------------------------------ CPUs ---- */

static struct sluice_kernel_cpu cpu_of(struct steering_site *f, uint32_t n)
{
	struct sluice_kernel_cpu cpu;
	int fd = steering_site_pin(f, "cpus");
	assert_true(fd >= 0);
	assert_int_equal(bpf_map_lookup_elem(fd, &n, &cpu), 0);
	close(fd);
	return cpu;
}

/* Each CPU has its part of the rate; what it has spent is kept while that stays, and over a restart. */
static void icmp_rate_is_shared_by_the_cpus(void **state)
{
	struct steering_site *f = *state;
	const uint32_t last = (uint32_t)libbpf_num_possible_cpus() - 1;
	const uint64_t interval = UINT64_C(1000000000) * (uint64_t)sysconf(_SC_NPROCESSORS_ONLN) / 500;
	struct sluice_kernel_cpu cpu = cpu_of(f, last);

	assert_int_equal(cpu.answers.too_big.interval, 0); /* nobody has said yet */
	steering_site_configure(f, "sv0", NULL);
	f->model.dataplane.icmp_rate = 500;
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	for (uint32_t n = 0; n <= last; n++) {
		cpu = cpu_of(f, n);
		assert_int_equal(cpu.answers.too_big.interval, interval);
		assert_int_equal(cpu.answers.echo.interval, interval);
		assert_int_equal(cpu.answers.too_big.burst, interval * (SLUICE_ICMP_AT_ONCE - 1));
	}
	int fd = steering_site_pin(f, "cpus");
	cpu.answers.too_big_full[17] = cpu.answers.too_big.full = 4711;
	cpu.turns.draws = 42;
	assert_int_equal(bpf_map_update_elem(fd, &last, &cpu, BPF_ANY), 0);
	close(fd);
	steering_site_restart(f);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(cpu_of(f, last).answers.too_big_full[17], 4711);

	f->model.dataplane.icmp_rate = 0;
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	cpu = cpu_of(f, last);
	assert_int_equal(cpu.answers.too_big.interval, 0);
	assert_int_equal(cpu.answers.echo.interval, 0);
	assert_int_equal(cpu.answers.too_big_full[17], 0);
	assert_int_equal(cpu.turns.draws, 42);
}

/* ---------------------------------------------------------- refuse, try again ---- */

static void another_program_is_named_and_left_alone(void **state)
{
	struct steering_site *f = *state;
	int foreign = foreign_program();

	assert_int_equal(bpf_xdp_attach((int)if_nametoindex("sv0"), foreign, XDP_FLAGS_DRV_MODE, NULL), 0);
	uint32_t id = program_on("sv0");
	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), -EBUSY);
	assert_false(steering_site_status(f, 0).attached);
	assert_non_null(strstr(steering_site_status(f, 0).reason, "\"somebody_else\""));
	assert_non_null(strstr(steering_site_status(f, 0).reason, "\"ip link set dev sv0 xdp off\""));
	assert_int_equal(program_on("sv0"), id);
	steering_site_run("ethtool -k sv0 | grep -q '^rx-vlan-offload: on'"); /* nothing of the interface was changed */

	steering_site_run("ip link set dev sv0 xdp off");
	for (int i = 0; i < 3; i++)
		steering_refresh(f->steering);
	assert_true(steering_site_status(f, 0).attached);
	assert_string_equal(steering_site_status(f, 0).reason, "");
	close(foreign);
}

/* The remedy is not to remove what most likely forwards. */
static void another_sluice_is_told_as_that(void **state)
{
	struct steering_site *f = *state;
	int other = program_named("sluice_steering");

	assert_int_equal(bpf_xdp_attach((int)if_nametoindex("sv0"), other, XDP_FLAGS_DRV_MODE, NULL), 0);
	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), -EBUSY);
	const struct steering_status status = steering_site_status(f, 0);
	assert_ptr_equal(strstr(status.reason, "a Sluice of another --runtime-dir has it: "), status.reason);
	assert_non_null(
	    strstr(status.reason, "if that one is gone for good, remove it by \"ip link set dev sv0 xdp off\""));
	close(other);
}

static void another_link_is_named_and_left_alone(void **state)
{
	struct steering_site *f = *state;
	char remedy[64];
	enum xdp_mode mode;
	struct bpf_link_info info = {0};
	uint32_t length = sizeof(info);
	int foreign = foreign_program(), link;
	char reason[XDP_REASON_BYTES];

	assert_int_equal(xdp_attach(if_nametoindex("sv0"), foreign, XDP_MODE_GENERIC, &link, &mode, reason), 0);
	assert_int_equal(bpf_obj_get_info_by_fd(link, &info, &length), 0);
	snprintf(remedy, sizeof(remedy), "\"bpftool link detach id %u\"", info.id);
	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), -EBUSY);
	assert_non_null(strstr(steering_site_status(f, 0).reason, remedy));
	assert_non_null(strstr(steering_site_status(f, 0).reason, "generic"));
	close(link);
	close(foreign);
}

static void one_interface_does_not_stop_the_other(void **state)
{
	struct steering_site *f = *state;
	steering_site_configure(f, "absent0", "sv0");
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), -ENODEV);
	assert_false(steering_site_status(f, 0).attached);
	assert_string_equal(steering_site_status(f, 0).reason, "no such interface");
	assert_true(steering_site_status(f, 1).attached);

	steering_site_run("ip link add absent0 type veth peer name absent1");
	steering_refresh(f->steering);
	assert_true(steering_site_status(f, 0).attached);
	steering_site_run("ip link del absent0");
}

static void refuses_what_cannot_work(void **state)
{
	struct steering_site *f = *state;
	steering_site_run("ip link set sv0 mtu 9000 && ip link add sv0.7 type veth peer name sv7");
	steering_site_configure(f, "sv0", "sv0.7");
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), -EINVAL);
	assert_non_null(strstr(steering_site_status(f, 0).reason, "MTU of 9000"));
	assert_non_null(strstr(steering_site_status(f, 0).reason, "ip link set dev sv0 mtu 3498"));
	assert_non_null(strstr(steering_site_status(f, 1).reason, "dot"));
	assert_int_equal(program_on("sv0"), 0);

	steering_site_run("ip link set sv0 mtu 3498");
	for (int i = 0; i < 3; i++)
		steering_refresh(f->steering);
	assert_true(steering_site_status(f, 0).attached);
	assert_string_equal(steering_site_status(f, 0).mode, "native"); /* the limit is the driver's, too */
	steering_site_run("ip link del sv0.7");
}

static void a_recreated_interface_is_attached_again(void **state)
{
	struct steering_site *f = *state;
	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	steering_site_run("ip link del sv0");
	steering_refresh(f->steering);
	assert_false(steering_site_status(f, 0).attached);
	steering_site_veth();
	assert_int_equal(program_on("sv0"), 0);
	steering_refresh(f->steering);
	assert_true(steering_site_status(f, 0).attached);
	assert_int_not_equal(program_on("sv0"), 0);

	/* The same while no control plane watches. */
	steering_destroy(f->steering);
	f->steering = NULL;
	steering_site_run("ip link del sv0");
	steering_site_veth();
	assert_int_equal(steering_create(f->runtime, &f->steering), 0);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_not_equal(program_on("sv0"), 0);
}

static void a_link_detached_by_force_is_attached_again(void **state)
{
	struct steering_site *f = *state;
	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	int fd = steering_site_pin(f, "sv0/link");
	assert_int_equal(bpf_link_detach(fd), 0);
	close(fd);
	assert_int_equal(program_on("sv0"), 0);
	steering_refresh(f->steering);
	assert_int_not_equal(program_on("sv0"), 0);
}

static void detaches_what_leaves_the_configuration(void **state)
{
	struct steering_site *f = *state;
	char path[128];

	steering_site_configure(f, "sv0", "sv1");
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	uint32_t kept = program_on("sv1");
	steering_site_configure(f, "sv1", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(program_on("sv0"), 0);
	assert_int_equal(program_on("sv1"), kept);
	snprintf(path, sizeof(path), "%s/bpf/sv0", f->runtime);
	assert_int_equal(access(path, F_OK), -1);

	/* It left the file while nobody ran. */
	steering_site_restart(f);
	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	assert_int_equal(program_on("sv1"), 0);
	assert_int_not_equal(program_on("sv0"), 0);
}

static void a_start_that_fails_leaves_nothing_mounted(void **state)
{
	struct steering_site *f = *state;
	char path[128];
	struct statfs fs;

	snprintf(path, sizeof(path), "%s/bpf", f->runtime);
	assert_int_equal(statfs(path, &fs), 0);
	assert_int_equal(fs.f_type, BPF_FS_MAGIC);
	steering_destroy(f->steering);
	f->steering = NULL;
	assert_int_equal(statfs(path, &fs), 0);
	assert_int_not_equal(fs.f_type, BPF_FS_MAGIC);

	/* What a control plane before has left is not ours to take away. */
	assert_int_equal(steering_create(f->runtime, &f->steering), 0);
	steering_site_configure(f, "sv0", NULL);
	assert_int_equal(steering_configure_interfaces(f->steering, &f->model), 0);
	steering_site_restart(f);
	steering_site_restart(f);
	assert_int_not_equal(program_on("sv0"), 0);
	assert_int_equal(statfs(path, &fs), 0);
	assert_int_equal(fs.f_type, BPF_FS_MAGIC);
}

int main(void)
{
#define STEERING_TEST(name) cmocka_unit_test_setup_teardown(name, steering_site_setup, steering_site_teardown)
	const struct CMUnitTest tests[] = {
	    STEERING_TEST(attaches_natively_and_pins),
	    STEERING_TEST(tells_how_long_a_worker_may_hang),
	    STEERING_TEST(falls_back_to_generic),
	    STEERING_TEST(has_a_socket_slot_for_each_queue),
	    STEERING_TEST(counts_packets_for_services),
	    STEERING_TEST(outlives_us_and_is_adopted),
	    STEERING_TEST(another_version_is_replaced_through_the_link),
	    STEERING_TEST(maps_of_another_layout_are_replaced),
	    STEERING_TEST(vips_that_are_gone_are_filled_again),
	    STEERING_TEST(content_of_another_layout_is_made_anew),
	    STEERING_TEST(own_maps_of_another_layout_are_made_anew),
	    STEERING_TEST(icmp_rate_is_shared_by_the_cpus),
	    STEERING_TEST(another_program_is_named_and_left_alone),
	    STEERING_TEST(another_sluice_is_told_as_that),
	    STEERING_TEST(another_link_is_named_and_left_alone),
	    STEERING_TEST(one_interface_does_not_stop_the_other),
	    STEERING_TEST(refuses_what_cannot_work),
	    STEERING_TEST(a_recreated_interface_is_attached_again),
	    STEERING_TEST(a_link_detached_by_force_is_attached_again),
	    STEERING_TEST(detaches_what_leaves_the_configuration),
	    STEERING_TEST(a_start_that_fails_leaves_nothing_mounted),
	};
	int status = steering_site_enter();
	return status ? status : cmocka_run_group_tests(tests, NULL, NULL);
}
