/* SPDX-License-Identifier: Apache-2.0 */
#include "steering_capture.h"

#include "capture.skel.h"
#include "log.h"
#include "steering_internal.h"

#include "sluice/encap.h"
#include "sluice/packet.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One interface's program that is watched. */
struct watch {
	uint32_t program;             /* its id; 0: none */
	struct capture_bpf *skeleton; /* NULL: that one cannot be */
};

struct steering_capture {
	const struct steering *steering;
	int memory_fd;
	uint32_t writers, records;
	struct capture_source *source;
	struct watch watches[SLUICE_PORTS_MAX]; /* by interface */
};

/* ------------------------------------------------------------------------ programs ---- */

static void watch_end(struct watch *watch)
{
	capture_bpf__destroy(watch->skeleton);
	*watch = (struct watch){0};
}

static int skeleton_prepare(const struct steering_capture *capture, const struct steering_interface *interface,
			    struct capture_bpf *skeleton, int program_fd)
{
	struct bpf_map_info info = {0};
	uint32_t length = sizeof(info);
	int error = bpf_obj_get_info_by_fd(interface->counters_fd, &info, &length);

	if (!error && info.max_entries < STEERING_COUNTERS)
		error = -EPROTONOSUPPORT; /* an older program, of fewer verdicts */
	if (!error)
		error = bpf_map__reuse_fd(skeleton->maps.counters, interface->counters_fd);
	if (!error)
		error = bpf_map__reuse_fd(skeleton->maps.memory, capture->memory_fd);
	if (!error)
		error = bpf_program__set_attach_target(skeleton->progs.capture_arrives, program_fd, "sluice_steering");
	if (!error)
		error = bpf_program__set_attach_target(skeleton->progs.capture_leaves, program_fd, "sluice_steering");
	skeleton->rodata->writers = capture->writers;
	skeleton->rodata->records = capture->records;
	skeleton->rodata->interface = interface->ifindex;
	return error;
}

/* 0 or -errno. The one that looks after a packet is attached first: it waits for the other one. */
static int watch_begin(const struct steering_capture *capture, const struct steering_interface *interface,
		       uint32_t program, struct watch *ret)
{
	int program_fd = bpf_prog_get_fd_by_id(program);
	if (program_fd < 0)
		return program_fd;
	struct capture_bpf *skeleton = capture_bpf__open();
	int error = skeleton ? skeleton_prepare(capture, interface, skeleton, program_fd) : -errno;
	if (!error)
		error = capture_bpf__load(skeleton);
	if (!error) {
		skeleton->links.capture_leaves = bpf_program__attach(skeleton->progs.capture_leaves);
		if (!skeleton->links.capture_leaves)
			error = -errno;
	}
	if (!error) {
		skeleton->links.capture_arrives = bpf_program__attach(skeleton->progs.capture_arrives);
		if (!skeleton->links.capture_arrives)
			error = -errno;
	}
	close(program_fd);
	if (error) {
		capture_bpf__destroy(skeleton);
		return error;
	}
	ret->skeleton = skeleton;
	return 0;
}

void steering_capture_follow(struct steering_capture *capture)
{
	const struct steering *steering = capture->steering;

	for (uint32_t i = 0; i < SLUICE_PORTS_MAX; i++) {
		const struct steering_interface *interface =
		    i < steering->interface_count ? &steering->interfaces[i] : NULL;
		struct watch *watch = &capture->watches[i];
		uint32_t ifindex = 0, program = 0;
		if (!interface || interface->link_fd < 0 || xdp_link_query(interface->link_fd, &ifindex, &program))
			program = 0;
		if (program == watch->program)
			continue;
		watch_end(watch);
		watch->program = program;
		int error = program ? watch_begin(capture, interface, program, watch) : 0;
		if (error)
			log_warning("capture: %s: what its XDP program decides cannot be seen: %s", interface->name,
				    strerror(-error));
	}
}

bool steering_capture_is_attached(const struct steering_capture *capture)
{
	for (uint32_t i = 0; i < SLUICE_PORTS_MAX; i++)
		if (capture->watches[i].skeleton)
			return true;
	return false;
}

/* ------------------------------------------------------------------------ lifetime ---- */

int steering_capture_create(const struct steering *steering, const struct sluice_capture_filter *filter,
			    struct steering_capture **ret)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
	const int cpus = libbpf_num_possible_cpus();
	struct sluice_capture_filter own = *filter;

	if (cpus < 0)
		return cpus;
	if ((uint32_t)cpus > SLUICE_CAPTURE_WRITERS_MAX)
		return -E2BIG;
	struct steering_capture *capture = calloc(1, sizeof(*capture));
	if (!capture)
		return -ENOMEM;
	capture->steering = steering;
	capture->writers = (uint32_t)cpus;
	capture->records = capture_source_records(capture->writers);
	own.service = SLUICE_NONE; /* the programs do not know it */
	if (filter->service != SLUICE_NONE)
		own.sample = 1; /* of that service's packets, not of all */
	capture->memory_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "capture", sizeof(uint32_t), SLUICE_CAPTURE_SLOT,
					    1 + capture->writers * (1 + capture->records), &options);
	int error = capture->memory_fd < 0 ? capture->memory_fd
					   : capture_source_adopt(capture->memory_fd, capture->writers,
								  capture->records, &own, &capture->source);
	if (error) {
		steering_capture_destroy(capture);
		return error;
	}
	*ret = capture;
	return 0;
}

void steering_capture_destroy(struct steering_capture *capture)
{
	if (!capture)
		return;
	for (uint32_t i = 0; i < SLUICE_PORTS_MAX; i++)
		watch_end(&capture->watches[i]);
	capture_source_destroy(capture->source);
	if (capture->memory_fd >= 0)
		close(capture->memory_fd);
	free(capture);
}

