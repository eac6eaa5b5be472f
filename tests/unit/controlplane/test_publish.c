/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket: who gets which table, and what a refusal undoes. */
#include "publish.h"

#include "fake_dataplane.h"
#include "model_spec.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

struct site {
	uv_loop_t loop;
	char dir[64], socket[96];
	struct states *states;
	struct publish *publish;
	struct model *one, *two;
	struct built_table *current;
	uint32_t hellos, ended;
	struct publish_result result;
	char text[400];
};

static int on_hello(void *user, const struct sluice_message_hello *hello, int states_fd)
{
	struct site *site = user;
	(void)hello;
	site->hellos++;
	return states_fd < 0 ? 0 : states_adopt(site->states, states_fd, false);
}

static void on_done(void *user, const struct publish_result *result)
{
	struct site *site = user;
	site->ended++;
	site->result = *result;
	snprintf(site->text, sizeof(site->text), "%s", result->text);
	if (result->in_force != site->current) {
		built_table_put(site->current);
		site->current = result->in_force ? built_table_get(result->in_force) : NULL;
	}
}

static struct publish_options options_of(struct site *site)
{
	return (struct publish_options){.loop = &site->loop,
					.runtime_dir = site->dir,
					.states = site->states,
					.ack_timeout_ms = 300,
					.hello = on_hello,
					.user = site};
}

static int site_setup(void **state)
{
	struct site *site = calloc(1, sizeof(*site));
	uv_loop_init(&site->loop);
	snprintf(site->dir, sizeof(site->dir), "/tmp/sluice-publish-XXXXXX");
	assert_non_null(mkdtemp(site->dir));
	snprintf(site->socket, sizeof(site->socket), "%s/control.sock", site->dir);
	assert_int_equal(states_create(&site->states), 0);
	const struct publish_options options = options_of(site);
	assert_int_equal(publish_create(&options, &site->publish), 0);
	site->one =
	    model_of("web 192.0.2.10 80 tcp 1021 10.0.0.1 10.0.0.2;dns 192.0.2.10 53 udp 251 10.0.0.8 10.0.0.9");
	site->two =
	    model_of("web 192.0.2.10 80 tcp 1021 10.0.0.1 10.0.0.3;dns 192.0.2.10 53 udp 251 10.0.0.8 10.0.0.9");
	/* Their lookup tables are to be functions of the model alone. */
	for (uint32_t i = 0; i < 2; i++)
		site->one->services[i].tracking = site->two->services[i].tracking = SLUICE_TRACKING_NONE;
	*state = site;
	return 0;
}

static int site_teardown(void **state)
{
	struct site *site = *state;
	publish_destroy(site->publish);
	uv_run(&site->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&site->loop), 0);
	assert_int_equal(access(site->socket, F_OK), -1);
	built_table_put(site->current);
	states_destroy(site->states);
	model_put(site->one);
	model_put(site->two);
	rmdir(site->dir);
	free(site);
	return 0;
}

static struct built_table *table_of(struct site *site, struct model *model, uint64_t generation)
{
	static const struct sluice_port ports[2];
	struct table_backend backends[4];
	struct table_build *build;
	const char *text = "";

	for (int i = 0; i < 4; i++)
		backends[i] = (struct table_backend){.weight = 1, .state = SLUICE_BACKEND_UP};
	assert_int_equal(
	    table_build_create(&(struct table_build_options){.model = model,
							     .generation = generation,
							     .backends = backends,
							     .ports = ports,
							     .base = site->current ? site->current->identity : NULL,
							     .running = site->current},
			       &build),
	    0);
	assert_int_equal(table_build_run(build, &text), 0);
	struct built_table *table = table_build_take(build);
	table_build_destroy(build);
	return table;
}

static void on_limit(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
	uv_stop(timer->loop);
}

/* Turn the loop until `reached`, at most 5 s. */
static void run_until(struct site *site, bool (*reached)(struct site *site))
{
	bool late = false;
	uv_timer_t limit;

	uv_timer_init(&site->loop, &limit);
	limit.data = &late;
	uv_timer_start(&limit, on_limit, 5000, 0);
	while (!reached(site) && !late)
		uv_run(&site->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&limit, NULL);
	uv_run(&site->loop, UV_RUN_NOWAIT);
	assert_false(late);
}

