/* SPDX-License-Identifier: Apache-2.0 */
#include "table_fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { INDEX_BITS = 8 };

/* Place for `count` elements behind what there is. */
static struct sluice_span span_add(uint64_t *end, uint32_t count, size_t element_bytes)
{
	struct sluice_span span = {.offset = (*end + 63) / 64 * 64, .count = count};
	*end = span.offset + count * element_bytes;
	return span;
}

static void index_add(struct sluice_table_header *h, const union sluice_address *address, uint32_t port_protocol,
		      uint32_t kind, uint32_t value)
{
	struct sluice_index_entry *index = (void *)((uint8_t *)h + h->index.offset);
	uint64_t at = sluice_index_hash(h->index_seed, address, port_protocol) >> (64 - INDEX_BITS);
	while (index[at % (1u << INDEX_BITS)].kind != SLUICE_INDEX_EMPTY)
		at++;
	index[at % (1u << INDEX_BITS)] = (struct sluice_index_entry){
	    .address = *address, .port_protocol = port_protocol, .kind = kind, .value = value};
}

static struct sluice_backend make_backend(uint32_t service, uint32_t slot, uint16_t port)
{
	struct sluice_backend backend = {
	    .mtu = 1500, .port = port, .slot = slot, .service = service, .weight = 1, .used = 1};
	struct sluice_encap_spec spec = {
	    .encap = SLUICE_ENCAP_IPIP4,
	    .inner_is_v4 = true,
	    .destination_mac = {2, 0, 0, 0, 1, (uint8_t)slot},
	    .source_mac = {2, 0, 0, 0, 2, 0},
	    .outer_source = sluice_address_v4(SLUICE_BE32(0x0a000001)),
	    .outer_destination = sluice_address_v4(SLUICE_BE32(0x0a000100u + slot)),
	};
	sluice_encap_build(&spec, &backend);
	return backend;
}

/* The blob of n lookups, and their references. */
static struct sluice_lookups_header *make_blob(uint32_t count, uint32_t variant, struct sluice_lookup_ref *refs)
{
	uint64_t bytes = TABLE_FIXTURE_SIZE * sizeof(sluice_bucket), end = sizeof(struct sluice_lookups_header);
	struct sluice_span entries_span = span_add(&end, count, sizeof(struct sluice_lookups_entry));
	uint64_t total = (end + 63) / 64 * 64 + count * ((bytes + 63) / 64 * 64);
	struct sluice_lookups_header *blob = aligned_alloc(64, (total + 63) / 64 * 64);
	memset(blob, 0, total);
	*blob = (struct sluice_lookups_header){
	    .magic = SLUICE_LOOKUPS_MAGIC, .abi = SLUICE_ABI, .count = count, .total_bytes = total};
	struct sluice_lookups_entry *entries = (void *)((uint8_t *)blob + entries_span.offset);
	for (uint32_t n = 0; n < count; n++) {
		struct sluice_span span = span_add(&end, TABLE_FIXTURE_SIZE, sizeof(sluice_bucket));
		sluice_bucket *buckets = (void *)((uint8_t *)blob + span.offset);
		for (uint32_t i = 0; i < TABLE_FIXTURE_SIZE; i++) {
			uint32_t slot = (i * 7 + n * 3 + variant * 5 + i * variant) % TABLE_FIXTURE_BACKENDS;
			/* The first bucket tells services and variants apart, whatever the rest. */
			buckets[i] = sluice_bucket_make(slot, i < 16 ? ((n + 17 * variant) >> i) % 2 : slot);
		}
		entries[n] = (struct sluice_lookups_entry){.id = sluice_checksum(buckets, bytes),
							   .offset = span.offset,
							   .size = TABLE_FIXTURE_SIZE,
							   .slots_bound = TABLE_FIXTURE_BACKENDS};
		refs[n] = (struct sluice_lookup_ref){
		    .id = entries[n].id, .size = TABLE_FIXTURE_SIZE, .slots_bound = TABLE_FIXTURE_BACKENDS};
	}
	return blob;
}

struct table_fixture *table_fixture_create(const struct table_fixture_spec *spec)
{
	struct table_fixture *f = calloc(1, sizeof(*f));
	struct sluice_table_header h = {.magic = SLUICE_TABLE_MAGIC,
					.abi = SLUICE_ABI,
					.header_bytes = sizeof(h),
					.generation = spec->generation,
					.hash_key = {1, 2},
					.index_seed = 1,
					.index_bits = INDEX_BITS};
	uint64_t end = sizeof(h);
	h.index = span_add(&end, 1u << INDEX_BITS, sizeof(struct sluice_index_entry));
	h.wildcards = span_add(&end, 0, sizeof(struct sluice_wildcard));
	h.services = span_add(&end, spec->services, sizeof(struct sluice_service));
	h.backends = span_add(&end, spec->services * TABLE_FIXTURE_BACKENDS, sizeof(struct sluice_backend));
	h.lookups = span_add(&end, spec->services, sizeof(struct sluice_lookup_ref));
	h.ports = span_add(&end, spec->port_count, sizeof(struct sluice_port));
	h.total_bytes = end;
	uint8_t *bytes = aligned_alloc(64, (end + 63) / 64 * 64);
	memset(bytes, 0, end);
	memcpy(bytes, &h, sizeof(h));
	f->table = (void *)bytes;
	f->services = (void *)(bytes + h.services.offset);
	f->backends = (void *)(bytes + h.backends.offset);
	f->lookups = (void *)(bytes + h.lookups.offset);
	f->ports = (void *)(bytes + h.ports.offset);
	for (uint32_t i = 0; i < spec->port_count; i++)
		strncpy(f->ports[i].name, spec->ports[i], sizeof(f->ports[i].name) - 1);
	f->blob = make_blob(spec->services, spec->variant, f->lookups);
	for (uint32_t n = 0; n < spec->services; n++) {
		union sluice_address vip = sluice_address_v4(SLUICE_BE32(0xc000020au + n));
		f->services[n] = (struct sluice_service){.lookup = n,
							 .lookup_size = TABLE_FIXTURE_SIZE,
							 .first_backend = n * TABLE_FIXTURE_BACKENDS,
							 .slots = TABLE_FIXTURE_BACKENDS,
							 .used = 1,
							 .protocol = SLUICE_IP_TCP,
							 .port_first = 80,
							 .port_last = 80,
							 .address = vip};
		for (uint32_t slot = 0; slot < TABLE_FIXTURE_BACKENDS; slot++)
			f->backends[n * TABLE_FIXTURE_BACKENDS + slot] = make_backend(n, slot, spec->backend_port);
		index_add(f->table, &vip, sluice_port_protocol(SLUICE_BE16(80), SLUICE_IP_TCP), SLUICE_INDEX_SERVICE,
			  n);
		index_add(f->table, &vip, 0, SLUICE_INDEX_VIP, 0);
	}
	table_fixture_seal(f);
	return f;
}

void table_fixture_seal(struct table_fixture *f)
{
	f->table->checksum = sluice_table_checksum(f->table);
}

void table_fixture_destroy(struct table_fixture *f)
{
	free(f->table);
	free(f->blob);
	free(f);
}

int table_fixture_memfd(const void *bytes, uint64_t length, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)length) || (bytes && pwrite(fd, bytes, length, 0) != (ssize_t)length) ||
	    fcntl(fd, F_ADD_SEALS, seals))
		abort();
	return fd;
}
