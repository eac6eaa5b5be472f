/* SPDX-License-Identifier: Apache-2.0 */
#include "scene.h"

#include "../../controlplane/table_assemble.h"
#include "huge_pages.h"
#include "lookup_memory.h"
#include "sluice/table_check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* xorshift64*: repeatable from a seed. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

static uint32_t random_below(uint64_t *state, uint32_t bound)
{
	return sluice_hash_bucket(next_random(state), bound);
}

/* One address a service, of 198.18.0.0/16 or of 2001:db8::/32. */
union sluice_address scene_vip(const struct scene_shape *shape, uint32_t service)
{
	union sluice_address v6 = {.words = {SLUICE_BE32(0x20010db8), 0, 0, SLUICE_BE32(1 + service)}};
	return shape->is_v6 ? v6 : sluice_address_v4(SLUICE_BE32(0xc6120000u + 1 + service));
}

static uint8_t protocol_of(const struct scene_shape *shape)
{
	return shape->is_udp ? SLUICE_IP_UDP : SLUICE_IP_TCP;
}

/* By the control plane's own builder: how well the services lie in it decides branches. */
static int index_build(const struct scene_shape *shape, struct sluice_index_entry **ret_index, uint32_t *ret_bits,
		       uint64_t *ret_seed)
{
	struct sluice_index_entry *entries = calloc(2 * shape->services, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	for (uint32_t s = 0; s < shape->services; s++) {
		entries[s] = (struct sluice_index_entry){.address = scene_vip(shape, s),
							 .port_protocol =
							     sluice_port_protocol(SCENE_PORT_BE16, protocol_of(shape)),
							 .value = s,
							 .kind = SLUICE_INDEX_SERVICE};
		entries[shape->services + s] =
		    (struct sluice_index_entry){.address = scene_vip(shape, s), .kind = SLUICE_INDEX_VIP};
	}
	int error = table_index_build(entries, 2 * shape->services, ret_index, ret_bits, ret_seed);
	free(entries);
	return error;
}

static int backend_build(struct sluice_backend *b, const struct scene_shape *shape, uint32_t service, uint32_t slot,
			 enum sluice_encap encap)
{
	uint32_t host = 0x0a010000u + service * 256 + slot;
	struct sluice_encap_spec spec = {
	    .encap = encap,
	    .inner_is_v4 = !shape->is_v6,
	    .destination_mac = {2, 0, 1, (uint8_t)(service >> 8), (uint8_t)service, (uint8_t)slot},
	    .source_mac = {2, 0, 0, 0, 0, 1},
	};
	if (sluice_encap_is_v6(encap)) {
		spec.outer_source.bytes[0] = spec.outer_destination.bytes[0] = 0xfd;
		spec.outer_source.bytes[15] = 1;
		spec.outer_destination.words[3] = SLUICE_BE32(host);
	} else {
		spec.outer_source = sluice_address_v4(SLUICE_BE32(0x0a000001));
		spec.outer_destination = sluice_address_v4(SLUICE_BE32(host));
	}
	b->mtu = 1500;
	b->slot = slot;
	b->service = service;
	b->weight = 100;
	b->used = 1;
	b->address = sluice_address_v4(SLUICE_BE32(host));
	return sluice_encap_build(&spec, b);
}

static void span_place(struct sluice_span *span, uint64_t *offset, uint32_t count, size_t element_bytes)
{
	*span = (struct sluice_span){.offset = *offset, .count = count};
	*offset += RTE_ALIGN(count * element_bytes, 64);
}

static int table_build(struct scene *scene, const struct scene_shape *shape, enum sluice_encap encap)
{
	struct sluice_table_header h = {.magic = SLUICE_TABLE_MAGIC,
					.abi = SLUICE_ABI,
					.header_bytes = sizeof(h),
					.generation = 1,
					.hash_key = {0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull}};
	uint64_t offset = RTE_ALIGN(sizeof(h), 64);
	struct sluice_refusal refusal;

	struct sluice_index_entry *index;
	int error = index_build(shape, &index, &h.index_bits, &h.index_seed);
	if (error)
		return error;
	span_place(&h.index, &offset, 1u << h.index_bits, sizeof(struct sluice_index_entry));
	span_place(&h.wildcards, &offset, 0, sizeof(struct sluice_wildcard));
	span_place(&h.services, &offset, shape->services, sizeof(struct sluice_service));
	span_place(&h.backends, &offset, shape->services * shape->backends, sizeof(struct sluice_backend));
	span_place(&h.lookups, &offset, shape->services, sizeof(struct sluice_lookup_ref));
	span_place(&h.ports, &offset, 1, sizeof(struct sluice_port));
	h.total_bytes = offset;

	uint8_t *bytes = aligned_alloc(4096, RTE_ALIGN(offset, 4096));
	if (!bytes) {
		free(index);
		return -ENOMEM;
	}
	memset(bytes, 0, offset);
	memcpy(bytes, &h, sizeof(h));
	memcpy(bytes + h.index.offset, index, h.index.count * sizeof(*index));
	free(index);
	scene->table_bytes = bytes;

	struct sluice_service *services = (struct sluice_service *)(bytes + h.services.offset);
	struct sluice_backend *backends = (struct sluice_backend *)(bytes + h.backends.offset);
	struct sluice_lookup_ref *lookups = (struct sluice_lookup_ref *)(bytes + h.lookups.offset);
	for (uint32_t s = 0; s < shape->services; s++) {
		services[s] = (struct sluice_service){.lookup = s,
						      .lookup_size = SCENE_LOOKUP_SIZE,
						      .first_backend = s * shape->backends,
						      .slots = shape->backends,
						      .tracking = shape->tracking,
						      .used = 1,
						      .protocol = protocol_of(shape),
						      .port_first = 443,
						      .port_last = 443,
						      .address = scene_vip(shape, s)};
		lookups[s] =
		    (struct sluice_lookup_ref){.id = s, .size = SCENE_LOOKUP_SIZE, .slots_bound = shape->backends};
		for (uint32_t slot = 0; slot < shape->backends; slot++)
			if (backend_build(&backends[s * shape->backends + slot], shape, s, slot, encap))
				return -EINVAL;
	}
	memcpy(((struct sluice_port *)(bytes + h.ports.offset))->name, "null0", 6);

	struct sluice_table_header *header = (struct sluice_table_header *)bytes;
	header->checksum = sluice_table_checksum(header);
	return sluice_table_is_sound(bytes, h.total_bytes, &scene->table, &refusal) ? 0 : -EINVAL;
}

/* Owners drawn at random: what Maglev's tables look like to a memory system. In the memory that the daemon gives them.
 */
static int lookups_build(struct scene *scene, const struct scene_shape *shape, uint64_t *random)
{
	scene->lookups = calloc(shape->services, sizeof(*scene->lookups));
	if (!scene->lookups)
		return -ENOMEM;
	for (uint32_t s = 0; s < shape->services; s++) {
		scene->lookups[s] = lookup_memory_get(SCENE_LOOKUP_SIZE);
		if (!scene->lookups[s])
			return -ENOMEM;
		for (uint32_t i = 0; i < SCENE_LOOKUP_SIZE; i++) {
			uint32_t slot = random_below(random, shape->backends);
			uint32_t prev = slot;
			if (random_below(random, 100) < shape->open_percent)
				prev = random_below(random, shape->backends);
			scene->lookups[s][i] = sluice_bucket_make(slot, prev);
		}
	}
	scene->table.lookups = (const sluice_bucket *const *)scene->lookups;
	return 0;
}

static int counters_build(struct scene *scene, const struct scene_shape *shape, uint32_t workers)
{
	struct sluice_counters_header h = {.magic = SLUICE_COUNTERS_MAGIC,
					   .abi = SLUICE_ABI,
					   .workers = workers,
					   .service_capacity = shape->services,
					   .backend_capacity = shape->services * shape->backends,
					   .worker_offset = 4096};
	h.service_offset = RTE_ALIGN(sizeof(struct sluice_worker_counters), 64);
	h.backend_offset =
	    h.service_offset + RTE_ALIGN(h.service_capacity * sizeof(struct sluice_service_counters), 64);
	h.worker_bytes =
	    RTE_ALIGN(h.backend_offset + h.backend_capacity * sizeof(struct sluice_backend_counters), 4096);
	h.total_bytes = h.worker_offset + workers * h.worker_bytes;
	scene->counters = aligned_alloc(4096, RTE_ALIGN(h.total_bytes, 4096));
	if (!scene->counters)
		return -ENOMEM;
	memset(scene->counters, 0, h.total_bytes);
	*scene->counters = h;
	return 0;
}

/* ---------------------------------------------------------------- flows ---- */

/* murmur3's finaliser. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 33) * 0xff51afd7ed558ccdull;
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ull;
	return x ^ x >> 33;
}

/* The scene's flow of a number: below 2^26, each has a source address of its own. */
static struct sluice_flow flow_of(const struct scene *scene, uint32_t number)
{
	uint64_t mixed = mix(scene->seed << 32 | number);
	uint32_t source = 0x0b000000u + (number * 0x9e3779b1u & 0x3ffffff);
	return (struct sluice_flow){
	    .source = sluice_address_v4(SLUICE_BE32(source)),
	    .destination = scene_vip(scene->shape, sluice_hash_bucket(mixed << 32, scene->shape->services)),
	    .source_port_be16 = SLUICE_BE16(1024 + sluice_hash_bucket(mixed, 60000)),
	    .destination_port_be16 = SCENE_PORT_BE16,
	    .protocol = SLUICE_IP_TCP,
	};
}

/* Mapped as the daemon maps its file. */
static int exceptions_map(struct scene *scene, uint32_t size_log2, bool is_array)
{
	size_t bytes = sluice_exceptions_bytes(size_log2);
	int fd = memfd_create("bench-exceptions", MFD_CLOEXEC);
	void *memory = NULL;
	if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0) {
		if (is_array) {
			memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
			memory = memory == MAP_FAILED ? NULL : memory;
		} else {
			memory = huge_pages_map_file(fd, bytes);
		}
	}
	if (fd >= 0)
		close(fd);
	if (!memory)
		return -ENOMEM;
	sluice_exceptions_init(memory, size_log2, sluice_exception_times_for(900, 120));
	scene->exceptions = memory;
	scene->exceptions_bytes = bytes;
	return 0;
}

