/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The desired state, as the configuration file says it: validated as a whole, then
 * immutable. One reader, many users: a model is reference-counted (loop thread only)
 * and may be read by worker threads while a reference is held for them.
 *
 * Strings are NUL-terminated, never NULL unless said, and owned by the model.
 * Durations in nanoseconds. Ports in host order.
 */
#ifndef CONTROLPLANE_MODEL_H
#define CONTROLPLANE_MODEL_H

#include "sluice/encap.h"
#include "sluice/forwarding.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum model_path { MODEL_PATH_DPDK, MODEL_PATH_XDP, MODEL_PATH_AUTO };

/*
 * Of path "auto". At 500 kpps the kernel's path takes about a sixth of a core (300 ns a packet, its driver's work
 * included), so below that a core that polls would be idle for the most part.
 */
#define MODEL_DPDK_ABOVE_PPS 500000u /* xdp_below is half of dpdk_above, whatever that is */
#define MODEL_XDP_AFTER_NS (UINT64_C(10) * 1000000000)

struct model_interface {
	enum { MODEL_INTERFACE_NAME, MODEL_INTERFACE_PCI, MODEL_INTERFACE_VDEV } kind;
	char *name;             /* kernel name, PCI address or vdev string: as written */
	enum model_path path;   /* of a kernel interface */
	uint32_t queues;        /* receive queues; 0: all of a kernel interface, one for each worker elsewhere */
	char *tap;              /* name of the TAP beside a PCI or vdev port; NULL: none */
	uint64_t hang_after_ns; /* how long a worker may leave packets unanswered; 0: the default */
	/* Of path "auto": polling begins above one rate, and ends when it was below the other for so long. */
	uint64_t dpdk_above_pps, xdp_below_pps, xdp_after_ns;
	int line;
};

enum model_forward { MODEL_FORWARD_L2, MODEL_FORWARD_IPIP, MODEL_FORWARD_GUE, MODEL_FORWARD_GRE };
enum model_algorithm {
	MODEL_ALGORITHM_MAGLEV,
	MODEL_ALGORITHM_ROUND_ROBIN,
	MODEL_ALGORITHM_LEAST_CONNECTIONS,
	MODEL_ALGORITHM_SOURCE_HASH
};

enum model_health_type {
	MODEL_HEALTH_NONE,
	MODEL_HEALTH_TCP,
	MODEL_HEALTH_HTTP, /* the only ones a configuration may name so far */
};

struct model_health {
	enum model_health_type type;
	uint16_t port;                      /* 0: the service's (its first, for a range) */
	char *path;                         /* http: request target; "/" when not given */
	char *host;                         /* http: Host header; NULL: the VIP */
	uint32_t status_first, status_last; /* http: accepted status codes, inclusive; 200..399 by default */
	uint64_t interval_ns, timeout_ns;
	uint32_t rise, fall;
};

struct model_backend {
	char *name;                   /* unique in its service */
	union sluice_address address; /* unique in its service: the backend's identity */
	uint32_t weight;              /* 0..65535 */
	char *zone;                   /* NULL when not given */
	bool backup;
	bool retired; /* in no file any more: keeps the connections it has until their windows end (retire.h) */
	uint32_t retired_until_s; /* CLOCK_MONOTONIC: not before this, though no bucket may name it any more */
	bool has_mac;             /* static adjacency: mac and interface */
	uint8_t mac[6];
	uint16_t vlan; /* 0: untagged */
	int interface; /* index in interfaces[]; -1 when not given */
	int line;
};

struct model_service {
	char *name; /* unique */
	union sluice_address address;
	uint16_t port_first, port_last; /* equal for a single port; 1..65535 for "any" */
	uint8_t protocol;               /* SLUICE_IP_TCP, SLUICE_IP_UDP */
	enum model_forward forward;
	enum model_algorithm algorithm;
	enum sluice_affinity affinity;
	enum sluice_tracking tracking;
	bool quic;          /* a QUIC Initial is a flow's first packet */
	bool udp_new_cur;   /* udp_new = "cur": datagrams go to the new owner at once, with no memory */
	uint64_t window_ns; /* for how long a change keeps a bucket's flows where they are */
	uint32_t table_size;
	enum { MODEL_PRIORITY_LOW, MODEL_PRIORITY_NORMAL, MODEL_PRIORITY_HIGH } priority;
	uint64_t max_new_flows_pps; /* new flows a second; 0: no limit */
	bool resets;                /* TCP connections that are refused are answered by a reset */
	struct model_health health;
	struct model_backend *backends; /* in the file's order */
	uint32_t backend_count;
	uint32_t *backends_by_name; /* positions in the order of the names; by model_index(), else NULL */
	int line;
};

