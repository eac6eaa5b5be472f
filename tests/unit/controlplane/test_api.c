/* SPDX-License-Identifier: Apache-2.0 */
/* The API through a real Unix socket: views, transactions, refusals. */
#include "api_client.h"

#include "sluice/control.h"
#include "sluice/counters.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* --------------------------------------------------------------------- views ---- */

static void test_views(void **state)
{
	(void)state;
	struct answer a = get("/v1/status");
	assert_int_equal(a.status, 200);
	/* Its members are what their names say, to the last one. */
	assert_true(json_is_object(json_object_get(a.json, "overload")));
	assert_true(json_is_array(json_object_get(a.json, "restart_pending")));
	assert_true(json_is_string(json_object_get(a.json, "counters_problem")));
	assert_non_null(strstr(a.text, "Content-Type: application/json"));
	assert_string_equal(member(a.json, "node"), "lb1");
	assert_int_equal(number(a.json, "generation"), 1);
	assert_int_equal(number(json_object_get(a.json, "backends"), "up"), 4);
	answer_free(&a);

	a = get("/v1/services");
	assert_int_equal(json_array_size(a.json), 3);
	const json_t *web = json_array_get(a.json, 0), *six = json_array_get(a.json, 2);
	assert_string_equal(member(web, "name"), "web");
	assert_string_equal(member(web, "state"), "up");
	assert_int_equal(number(web, "port"), 80);
	assert_string_equal(member(web, "priority"), "normal");
	assert_true(json_is_null(json_object_get(web, "max_new_flows_pps")));
	assert_float_equal(json_real_value(json_object_get(web, "refused_share")), 0.5, 1e-9);
	assert_string_equal(member(web, "refused_cause"), "limit");
	assert_string_equal(member(web, "reason"), "2 of 2 backends up; 50.0% of new flows refused: 200 a second, "
						   "max_new_flows = 100pps");
	assert_float_equal(json_real_value(json_object_get(six, "refused_share")), 0, 1e-9);
	assert_string_equal(member(six, "refused_cause"), "");
	assert_string_equal(member(six, "port"), "1000-1999");
	answer_free(&a);

	a = get("/v1/backends?service=web");
	assert_int_equal(json_array_size(a.json), 2);
	const json_t *w1 = json_array_get(a.json, 0);
	assert_string_equal(member(w1, "service"), "web");
	assert_string_equal(member(w1, "name"), "w1");
	assert_string_equal(member(w1, "address"), "10.0.0.11");
	assert_int_equal(number(w1, "weight"), 100);
	assert_string_equal(member(w1, "state"), "up");
	assert_true(json_is_string(json_object_get(w1, "reason")));
	assert_float_equal(json_real_value(json_object_get(w1, "share")), 0.5, 1e-9);
	assert_float_equal(json_real_value(json_object_get(json_object_get(w1, "health"), "latency_ms")), 1.5, 1e-9);
	answer_free(&a);

	a = get("/v1/status");
	assert_int_equal(number(json_object_get(a.json, "windows"), "buckets_open"), 7);
	assert_int_equal(number(json_object_get(a.json, "windows"), "closes_in_seconds"), 11);
	assert_true(json_is_null(json_object_get(a.json, "exceptions")));
	assert_int_equal(number(json_object_get(json_object_get(a.json, "underlay"), "messages"), "lowered"), 2);
	const json_t *overload = json_object_get(a.json, "overload"), *load = json_object_get(overload, "load");
	assert_true(json_is_true(json_object_get(overload, "shedding")));
	assert_float_equal(json_real_value(json_object_get(overload, "shed_above")), 75, 1e-9);
	assert_float_equal(json_real_value(json_object_get(load, "worker")), 0.8, 1e-9);
	assert_true(json_is_null(json_object_get(load, "softirq")));
	assert_float_equal(json_real_value(json_object_get(json_object_get(overload, "refused_share"), "low")), 0.5,
			   1e-9);
	const json_t *peers = json_object_get(a.json, "peers"),
		     *node = json_array_get(json_object_get(peers, "nodes"), 1);
	assert_true(json_is_true(json_object_get(peers, "configured")));
	assert_int_equal(number(peers, "told"), 70);
	assert_int_equal(number(json_object_get(peers, "heard"), "inserted"), 60);
	assert_int_equal(number(json_object_get(peers, "refused"), "forged"), 3);
	assert_string_equal(json_string_value(json_object_get(node, "address")), "10.77.0.13");
	assert_true(json_is_null(json_object_get(node, "heard_seconds_ago")));
	answer_free(&a);
	a = get("/v1/backends");
	assert_int_equal(json_array_size(a.json), 4);
	answer_free(&a);
	a = get("/v1/vips");
	assert_string_equal(member(json_array_get(a.json, 1), "address"), "2001:db8::10");
	assert_int_equal(json_array_size(json_object_get(json_array_get(a.json, 0), "services")), 2);
	assert_string_equal(member(json_array_get(a.json, 0), "state"), "present");
	answer_free(&a);
	apply->vip_error = -ENODEV;
	a = get("/v1/vips");
	assert_string_equal(member(json_array_get(a.json, 0), "state"), "absent");
	assert_non_null(strstr(member(json_array_get(a.json, 0), "reason"), "there is no interface \"lo\""));
	answer_free(&a);
	apply->vip_error = 0;
	a = get("/v1/paths");
	assert_int_equal(number(a.json, "generation"), 1);
	answer_free(&a);
	a = get("/v1/counters");
	assert_int_equal(number(a.json, "received"), 0);
	assert_int_equal(json_array_size(json_object_get(a.json, "verdicts")), SLUICE_VERDICTS + 1);
	answer_free(&a);
	a = get("/v1/drops");
	assert_true(json_array_size(json_object_get(a.json, "drops")) > 5);
	answer_free(&a);
	a = get("/v1/explain?proto=tcp&src=203.0.113.1%3A1000&dst=192.0.2.10:80&flags=SA");
	assert_int_equal(a.status, 200);
	assert_string_equal(member(a.json, "verdict"), "forward");
	assert_string_equal(member(a.json, "service"), "web");
	answer_free(&a);
	a = get("/v1/explain?proto=tcp&src=[2001:db8::1]:1000&dst=[2001:db8::10]:1000");
	assert_string_equal(member(a.json, "backend"), "s1");
	answer_free(&a);
}