static bool has_ended(struct site *site)
{
	return site->ended > 0;
}

static int publish_and_wait(struct site *site, struct model *model, uint64_t generation)
{
	struct built_table *table = table_of(site, model, generation);

	site->ended = 0;
	assert_int_equal(publish_table(site->publish, table, on_done, site), 0);
	assert_int_equal(publish_table(site->publish, table, on_done, site), -EBUSY);
	built_table_put(table);
	run_until(site, has_ended);
	assert_int_equal(site->ended, 1);
	return site->result.error;
}

static bool one_peer(struct site *site)
{
	return publish_peer_count(site->publish) == 1;
}

static bool two_peers(struct site *site)
{
	return publish_peer_count(site->publish) == 2;
}

static bool no_peer(struct site *site)
{
	return publish_peer_count(site->publish) == 0;
}

static struct fake_dataplane *watched;

static bool watched_is_current(struct site *site)
{
	return fake_dataplane_generation(watched) == site->current->generation;
}

static struct fake_dataplane *connected(struct site *site, const struct fake_dataplane_options *more)
{
	struct fake_dataplane_options options = more ? *more : (struct fake_dataplane_options){0};
	uint32_t before = publish_peer_count(site->publish);
	options.socket = site->socket;
	struct fake_dataplane *d = fake_dataplane_start(&options);
	run_until(site, before ? two_peers : one_peer);
	return d;
}

static void finish(struct fake_dataplane *d)
{
	fake_dataplane_stop(d);
	assert_string_equal(fake_dataplane_fault(d), "");
	fake_dataplane_free(d);
}

static void test_nobody_is_there(void **state)
{
	struct site *site = *state;
	assert_int_equal(publish_and_wait(site, site->one, 1), 0);
	assert_int_equal(site->result.dataplanes, 0);
	assert_int_equal(site->current->generation, 1);

	/* Who comes later gets what is in force, lookups packed anew. */
	watched = connected(site, NULL);
	run_until(site, watched_is_current);
	assert_int_equal(fake_dataplane_lookups_received(watched), 2);
	finish(watched);
}

static void test_only_what_is_missing_is_sent(void **state)
{
	struct site *site = *state;
	watched = connected(site, NULL);
	assert_int_equal(publish_and_wait(site, site->one, 1), 0);
	assert_int_equal(site->result.dataplanes, 1);
	assert_int_equal(fake_dataplane_generation(watched), 1);
	assert_int_equal(fake_dataplane_lookups_received(watched), 2);
	assert_int_equal(publish_and_wait(site, site->two, 2), 0);
	assert_int_equal(fake_dataplane_lookups_received(watched), 3);
	/* Back: its lookup table is of the generation before the newest, and still held. */
	assert_int_equal(publish_and_wait(site, site->one, 3), 0);
	assert_int_equal(fake_dataplane_lookups_received(watched), 3);
	assert_int_equal(fake_dataplane_generation(watched), 3);
	finish(watched);
}

static void test_refusal_undoes_everywhere(void **state)
{
	struct site *site = *state;
	struct fake_dataplane *good = connected(site, NULL);
	struct fake_dataplane *bad = connected(site, &(struct fake_dataplane_options){.refuse_from = 2});

	assert_int_equal(publish_and_wait(site, site->one, 1), 0);
	assert_int_equal(site->result.dataplanes, 2);
	assert_int_equal(publish_and_wait(site, site->two, 2), -ENOSPC);
	assert_non_null(strstr(site->text, "refused by the test"));
	/* The one that took it goes back to the old content, under a newer generation. */
	assert_int_equal(site->current->generation, 3);
	watched = good;
	run_until(site, watched_is_current);
	assert_int_equal(fake_dataplane_generation(bad), 1);
	fake_dataplane_refuse_from(bad, 0);
	assert_int_equal(publish_and_wait(site, site->two, 4), 0);
	assert_int_equal(fake_dataplane_generation(good), 4);
	assert_int_equal(fake_dataplane_generation(bad), 4);
	finish(good);
	finish(bad);
}

