/* SPDX-License-Identifier: Apache-2.0 */
#include "vector_table.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SERVICES_MAX = 64, BACKENDS_MAX = 256, INDEX_BITS = 8 };

/* What the lines say, before the table is laid out. */
struct draft {
	struct sluice_service services[SERVICES_MAX];
	uint32_t service_count;
	struct sluice_backend backends[BACKENDS_MAX];
	uint8_t states[BACKENDS_MAX];
	uint32_t backend_count;
	struct sluice_port port;
	struct sluice_index_entry index[1 << INDEX_BITS];
	struct sluice_wildcard wildcards[SERVICES_MAX];
	uint32_t wildcard_count;
	union sluice_address echoes[SERVICES_MAX]; /* VIPs that answer pings */
	uint32_t echo_count;
};

static void fatal(const char *what, const char *line)
{
	fprintf(stderr, "vectors: %s: %s\n", what, line);
	exit(1);
}

static union sluice_address address_parse(const char *text)
{
	union sluice_address a;
	struct in_addr v4;
	if (inet_pton(AF_INET, text, &v4) == 1)
		return sluice_address_v4(v4.s_addr);
	if (inet_pton(AF_INET6, text, a.bytes) != 1)
		fatal("not an address", text);
	return a;
}

static void mac_parse(const char *text, uint8_t mac[6])
{
	if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]) != 6)
		fatal("not a MAC address", text);
}

/* Put an entry into the index; false when it would lie too far from home. */
static bool index_put(struct draft *d, uint64_t seed, const union sluice_address *address, uint32_t port_protocol,
		      enum sluice_index_kind kind, uint32_t value)
{
	uint64_t home = sluice_index_hash(seed, address, port_protocol) >> (64 - INDEX_BITS);
	for (uint32_t i = 0; i < SLUICE_INDEX_PROBES; i++) {
		struct sluice_index_entry *e = &d->index[(home + i) & ((1 << INDEX_BITS) - 1)];
		if (e->kind == kind && e->port_protocol == port_protocol && sluice_address_equal(&e->address, address))
			return true;
		if (e->kind != SLUICE_INDEX_EMPTY)
			continue;
		*e = (struct sluice_index_entry){
		    .address = *address, .port_protocol = port_protocol, .value = value, .kind = kind};
		return true;
	}
	return false;
}

static struct sluice_wildcard *wildcard_of(struct draft *d, const struct sluice_service *s, uint32_t *ret_number)
{
	for (uint32_t i = 0; i < d->wildcard_count; i++) {
		const struct sluice_service *first = &d->services[d->wildcards[i].ranges[0].service];
		*ret_number = i;
		if (first->protocol == s->protocol && sluice_address_equal(&first->address, &s->address))
			return &d->wildcards[i];
	}
	*ret_number = d->wildcard_count;
	return &d->wildcards[d->wildcard_count++];
}

static bool index_fill(struct draft *d, uint64_t seed)
{
	bool fits = true;
	memset(d->index, 0, sizeof(d->index));
	memset(d->wildcards, 0, sizeof(d->wildcards));
	d->wildcard_count = 0;
	for (uint32_t i = 0; i < d->service_count && fits; i++) {
		const struct sluice_service *s = &d->services[i];
		bool echoes = false;
		for (uint32_t e = 0; e < d->echo_count; e++)
			echoes |= sluice_address_equal(&d->echoes[e], &s->address);
		fits = index_put(d, seed, &s->address, 0, SLUICE_INDEX_VIP, echoes ? SLUICE_VIP_ECHO : 0);
		if (s->port_first == s->port_last) {
			fits &= index_put(d, seed, &s->address,
					  sluice_port_protocol(SLUICE_BE16(s->port_first), s->protocol),
					  SLUICE_INDEX_SERVICE, i);
			continue;
		}
		uint32_t number;
		struct sluice_wildcard *w = wildcard_of(d, s, &number);
		w->ranges[w->count].first = s->port_first;
		w->ranges[w->count].last = s->port_last;
		w->ranges[w->count++].service = i;
		fits &= index_put(d, seed, &s->address, sluice_port_protocol(0, s->protocol), SLUICE_INDEX_WILDCARD,
				  number);
	}
	return fits;
}

static void service_line(struct draft *d, const char *line)
{
	char address[64], protocol[8], affinity[16];
	unsigned number, first, last;
	int slots;
	struct sluice_service *s = &d->services[d->service_count];
	if (sscanf(line, "service %u %63s %7s %u %u %15s %d", &number, address, protocol, &first, &last, affinity,
		   &slots) != 7 ||
	    number != d->service_count++)
		fatal("bad line", line);
	*s = (struct sluice_service){
	    .used = 1,
	    .protocol = strcmp(protocol, "tcp") ? SLUICE_IP_UDP : SLUICE_IP_TCP,
	    .port_first = (uint16_t)first,
	    .port_last = (uint16_t)last,
	    .affinity = strcmp(affinity, "client") ? SLUICE_AFFINITY_FLOW : SLUICE_AFFINITY_CLIENT,
	    .address = address_parse(address),
	    .lookup = slots > 0 ? number : SLUICE_NONE,
	    .lookup_size = VECTOR_LOOKUP_SIZE,
	    .slots = (uint32_t)abs(slots),
	    .first_backend = d->backend_count,
	};
	d->backend_count += s->slots;
}