/* eth0 has path = "auto", is polling, and was switched twice. */
static void path_fill(void)
{
	apply->rule = (struct path_rule){MODEL_PATH_AUTO, 100000, 50000, 2500000000};
	apply->choice = (struct path_choice){.side = PATH_SIDE_DPDK,
					     .dataplane = PATH_DATAPLANE_POLLING,
					     .has_rate = true,
					     .rate_pps = 123456,
					     .since_wall_ns = 1700000000000000000ull,
					     .reason = "123456 packets/s, above dpdk_above = 100kpps",
					     .to_dpdk = 1,
					     .to_xdp = 1};
	apply->choice.history[0] = (struct path_switch){.wall_ns = 1690000000000000000ull,
							.from = PATH_SIDE_DPDK,
							.to = PATH_SIDE_XDP,
							.reason = "no dataplane is connected"};
	apply->choice.history[1] = (struct path_switch){.wall_ns = 1700000000000000000ull,
							.from = PATH_SIDE_XDP,
							.to = PATH_SIDE_DPDK,
							.is_by_rate = true,
							.rate_pps = 123456,
							.threshold_pps = 100000,
							.reason = "123456 packets/s, above dpdk_above = 100kpps"};
	apply->has_path = true;
}

/* All fields that programs may read. */
static void test_paths(void **state)
{
	(void)state;
	struct answer a = get("/v1/paths");
	assert_int_equal(json_array_size(json_object_get(a.json, "interfaces")), 0);
	answer_free(&a);
	path_fill();
	a = get("/v1/paths");
	const json_t *x = json_array_get(json_object_get(a.json, "interfaces"), 0);
	assert_string_equal(member(x, "interface"), "eth0");
	assert_true(json_is_true(json_object_get(x, "attached")));
	assert_int_equal(number(x, "redirected"), 5);
	assert_int_equal(number(x, "forwarded"), 6);
	assert_int_equal(number(json_array_get(json_object_get(x, "queues"), 0), "takeovers"), 3);
	assert_string_equal(member(x, "configured"), "auto");
	assert_string_equal(member(x, "path"), "dpdk");
	assert_string_equal(member(x, "state"), "polling");
	assert_string_equal(member(x, "reason"), ""); /* of the XDP program */
	assert_string_equal(member(x, "path_reason"), "123456 packets/s, above dpdk_above = 100kpps");
	assert_true(!strncmp(member(x, "since"), "2023-11-14T22:13:20", 19));
	assert_int_equal(number(x, "rate_pps"), 123456);
	assert_int_equal(number(x, "dpdk_above_pps"), 100000);
	assert_int_equal(number(x, "xdp_below_pps"), 50000);
	assert_float_equal(json_real_value(json_object_get(x, "xdp_after_seconds")), 2.5, 1e-9);
	assert_int_equal(number(json_object_get(x, "switches"), "to_dpdk"), 1);
	assert_int_equal(number(json_object_get(x, "switches"), "to_xdp"), 1);
	const json_t *history = json_object_get(x, "history"), *s = json_array_get(history, 0);
	assert_int_equal(json_array_size(history), 2);
	assert_true(!strncmp(member(s, "time"), "2023-07-22T", 11));
	assert_string_equal(member(s, "from"), "dpdk");
	assert_string_equal(member(s, "to"), "xdp");
	assert_string_equal(member(s, "reason"), "no dataplane is connected");
	assert_true(json_is_null(json_object_get(s, "rate_pps")) && json_is_null(json_object_get(s, "threshold_pps")));
	s = json_array_get(history, 1);
	assert_int_equal(number(s, "rate_pps"), 123456);
	assert_int_equal(number(s, "threshold_pps"), 100000);
	answer_free(&a);
	a = get("/metrics");
	assert_non_null(strstr(a.text, "\nsluice_path_active{interface=\"eth0\",path=\"dpdk\"} 1\n"));
	assert_non_null(strstr(a.text, "\nsluice_path_active{interface=\"eth0\",path=\"xdp\"} 0\n"));
	assert_non_null(strstr(a.text, "\nsluice_path_switches_total{interface=\"eth0\",to=\"dpdk\"} 1\n"));
	assert_non_null(strstr(a.text, "\nsluice_path_switches_total{interface=\"eth0\",to=\"xdp\"} 1\n"));
	assert_non_null(strstr(a.text, "\nsluice_path_rate_packets{interface=\"eth0\"} 123456\n"));
	assert_non_null(strstr(a.text, "\nsluice_queue_takeovers_total{interface=\"eth0\",queue=\"0\"} 3\n"));
	answer_free(&a);

	/* Of a path that is none of rates there are none. */
	apply->rule = (struct path_rule){.path = MODEL_PATH_XDP};
	apply->choice = (struct path_choice){.dataplane = PATH_DATAPLANE_PARKED, .wants_parked = true};
	a = get("/v1/paths");
	x = json_array_get(json_object_get(a.json, "interfaces"), 0);
	assert_string_equal(member(x, "configured"), "xdp");
	assert_string_equal(member(x, "path"), "xdp");
	assert_string_equal(member(x, "state"), "parked");
	assert_true(json_is_null(json_object_get(x, "rate_pps")) &&
		    json_is_null(json_object_get(x, "dpdk_above_pps")) &&
		    json_is_null(json_object_get(x, "xdp_below_pps")) && json_is_null(json_object_get(x, "since")));
	assert_int_equal(json_array_size(json_object_get(x, "history")), 0);
	answer_free(&a);
	a = get("/metrics");
	assert_null(strstr(a.text, "\nsluice_path_rate_packets{"));
	answer_free(&a);
	a = get("/v1/status");
	const json_t *hang = json_object_get(a.json, "hang");
	assert_int_equal(number(hang, "hung"), 0);
	assert_true(json_is_false(json_object_get(hang, "all")));
	assert_string_equal(member(hang, "text"), "");
	answer_free(&a);
	/* The dataplane hangs on some queues, and on all. */
	path_fill();
	apply->hang = (struct paths_hang){.queues = 4, .hung = 1};
	a = get("/v1/paths");
	x = json_array_get(json_object_get(a.json, "interfaces"), 0);
	assert_string_equal(member(x, "path"), "dpdk");
	assert_string_equal(member(x, "state"), "polling");
	assert_string_equal(member(x, "path_reason"),
			    "123456 packets/s, above dpdk_above = 100kpps; the dataplane hangs on 1 of 4 queues: XDP "
			    "forwards what comes by these");
	answer_free(&a);
	a = get("/v1/status");
	hang = json_object_get(a.json, "hang");
	assert_int_equal(number(hang, "queues"), 4);
	assert_int_equal(number(hang, "hung"), 1);
	assert_true(json_is_false(json_object_get(hang, "all")));
	assert_string_equal(member(hang, "text"), "the dataplane hangs on some queues, and the XDP program forwards "
						  "what comes by these: eth0 1 of 4 queues");
	answer_free(&a);
	apply->hang = (struct paths_hang){.queues = 4, .hung = 4, .is_whole = true};
	a = get("/v1/paths");
	x = json_array_get(json_object_get(a.json, "interfaces"), 0);
	assert_string_equal(member(x, "path"), "xdp");
	assert_string_equal(member(x, "state"), "hung");
	assert_string_equal(member(x, "path_reason"),
			    "the dataplane hangs on 4 of 4 queues: XDP forwards until it goes on");
	assert_true(json_is_null(json_object_get(x, "since")));
	answer_free(&a);
	a = get("/v1/status");
	hang = json_object_get(a.json, "hang");
	assert_true(json_is_true(json_object_get(hang, "all")));
	assert_string_equal(member(hang, "text"),
			    "the dataplane hangs, and the XDP program forwards in its place: eth0 4 of 4 queues");
	answer_free(&a);
	a = get("/metrics");
	assert_non_null(strstr(a.text, "\nsluice_path_active{interface=\"eth0\",path=\"dpdk\"} 0\n"));
	assert_non_null(strstr(a.text, "\nsluice_path_active{interface=\"eth0\",path=\"xdp\"} 1\n"));
	answer_free(&a);
	apply->hang = (struct paths_hang){0};
	/* Where the program is not, nothing forwards by any path. */
	apply->is_detached = true;
	a = get("/v1/paths");
	x = json_array_get(json_object_get(a.json, "interfaces"), 0);
	assert_true(json_is_null(json_object_get(x, "path")));
	assert_string_equal(member(x, "state"), "not attached");
	assert_string_equal(member(x, "path_reason"), "no such interface");
	answer_free(&a);
	apply->is_detached = false;
	apply->has_path = false;
}