static void exception_add(struct scene *scene, uint64_t key, uint32_t slot)
{
	struct sluice_exceptions_at at = sluice_exceptions_at(scene->exceptions, key);
	uint32_t seen_s = scene->shape->seen_s ? scene->shape->seen_s : SCENE_NOW_S;
	uint64_t value = sluice_exception_value(slot, SLUICE_EXCEPTION_ESTABLISHED, seen_s, 0), answer;
	/* When both of a flow's groups are full it stays unknown; measure() looks how many. */
	sluice_exception_insert(&at, key, value, seen_s, &answer);
}

static int exceptions_build(struct scene *scene, const struct scene_shape *shape, uint32_t workers, bool is_array,
			    uint64_t *random)
{
	uint32_t size_log2 = shape->exceptions_log2;
	for (uint32_t w = 1; w < workers; w *= 2)
		size_log2++;
	int error = exceptions_map(scene, size_log2, is_array);
	if (error)
		return error;
	for (uint32_t i = 0; i < shape->others; i++) {
		uint64_t key = next_random(random);
		exception_add(scene, key, random_below(random, shape->backends));
	}
	for (uint32_t i = 0; shape->tracking == SLUICE_TRACKING_ALL && i < shape->flows * workers; i++) {
		struct sluice_flow flow = flow_of(scene, i);
		uint64_t key = sluice_flow_hash(&scene->table.header->hash_key, &flow, SLUICE_AFFINITY_FLOW);
		exception_add(scene, key, random_below(random, shape->backends));
	}
	/* From here on they count what packets do. */
	memset(sluice_exceptions_at(scene->exceptions, 0).counters, 0,
	       SLUICE_EXCEPTIONS_COUNTERS * sizeof(struct sluice_exceptions_counters));
	return 0;
}

