/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nanoseconds a packet of the XDP program, and as a ratio to a floor: an empty program that grows the head by 20
 * bytes, or one that passes; and to a reference, the bare minimum of the same work, where there is one. All are called
 * by the same wrapper (xdp_bench.bpf.c), which makes each packet one of the next flow.
 *
 * BPF_PROG_TEST_RUN runs floor, reference and product in turn, many times; then all is built anew, in other memory, and
 * it starts over. The figures are medians. Needs root. README.md says more.
 */
#include "../packet/kernel_run.h"
#include "samples.h"
#include "scene.h"
#include "sluice/steering.h"
#include "steering.skel.h"
#include "xdp_bench.h"
#include "xdp_bench.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PACKETS_OF_SAMPLE 32768u
#define SAMPLES_MAX 100000u

struct scenario {
	const char *name, *forward;
	enum sluice_encap encap;
	uint32_t flows; /* a power of 2 */
	uint32_t
	    action; /* that is expected. TX: forwarded; PASS: for an address that is no VIP; REDIRECT: to a socket */
	struct scene_shape shape;
};

#define TCP(flags) .services = 1, .backends = 100, .tcp_flags = (flags), .exceptions_log2 = 15

/* README.md says what each is about. */
static const struct scenario scenarios[] = {
    {"tcp-1", "ipip4", SLUICE_ENCAP_IPIP4, 1, XDP_TX, {TCP(SLUICE_TCP_ACK)}},
    {"tcp-64Ki", "ipip4", SLUICE_ENCAP_IPIP4, 1 << 16, XDP_TX, {TCP(SLUICE_TCP_ACK)}},
    {"tcp-1Mi", "ipip4", SLUICE_ENCAP_IPIP4, 1 << 20, XDP_TX, {TCP(SLUICE_TCP_ACK)}},
    {"syn-1Mi", "ipip4", SLUICE_ENCAP_IPIP4, 1 << 20, XDP_TX, {TCP(SLUICE_TCP_SYN)}},
    {"udp-64Ki", "ipip4", SLUICE_ENCAP_IPIP4, 1 << 16, XDP_TX, {TCP(0), .is_udp = true}},
    {"v6-64Ki", "ipip6", SLUICE_ENCAP_IPIP6, 1 << 16, XDP_TX, {TCP(SLUICE_TCP_ACK), .is_v6 = true}},
    {"tcp-64Ki", "gue4", SLUICE_ENCAP_GUE4, 1 << 16, XDP_TX, {TCP(SLUICE_TCP_ACK)}},
    {"tcp-64Ki", "l2", SLUICE_ENCAP_L2, 1 << 16, XDP_TX, {TCP(SLUICE_TCP_ACK)}},
    {"transition",
     "ipip4",
     SLUICE_ENCAP_IPIP4,
     1 << 16,
     XDP_TX,
     {.services = 1,
      .backends = 100,
      .tcp_flags = SLUICE_TCP_ACK,
      .open_percent = 10,
      .others = 1 << 20,
      .exceptions_log2 = 21}},
    {"not-a-vip", "pass", SLUICE_ENCAP_IPIP4, 1 << 16, XDP_PASS, {TCP(SLUICE_TCP_ACK)}},
    {"redirect", "xsk", SLUICE_ENCAP_IPIP4, 1 << 16, XDP_REDIRECT, {TCP(SLUICE_TCP_ACK)}},
};

struct options {
	const char *scenario, *forward; /* NULL: all */
	uint32_t rounds, samples;
	uint64_t seed;
	bool json;
};

/* Of one scenario, over all rounds. In ns a packet. */
struct figures {
	struct samples product, floor, reference, floor_ratio, reference_ratio;
};

enum program { PRODUCT, FLOOR, REFERENCE, PROGRAMS };

/* One wrapper and the program that it calls. */
struct wrapped {
	struct xdp_bench_bpf *skeleton;
	uint8_t frame[128];
	uint32_t frame_bytes, action; /* enum xdp_action: what every packet gets */
};

/* ------------------------------------------------------------------ frames ---- */

