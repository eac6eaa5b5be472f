/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trust boundary of the forwarding table: everything the fast path relies on
 * without looking again is checked here once, on a private copy of the bytes.
 *
 * Host only. No allocation, no lock; any thread.
 */
#ifndef SLUICE_TABLE_CHECK_H
#define SLUICE_TABLE_CHECK_H

#include "control.h"
#include "encap.h"
#include "forwarding.h"

#include <stdio.h>

/* Where a refusal says why: for people, names the field. Long enough for every text here. */
struct sluice_refusal {
	char text[192];
};

/* Says why; false. A macro, since the compiler is to see the false: what a refused table leaves unset is not read. */
#define SLUICE_REFUSE(refusal, ...) (snprintf((refusal)->text, sizeof((refusal)->text), __VA_ARGS__), false)

static inline bool sluice_lookup_size_is_allowed(uint32_t size)
{
	static const uint32_t primes[] = {251, 1021, 4093, 16381, 65537, 131071, 655373};
	for (size_t i = 0; i < sizeof(primes) / sizeof(primes[0]); i++)
		if (primes[i] == size)
			return true;
	return false;
}

static inline bool sluice_span_is_sound(const struct sluice_span *span, size_t element_bytes, uint32_t max,
					uint64_t total_bytes, const char *name, struct sluice_refusal *ret_refusal)
{
	uint64_t bytes = (uint64_t)span->count * element_bytes;
	if (span->count > max)
		return SLUICE_REFUSE(ret_refusal, "%s: %u elements, at most %u", name, span->count, max);
	if (span->offset % 64 || span->offset < sizeof(struct sluice_table_header) || span->offset > total_bytes ||
	    bytes > total_bytes - span->offset)
		return SLUICE_REFUSE(ret_refusal, "%s: offset %llu with %u elements is outside the table", name,
				     (unsigned long long)span->offset, span->count);
	return true;
}

/* Point *ret into the table at `bytes`; lookups and states are left NULL. The header must have been checked. */
static inline void sluice_table_view(const void *bytes, struct sluice_table *ret)
{
	const uint8_t *base = (const uint8_t *)bytes;
	const struct sluice_table_header *h = (const struct sluice_table_header *)bytes;
	*ret = (struct sluice_table){
	    .header = h,
	    .index = (const struct sluice_index_entry *)(base + h->index.offset),
	    .wildcards = (const struct sluice_wildcard *)(base + h->wildcards.offset),
	    .services = (const struct sluice_service *)(base + h->services.offset),
	    .backends = (const struct sluice_backend *)(base + h->backends.offset),
	    .ports = (const struct sluice_port *)(base + h->ports.offset),
	    .lookup_refs = (const struct sluice_lookup_ref *)(base + h->lookups.offset),
	    .index_seed = h->index_seed,
	    .index_shift = 64 - h->index_bits,
	    .index_mask = (1u << h->index_bits) - 1,
	    .has_wildcards = h->wildcard_count != 0,
	};
}

/* The header's checksum field counts as 0: checksum of what follows the header, mixed with the header's. */
static inline uint64_t sluice_table_checksum(const void *bytes)
{
	struct sluice_table_header header = *(const struct sluice_table_header *)bytes;
	header.checksum = 0;
	return sluice_checksum(&header, sizeof(header)) ^
	       sluice_rotl64(
		   sluice_checksum((const uint8_t *)bytes + sizeof(header), header.total_bytes - sizeof(header)), 1);
}