int scene_open(const struct scene_shape *shape, enum sluice_encap encap, uint32_t workers, uint64_t seed, bool is_array,
	       struct scene *ret)
{
	uint64_t random = seed * 0x9e3779b97f4a7c15ull | 1;
	int error;
	*ret = (struct scene){.shape = shape, .seed = seed};
	if ((error = table_build(ret, shape, encap)) || (error = lookups_build(ret, shape, &random)) ||
	    (error = counters_build(ret, shape, workers)) ||
	    (error = exceptions_build(ret, shape, workers, is_array, &random)))
		goto close;
	ret->states = malloc(SLUICE_BACKENDS_MAX);
	if (!ret->states) {
		error = -ENOMEM;
		goto close;
	}
	memset(ret->states, SLUICE_BACKEND_UNUSED, SLUICE_BACKENDS_MAX);
	memset(ret->states, SLUICE_BACKEND_UP, shape->services * shape->backends);
	ret->table.states = ret->states;
	return 0;

close:
	scene_close(ret);
	return error;
}

void scene_close(struct scene *scene)
{
	free(scene->counters);
	if (scene->exceptions)
		munmap(scene->exceptions, scene->exceptions_bytes);
	free(scene->states);
	for (uint32_t s = 0; scene->lookups && s < scene->shape->services; s++)
		lookup_memory_put(scene->lookups[s]);
	free(scene->lookups);
	free(scene->table_bytes);
	*scene = (struct scene){0};
}