/* The scenario's frame, but for the flow. Returns its length; *ret_l4: where its transport header is. */
static uint32_t frame_write(const struct scenario *s, uint8_t *frame, uint32_t *ret_l4)
{
	const struct scene_shape *shape = &s->shape;
	uint32_t l4_bytes = 30; /* a frame of 64 bytes for IPv4 */
	uint32_t ip_bytes = shape->is_v6 ? SLUICE_IPV6_BYTES : SLUICE_IPV4_BYTES;
	uint8_t protocol = shape->is_udp ? SLUICE_IP_UDP : SLUICE_IP_TCP;
	uint8_t *ip = frame + SLUICE_ETHERNET_BYTES, *l4 = ip + ip_bytes;
	/* Beyond the last of the services there is no VIP. */
	union sluice_address destination = scene_vip(shape, s->action == XDP_PASS ? shape->services : 0);

	sluice_store16(frame + 12, SLUICE_BE16(shape->is_v6 ? SLUICE_ETHERTYPE_IPV6 : SLUICE_ETHERTYPE_IPV4));
	if (shape->is_v6) {
		ip[0] = 0x60;
		sluice_store16(ip + 4, SLUICE_BE16(l4_bytes));
		ip[6] = protocol;
		ip[7] = 63;
		ip[8] = 0x20; /* 2001::, but for the last 4 bytes, which say the flow */
		ip[9] = 0x01;
		memcpy(ip + 24, destination.bytes, 16);
	} else {
		ip[0] = 0x45;
		sluice_store16(ip + 2, SLUICE_BE16(ip_bytes + l4_bytes));
		ip[8] = 63;
		ip[9] = protocol;
		sluice_store32(ip + 16, destination.words[3]);
	}
	sluice_store16(l4 + 2, SCENE_PORT_BE16);
	if (shape->is_udp) {
		sluice_store16(l4 + 4, SLUICE_BE16(l4_bytes));
	} else {
		l4[12] = 0x50;
		l4[13] = shape->tcp_flags;
	}
	*ret_l4 = (uint32_t)(l4 - frame);
	return SLUICE_ETHERNET_BYTES + ip_bytes + l4_bytes;
}

/* ---------------------------------------------------------------- wrapping ---- */

static bool has_reference(const struct scenario *s)
{
	return s->action == XDP_TX && s->encap == SLUICE_ENCAP_IPIP4 && !s->shape.open_percent;
}

/* The scene's one service and its backends, as the reference wants them. */
static int reference_fill(struct xdp_bench_bpf *skeleton, const struct scene *scene)
{
	const struct sluice_table *table = &scene->table;
	const struct sluice_service *service = &table->services[0];
	const uint32_t address_be32 = service->address.words[3],
		       port_protocol = sluice_port_protocol(SLUICE_BE16(service->port_first), service->protocol);

	if (service->slots > XDP_BENCH_BACKENDS || service->lookup_size > XDP_BENCH_BUCKETS)
		return -E2BIG;
	skeleton->bss->services[xdp_bench_home(address_be32, port_protocol)] =
	    (struct xdp_bench_service){address_be32, port_protocol, service->lookup_size};
	memcpy(skeleton->bss->buckets, table->lookups[service->lookup], service->lookup_size * sizeof(sluice_bucket));
	memcpy(skeleton->bss->backends, table->backends + service->first_backend,
	       service->slots * sizeof(*table->backends));
	skeleton->bss->hash_start = sluice_hash_start(&table->header->hash_key);
	return 0;
}

static int program_fd_of(const struct scenario *s, enum program program, const struct kernel_run *run,
			 const struct xdp_bench_bpf *skeleton)
{
	if (program == PRODUCT)
		return kernel_run_program_fd(run);
	return bpf_program__fd(program == REFERENCE  ? skeleton->progs.xdp_bench_reference
			       : s->action == XDP_TX ? skeleton->progs.xdp_bench_grow
						     : skeleton->progs.xdp_bench_pass);
}

static int wrapped_open(const struct scenario *s, enum program program, const struct kernel_run *run,
			const struct scene *scene, struct wrapped *ret)
{
	uint32_t l4, zero = 0;

	*ret = (struct wrapped){.action = program == PRODUCT || s->action == XDP_TX ? s->action : XDP_PASS};
	ret->frame_bytes = frame_write(s, ret->frame, &l4);
	ret->skeleton = xdp_bench_bpf__open();
	if (!ret->skeleton)
		return -errno;
	ret->skeleton->rodata->frame_bytes = ret->frame_bytes;
	ret->skeleton->rodata->source_offset = SLUICE_ETHERNET_BYTES + (s->shape.is_v6 ? 20 : 12);
	ret->skeleton->rodata->port_offset = l4;
	ret->skeleton->rodata->flows_mask = s->flows - 1;
	ret->skeleton->rodata->ethertype_be16 = sluice_load16(ret->frame + 12);
	int error = xdp_bench_bpf__load(ret->skeleton);
	if (!error && program == REFERENCE)
		error = reference_fill(ret->skeleton, scene);
	if (error)
		return error;
	int program_fd = program_fd_of(s, program, run, ret->skeleton);
	return bpf_map_update_elem(bpf_map__fd(ret->skeleton->maps.next), &zero, &program_fd, BPF_ANY);
}

