/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets through the XDP program in the kernel, one by one, by BPF_PROG_TEST_RUN: the program of
 * bpf/steering.bpf.c with no AF_XDP socket, on a table that the control plane's own code has loaded.
 */
#ifndef TESTS_KERNEL_RUN_H
#define TESTS_KERNEL_RUN_H

#include "sluice/exceptions.h"
#include "sluice/forwarding.h"
#include "sluice/fragments.h"
#include "sluice/kernel.h"

struct kernel_run;

/* bpf/steering.bpf.c, compiled: as it is, or by a clock of the caller's (clock/kernel_clock.h). */
struct kernel_program {
	const void *object; /* the file's bytes */
	size_t bytes;
};

/* 0; -EPERM: this process may not load programs; -errno. exceptions_log2: size of its exception table. */
int kernel_run_create(const struct kernel_program *program, uint32_t exceptions_log2, struct kernel_run **ret);
void kernel_run_destroy(struct kernel_run *run); /* accepts NULL */

/* Put a table in force: its services steered, its states copied. Its ports are the interface that packets come in by.
 */
int kernel_run_table(struct kernel_run *run, const struct sluice_table *table);

/*
 * What the program keeps for a CPU. A packet meets that of the CPU which kernel_run_packet() runs on. At first it
 * answers as much as one likes.
 */
struct sluice_kernel_cpu *kernel_run_cpu(struct kernel_run *run, uint32_t cpu);

/* The exception table that the program uses, live counts behind it; its record of fragments, by the same clock. */
struct sluice_exceptions_header *kernel_run_exceptions(struct kernel_run *run);
struct sluice_fragments *kernel_run_fragments(struct kernel_run *run);

/* The seconds that a program by the caller's clock goes by; for no other. */
void kernel_run_set_time(struct kernel_run *run, uint32_t now_s);

/* What became of a packet. */
struct kernel_result {
	uint32_t action; /* enum xdp_action */
	enum sluice_verdict verdict;
	uint32_t counted; /* how many counters grew; each by one */
	uint32_t bytes;   /* of what left */
	uint8_t frame[4096];
};

/* length: at least 14. 0 or -errno. */
int kernel_run_packet(struct kernel_run *run, const uint8_t *bytes, uint32_t length, struct kernel_result *ret);

/* The program, for those who run it otherwise; borrowed. */
int kernel_run_program_fd(const struct kernel_run *run);

/* Give the receive queue of what runs a socket, as a dataplane does. The socket ends with the run. 0 or -errno. */
int kernel_run_socket(struct kernel_run *run);

/* How many packets it has counted so: enum steering_outcome, or STEERING_VERDICT + a verdict. 0 or -errno. */
int kernel_run_counter(const struct kernel_run *run, uint32_t counter, uint64_t *ret);

/* Packets and bytes that the program has counted for a backend. */
struct sluice_backend_counters kernel_run_backend(const struct kernel_run *run, uint32_t number);
struct sluice_service_counters kernel_run_service(const struct kernel_run *run, uint32_t number);

#endif