/* --------------------------------------------------------------- frames ---- */

/* All of the frame but its flow. */
static void frame_write(uint8_t *frame, uint8_t tcp_flags)
{
	uint8_t *ip = frame + SLUICE_ETHERNET_BYTES, *tcp = ip + SLUICE_IPV4_BYTES;
	memset(frame, 0, SCENE_FRAME_BYTES);
	ip[0] = 0x45;
	sluice_store16(ip + 2, SLUICE_BE16(SCENE_FRAME_BYTES - SLUICE_ETHERNET_BYTES));
	ip[8] = 63;
	ip[9] = SLUICE_IP_TCP;
	sluice_store16(tcp + 2, SCENE_PORT_BE16);
	tcp[12] = 0x50;
	tcp[13] = tcp_flags;
}

int scene_frames_open(const struct scene *scene, struct rte_mempool *pool, uint32_t worker, struct scene_frames *ret)
{
	uint32_t count = scene->shape->frames;
	uint64_t random = mix(scene->seed ^ (uint64_t)worker << 32) | 1;
	*ret = (struct scene_frames){.scene = scene, .first_flow = worker * scene->shape->flows};
	ret->packets = calloc(count, sizeof(*ret->packets));
	ret->data_offsets = calloc(count, sizeof(*ret->data_offsets));
	if (!ret->packets || !ret->data_offsets || rte_pktmbuf_alloc_bulk(pool, ret->packets, count)) {
		scene_frames_close(ret);
		return -ENOMEM;
	}
	ret->count = count;
	/* A pool that has worked for a while hands its mbufs out in no order. */
	for (uint32_t i = count - 1; i > 0; i--) {
		uint32_t j = random_below(&random, i + 1);
		struct rte_mbuf *m = ret->packets[i];
		ret->packets[i] = ret->packets[j];
		ret->packets[j] = m;
	}
	for (uint32_t i = 0; i < count; i++) {
		ret->data_offsets[i] = ret->packets[i]->data_off;
		frame_write(rte_pktmbuf_mtod(ret->packets[i], uint8_t *), scene->shape->tcp_flags);
	}
	scene_frames_rewind(ret);
	return 0;
}

void scene_frames_close(struct scene_frames *frames)
{
	if (frames->count)
		rte_pktmbuf_free_bulk(frames->packets, frames->count);
	free(frames->packets);
	free(frames->data_offsets);
	*frames = (struct scene_frames){0};
}

void scene_frames_rewind(struct scene_frames *frames)
{
	static const uint8_t ethernet[SLUICE_ETHERNET_BYTES] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00};
	uint32_t flows = frames->scene->shape->flows;
	for (uint32_t i = 0; i < frames->count; i++) {
		struct rte_mbuf *m = frames->packets[i];
		struct sluice_flow flow = flow_of(frames->scene, frames->first_flow + (frames->next_flow + i) % flows);
		m->data_off = frames->data_offsets[i];
		m->data_len = SCENE_FRAME_BYTES;
		m->pkt_len = SCENE_FRAME_BYTES;
		uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
		memcpy(frame, ethernet, SLUICE_ETHERNET_BYTES);
		sluice_store32(frame + 26, flow.source.words[3]);
		sluice_store32(frame + 30, flow.destination.words[3]);
		sluice_store16(frame + 34, flow.source_port_be16);
	}
	frames->next_flow = (frames->next_flow + frames->count) % flows;
}