/* The mean of some packets, in ns, as the kernel's own clock says: without the times at which it was preempted. */
static int wrapped_run(const struct wrapped *w, uint32_t packets, double *ret_ns)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = w->frame, .data_size_in = w->frame_bytes,
		    .repeat = (int)packets);
	int error = bpf_prog_test_run_opts(bpf_program__fd(w->skeleton->progs.xdp_bench_vary), &options);

	if (error)
		return error;
	if (options.retval != w->action)
		return -EBADMSG;
	*ret_ns = options.duration;
	return 0;
}

/* ----------------------------------------------------------------- measure ---- */

static int measure(const struct options *o, const struct scenario *s, const struct kernel_run *run,
		   const struct wrapped wrapped[PROGRAMS], struct figures *figures)
{
	const uint32_t counter = s->action == XDP_REDIRECT ? STEERING_REDIRECTED
				 : s->action == XDP_TX     ? STEERING_VERDICT + SLUICE_FORWARD
							   : STEERING_VERDICT + SLUICE_PASS_NO_SERVICE;
	const uint32_t once = s->flows > PACKETS_OF_SAMPLE ? s->flows : PACKETS_OF_SAMPLE;
	uint64_t before, after;
	double ns[PROGRAMS];
	int error = 0;

	/* What a change makes each flow do once is over by then. */
	for (uint32_t p = 0; p < PROGRAMS && !error; p++)
		if (wrapped[p].skeleton)
			error = wrapped_run(&wrapped[p], once, &ns[p]);
	if (!error)
		error = kernel_run_counter(run, counter, &before);
	for (uint32_t i = 0; i < o->samples && !error; i++) {
		for (uint32_t p = 0; p < PROGRAMS && !error; p++)
			if (wrapped[p].skeleton)
				error = wrapped_run(&wrapped[p], PACKETS_OF_SAMPLE, &ns[p]);
		if (error)
			break;
		samples_add(&figures->product, ns[PRODUCT]);
		samples_add(&figures->floor, ns[FLOOR]);
		samples_add(&figures->floor_ratio, ns[PRODUCT] / ns[FLOOR]);
		if (!wrapped[REFERENCE].skeleton)
			continue;
		samples_add(&figures->reference, ns[REFERENCE]);
		samples_add(&figures->reference_ratio, ns[PRODUCT] / ns[REFERENCE]);
	}
	if (!error)
		error = kernel_run_counter(run, counter, &after);
	if (!error && after - before != (uint64_t)o->samples * PACKETS_OF_SAMPLE) {
		fprintf(stderr, "xdp_bench: %s: %" PRIu64 " of %" PRIu64 " packets were counted otherwise\n", s->name,
			(uint64_t)o->samples * PACKETS_OF_SAMPLE - (after - before),
			(uint64_t)o->samples * PACKETS_OF_SAMPLE);
		error = -EBADMSG;
	}
	return error;
}

static int round_run(const struct options *o, const struct scenario *s, uint32_t round, struct figures *figures)
{
	struct wrapped wrapped[PROGRAMS] = {0};
	struct kernel_run *run = NULL;
	struct scene_shape shape = s->shape;
	struct scene scene;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	shape.seen_s = (uint32_t)now.tv_sec;
	int error = scene_open(&shape, s->encap, 1, o->seed + round, true, &scene);
	if (error)
		return error;
	struct kernel_program program;
	program.object = steering_bpf__elf_bytes(&program.bytes);
	error = kernel_run_create(&program, shape.exceptions_log2, &run);
	if (!error)
		error = kernel_run_table(run, &scene.table);
	if (!error)
		memcpy(kernel_run_exceptions(run), scene.exceptions, scene.exceptions_bytes);
	for (uint32_t p = 0; p < PROGRAMS && !error; p++)
		if (p != REFERENCE || has_reference(s))
			error = wrapped_open(s, p, run, &scene, &wrapped[p]);
	if (!error && s->action == XDP_REDIRECT)
		error = kernel_run_socket(run);
	if (!error)
		error = measure(o, s, run, wrapped, figures);
	for (uint32_t p = 0; p < PROGRAMS; p++)
		xdp_bench_bpf__destroy(wrapped[p].skeleton);
	kernel_run_destroy(run);
	scene_close(&scene);
	return error;
}