static void test_silence_is_a_refusal(void **state)
{
	struct site *site = *state;
	struct fake_dataplane *mute = connected(site, &(struct fake_dataplane_options){.silent = true});

	assert_int_equal(publish_and_wait(site, site->one, 1), -ETIMEDOUT);
	assert_null(site->current);
	run_until(site, no_peer); /* sent away: it may connect again */
	finish(mute);
}

/* What is more to take in may take longer. */
static void test_patience_grows_with_the_table(void **state)
{
	struct site *site = *state;
	struct fake_dataplane *mute = connected(site, &(struct fake_dataplane_options){.silent = true});
	struct model *large = model_of("web 192.0.2.10 80 tcp 131071 10.0.0.1 10.0.0.2;dns 192.0.2.10 53 udp 131071 "
				       "10.0.0.8 10.0.0.9");
	unsigned patience_ms = 0;

	assert_int_equal(publish_and_wait(site, large, 1), -ETIMEDOUT);
	const char *within = strstr(site->text, "within ");
	assert_non_null(within);
	assert_int_equal(sscanf(within, "within %u ms", &patience_ms), 1);
	assert_true(patience_ms > 300);
	run_until(site, no_peer);
	finish(mute);
	model_put(large);
}

static void test_gone_is_no_refusal(void **state)
{
	struct site *site = *state;
	struct fake_dataplane *mute = connected(site, &(struct fake_dataplane_options){.silent = true});
	struct built_table *table = table_of(site, site->one, 1);

	assert_int_equal(publish_table(site->publish, table, on_done, site), 0);
	built_table_put(table);
	fake_dataplane_stop(mute);
	run_until(site, has_ended);
	assert_int_equal(site->result.error, 0);
	assert_int_equal(site->result.dataplanes, 0);
	fake_dataplane_free(mute);
}

/* A dataplane that lost its connection comes back with table, lookups and states: nothing is sent again. */
static void test_reconnect(void **state)
{
	struct site *site = *state;
	struct fake_dataplane *first = connected(site, NULL), *second;

	assert_int_equal(publish_and_wait(site, site->one, 1), 0);
	fake_dataplane_stop(first);
	run_until(site, no_peer);
	second = connected(site, &(struct fake_dataplane_options){.heir_of = first});
	fake_dataplane_free(first);
	assert_int_equal(publish_and_wait(site, site->two, 2), 0);
	assert_int_equal(fake_dataplane_tables_received(second), 1);
	assert_int_equal(fake_dataplane_lookups_received(second), 1);
	states_set(site->states, 5, SLUICE_BACKEND_DRAINING);
	assert_int_equal(fake_dataplane_state(second, 5), SLUICE_BACKEND_DRAINING);
	finish(second);
}

static uint32_t parked_bits;

static bool is_parked_as_said(struct site *site)
{
	struct publish_peer_status status;
	return publish_peer_status(site->publish, 0, &status) && status.parked == parked_bits;
}

/* Asked once for each change, answered; what it says when it connects is how it is. */
static void test_parking(void **state)
{
	struct site *site = *state;
	struct fake_dataplane *d = connected(site, &(struct fake_dataplane_options){.parks = true});
	struct publish_peer_status status;
	uint32_t parked;

	assert_true(publish_peer_status(site->publish, 0, &status));
	assert_int_equal(status.can_park, 1);
	assert_int_equal(status.parked, 1);
	assert_int_equal(publish_park(site->publish, 1, 1), -ENOENT);
	assert_int_equal(publish_park(site->publish, 0, 1), 0);
	assert_int_equal(publish_park(site->publish, 0, 0xf), 0); /* the same: it has one that can be */
	for (parked_bits = 0; parked_bits < 2; parked_bits++) {
		assert_int_equal(publish_park(site->publish, 0, parked_bits), 0);
		assert_int_equal(publish_park(site->publish, 0, parked_bits), 0);
		run_until(site, is_parked_as_said);
	}
	assert_int_equal(publish_and_wait(site, site->one, 1), 0); /* beside tables */
	assert_int_equal(fake_dataplane_parks(d, &parked), 2);
	assert_int_equal(parked, 1);
	finish(d);

	/* One of an older version is not asked. */
	run_until(site, no_peer);
	d = connected(site, NULL);
	assert_int_equal(publish_park(site->publish, 0, 1), 0);
	assert_int_equal(publish_and_wait(site, site->two, 2), 0);
	assert_int_equal(fake_dataplane_parks(d, &parked), 0);
	finish(d);
}

