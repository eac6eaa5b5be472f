/* SPDX-License-Identifier: Apache-2.0 */
#include "table_assemble.h"

#include "sluice/table_check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What the table is made of, before its size is known. */
struct parts {
	struct sluice_index_entry *index;
	uint32_t index_bits;
	uint64_t index_seed;
	struct sluice_wildcard *wildcards;
	uint32_t wildcard_count;
	struct sluice_lookup_ref *refs;
	struct lookup **unique; /* the lookup of each reference; borrowed */
	uint32_t ref_count;
	uint32_t *ref_of; /* by named_lookup()'s number; SLUICE_NONE */
};

static void parts_fini(struct parts *parts)
{
	free(parts->index);
	free(parts->wildcards);
	free(parts->refs);
	free(parts->unique);
	free(parts->ref_of);
}

/* ------------------------------------------------------------------ index ---- */

static bool service_is_single(const struct model_service *s)
{
	return s->port_first == s->port_last;
}

/* Ranges by address and protocol, narrower before wider. */
static int range_compare(const void *a, const void *b)
{
	const struct model_service *x = *(const struct model_service *const *)a;
	const struct model_service *y = *(const struct model_service *const *)b;
	int order = memcmp(x->address.bytes, y->address.bytes, sizeof(x->address.bytes));
	if (order)
		return order;
	if (x->protocol != y->protocol)
		return x->protocol < y->protocol ? -1 : 1;
	int width_x = x->port_last - x->port_first, width_y = y->port_last - y->port_first;
	if (width_x != width_y)
		return width_x < width_y ? -1 : 1;
	return (int)x->port_first - (int)y->port_first;
}

static int address_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(union sluice_address));
}

/* The services of ranges in their lists, and an entry for each list. */
static int parts_wildcards(const struct table_assembly *a, const struct model_service **ranges, uint32_t count,
			   struct sluice_index_entry *entries, uint32_t *entry_count, struct parts *parts, char *text,
			   size_t text_bytes)
{
	const struct model *model = a->options->model;
	const struct model_service *before = NULL;

	if (count == 0)
		return 0;
	parts->wildcards = calloc(count, sizeof(*parts->wildcards));
	if (!parts->wildcards)
		return -ENOMEM;
	qsort(ranges, count, sizeof(*ranges), range_compare);
	for (uint32_t i = 0; i < count; i++) {
		const struct model_service *s = ranges[i];
		if (!before || before->protocol != s->protocol || !sluice_address_equal(&before->address, &s->address))
			entries[(*entry_count)++] =
			    (struct sluice_index_entry){.address = s->address,
							.port_protocol = sluice_port_protocol(0, s->protocol),
							.value = parts->wildcard_count++,
							.kind = SLUICE_INDEX_WILDCARD};
		before = s;
		struct sluice_wildcard *w = &parts->wildcards[parts->wildcard_count - 1];
		if (w->count == SLUICE_WILDCARD_RANGES) {
			snprintf(text, text_bytes,
				 "service \"%s\": its address has more than %u services of port ranges", s->name,
				 SLUICE_WILDCARD_RANGES);
			return -E2BIG;
		}
		w->ranges[w->count].first = s->port_first;
		w->ranges[w->count].last = s->port_last;
		w->ranges[w->count++].service = identity_service_number(a->identity, (uint32_t)(s - model->services));
	}
	return 0;
}

/* Appends to entries[*count]; sorts `addresses`, the services'. */
static int entries_vips(const struct model *model, union sluice_address *addresses, struct sluice_index_entry *entries,
			uint32_t *count)
{
	union sluice_address *echoes;
	uint32_t echo_count;
	int error = model_echo_addresses(model, &echoes, &echo_count);
	if (error)
		return error;
	qsort(addresses, model->service_count, sizeof(*addresses), address_compare);
	for (uint32_t i = 0; i < model->service_count; i++)
		if (i == 0 || !sluice_address_equal(&addresses[i - 1], &addresses[i]))
			entries[(*count)++] = (struct sluice_index_entry){
			    .address = addresses[i],
			    .value = model_address_is_in(echoes, echo_count, &addresses[i]) ? SLUICE_VIP_ECHO : 0,
			    .kind = SLUICE_INDEX_VIP};
	free(echoes);
	return 0;
}