/* ------------------------------------------------------------------- print ---- */

static void print_figures(const struct options *o, const struct scenario *s, struct figures *f, bool is_first)
{
	double ns = samples_quantile(&f->product, 0.5), floor_ns = samples_quantile(&f->floor, 0.5);
	double spread = samples_quantile(&f->product, 0.9) - samples_quantile(&f->product, 0.1);
	double floor_ratio = samples_quantile(&f->floor_ratio, 0.5);

	if (o->json)
		printf("%s\n  {\"scenario\": \"%s\", \"forward\": \"%s\", \"path\": \"xdp\", \"ns_per_packet\": %.1f, "
		       "\"spread\": %.1f, \"floor_ns\": %.1f, \"floor_ratio\": %.3f",
		       is_first ? "[" : ",", s->name, s->forward, ns, spread, floor_ns, floor_ratio);
	else if (is_first)
		printf("scenario    forward  path  ns/packet  spread  floor  ratio  reference  ratio\n");
	if (!o->json)
		printf("%-10s  %-7s  xdp   %9.1f  %6.1f  %5.1f  %5.2f", s->name, s->forward, ns, spread, floor_ns,
		       floor_ratio);
	if (f->reference.count)
		printf(o->json ? ", \"reference_ns\": %.1f, \"reference_ratio\": %.3f" : "  %9.1f  %5.2f",
		       samples_quantile(&f->reference, 0.5), samples_quantile(&f->reference_ratio, 0.5));
	printf(o->json ? "}" : "\n");
}

static int usage(void)
{
	fprintf(stderr,
		"usage: xdp_bench [--json] [--scenario S] [--forward F] [--rounds N] [--samples N] [--seed N]\n");
	return 2;
}

static int run_all(const struct options *o)
{
	bool is_first = true;

	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		const struct scenario *s = &scenarios[i];
		struct figures figures = {0};
		int error = 0;

		if ((o->scenario && strcmp(o->scenario, s->name)) || (o->forward && strcmp(o->forward, s->forward)))
			continue;
		for (uint32_t round = 0; round < o->rounds && !error; round++)
			error = round_run(o, s, round, &figures);
		if (!error)
			print_figures(o, s, &figures, is_first);
		free(figures.product.values);
		free(figures.floor.values);
		free(figures.reference.values);
		free(figures.floor_ratio.values);
		free(figures.reference_ratio.values);
		if (error) {
			fprintf(stderr, "xdp_bench: %s %s failed: %s%s\n", s->name, s->forward, strerror(-error),
				error == -EPERM ? "; run it as root" : "");
			return 1;
		}
		fflush(stdout);
		is_first = false;
	}
	if (is_first)
		return usage();
	if (o->json)
		printf("\n]\n");
	return 0;
}

static int options_read(int argc, char **argv, struct options *ret)
{
	enum { JSON = 1, SCENARIO, FORWARD, ROUNDS, SAMPLES, SEED };
	static const struct option longs[] = {{"json", 0, NULL, JSON},
					      {"scenario", 1, NULL, SCENARIO},
					      {"forward", 1, NULL, FORWARD},
					      {"rounds", 1, NULL, ROUNDS},
					      {"samples", 1, NULL, SAMPLES},
					      {"seed", 1, NULL, SEED},
					      {0}};
	int c;

	*ret = (struct options){.rounds = 5, .samples = 40, .seed = 1};
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case JSON: ret->json = true; break;
		case SCENARIO: ret->scenario = optarg; break;
		case FORWARD: ret->forward = optarg; break;
		case ROUNDS: ret->rounds = (uint32_t)strtoul(optarg, NULL, 10); break;
		case SAMPLES: ret->samples = (uint32_t)strtoul(optarg, NULL, 10); break;
		case SEED: ret->seed = strtoull(optarg, NULL, 10); break;
		default: return -EINVAL;
		}
	}
	bool is_allowed = optind == argc && ret->rounds >= 1 && ret->rounds <= SAMPLES_MAX && ret->samples >= 1 &&
			  ret->samples <= SAMPLES_MAX;
	return is_allowed ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	struct options o;

	return options_read(argc, argv, &o) ? usage() : run_all(&o);
}