static inline bool sluice_header_is_sound(const void *bytes, uint64_t length, struct sluice_refusal *ret_refusal)
{
	const struct sluice_table_header *h = (const struct sluice_table_header *)bytes;
	if (length < sizeof(*h))
		return SLUICE_REFUSE(ret_refusal, "table: %llu bytes, shorter than its header",
				     (unsigned long long)length);
	if (h->magic != SLUICE_TABLE_MAGIC)
		return SLUICE_REFUSE(ret_refusal, "table: not a forwarding table (magic %016llx)",
				     (unsigned long long)h->magic);
	if (h->abi < SLUICE_ABI_MIN || h->abi > SLUICE_ABI)
		return SLUICE_REFUSE(ret_refusal,
				     "table: ABI %u, this program accepts %u to %u; upgrade the older of control plane "
				     "and dataplane",
				     h->abi, SLUICE_ABI_MIN, SLUICE_ABI);
	if (h->header_bytes != sizeof(*h) || h->total_bytes != length)
		return SLUICE_REFUSE(ret_refusal, "table: says %llu bytes, has %llu",
				     (unsigned long long)h->total_bytes, (unsigned long long)length);
	if (h->index_bits < 1 || h->index_bits > 20 || h->index.count != 1u << h->index_bits)
		return SLUICE_REFUSE(ret_refusal, "index: %u entries for %u bits", h->index.count, h->index_bits);
	if (h->wildcard_count != h->wildcards.count)
		return SLUICE_REFUSE(ret_refusal, "wildcards: two counts, %u and %u", h->wildcard_count,
				     h->wildcards.count);
	return sluice_span_is_sound(&h->index, sizeof(struct sluice_index_entry), 1u << 20, length, "index",
				    ret_refusal) &&
	       sluice_span_is_sound(&h->wildcards, sizeof(struct sluice_wildcard), SLUICE_SERVICES_MAX, length,
				    "wildcards", ret_refusal) &&
	       sluice_span_is_sound(&h->services, sizeof(struct sluice_service), SLUICE_SERVICES_MAX, length,
				    "services", ret_refusal) &&
	       sluice_span_is_sound(&h->backends, sizeof(struct sluice_backend), SLUICE_BACKENDS_MAX, length,
				    "backends", ret_refusal) &&
	       sluice_span_is_sound(&h->lookups, sizeof(struct sluice_lookup_ref), 2 * SLUICE_SERVICES_MAX, length,
				    "lookups", ret_refusal) &&
	       sluice_span_is_sound(&h->ports, sizeof(struct sluice_port), SLUICE_PORTS_MAX, length, "ports",
				    ret_refusal);
}

static inline bool sluice_index_is_sound(const struct sluice_table *t, struct sluice_refusal *ret_refusal)
{
	for (uint32_t i = 0; i <= t->index_mask; i++) {
		const struct sluice_index_entry *e = &t->index[i];
		bool is_service = e->kind == SLUICE_INDEX_SERVICE, is_wildcard = e->kind == SLUICE_INDEX_WILDCARD;
		if (e->kind > SLUICE_INDEX_VIP || (is_service && e->value >= t->header->services.count) ||
		    (is_wildcard && e->value >= t->header->wildcards.count) ||
		    (e->kind == SLUICE_INDEX_VIP && (e->value & ~(uint32_t)SLUICE_VIP_FLAGS)))
			return SLUICE_REFUSE(ret_refusal, "index[%u]: kind %u value %u", i, e->kind, e->value);
		if (is_service && !t->services[e->value].used)
			return SLUICE_REFUSE(ret_refusal, "index[%u]: service %u is not in use", i, e->value);
	}
	for (uint32_t i = 0; i < t->header->wildcards.count; i++) {
		const struct sluice_wildcard *w = &t->wildcards[i];
		if (w->count > SLUICE_WILDCARD_RANGES)
			return SLUICE_REFUSE(ret_refusal, "wildcards[%u]: %u ranges, at most %u", i, w->count,
					     SLUICE_WILDCARD_RANGES);
		for (uint32_t r = 0; r < w->count; r++)
			if (w->ranges[r].service >= t->header->services.count ||
			    !t->services[w->ranges[r].service].used)
				return SLUICE_REFUSE(ret_refusal, "wildcards[%u].ranges[%u]: service %u", i, r,
						     w->ranges[r].service);
	}
	return true;
}