struct capture_source *steering_capture_source(const struct steering_capture *capture)
{
	return capture->source;
}

/* ------------------------------------------------------------------------- meaning ---- */

/* A part of a frame, whose end nothing reads beyond. */
struct reading {
	const uint8_t *bytes;
	uint32_t count;
};

/* Where its IP header is; 0: nowhere. */
static uint32_t l3_of(const struct reading *frame)
{
	uint32_t offset = SLUICE_ETHERNET_BYTES;
	for (uint32_t tags = 0; tags < 3 && frame->count >= offset + 20; tags++, offset += SLUICE_VLAN_BYTES) {
		uint16_t type_be16 = sluice_load16(frame->bytes + offset - 2);
		if (type_be16 == SLUICE_BE16(SLUICE_ETHERTYPE_IPV4) || type_be16 == SLUICE_BE16(SLUICE_ETHERTYPE_IPV6))
			return offset;
		if (type_be16 != SLUICE_BE16(SLUICE_ETHERTYPE_VLAN) && type_be16 != SLUICE_BE16(SLUICE_ETHERTYPE_QINQ))
			return 0;
	}
	return 0;
}

/* The addresses, ports and protocol of the IP packet at l3; where what follows its header is. False: cut short. */
static bool flow_of(const struct reading *frame, uint32_t l3, struct sluice_flow *ret, uint32_t *ret_l4)
{
	const uint8_t *p = frame->bytes + l3;
	uint32_t left = frame->count > l3 ? frame->count - l3 : 0;

	memset(ret, 0, sizeof(*ret));
	if (left >= SLUICE_IPV4_BYTES && p[0] >> 4 == 4) {
		ret->source = sluice_address_v4(sluice_load32(p + 12));
		ret->destination = sluice_address_v4(sluice_load32(p + 16));
		ret->protocol = p[9];
		*ret_l4 = l3 + (p[0] & 15u) * 4;
	} else if (left >= SLUICE_IPV6_BYTES && p[0] >> 4 == 6) {
		memcpy(ret->source.bytes, p + 8, 16);
		memcpy(ret->destination.bytes, p + 24, 16);
		ret->protocol = p[6];
		*ret_l4 = l3 + SLUICE_IPV6_BYTES;
	} else {
		return false;
	}
	if ((ret->protocol == SLUICE_IP_TCP || ret->protocol == SLUICE_IP_UDP) && frame->count >= *ret_l4 + 4) {
		ret->source_port_be16 = sluice_load16(frame->bytes + *ret_l4);
		ret->destination_port_be16 = sluice_load16(frame->bytes + *ret_l4 + 2);
	}
	return true;
}

/* What stands between the outer header and the client's packet. */
static uint32_t tunnel_bytes(const struct sluice_flow *outer)
{
	if (outer->protocol == SLUICE_IP_GRE)
		return SLUICE_GRE_BYTES;
	return outer->protocol == SLUICE_IP_UDP ? SLUICE_UDP_BYTES : 0;
}

/* Number of the service's backend to whom the frame goes: by the tunnel's end, or by the MAC. */
static uint32_t backend_of(const struct sluice_table *table, const struct sluice_service *service,
			   const struct reading *frame, const union sluice_address *tunnel_end)
{
	for (uint32_t slot = 0; slot < service->slots; slot++) {
		const struct sluice_backend *b = &table->backends[service->first_backend + slot];
		const uint8_t *mac = b->outer_tail + SLUICE_OUTER_TAIL - b->outer_bytes;
		if (!b->used)
			continue;
		if (tunnel_end ? sluice_address_equal(&b->address, tunnel_end)
			       : b->outer_bytes <= SLUICE_OUTER_TAIL && !memcmp(frame->bytes, mac, 6))
			return service->first_backend + slot;
	}
	return SLUICE_NONE;
}

/*
 * A frame that leaves begins with the template of its backend, so its destination is some service's or a tunnel's end;
 * an answer is from the VIP.
 */
void steering_capture_explain(const struct sluice_table *table, struct sluice_capture_record *head,
			      const uint8_t *bytes)
{
	const struct reading frame = {bytes, head->copied_bytes};
	const bool is_forwarded = head->outcome < SLUICE_VERDICTS && sluice_verdict_is_forward(head->outcome);
	uint32_t l3 = head->inner_offset ? head->inner_offset : l3_of(&frame), l4;
	struct sluice_flow flow, outer;

	if (!l3 || !flow_of(&frame, l3, &flow, &l4))
		return;
	head->inner_offset = (uint16_t)l3;
	if (head->outcome < SLUICE_VERDICTS && sluice_verdict_is_answer(head->outcome))
		return;
	uint32_t number = sluice_service_find(table, &flow);
	bool is_tunnel = false;
	if (number == SLUICE_NONE && is_forwarded) {
		outer = flow;
		l3 = l4 + tunnel_bytes(&outer);
		if (!flow_of(&frame, l3, &flow, &l4))
			return;
		head->inner_offset = (uint16_t)l3;
		is_tunnel = true;
		number = sluice_service_find(table, &flow);
	}
	if (number == SLUICE_NONE)
		return;
	const struct sluice_service *service = &table->services[number];
	head->service = number;
	if (service->lookup != SLUICE_NONE && service->lookup_size)
		head->bucket = sluice_hash_bucket(
		    sluice_flow_hash(&table->header->hash_key, &flow, (enum sluice_affinity)service->affinity),
		    service->lookup_size);
	if (is_forwarded)
		head->backend = backend_of(table, service, &frame, is_tunnel ? &outer.destination : NULL);
}