static int parts_index(const struct table_assembly *a, struct parts *parts, char *text, size_t text_bytes)
{
	const struct model *model = a->options->model;
	const uint32_t services = model->service_count;
	struct sluice_index_entry *entries = calloc(2 * services + 1, sizeof(*entries));
	const struct model_service **ranges = malloc((services + 1) * sizeof(*ranges));
	union sluice_address *addresses = malloc((services + 1) * sizeof(*addresses));
	uint32_t count = 0, range_count = 0;
	int error = entries && ranges && addresses ? 0 : -ENOMEM;

	for (uint32_t i = 0; !error && i < services; i++) {
		const struct model_service *s = &model->services[i];
		addresses[i] = s->address;
		if (service_is_single(s))
			entries[count++] = (struct sluice_index_entry){
			    .address = s->address,
			    .port_protocol = sluice_port_protocol(SLUICE_BE16(s->port_first), s->protocol),
			    .value = identity_service_number(a->identity, i),
			    .kind = SLUICE_INDEX_SERVICE};
		else
			ranges[range_count++] = s;
	}
	if (!error)
		error = parts_wildcards(a, ranges, range_count, entries, &count, parts, text, text_bytes);
	if (!error)
		error = entries_vips(model, addresses, entries, &count);
	if (!error) {
		error = table_index_build(entries, count, &parts->index, &parts->index_bits, &parts->index_seed);
		if (error == -ENOSPC)
			snprintf(text, text_bytes, "the index cannot place %u services and their addresses", services);
	}
	free(addresses);
	free(ranges);
	free(entries);
	return error;
}

/* ---------------------------------------------------------------- lookups ---- */

struct by_id {
	uint64_t id;
	uint32_t named; /* named_lookup()'s */
};

static int id_compare(const void *a, const void *b)
{
	const struct by_id *x = a, *y = b;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->named < y->named ? -1 : x->named > y->named;
}

/* All that services name: below their count its lookup table, above it the previous one. NULL: none. */
static struct lookup *named_lookup(const struct table_assembly *a, uint32_t n)
{
	const uint32_t services = a->options->model->service_count;
	if (n < services)
		return a->lookups[n];
	/* Of no use to a service without a table. */
	return a->lookups[n - services] ? a->previous[n - services].lookup : NULL;
}

/* One reference for each different table, in the order of ids. */
static int parts_lookups(const struct table_assembly *a, struct parts *parts)
{
	const uint32_t services = a->options->model->service_count;
	struct by_id *sorted = malloc((2 * services + 1) * sizeof(*sorted));
	uint32_t count = 0;

	parts->refs = calloc(2 * services + 1, sizeof(*parts->refs));
	parts->unique = calloc(2 * services + 1, sizeof(*parts->unique));
	parts->ref_of = malloc((2 * services + 1) * sizeof(*parts->ref_of));
	if (!sorted || !parts->refs || !parts->unique || !parts->ref_of) {
		free(sorted);
		return -ENOMEM;
	}
	for (uint32_t n = 0; n < 2 * services; n++) {
		const struct lookup *lookup = named_lookup(a, n);
		parts->ref_of[n] = SLUICE_NONE;
		if (lookup)
			sorted[count++] = (struct by_id){lookup->id, n};
	}
	qsort(sorted, count, sizeof(*sorted), id_compare);
	for (uint32_t i = 0; i < count; i++) {
		struct lookup *lookup = named_lookup(a, sorted[i].named);
		if (i == 0 || sorted[i - 1].id != sorted[i].id) {
			parts->unique[parts->ref_count] = lookup;
			parts->refs[parts->ref_count++] =
			    (struct sluice_lookup_ref){lookup->id, lookup->size, lookup->slots_bound};
		}
		parts->ref_of[sorted[i].named] = parts->ref_count - 1;
	}
	free(sorted);
	return 0;
}

/* ------------------------------------------------------------------ table ---- */