static inline bool sluice_service_is_sound(const struct sluice_table *t, uint32_t n, struct sluice_refusal *ret_refusal)
{
	const struct sluice_service *s = &t->services[n];
	if (!s->used)
		return true;
	if (s->protocol != SLUICE_IP_TCP && s->protocol != SLUICE_IP_UDP)
		return SLUICE_REFUSE(ret_refusal, "services[%u]: protocol %u", n, s->protocol);
	if (s->affinity > SLUICE_AFFINITY_CLIENT || s->tracking > SLUICE_TRACKING_NONE)
		return SLUICE_REFUSE(ret_refusal, "services[%u]: affinity %u tracking %u", n, s->affinity, s->tracking);
	if (s->slots > SLUICE_SLOTS_MAX || s->first_backend > t->header->backends.count ||
	    s->slots > t->header->backends.count - s->first_backend)
		return SLUICE_REFUSE(ret_refusal, "services[%u]: slots %u from backend %u of %u", n, s->slots,
				     s->first_backend, t->header->backends.count);
	if (s->lookup == SLUICE_NONE)
		return true;
	if (s->lookup >= t->header->lookups.count)
		return SLUICE_REFUSE(ret_refusal, "services[%u]: lookup %u of %u", n, s->lookup,
				     t->header->lookups.count);
	const struct sluice_lookup_ref *ref = &t->lookup_refs[s->lookup];
	if (s->lookup_size != ref->size || ref->slots_bound > s->slots)
		return SLUICE_REFUSE(ret_refusal,
				     "services[%u]: lookup of size %u with slots below %u for %u slots, size %u", n,
				     ref->size, ref->slots_bound, s->slots, s->lookup_size);
	return true;
}

/* The fields from ABI 3, of a service that is sound otherwise. */
static inline bool sluice_service_has_sound_rule(const struct sluice_table *t, uint32_t n,
						 struct sluice_refusal *ret_refusal)
{
	const struct sluice_service *s = &t->services[n];
	if (!s->used)
		return true;
	if (s->algorithm > SLUICE_ALGORITHM_LEAST_CONNECTIONS ||
	    (s->algorithm != SLUICE_ALGORITHM_TABLE && s->tracking != SLUICE_TRACKING_ALL))
		return SLUICE_REFUSE(ret_refusal, "services[%u]: algorithm %u with tracking %u", n, s->algorithm,
				     s->tracking);
	if (s->quic > 1 || (s->quic && s->protocol != SLUICE_IP_UDP))
		return SLUICE_REFUSE(ret_refusal, "services[%u]: quic %u with protocol %u", n, s->quic, s->protocol);
	if (s->resets > 1 || (s->resets && s->protocol != SLUICE_IP_TCP))
		return SLUICE_REFUSE(ret_refusal, "services[%u]: resets %u with protocol %u", n, s->resets,
				     s->protocol);
	if (s->previous_lookup == 0) {
		if (s->previous_size || s->previous_affinity || s->previous_closing)
			return SLUICE_REFUSE(ret_refusal,
					     "services[%u]: no previous lookup, but its size, affinity or end", n);
		return true;
	}
	if (s->previous_lookup > t->header->lookups.count)
		return SLUICE_REFUSE(ret_refusal, "services[%u]: previous lookup %u of %u", n, s->previous_lookup - 1,
				     t->header->lookups.count);
	const struct sluice_lookup_ref *ref = &t->lookup_refs[s->previous_lookup - 1];
	if (s->previous_size != ref->size || ref->slots_bound > s->slots)
		return SLUICE_REFUSE(
		    ret_refusal, "services[%u]: previous lookup of size %u with slots below %u for %u slots, size %u",
		    n, ref->size, ref->slots_bound, s->slots, s->previous_size);
	if (s->previous_affinity > SLUICE_AFFINITY_CLIENT || s->previous_closing > 1 ||
	    s->tracking != SLUICE_TRACKING_ALL)
		return SLUICE_REFUSE(ret_refusal,
				     "services[%u]: previous lookup with affinity %u, closing %u, tracking %u", n,
				     s->previous_affinity, s->previous_closing, s->tracking);
	return true;
}

static inline bool sluice_backend_is_sound(const struct sluice_table *t, uint32_t n, struct sluice_refusal *ret_refusal)
{
	const struct sluice_backend *b = &t->backends[n];
	if (b->encap == SLUICE_ENCAP_NONE && b->outer_bytes == 0)
		return true;
	uint32_t overhead = sluice_encap_overhead((enum sluice_encap)b->encap);
	uint32_t link = b->outer_bytes - overhead;
	if (b->encap >= SLUICE_ENCAPS || b->outer_bytes < overhead ||
	    (link != SLUICE_ETHERNET_BYTES && link != SLUICE_ETHERNET_BYTES + SLUICE_VLAN_BYTES))
		return SLUICE_REFUSE(ret_refusal, "backends[%u]: %u outer bytes for encapsulation %u", n,
				     b->outer_bytes, b->encap);
	if (b->port >= t->header->ports.count)
		return SLUICE_REFUSE(ret_refusal, "backends[%u]: port %u of %u", n, b->port, t->header->ports.count);
	return true;
}