static void test_batch_explain(void **state)
{
	(void)state;
	struct answer a = post(
	    "/v1/explain", "[{\"proto\":\"tcp\",\"src\":\"203.0.113.1:1\",\"dst\":\"192.0.2.10:80\"},"
			   "{\"proto\":\"tcp\",\"src\":\"nonsense\",\"dst\":\"192.0.2.10:80\"}, 7,"
			   "{\"proto\":\"udp\",\"src\":\"203.0.113.1:1\",\"dst\":\"192.0.2.10:53\"},"
			   "{\"proto\":\"udp\",\"src\":\"203.0.113.1:1\",\"dst\":\"192.0.2.10:53\",\"path\":\"xdp\"}]");
	assert_int_equal(a.status, 200);
	assert_int_equal(json_array_size(a.json), 5);
	assert_string_equal(member(json_array_get(a.json, 4), "field"), "path"); /* this host has none in the kernel */
	assert_string_equal(member(json_array_get(a.json, 0), "service"), "web");
	assert_string_equal(member(json_array_get(a.json, 1), "field"), "src");
	assert_string_equal(member(json_array_get(a.json, 2), "field"), "proto");
	assert_string_equal(member(json_array_get(a.json, 3), "backend"), "d1");
	answer_free(&a);
}

static void test_metrics(void **state)
{
	(void)state;
	struct answer a = get("/metrics");
	assert_int_equal(a.status, 200);
	assert_non_null(strstr(a.text, "Content-Type: text/plain; version=0.0.4"));
	assert_non_null(strstr(a.text, "\nsluice_packets_total{kind=\"forward\",verdict=\"forward\"} 0\n"));
	assert_non_null(strstr(a.text, "\nsluice_backend_up{service=\"web\",backend=\"w1\"} 1\n"));
	assert_non_null(
	    strstr(a.text, "\nsluice_backend_health_latency_seconds{service=\"web\",backend=\"w1\"} 0.0015"));
	assert_non_null(strstr(a.text, "\nsluice_service_backends{service=\"web\",state=\"up\"} 2\n"));
	assert_non_null(strstr(a.text, "\nsluice_generation 1\n"));
	assert_non_null(strstr(a.text, "\nsluice_buckets_open 7\n"));
	assert_non_null(strstr(a.text, "\nsluice_windows_extended_total 2\n"));
	assert_non_null(strstr(a.text, "\nsluice_path_mtus_lowered 0\n"));
	assert_non_null(strstr(a.text, "\nsluice_underlay_too_big_total{outcome=\"foreign\"} 9\n"));
	assert_non_null(strstr(a.text, "\nsluice_peer_up{address=\"10.77.0.12\",port=\"9441\"} 1\n"));
	assert_non_null(strstr(a.text, "\nsluice_peers_refused_total{reason=\"forged\"} 3\n"));
	assert_non_null(strstr(a.text, "\nsluice_peers_heard_total{outcome=\"inserted\"} 60\n"));
	assert_non_null(strstr(a.text, "\nsluice_service_refused_ratio{service=\"web\"} 0.5\n"));
	assert_non_null(strstr(a.text, "\nsluice_service_refused_ratio{service=\"six\"} 0\n"));
	assert_non_null(strstr(a.text, "\nsluice_load_ratio{source=\"worker\"} 0.8\n"));
	assert_null(strstr(a.text, "source=\"softirq\"")); /* it is not known */
	assert_non_null(strstr(a.text, "\nsluice_shed_above_ratio 0.75\n"));
	assert_null(strstr(a.text, "sluice_exceptions")); /* this host has none */
	/* Each family is announced once. */
	for (const char *p = strstr(a.text, "# TYPE "); p; p = strstr(p + 1, "# TYPE ")) {
		char line[128];
		snprintf(line, sizeof(line), "%.*s", (int)strcspn(p, "\n"), p);
		assert_null(strstr(p + 1, line));
	}
	answer_free(&a);
}