static void write_backend(const struct table_assembly *a, uint32_t i, uint32_t k, struct sluice_backend *backends)
{
	const struct model_service *service = &a->options->model->services[i];
	const struct model_backend *backend = &service->backends[k];
	const struct table_backend *from = &a->backends[a->identity->flat[i] + k];
	const struct identity_service *numbers = &a->identity->services[identity_service_number(a->identity, i)];
	const uint32_t slot = identity_backend_slot(a->identity, i, k);
	struct sluice_backend *to = &backends[numbers->first_backend + slot];

	*to = (struct sluice_backend){0};
	if (from->reachable) {
		struct sluice_encap_spec spec = {.encap = model_encap(service, backend),
						 .inner_is_v4 = sluice_address_is_v4(&service->address),
						 .vlan = from->vlan,
						 .outer_source = from->source,
						 .outer_destination = backend->address,
						 .spread_mask_be32 = from->spread_mask_be32};
		memcpy(spec.destination_mac, from->destination_mac, sizeof(spec.destination_mac));
		memcpy(spec.source_mac, from->source_mac, sizeof(spec.source_mac));
		if (sluice_encap_build(&spec, to) == 0) {
			to->mtu = from->mtu;
			to->port = (uint16_t)from->port;
		}
	}
	to->slot = slot;
	to->address = backend->address;
	to->service = identity_service_number(a->identity, i);
	to->weight = from->state == SLUICE_BACKEND_UP ? from->weight : 0;
	to->member = a->lookups[i] && lookup_has_member(a->lookups[i], &backend->address);
	to->used = 1;
}

static void write_service(const struct table_assembly *a, const struct parts *parts, uint32_t i,
			  struct sluice_service *services)
{
	const struct model_service *from = &a->options->model->services[i];
	const uint32_t number = identity_service_number(a->identity, i), ref = parts->ref_of[i];
	const uint32_t previous = parts->ref_of[a->options->model->service_count + i];
	const struct service_rule *rule = &a->rules[i];

	services[number] = (struct sluice_service){
	    .lookup = ref,
	    .lookup_size = ref == SLUICE_NONE ? rule->table_size : parts->refs[ref].size,
	    .first_backend = a->identity->services[number].first_backend,
	    .slots = a->identity->services[number].slots,
	    .affinity = rule->affinity,
	    .tracking = rule->tracking,
	    .used = 1,
	    .protocol = from->protocol,
	    .port_first = from->port_first,
	    .port_last = from->port_last,
	    .address = from->address,
	    .config_id = sluice_checksum(from->name, strlen(from->name)),
	    .algorithm = rule->algorithm,
	    .quic = from->quic,
	    .resets = from->resets,
	};
	if (previous == SLUICE_NONE)
		return;
	services[number].previous_lookup = previous + 1;
	services[number].previous_size = parts->refs[previous].size;
	services[number].previous_affinity = a->previous[i].affinity;
	services[number].previous_closing = a->previous[i].closing;
}

/* The next array of the table: its span, and the end moved on. */
static struct sluice_span span_next(uint64_t *end, uint32_t count, size_t element_bytes)
{
	struct sluice_span span = {.offset = *end, .count = count};
	*end = (*end + (uint64_t)count * element_bytes + 63) & ~63ull;
	return span;
}

static struct sluice_table_header header_make(const struct table_assembly *a, const struct parts *parts)
{
	const struct model *model = a->options->model;
	uint64_t end = (sizeof(struct sluice_table_header) + 63) & ~63ull;
	struct sluice_table_header h = {
	    .magic = SLUICE_TABLE_MAGIC,
	    .abi = SLUICE_ABI,
	    .header_bytes = sizeof(h),
	    .generation = a->options->generation,
	    .hash_key = model->hash_key,
	    .index_seed = parts->index_seed,
	    .index_bits = parts->index_bits,
	    .wildcard_count = parts->wildcard_count,
	};
	h.index = span_next(&end, 1u << parts->index_bits, sizeof(struct sluice_index_entry));
	h.wildcards = span_next(&end, parts->wildcard_count, sizeof(struct sluice_wildcard));
	h.services = span_next(&end, a->identity->service_count, sizeof(struct sluice_service));
	h.backends = span_next(&end, a->identity->backend_count, sizeof(struct sluice_backend));
	h.lookups = span_next(&end, parts->ref_count, sizeof(struct sluice_lookup_ref));
	h.ports = span_next(&end, model->interface_count, sizeof(struct sluice_port));
	h.total_bytes = end;
	return h;
}

