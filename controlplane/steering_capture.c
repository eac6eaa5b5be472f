/* SPDX-License-Identifier: Apache-2.0 */
#include "steering_capture.h"

#include "steering_internal.h"

#include "sluice/encap.h"
#include "sluice/packet.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct steering_capture {
	int outer_fd; /* the map of maps in which the programs look */
	struct capture_source *source;
};

static int outer_clear(int outer_fd)
{
	const uint32_t zero = 0;
	int error = bpf_map_delete_elem(outer_fd, &zero);
	return error == -ENOENT ? 0 : error;
}

/* Of CPUs that there may be. 0 or -errno. */
static int memory_make(const struct sluice_capture_filter *filter, struct capture_source **ret, int *ret_fd)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	const int cpus = libbpf_num_possible_cpus();

	if (cpus < 0)
		return cpus;
	if ((uint32_t)cpus > SLUICE_CAPTURE_WRITERS_MAX)
		return -E2BIG;
	const uint32_t records = capture_source_records((uint32_t)cpus);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "capture", sizeof(uint32_t), SLUICE_CAPTURE_SLOT,
				1 + (uint32_t)cpus * (1 + records), &options);
	if (fd < 0)
		return fd;
	int error = capture_source_adopt(fd, (uint32_t)cpus, records, filter, ret);
	if (error)
		close(fd);
	else
		*ret_fd = fd;
	return error;
}

int steering_capture_create(const struct steering *steering, const struct sluice_capture_filter *filter,
			    struct steering_capture **ret)
{
	struct steering_capture *capture = calloc(1, sizeof(*capture));
	struct sluice_capture_filter own = *filter;
	const uint32_t zero = 0;
	int fd;

	if (!capture)
		return -ENOMEM;
	own.service = SLUICE_NONE; /* the programs do not know it */
	if (filter->service != SLUICE_NONE)
		own.sample = 1; /* of that service's packets, not of all */
	capture->outer_fd = fcntl(steering->shared_fds[STEERING_SHARED_CAPTURE], F_DUPFD_CLOEXEC, 0);
	int error = capture->outer_fd < 0 ? -errno : memory_make(&own, &capture->source, &fd);
	if (!error) {
		error = bpf_map_update_elem(capture->outer_fd, &zero, &fd, BPF_ANY);
		close(fd);
	}
	if (error) {
		steering_capture_destroy(capture);
		return error;
	}
	*ret = capture;
	return 0;
}

void steering_capture_end(struct steering_capture *capture)
{
	if (capture->outer_fd < 0)
		return;
	outer_clear(capture->outer_fd);
	close(capture->outer_fd);
	capture->outer_fd = -1;
}

void steering_capture_destroy(struct steering_capture *capture)
{
	if (!capture)
		return;
	steering_capture_end(capture);
	capture_source_destroy(capture->source);
	free(capture);
}

int steering_capture_forget(const struct steering *steering)
{
	return outer_clear(steering->shared_fds[STEERING_SHARED_CAPTURE]);
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