/* Two dataplanes with arrays of two control planes, and a third without: every byte reaches all three. */
static void test_states_reach_all(void **state)
{
	struct site *site = *state;
	struct states *older;
	struct fake_dataplane *a = connected(site, NULL);

	assert_int_equal(publish_and_wait(site, site->one, 1), 0);
	assert_int_equal(states_create(&older), 0);
	assert_int_equal(states_adopt(site->states, dup(states_fd(older)), false), 0);
	assert_int_equal(states_adopt(site->states, dup(states_fd(older)), false), 0); /* known: once is enough */
	states_set(site->states, 3, SLUICE_BACKEND_UP);
	assert_int_equal(states_get(older, 3), SLUICE_BACKEND_UP);
	assert_int_equal(fake_dataplane_state(a, 3), SLUICE_BACKEND_UP);
	struct fake_dataplane *b = connected(site, NULL);
	watched = b;
	run_until(site, watched_is_current);
	assert_int_equal(fake_dataplane_state(b, 3), SLUICE_BACKEND_UP);
	finish(a);
	finish(b);
	states_destroy(older);
}

static void test_states_must_be_states(void **state)
{
	struct site *site = *state;
	FILE *file = tmpfile();
	assert_int_equal(ftruncate(fileno(file), SLUICE_BACKENDS_MAX), 0);
	assert_int_equal(states_adopt(site->states, dup(fileno(file)), false), -EBADMSG); /* may shrink under us */
	fclose(file);
}

static int connect_raw(struct site *site)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", site->socket);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* A HELLO with as many descriptors as given. */
static void hello_send(int socket, const int *fds, uint32_t fd_count)
{
	struct sluice_message_hello hello = fake_dataplane_hello();
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec data = {&hello, sizeof(hello)};
	struct msghdr m = {.msg_iov = &data,
			   .msg_iovlen = 1,
			   .msg_control = control.bytes,
			   .msg_controllen = CMSG_SPACE(fd_count * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	hello.held_lookups = 0;
	hello.has_states = 1;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
	memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
	assert_int_equal(sendmsg(socket, &m, MSG_NOSIGNAL), sizeof(hello));
}

static uint32_t hellos_before;

static bool one_more_hello(struct site *site)
{
	return site->hellos > hellos_before;
}

/* A dataplane that is restarted again and again comes with an array of its own each time. */
static void test_restarts_without_end(void **state)
{
	struct site *site = *state;
	struct fake_dataplane *a = connected(site, NULL); /* has the first array */
	struct states *own[40];

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		assert_int_equal(states_create(&own[i]), 0);
		int fds[] = {memfd_create("counters", MFD_CLOEXEC), memfd_create("held", MFD_CLOEXEC),
			     states_fd(own[i])};
		int fd = connect_raw(site);
		hellos_before = site->hellos;
		hello_send(fd, fds, 3);
		run_until(site, one_more_hello);
		assert_int_equal(publish_peer_count(site->publish), 2);
		states_set(site->states, 3, SLUICE_BACKEND_UP);
		assert_int_equal(states_get(own[i], 3), SLUICE_BACKEND_UP);
		close(fd);
		run_until(site, one_peer);
		/* It may forward on without us: a death still reaches it. */
		states_set(site->states, 3, SLUICE_BACKEND_DOWN);
		assert_int_equal(states_get(own[i], 3), SLUICE_BACKEND_DOWN);
		close(fds[0]);
		close(fds[1]);
	}
	assert_int_equal(fake_dataplane_state(a, 3), SLUICE_BACKEND_DOWN);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		states_destroy(own[i]);
	finish(a);
}

static uint32_t descriptors_open(void)
{
	uint32_t count = 0;
	DIR *dir = opendir("/proc/self/fd");
	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void on_window_over(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

/* No descriptor for a connection: the loop does not spin, and the connection is served when there is one again. */
static void test_no_descriptor_for_a_connection(void **state)
{
	struct site *site = *state;
	struct rlimit before;
	uv_timer_t window;
	bool over = false;
	uint32_t turns = 0;
	int fds[] = {memfd_create("counters", MFD_CLOEXEC), memfd_create("held", MFD_CLOEXEC), -1};
	int fd = connect_raw(site);

	fds[2] = dup(states_fd(site->states));
	hello_send(fd, fds, 3);
	hellos_before = site->hellos;
	int lowest = dup(fd);
	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)lowest, before.rlim_max}), 0);
	uv_timer_init(&site->loop, &window);
	window.data = &over;
	uv_timer_start(&window, on_window_over, 50, 0);
	while (!over) {
		uv_run(&site->loop, UV_RUN_ONCE);
		turns++;
	}
	uv_close((uv_handle_t *)&window, NULL);
	uv_run(&site->loop, UV_RUN_NOWAIT);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_true(turns < 10);
	run_until(site, one_more_hello);
	close(fd);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