enum { LOSSES_AT = 256, WORKER_AT = 1024, WORKER_BYTES = 8192 };

/* A counters' memory of one worker that has counted nothing. losses_offset 0: of before there were any. */
static int counters_make(uint64_t losses_offset)
{
	const struct sluice_counters_header header = {.magic = SLUICE_COUNTERS_MAGIC,
						      .abi = SLUICE_ABI,
						      .workers = 1,
						      .worker_offset = WORKER_AT,
						      .worker_bytes = WORKER_BYTES,
						      .service_offset = WORKER_BYTES,
						      .backend_offset = WORKER_BYTES,
						      .total_bytes = WORKER_AT + WORKER_BYTES,
						      .pid = (uint64_t)getpid(),
						      .verdicts = SLUICE_VERDICTS,
						      .losses_offset = losses_offset};
	int fd = memfd_create("counters", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, WORKER_AT + WORKER_BYTES), 0);
	assert_int_equal(pwrite(fd, &header, sizeof(header), 0), sizeof(header));
	return fd;
}

/* What a dataplane's ports have lost, by the names that the configuration has for them. */
static void test_losses(void **state)
{
	const struct sluice_port_losses lost = {.missed_packets = 9, .from_kernel_dropped = 2};
	int fd = counters_make(LOSSES_AT);

	(void)state;
	assert_int_equal(pwrite(fd, &lost, sizeof(lost), LOSSES_AT), sizeof(lost));
	apply->has_dataplane = true;
	apply->dataplane = (struct apply_dataplane_status){.connected = true, .counters_fd = fd};
	struct answer a = get("/v1/counters");
	const json_t *port = json_array_get(json_object_get(a.json, "ports"), 0);
	assert_string_equal(member(port, "interface"), "eth0");
	assert_int_equal(number(port, "received_packets"), 0);
	assert_int_equal(number(port, "missed_packets"), 9);
	assert_int_equal(number(port, "from_kernel_dropped"), 2);
	answer_free(&a);
	a = get("/metrics");
	assert_non_null(strstr(a.text, "\nsluice_port_receive_packets_total{interface=\"eth0\"} 0\n"));
	assert_non_null(strstr(a.text, "\nsluice_port_receive_missed_total{interface=\"eth0\"} 9\n"));
	assert_non_null(strstr(a.text, "\nsluice_port_from_kernel_dropped_total{interface=\"eth0\"} 2\n"));
	answer_free(&a);
	close(fd);
	apply->dataplane.counters_fd = -1;
}