/*
 * Whether the table at `bytes` (8-byte aligned, private to the caller) may be used. True, and *ret is a view
 * without lookups and states; false, and *ret_refusal says why (*ret is then untouched).
 * Lookup tables are checked as they arrive, by sluice_lookup_is_sound().
 */
static inline bool sluice_table_is_sound(const void *bytes, uint64_t length, struct sluice_table *ret,
					 struct sluice_refusal *ret_refusal)
{
	struct sluice_table t;
	if (!sluice_header_is_sound(bytes, length, ret_refusal))
		return false;
	sluice_table_view(bytes, &t);
	if (sluice_table_checksum(bytes) != t.header->checksum)
		return SLUICE_REFUSE(ret_refusal, "table: its checksum disagrees: the bytes are torn or corrupt");
	if (!sluice_index_is_sound(&t, ret_refusal))
		return false;
	for (uint32_t i = 0; i < t.header->lookups.count; i++)
		if (!sluice_lookup_size_is_allowed(t.lookup_refs[i].size) ||
		    t.lookup_refs[i].slots_bound > SLUICE_SLOTS_MAX)
			return SLUICE_REFUSE(ret_refusal, "lookups[%u]: size %u, slots below %u", i,
					     t.lookup_refs[i].size, t.lookup_refs[i].slots_bound);
	for (uint32_t i = 0; i < t.header->services.count; i++)
		if (!sluice_service_is_sound(&t, i, ret_refusal) || !sluice_service_has_sound_rule(&t, i, ret_refusal))
			return false;
	for (uint32_t i = 0; i < t.header->backends.count; i++)
		if (!sluice_backend_is_sound(&t, i, ret_refusal))
			return false;
	for (uint32_t i = 0; i < t.header->ports.count; i++)
		if (t.ports[i].name[sizeof(t.ports[i].name) - 1])
			return SLUICE_REFUSE(ret_refusal, "ports[%u]: name is not terminated", i);
	*ret = t;
	return true;
}

/*
 * Whether the `size` buckets name only slots below slots_bound, use no reserved bit, are closing only where cur is
 * prev, and have the checksum `id`.
 */
static inline bool sluice_lookup_is_sound(const sluice_bucket *buckets, const struct sluice_lookups_entry *entry,
					  struct sluice_refusal *ret_refusal)
{
	uint32_t bad = 0;
	if (!sluice_lookup_size_is_allowed(entry->size) || entry->slots_bound > SLUICE_SLOTS_MAX)
		return SLUICE_REFUSE(ret_refusal, "lookup: size %u, slots below %u", entry->size, entry->slots_bound);
	for (uint32_t i = 0; i < entry->size; i++) /* no early exit: vectorised */
		bad |= (uint32_t)(sluice_bucket_cur(buckets[i]) >= entry->slots_bound) |
		       (uint32_t)(sluice_bucket_prev(buckets[i]) >= entry->slots_bound) | buckets[i] >> 31 |
		       ((buckets[i] >> 15 & 1) &
			(uint32_t)(sluice_bucket_cur(buckets[i]) != sluice_bucket_prev(buckets[i])));
	if (bad)
		return SLUICE_REFUSE(ret_refusal,
				     "lookup %016llx: a bucket names a slot of %u or above, uses a reserved bit, or is "
				     "closing and open",
				     (unsigned long long)entry->id, entry->slots_bound);
	if (sluice_checksum(buckets, (uint64_t)entry->size * sizeof(*buckets)) != entry->id)
		return SLUICE_REFUSE(ret_refusal, "lookup %016llx: its checksum disagrees: the bytes are corrupt",
				     (unsigned long long)entry->id);
	return true;
}

#endif