/* One descriptor too many: sent away, and none of them stays open. */
static void test_descriptors_do_not_leak(void **state)
{
	struct site *site = *state;
	int pipes[4];
	char byte;

	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(pipe(pipes + 2), 0);
	const uint32_t before = descriptors_open();
	int fd = connect_raw(site);
	hello_send(fd, pipes, 4);
	for (int i = 0; i < 10; i++)
		uv_run(&site->loop, UV_RUN_NOWAIT);
	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
	close(fd);
	assert_int_equal(descriptors_open(), before);
	for (int i = 0; i < 4; i++)
		close(pipes[i]);
}

static void test_garbage_is_sent_away(void **state)
{
	struct site *site = *state;
	char byte;

	int fd = connect_raw(site);
	assert_int_equal(send(fd, "GET / HTTP/1.0", 14, 0), 14);
	for (int i = 0; i < 10; i++)
		uv_run(&site->loop, UV_RUN_NOWAIT);
	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
	close(fd);
	assert_int_equal(publish_peer_count(site->publish), 0);
}

static void test_socket_file(void **state)
{
	struct site *site = *state;
	const struct publish_options options = options_of(site);
	struct publish *second = NULL;
	struct stat status;

	assert_int_equal(stat(site->socket, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(publish_create(&options, &second), -EADDRINUSE);
	assert_null(second);
}

static void test_stale_socket_is_replaced(void **state)
{
	struct site *site = *state;
	struct site other = *site;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct publish *second = NULL;

	snprintf(other.dir, sizeof(other.dir), "/tmp/sluice-publish-XXXXXX");
	assert_non_null(mkdtemp(other.dir));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/control.sock", other.dir);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd); /* as after kill -9 */
	const struct publish_options options = options_of(&other);
	struct publish_options in_site = options;
	in_site.loop = &site->loop;
	assert_int_equal(publish_create(&in_site, &second), 0);
	publish_destroy(second);
	uv_run(&site->loop, UV_RUN_NOWAIT);
	/* Something that is no socket is not ours to remove. */
	FILE *file = fopen(address.sun_path, "w");
	fclose(file);
	assert_int_equal(publish_create(&in_site, &second), -EEXIST);
	unlink(address.sun_path);
	rmdir(other.dir);
}

#define SITE_TEST(name) cmocka_unit_test_setup_teardown(name, site_setup, site_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    SITE_TEST(test_nobody_is_there),
	    SITE_TEST(test_only_what_is_missing_is_sent),
	    SITE_TEST(test_refusal_undoes_everywhere),
	    SITE_TEST(test_silence_is_a_refusal),
	    SITE_TEST(test_gone_is_no_refusal),
	    SITE_TEST(test_reconnect),
	    SITE_TEST(test_parking),
	    SITE_TEST(test_states_reach_all),
	    SITE_TEST(test_states_must_be_states),
	    SITE_TEST(test_restarts_without_end),
	    SITE_TEST(test_descriptors_do_not_leak),
	    SITE_TEST(test_garbage_is_sent_away),
	    SITE_TEST(test_patience_grows_with_the_table),
	    SITE_TEST(test_no_descriptor_for_a_connection),
	    SITE_TEST(test_socket_file),
	    SITE_TEST(test_stale_socket_is_replaced),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