static long long packets_of(const json_t *rows, const char *name, const char *label)
{
	size_t i;
	json_t *row;

	json_array_foreach(rows, i, row)
	{
		if (!strcmp(member(row, name), label))
			return number(row, "packets");
	}
	return -1;
}

/* A packet that no worker has seen, for the XDP program passed or dropped it, is among all others. */
static void test_counted_by_xdp(void **state)
{
	const uint64_t verdicts[SLUICE_VERDICTS] = {
	    [SLUICE_FORWARD] = 40, [SLUICE_PASS_NOT_IP] = 30, [SLUICE_DROP_NO_BACKEND] = 2};
	int fd = counters_make(0);

	(void)state;
	assert_int_equal(pwrite(fd, verdicts, sizeof(verdicts), WORKER_AT), sizeof(verdicts));
	apply->kernel_counters_fd = fd;
	apply->no_socket = 5;
	struct answer a = get("/v1/counters");
	const json_t *rows = json_object_get(a.json, "verdicts");
	assert_int_equal(number(a.json, "received"), 77);
	assert_int_equal(packets_of(rows, "verdict", "not_ip"), 30);
	assert_int_equal(packets_of(rows, "verdict", "no_socket"), 5);
	assert_int_equal(json_array_size(json_object_get(a.json, "workers")), 0);
	answer_free(&a);
	a = get("/v1/drops");
	rows = json_object_get(a.json, "drops");
	assert_int_equal(packets_of(rows, "reason", "no_backend"), 2);
	assert_int_equal(packets_of(rows, "reason", "no_socket"), 5);
	assert_int_equal(packets_of(rows, "reason", "not_ip"), -1);
	answer_free(&a);
	a = get("/metrics");
	assert_non_null(strstr(a.text, "\nsluice_packets_total{kind=\"pass\",verdict=\"not_ip\"} 30\n"));
	assert_non_null(strstr(a.text, "\nsluice_packets_total{kind=\"drop\",verdict=\"no_socket\"} 5\n"));
	assert_non_null(strstr(a.text, "\nsluice_drops_total{reason=\"no_socket\"} 5\n"));
	answer_free(&a);
	close(fd);
	apply->kernel_counters_fd = -1;
	apply->no_socket = 0;
}