static enum sluice_encap encap_of(const char *mode, bool v4)
{
	if (!strcmp(mode, "l2"))
		return SLUICE_ENCAP_L2;
	if (!strcmp(mode, "ipip"))
		return v4 ? SLUICE_ENCAP_IPIP4 : SLUICE_ENCAP_IPIP6;
	if (!strcmp(mode, "gue"))
		return v4 ? SLUICE_ENCAP_GUE4 : SLUICE_ENCAP_GUE6;
	return v4 ? SLUICE_ENCAP_GRE4 : SLUICE_ENCAP_GRE6;
}

static void backend_line(struct draft *d, const char *line)
{
	char mode[8], source[64], destination[64], mac[32], state[16];
	unsigned service, slot, vlan, mtu, spread_bits;
	if (sscanf(line, "backend %u %u %7s %63s %63s %31s %u %u %u %15s", &service, &slot, mode, source, destination,
		   mac, &vlan, &mtu, &spread_bits, state) != 10 ||
	    service >= d->service_count || slot >= d->services[service].slots)
		fatal("bad line", line);
	uint32_t number = d->services[service].first_backend + slot;
	struct sluice_backend *b = &d->backends[number];
	*b = (struct sluice_backend){.mtu = (uint16_t)mtu, .slot = slot, .service = service, .weight = 1, .used = 1};
	b->address = address_parse(destination);
	struct sluice_encap_spec spec = {
	    .encap = encap_of(mode, sluice_address_is_v4(&b->address)),
	    .inner_is_v4 = sluice_address_is_v4(&d->services[service].address),
	    .vlan = (uint16_t)vlan,
	    .outer_source = address_parse(source),
	    .outer_destination = b->address,
	    .spread_mask_be32 = SLUICE_BE32((1ull << spread_bits) - 1),
	};
	mac_parse(mac, spec.destination_mac);
	memcpy(spec.source_mac, d->port.mac, 6);
	if (sluice_encap_build(&spec, b))
		fatal("no template for", line);
	d->states[number] = !strcmp(state, "down")       ? SLUICE_BACKEND_DOWN
			    : !strcmp(state, "draining") ? SLUICE_BACKEND_DRAINING
							 : SLUICE_BACKEND_UP;
}

static uint32_t hex_parse(const char *text, uint8_t *ret, uint32_t most)
{
	uint32_t n = 0;
	if (!strcmp(text, "-"))
		return 0;
	for (; text[2 * n]; n++)
		if (n == most || sscanf(text + 2 * n, "%2hhx", &ret[n]) != 1)
			fatal("bad hex", text);
	return n;
}

static enum sluice_verdict verdict_parse(const char *label)
{
	for (unsigned v = 0; v < SLUICE_VERDICTS; v++)
		if (!strcmp(sluice_verdict_text(v).label, label))
			return v;
	fatal("no such verdict", label);
	return SLUICE_VERDICTS;
}

static void vector_line(struct vector_table *t, const struct draft *d, char *line)
{
	char *save, *verdict, *backend, *input, *output, *sentence;
	strtok_r(line, " \n", &save);
	verdict = strtok_r(NULL, " ", &save);
	backend = strtok_r(NULL, " ", &save);
	input = strtok_r(NULL, " ", &save);
	output = strtok_r(NULL, " ", &save);
	sentence = strtok_r(NULL, "\n", &save);
	if (!sentence)
		fatal("short line", line);
	t->vectors = realloc(t->vectors, (t->vector_count + 1) * sizeof(*t->vectors));
	struct vector *v = &t->vectors[t->vector_count++];
	unsigned service, slot;
	*v = (struct vector){.verdict = verdict_parse(verdict), .backend = SLUICE_NONE};
	if (sscanf(backend, "%u/%u", &service, &slot) == 2)
		v->backend = d->services[service].first_backend + slot;
	v->input_bytes = hex_parse(input, v->input, VECTOR_FRAME_MAX);
	uint32_t bytes = 0;
	for (char *frame = strtok_r(output, ",", &save); frame; frame = strtok_r(NULL, ",", &save)) {
		if (!strcmp(frame, "-"))
			continue;
		if (v->output_frames == VECTOR_FRAMES_MAX)
			fatal("too many frames", sentence);
		uint32_t n = hex_parse(frame, v->output + bytes, VECTOR_OUTPUT_MAX - bytes);
		v->output_bytes[v->output_frames++] = n;
		bytes += n;
	}
	snprintf(v->sentence, sizeof(v->sentence), "%s", sentence);
}