struct model_vip {
	union sluice_address address;
	char *interface; /* kernel interface that gets the address; "lo" by default */
	bool icmp_echo;  /* pings are answered by the dataplane, not by the kernel */
	int line;        /* mode is "static" so far */
};

struct model_endpoint {
	union sluice_address address;
	uint16_t port; /* 0: none */
};

enum { MODEL_PEERS_MAX = 64, MODEL_SHED_ABOVE = 75 /* percent */ };

struct model {
	char *file;                                /* path it was read from */
	char *node_name, *node_zone, *node_region; /* zone and region may be NULL */
	struct sluice_hash_key hash_key;
	char hash_key_fingerprint[17]; /* 16 hex digits that tell keys apart without telling the key */
	/* Outer source addresses: of the node, or a prefix with spread_mask bits taken from the flow. */
	bool has_encap_source4, has_encap_source6; /* without: the address of the egress interface */
	union sluice_address encap_source4, encap_source6;
	uint32_t spread_mask4_be32, spread_mask6_be32;
	struct model_interface *interfaces;
	uint32_t interface_count;
	struct model_service *services; /* in the file's order */
	uint32_t service_count;
	uint32_t *services_by_name; /* positions in the order of the names; by model_index(), else NULL */
	struct model_vip *vips;
	uint32_t vip_count;
	struct {
		uint32_t *cores;
		uint32_t core_count;
		bool idle_sleep;
		bool hugepages;
		uint32_t exceptions_log2; /* entries of the host's exception table, as a power of two */
		uint32_t icmp_rate;       /* answers a second of a worker, and of all CPUs in the kernel together */
		uint32_t shed_above;      /* percent of load above which new flows are refused; 100: never */
	} dataplane;
	struct {
		char *listen; /* "ADDRESS:PORT" for read-only HTTP on loopback, or NULL */
		char *group;  /* of the API socket, or NULL: root only */
	} api;
	/* The other nodes of an ECMP group, which are told of exceptions (peers.h). */
	struct {
		struct model_endpoint listen; /* where this one hears and speaks from; no port: off */
		struct model_endpoint *nodes; /* the others */
		uint32_t node_count;
	} peers;
	/*
	 * With backends that are in no file any more: the model as read, to which all else here belongs but
	 * services, their backends, and the names of the retired. NULL: this is a model as read.
	 */
	struct model *origin;
	uint32_t references;
};

struct model *model_get(struct model *model);
void model_put(struct model *model); /* accepts NULL and half-built */

/*
 * The addresses of the VIPs with icmp_echo, in ascending order, for model_address_is_in(). 0 and *ret_addresses, which
 * the caller frees, NULL when there is none; -ENOMEM.
 */
int model_echo_addresses(const struct model *model, union sluice_address **ret_addresses, uint32_t *ret_count);

/* Whether an address is one of `count` in ascending order. */
bool model_address_is_in(const union sluice_address *addresses, uint32_t count, const union sluice_address *address);

/*
 * Build the indices by name, for who makes a model: before it is shared, after names are complete.
 * 0, or -ENOMEM: lookups still work, slowly.
 */
int model_index(struct model *model);

/* Find by name. NULL when there is none. By the index O(log n), without one O(n). */
const struct model_service *model_service_find(const struct model *model, const char *service);
const struct model_backend *model_backend_find(const struct model_service *service, const char *backend);

/* How flows of a service are remembered: a service has one protocol, so udp_new = "cur" is to remember none. */
static inline enum sluice_tracking model_tracking(const struct model_service *service)
{
	return service->udp_new_cur ? SLUICE_TRACKING_NONE : service->tracking;
}

/* What a flow is hashed by: source_hash is the table over the client's address. */
static inline enum sluice_affinity model_affinity(const struct model_service *service)
{
	return service->algorithm == MODEL_ALGORITHM_SOURCE_HASH ? SLUICE_AFFINITY_CLIENT : service->affinity;
}

/* Its window in seconds, rounded up. */
static inline uint32_t model_window_s(const struct model_service *service)
{
	return (uint32_t)((service->window_ns + 999999999u) / 1000000000u);
}

/* Textual form of an address: IPv4 dotted, IPv6 RFC 5952. ret: at least 46 bytes. Returns ret. */
char *model_address_text(const union sluice_address *address, char *ret);

/* The encapsulation of a backend in this service: mode plus the family of the backend's address. */
enum sluice_encap model_encap(const struct model_service *service, const struct model_backend *backend);

#endif