/* ------------------------------------------------------------------- changes ---- */

static void test_transactions(void **state)
{
	unsigned lines;

	(void)state;
	struct answer a = post("/v1/reload", "");
	assert_int_equal(a.status, 200);
	assert_string_equal(member(a.json, "outcome"), "ok");
	assert_int_equal(apply->reloads, 1);
	answer_free(&a);
	a = post("/v1/apply", "{\"file\": \"/etc/other.conf\"}");
	assert_int_equal(a.status, 200);
	assert_string_equal(apply->file, "/etc/other.conf");
	answer_free(&a);
	json_t *entry = audit_last(&lines);
	assert_int_equal(lines, 2);
	assert_string_equal(member(entry, "action"), "apply");
	assert_string_equal(member(entry, "subject"), "/etc/other.conf");
	assert_string_equal(member(entry, "outcome"), "ok");
	assert_int_equal(number(entry, "uid"), getuid());
	assert_int_equal(number(entry, "pid"), getpid());
	json_decref(entry);

	/* Refused: the lines come back, nothing else does. */
	apply->error = -EINVAL;
	apply->lines[0] = "/etc/x.conf:3: unknown setting \"prot\"; did you mean \"port\"?";
	apply->lines[1] = "/etc/x.conf:9: weight 70000 is above 65535";
	apply->line_count = 2;
	apply->names_lines = true;
	a = post("/v1/reload", "{}");
	assert_int_equal(a.status, 422);
	assert_int_equal(json_array_size(json_object_get(a.json, "lines")), 2);
	assert_string_equal(member(a.json, "error"), apply->lines[0]);
	assert_string_equal(member(a.json, "remedy"), "mend the lines named; what ran before still runs");
	answer_free(&a);
	a = get("/v1/status");
	assert_string_equal(member(json_object_get(a.json, "last_config"), "outcome"), "failed");
	assert_string_equal(member(json_object_get(a.json, "last_config"), "text"), apply->lines[0]);
	const json_t *last_lines = json_object_get(json_object_get(a.json, "last_config"), "lines");
	assert_int_equal(json_array_size(last_lines), 2);
	assert_string_equal(json_string_value(json_array_get(last_lines, 1)), apply->lines[1]);
	assert_int_equal(number(json_object_get(json_object_get(a.json, "transactions"), "reload"), "failed"), 1);
	answer_free(&a);
	a = get("/metrics");
	assert_non_null(strstr(a.text, "\nsluice_config_last_reload_successful 0\n"));
	answer_free(&a);
	/* An error of the whole file has no line to mend. */
	apply->lines[0] = "/dev/null: not a regular file";
	apply->line_count = 1;
	apply->names_lines = false;
	a = post("/v1/plan", "{\"file\": \"/dev/null\"}");
	assert_int_equal(a.status, 422);
	assert_string_equal(member(a.json, "remedy"), "what ran before still runs");
	answer_free(&a);
	apply->error = -EBUSY;
	apply->line_count = 0;
	a = post("/v1/rollback", "");
	assert_int_equal(a.status, 409);
	assert_int_equal(apply->rollbacks, 1);
	answer_free(&a);
	apply->error = 0;

	a = post("/v1/plan", "{\"file\": \"/etc/other.conf\"}");
	assert_int_equal(a.status, 200);
	assert_int_equal(number(a.json, "services_changed"), 1);
	answer_free(&a);
	entry = audit_last(&lines);
	assert_int_equal(lines, 4); /* a plan leaves no line */
	assert_string_equal(member(entry, "action"), "rollback");
	json_decref(entry);
}