static void write_table(const struct table_assembly *a, const struct parts *parts, const struct sluice_table_header *h,
			uint8_t *ret)
{
	const struct model *model = a->options->model;

	memcpy(ret, h, sizeof(*h));
	memcpy(ret + h->index.offset, parts->index, h->index.count * sizeof(*parts->index));
	if (parts->wildcard_count)
		memcpy(ret + h->wildcards.offset, parts->wildcards, parts->wildcard_count * sizeof(*parts->wildcards));
	memcpy(ret + h->lookups.offset, parts->refs, parts->ref_count * sizeof(*parts->refs));
	memcpy(ret + h->ports.offset, a->ports, model->interface_count * sizeof(*a->ports));
	for (uint32_t i = 0; i < model->service_count; i++) {
		write_service(a, parts, i, (struct sluice_service *)(ret + h->services.offset));
		for (uint32_t k = 0; k < model->services[i].backend_count; k++)
			write_backend(a, i, k, (struct sluice_backend *)(ret + h->backends.offset));
	}
	((struct sluice_table_header *)ret)->checksum = sluice_table_checksum(ret);
}

/* ------------------------------------------------------------- the result ---- */

/* Seal `bytes` bytes into table->fd and map them. */
static int built_seal(struct built_table *table, const void *data, uint64_t bytes)
{
	uint64_t done = 0;

	table->fd = memfd_create("sluice-table", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (table->fd < 0)
		return -errno;
	while (done < bytes) {
		ssize_t n = write(table->fd, (const uint8_t *)data + done, bytes - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (uint64_t)n;
	}
	if (fcntl(table->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, table->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	table->bytes = bytes;
	sluice_table_view(map, &table->view);
	table->generation = table->view.header->generation;
	return 0;
}

/* Attach lookups to the view: `unique` by reference. */
static int built_lookups(struct built_table *table, struct lookup *const *unique, uint32_t count)
{
	const sluice_bucket **buckets = malloc((count + 1) * sizeof(*buckets));
	table->lookup_ids = malloc((count + 1) * sizeof(*table->lookup_ids));
	table->view.lookups = buckets;
	if (!buckets || !table->lookup_ids)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		buckets[i] = lookup_buckets(unique[i]);
		table->lookup_ids[i] = unique[i]->id;
	}
	table->lookup_count = count;
	return 0;
}

static void built_add_lookup(struct built_table *table, uint32_t number, struct lookup *lookup)
{
	table->lookups[number] = lookup_get(lookup);
	table->open += lookup->open;
	table->closing += lookup->closing;
	table->extended += lookup->extended;
	if (lookup->due_s < table->due_s)
		table->due_s = lookup->due_s;
}

/* window_s: of the service, as it was built with. */
static void built_add_previous(struct built_table *table, uint32_t number, const struct previous_table *previous,
			       uint32_t window_s)
{
	table->previous[number] = *previous;
	lookup_get(previous->lookup);
	table->extended += previous->extended;
	table->previous_closing += previous->closing;
	table->previous_open += !previous->closing;
	const uint32_t closes_s = previous_closes_s(previous, window_s);
	if (!previous->closing && closes_s < table->due_s)
		table->due_s = closes_s;
}

static struct built_table *built_create(struct identity *identity)
{
	struct built_table *table = calloc(1, sizeof(*table));
	if (!table)
		return NULL;
	table->references = 1;
	table->fd = -1;
	table->due_s = LOOKUP_NEVER;
	table->identity = identity_get(identity);
	table->service_count = identity->service_count;
	table->lookups = calloc(table->service_count + 1, sizeof(*table->lookups));
	table->previous = calloc(table->service_count + 1, sizeof(*table->previous));
	if (!table->lookups || !table->previous) {
		built_table_put(table);
		return NULL;
	}
	return table;
}

int table_assemble(const struct table_assembly *a, struct built_table **ret, char *text, size_t text_bytes)
{
	struct parts parts = {0};
	struct built_table *table = NULL;
	struct sluice_table checked;
	struct sluice_refusal refusal;
	uint8_t *bytes = NULL;

	snprintf(text, text_bytes, "out of memory");
	int error = parts_lookups(a, &parts);
	if (!error)
		error = parts_index(a, &parts, text, text_bytes);
	if (error)
		goto out;
	const struct sluice_table_header header = header_make(a, &parts);
	bytes = aligned_alloc(64, header.total_bytes);
	table = built_create(a->identity);
	error = bytes && table ? 0 : -ENOMEM;
	if (error)
		goto out;
	memset(bytes, 0, header.total_bytes);
	write_table(a, &parts, &header, bytes);
	if (!sluice_table_is_sound(bytes, header.total_bytes, &checked, &refusal)) {
		snprintf(text, text_bytes, "the table that was built is not sound (a bug): %s", refusal.text);
		error = -EPROTO;
		goto out;
	}
	error = built_seal(table, bytes, header.total_bytes);
	if (error) {
		snprintf(text, text_bytes, "the forwarding table of %llu bytes cannot be sealed in memory: %s",
			 (unsigned long long)header.total_bytes, strerror(-error));
		goto out;
	}
	error = built_lookups(table, parts.unique, parts.ref_count);
	if (error)
		goto out;
	for (uint32_t i = 0; i < a->options->model->service_count; i++) {
		const uint32_t number = identity_service_number(a->identity, i);
		table->waiting += a->rules[i].waits;
		if (!a->lookups[i])
			continue;
		built_add_lookup(table, number, a->lookups[i]);
		if (a->previous[i].lookup)
			built_add_previous(table, number, &a->previous[i],
					   model_window_s(&a->options->model->services[i]));
	}
	*ret = table;
	table = NULL;
out:
	built_table_put(table);
	free(bytes);
	parts_fini(&parts);
	return error;
}

struct built_table *built_table_get(struct built_table *table)
{
	table->references++;
	return table;
}

void built_table_put(struct built_table *table)
{
	if (!table || --table->references > 0)
		return;
	if (table->view.header)
		munmap((void *)table->view.header, table->bytes);
	if (table->fd >= 0)
		close(table->fd);
	for (uint32_t i = 0; table->lookups && i < table->service_count; i++)
		lookup_put(table->lookups[i]);
	for (uint32_t i = 0; table->previous && i < table->service_count; i++)
		lookup_put(table->previous[i].lookup);
	built_table_drop_blobs(table);
	identity_put(table->identity);
	free(table->lookups);
	free(table->previous);
	free(table->lookup_ids);
	free((void *)table->view.lookups);
	free(table);
}

void built_table_drop_blobs(struct built_table *table)
{
	for (uint32_t i = 0; i < table->blob_count; i++) {
		lookup_blob_close(table->blobs[i]);
		lookup_blob_put(table->blobs[i]);
	}
	free(table->blobs);
	table->blobs = NULL;
	table->blob_count = 0;
}

int built_table_renumber(const struct built_table *from, uint64_t generation, struct built_table **ret)
{
	struct built_table *table = built_create(from->identity);
	uint8_t *bytes = aligned_alloc(64, from->bytes);
	int error = table && bytes ? 0 : -ENOMEM;

	if (error)
		goto out;
	memcpy(bytes, from->view.header, from->bytes);
	((struct sluice_table_header *)bytes)->generation = generation;
	((struct sluice_table_header *)bytes)->checksum = sluice_table_checksum(bytes);
	error = built_seal(table, bytes, from->bytes);
	if (error)
		goto out;
	table->view.lookups = malloc((from->lookup_count + 1) * sizeof(*table->view.lookups));
	table->lookup_ids = malloc((from->lookup_count + 1) * sizeof(*table->lookup_ids));
	error = table->view.lookups && table->lookup_ids ? 0 : -ENOMEM;
	if (error)
		goto out;
	memcpy((void *)table->view.lookups, from->view.lookups, from->lookup_count * sizeof(*from->view.lookups));
	memcpy(table->lookup_ids, from->lookup_ids, from->lookup_count * sizeof(*from->lookup_ids));
	table->lookup_count = from->lookup_count;
	table->view.states = from->view.states;
	for (uint32_t n = 0; n < from->service_count; n++) {
		if (from->lookups[n])
			built_add_lookup(table, n, from->lookups[n]);
		table->previous[n] = from->previous[n];
		if (from->previous[n].lookup)
			lookup_get(from->previous[n].lookup);
	}
	table->previous_open = from->previous_open;
	table->previous_closing = from->previous_closing;
	table->waiting = from->waiting;
	table->due_s = from->due_s;
	*ret = table;
	table = NULL;
out:
	built_table_put(table);
	free(bytes);
	return error;
}