static struct sluice_span place(struct vector_table *t, const void *from, size_t element_bytes, uint32_t count)
{
	struct sluice_span span = {.offset = t->total_bytes, .count = count};
	t->total_bytes += (element_bytes * count + 63) & ~63ull;
	t->bytes = realloc(t->bytes, t->total_bytes);
	memset(t->bytes + span.offset, 0, t->total_bytes - span.offset);
	memcpy(t->bytes + span.offset, from, element_bytes * count);
	return span;
}

static void lay_out(struct vector_table *t, struct draft *d)
{
	struct sluice_refusal refusal;
	struct sluice_lookup_ref refs[SERVICES_MAX];
	struct sluice_table_header h = {.magic = SLUICE_TABLE_MAGIC,
					.abi = SLUICE_ABI,
					.header_bytes = sizeof(h),
					.generation = 1,
					.hash_key = {0x0706050403020100, 0x0f0e0d0c0b0a0908},
					.index_bits = INDEX_BITS};
	while (!index_fill(d, h.index_seed))
		h.index_seed++;
	t->lookups = calloc(d->service_count, sizeof(*t->lookups));
	for (uint32_t s = 0; s < d->service_count; s++) {
		sluice_bucket *buckets = calloc(VECTOR_LOOKUP_SIZE, sizeof(*buckets));
		for (uint32_t i = 0; i < VECTOR_LOOKUP_SIZE; i++)
			buckets[i] = sluice_bucket_make(i % d->services[s].slots, i % d->services[s].slots);
		t->lookups[s] = buckets;
		refs[s] =
		    (struct sluice_lookup_ref){.id = sluice_checksum(buckets, sizeof(*buckets) * VECTOR_LOOKUP_SIZE),
					       .size = VECTOR_LOOKUP_SIZE,
					       .slots_bound = d->services[s].slots};
	}
	t->total_bytes = (sizeof(h) + 63) & ~63ull;
	t->bytes = calloc(1, t->total_bytes);
	h.index = place(t, d->index, sizeof(*d->index), 1 << INDEX_BITS);
	h.wildcards = place(t, d->wildcards, sizeof(*d->wildcards), d->wildcard_count);
	h.wildcard_count = d->wildcard_count;
	h.services = place(t, d->services, sizeof(*d->services), d->service_count);
	h.backends = place(t, d->backends, sizeof(*d->backends), d->backend_count);
	h.lookups = place(t, refs, sizeof(*refs), d->service_count);
	h.ports = place(t, &d->port, sizeof(d->port), 1);
	h.total_bytes = t->total_bytes;
	uint8_t *aligned = aligned_alloc(64, t->total_bytes);
	memcpy(aligned, t->bytes, t->total_bytes);
	free(t->bytes);
	t->bytes = aligned;
	memcpy(t->bytes, &h, sizeof(h));
	((struct sluice_table_header *)(void *)t->bytes)->checksum = sluice_table_checksum(t->bytes);
	if (!sluice_table_is_sound(t->bytes, t->total_bytes, &t->table, &refusal))
		fatal("the table is refused", refusal.text);
	t->states = calloc(1, SLUICE_BACKENDS_MAX);
	memcpy(t->states, d->states, sizeof(d->states));
	t->table.states = t->states;
	t->table.lookups = t->lookups;
}

void vector_table_load(const char *path, struct vector_table *ret)
{
	static char line[2 * VECTOR_FRAME_MAX + 2 * VECTOR_OUTPUT_MAX + 512];
	struct draft *d = calloc(1, sizeof(*d));
	FILE *file = fopen(path, "r");
	if (!file)
		fatal("cannot read", path);
	memset(ret, 0, sizeof(*ret));
	while (fgets(line, sizeof(line), file)) {
		char mac[32], address[64];
		unsigned mtu;
		if (sscanf(line, "port %31s %u", mac, &mtu) == 2) {
			mac_parse(mac, d->port.mac);
			d->port.mtu = (uint16_t)mtu;
			strcpy(d->port.name, "port0");
		} else if (sscanf(line, "echo %63s", address) == 1 && d->echo_count < SERVICES_MAX) {
			d->echoes[d->echo_count++] = address_parse(address);
		} else if (!strncmp(line, "service ", 8)) {
			service_line(d, line);
		} else if (!strncmp(line, "backend ", 8)) {
			backend_line(d, line);
		} else if (!strncmp(line, "vector ", 7)) {
			vector_line(ret, d, line);
		} else {
			fatal("unknown line", line);
		}
	}
	fclose(file);
	lay_out(ret, d);
	free(d);
}

void vector_table_free(struct vector_table *table)
{
	for (uint32_t i = 0; i < table->table.header->services.count; i++)
		free((void *)(uintptr_t)table->lookups[i]);
	free(table->lookups);
	free(table->states);
	free(table->bytes);
	free(table->vectors);
}