static void test_orders(void **state)
{
	(void)state;
	struct answer a = post("/v1/weight", "{\"service\": \"web\", \"backend\": \"w2\", \"weight\": 7}");
	assert_int_equal(a.status, 200);
	assert_string_equal(apply->order_backend, "w2");
	assert_true(apply->order.has_weight && apply->order.weight == 7);
	answer_free(&a);
	a = get("/v1/backends");
	assert_int_equal(number(json_array_get(a.json, 0), "ordered_weight"), 7);
	answer_free(&a);

	/* A drain keeps the weight; its deadline is in the future. */
	a = post("/v1/drain", "{\"service\": \"web\", \"backend\": \"w2\", \"timeout_seconds\": 90}");
	assert_int_equal(a.status, 200);
	assert_int_equal(apply->order.admin, OPERATOR_DRAINED);
	assert_true(apply->order.has_weight && apply->order.weight == 7);
	assert_true(apply->order.drain_deadline_ns > 1700000000ull * 1000000000ull);
	answer_free(&a);
	a = post("/v1/disable", "{\"service\": \"web\", \"backend\": \"w2\"}");
	assert_int_equal(apply->order.admin, OPERATOR_DISABLED);
	assert_int_equal(apply->order.drain_deadline_ns, 0);
	answer_free(&a);
	a = post("/v1/enable", "{\"service\": \"web\", \"backend\": \"w2\"}");
	assert_int_equal(apply->order.admin, OPERATOR_ENABLED);
	assert_true(apply->order.has_weight);
	answer_free(&a);
	a = post("/v1/weight", "{\"service\": \"web\", \"backend\": \"w2\", \"weight\": null}");
	assert_int_equal(a.status, 200);
	assert_false(apply->order.has_weight);
	answer_free(&a);
	assert_int_equal(apply->orders, 5);

	apply->order_error = -EIO;
	a = post("/v1/enable", "{\"service\": \"web\", \"backend\": \"w2\"}");
	assert_int_equal(a.status, 500);
	answer_free(&a);
	apply->order_error = 0;
	assert_int_equal(apply->pending_count, 0);
}

/* ------------------------------------------------------------------ refusals ---- */

static void test_refusals(void **state)
{
	static const struct {
		const char *method, *target, *body;
		int status;
		const char *field, *word; /* word: somewhere in error or remedy */
	} rows[] = {
	    {"GET", "/v1/statsu", "", 404, "path", "/v1/status"},
	    {"GET", "/", "", 404, "path", "the nearest is"},
	    {"GET", "/v1/status/../status", "", 404, "path", "the nearest is"},
	    {"GET", "/v1/backends?servce=web", "", 400, "servce", "service"},
	    {"GET", "/v1/backends?service=nope", "", 404, "service", "nope"},
	    {"GET", "/v1/backends?service=web&service=dns", "", 400, "path", "twice"},
	    {"GET", "/v1/backends?service", "", 400, "path", "without a value"},
	    {"GET", "/v1/backends?service=%zz", "", 400, "path", "escape"},
	    {"GET", "/v1/backends?service=%00", "", 400, "path", "control"},
	    {"GET", "/v1/status?x=1", "", 400, "x", "takes none"},
	    {"GET", "/v1/explain?proto=tcp&src=1.2.3.4:1", "", 400, "dst", "missing"},
	    {"GET", "/v1/explain?proto=tcp&src=1.2.3.4:1&dst=1.2.3.4:1&path=both", "", 400, "path", "both"},
	    {"GET", "/v1/explain?proto=gre&src=1.2.3.4:1&dst=1.2.3.4:1", "", 400, "proto", "gre"},
	    {"GET", "/v1/reload", "", 405, NULL, "use POST"},
	    {"POST", "/v1/status", "", 405, NULL, "use GET"},
	    {"DELETE", "/v1/status", "", 405, NULL, "use GET"},
	    {"POST", "/v1/apply", "", 400, "file", "/etc/sluice"},
	    {"POST", "/v1/apply", "{\"file\": 7}", 400, "file", "string"},
	    {"POST", "/v1/apply", "{\"file\": \"sluice.conf\"}", 400, "file", "relative"},
	    {"POST", "/v1/apply", "{\"file\": \"/x\", \"force\": true}", 400, "force", "file"},
	    {"POST", "/v1/apply", "[]", 400, "file", "string"},
	    {"POST", "/v1/apply", "{\"file\": \"/x\"", 400, "body", "line 1"},
	    {"POST", "/v1/apply", "{\"file\": \"/x\", \"file\": \"/y\"}", 400, "body", "duplicate"},
	    {"POST", "/v1/apply", "\xff\xfe", 400, "body", "UTF-8"},
	    {"POST", "/v1/apply?file=/x", "{}", 400, "file", "unknown"},
	    {"POST", "/v1/drain", "{\"service\": \"web\"}", 400, "backend", "w1"},
	    {"POST", "/v1/drain", "{\"service\": \"nope\", \"backend\": \"w1\"}", 404, "service", "nope"},
	    {"POST", "/v1/drain", "{\"service\": \"web\", \"backend\": \"w9\"}", 404, "backend", "w9"},
	    {"POST", "/v1/drain", "{\"service\": \"web\", \"backend\": \"w1\", \"timeout_seconds\": -1}", 400,
	     "timeout_seconds", "above 0"},
	    {"POST", "/v1/drain", "{\"service\": \"web\", \"backend\": \"w1\", \"timeout_seconds\": \"9\"}", 400,
	     "timeout_seconds", "number"},
	    {"POST", "/v1/weight", "{\"service\": \"web\", \"backend\": \"w1\"}", 400, "weight", "65535"},
	    {"POST", "/v1/weight", "{\"service\": \"web\", \"backend\": \"w1\", \"weight\": 65536}", 400, "weight",
	     "65535"},
	    {"POST", "/v1/weight", "{\"service\": \"web\", \"backend\": \"w1\", \"weight\": 1.5}", 400, "weight",
	     "65535"},
	    {"POST", "/v1/explain", "{}", 400, "body", "array"},
	};
	unsigned lines;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct answer a = ask_at(0, rows[i].method, rows[i].target, rows[i].body);
		char both[1024];
		snprintf(both, sizeof(both), "%s | %s", member(a.json, "error"), member(a.json, "remedy"));
		if (a.status != rows[i].status || !member(a.json, "error")[0] || !strstr(both, rows[i].word) ||
		    (rows[i].field && strcmp(member(a.json, "field"), rows[i].field)))
			fail_msg("%s %s %s: %d field \"%s\": %s", rows[i].method, rows[i].target, rows[i].body,
				 a.status, member(a.json, "field"), both);
		if (a.status == 405)
			assert_non_null(strstr(a.text, "\r\nAllow: "));
		answer_free(&a);
	}
	/* None of it reached a transaction. */
	assert_int_equal(apply->reloads + apply->files + apply->rollbacks + apply->plans + apply->orders, 0);
	json_decref(audit_last(&lines));
	assert_int_equal(lines, 0);
}

/* A body above the limit is refused, announced or not; the server lives on. */
static void test_big_bodies(void **state)
{
	static char request[API_BODY_BYTES_MAX + 65536];
	size_t size = API_BODY_BYTES_MAX + 4096;
	char *p = request;

	(void)state;
	p += sprintf(p, "POST /v1/explain HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
		     size);
	memset(p, ' ', size);
	struct answer a = exchange(request, (size_t)(p - request) + size, 0);
	assert_int_equal(a.status, 413);
	answer_free(&a);

	p = request;
	p += sprintf(p,
		     "POST /v1/explain HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
	p += sprintf(p, "%zx\r\n", size);
	memset(p, ' ', size);
	p += size;
	p += sprintf(p, "\r\n0\r\n\r\n");
	a = exchange(request, (size_t)(p - request), 0);
	assert_int_equal(a.status, 413);
	answer_free(&a);

	/* As much as is allowed: read whole, and then no JSON. */
	p = request;
	p += sprintf(p, "POST /v1/explain HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %u\r\n\r\n",
		     API_BODY_BYTES_MAX);
	memset(p, ' ', API_BODY_BYTES_MAX);
	a = exchange(request, (size_t)(p - request) + API_BODY_BYTES_MAX, 0);
	assert_int_equal(a.status, 400);
	answer_free(&a);

	a = get("/v1/status");
	assert_int_equal(a.status, 200);
	answer_free(&a);
}

static void test_no_http(void **state)
{
	static const char *const rows[] = {"\r\n\r\n\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
					   "GET /v1/status HTTP/9.9\r\n\r\n", "GET  HTTP/1.1\r\nHost: x\r\n\r\n"};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char request[128];
		/* A second request that ends the connection, for those that the server skips over. */
		snprintf(request, sizeof(request), "%sGET / HTTP/1.0\r\n\r\n", rows[i]);
		struct answer a = exchange(request, strlen(request), 0);
		assert_true(a.status == 0 || a.status >= 400);
		answer_free(&a);
	}
	struct answer a = get("/v1/status");
	assert_int_equal(a.status, 200);
	answer_free(&a);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_views),    TEST(test_paths),          TEST(test_batch_explain), TEST(test_metrics),
	    TEST(test_losses),   TEST(test_counted_by_xdp), TEST(test_transactions),  TEST(test_orders),
	    TEST(test_refusals), TEST(test_big_bodies),     TEST(test_no_http),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
