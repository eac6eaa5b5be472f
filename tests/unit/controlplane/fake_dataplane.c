/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_dataplane.h"

#include "sluice/decide.h"
#include "sluice/table_check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct held {
	uint64_t id;
	uint32_t size, slots_bound;
	sluice_bucket *buckets;
};

struct fake_dataplane {
	char path[108];
	bool silent, parks;
	uint64_t refuse_from;
	pthread_t thread;
	atomic_bool stop;
	int socket;

	pthread_mutex_t lock; /* of all below */
	struct held *held;
	uint32_t held_count;
	uint8_t *bytes; /* the table in use */
	struct sluice_table table;
	const sluice_bucket **lookups;
	int states_fd;
	const uint8_t *states;
	uint32_t lookups_received, tables_received, parks_received;
	uint32_t parked; /* bits of ports */
	char fault[192];
};

static void fault(struct fake_dataplane *d, const char *text)
{
	if (!d->fault[0])
		snprintf(d->fault, sizeof(d->fault), "%s", text);
}

static bool is_sealed(int fd)
{
	const int wanted = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
	return (fcntl(fd, F_GET_SEALS) & wanted) == wanted;
}

static uint8_t *copy_of(int fd, uint64_t bytes)
{
	struct stat status;
	if (fstat(fd, &status) || (uint64_t)status.st_size != bytes)
		return NULL;
	uint8_t *copy = aligned_alloc(64, (bytes + 63) & ~63ull);
	for (uint64_t done = 0; copy && done < bytes;) {
		ssize_t n = pread(fd, copy + done, bytes - done, (off_t)done);
		if (n <= 0) {
			free(copy);
			return NULL;
		}
		done += (uint64_t)n;
	}
	return copy;
}

static int held_compare(const void *a, const void *b)
{
	const struct held *x = a, *y = b;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* Sorted between messages. */
static struct held *held_find(struct fake_dataplane *d, uint64_t id)
{
	const struct held key = {.id = id};
	return d->held_count ? bsearch(&key, d->held, d->held_count, sizeof(key), held_compare) : NULL;
}

static void take_lookups(struct fake_dataplane *d, int fd, uint64_t bytes)
{
	uint8_t *blob = is_sealed(fd) && bytes <= SLUICE_LOOKUPS_BLOB_MAX ? copy_of(fd, bytes) : NULL;
	struct sluice_refusal refusal;

	if (!blob) {
		fault(d, "a blob that is not sealed, too large, or of another size than said");
		return;
	}
	const struct sluice_lookups_header *h = (const struct sluice_lookups_header *)blob;
	const struct sluice_lookups_entry *entries = (const struct sluice_lookups_entry *)(h + 1);
	if (h->magic != SLUICE_LOOKUPS_MAGIC || h->abi != SLUICE_ABI || h->total_bytes != bytes)
		fault(d, "a blob with a wrong header");
	const uint32_t before = d->held_count;
	d->held = realloc(d->held, (before + h->count + 1) * sizeof(*d->held));
	for (uint32_t i = 0; i < h->count; i++) {
		const struct sluice_lookups_entry *e = &entries[i];
		uint64_t length = (uint64_t)e->size * sizeof(sluice_bucket);
		if (e->offset % 64 || e->offset > bytes || length > bytes - e->offset ||
		    !sluice_lookup_is_sound((const sluice_bucket *)(blob + e->offset), e, &refusal)) {
			fault(d, "a lookup table that is not sound");
			break;
		}
		d->lookups_received++;
		const uint32_t added = d->held_count;
		d->held_count = before;
		const bool known = held_find(d, e->id) != NULL;
		d->held_count = added;
		if (known)
			continue;
		d->held[d->held_count] = (struct held){e->id, e->size, e->slots_bound, malloc(length)};
		memcpy(d->held[d->held_count++].buckets, blob + e->offset, length);
	}
	if (d->held_count)
		qsort(d->held, d->held_count, sizeof(*d->held), held_compare);
	free(blob);
}

/* The lookup tables of a table are in the order of their ids, as the held ones. */
static bool names(const struct sluice_table *table, uint64_t id)
{
	uint32_t low = 0, high = table->header ? table->header->lookups.count : 0;
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (table->lookup_refs[middle].id == id)
			return true;
		if (table->lookup_refs[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* Forget what this table and the one before do not name, as a dataplane may. */
static void forget(struct fake_dataplane *d, const struct sluice_table *before, const struct sluice_table *now)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < d->held_count; i++) {
		if (names(before, d->held[i].id) || names(now, d->held[i].id))
			d->held[kept++] = d->held[i];
		else
			free(d->held[i].buckets);
	}
	d->held_count = kept;
}

static int take_table(struct fake_dataplane *d, int fd, const struct sluice_message_table *message, char *text,
		      size_t text_bytes)
{
	uint8_t *bytes = is_sealed(fd) ? copy_of(fd, message->bytes) : NULL;
	struct sluice_refusal refusal = {"not sealed, or of another size than said"};
	struct sluice_table table;

	d->tables_received++;
	if (!bytes || !sluice_table_is_sound(bytes, message->bytes, &table, &refusal)) {
		fault(d, refusal.text);
		snprintf(text, text_bytes, "%s", refusal.text);
		free(bytes);
		return -EBADMSG;
	}
	if (d->refuse_from && message->generation >= d->refuse_from) {
		snprintf(text, text_bytes, "refused by the test");
		free(bytes);
		return -ENOSPC;
	}
	if (table.header->generation != message->generation ||
	    (d->bytes && message->generation <= d->table.header->generation)) {
		fault(d, "a generation that is not newer");
		snprintf(text, text_bytes, "generation is not newer");
		free(bytes);
		return -EINVAL;
	}
	const sluice_bucket **lookups = calloc(table.header->lookups.count + 1, sizeof(*lookups));
	for (uint32_t i = 0; i < table.header->lookups.count; i++) {
		struct held *held = held_find(d, table.lookup_refs[i].id);
		if (!held || held->size != table.lookup_refs[i].size ||
		    held->slots_bound > table.lookup_refs[i].slots_bound) {
			fault(d, "a table that needs a lookup table which is not held");
			snprintf(text, text_bytes, "lookup table missing");
			free(lookups);
			free(bytes);
			return -ENOENT;
		}
		lookups[i] = held->buckets;
	}
	if (!d->states)
		fault(d, "a table before the states");
	forget(d, &d->table, &table);
	free(d->bytes);
	free(d->lookups);
	d->bytes = bytes;
	d->lookups = lookups;
	d->table = table;
	d->table.lookups = lookups;
	d->table.states = d->states;
	return 0;
}

static void take_states(struct fake_dataplane *d, int fd)
{
	if (d->states)
		fault(d, "states for one that has them");
	d->states_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	void *map = mmap(NULL, SLUICE_BACKENDS_MAX, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		fault(d, "states that cannot be mapped");
	else
		d->states = map;
}

static void send_message(int socket, const void *message, size_t bytes, const int *fds, uint32_t fd_count)
{
	union {
		char bytes[CMSG_SPACE(SLUICE_MESSAGE_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec data = {(void *)message, bytes};
	struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1};

	if (fd_count) {
		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
	}
	ssize_t ignored = sendmsg(socket, &m, MSG_NOSIGNAL);
	(void)ignored;
}

static struct sluice_message_header header_of(enum sluice_message_type type, size_t bytes)
{
	return (struct sluice_message_header){
	    .magic = SLUICE_MESSAGE_MAGIC, .abi = SLUICE_ABI, .type = (uint16_t)type, .bytes = (uint32_t)bytes};
}

static void say_hello(struct fake_dataplane *d)
{
	struct sluice_message_hello hello = {
	    .header = header_of(SLUICE_MESSAGE_HELLO, sizeof(hello)),
	    .pid = (uint32_t)getpid(),
	    .workers = 1,
	    .generation = d->bytes ? d->table.header->generation : 0,
	    .table_digest = d->bytes ? d->table.header->checksum : 0,
	    .held_lookups = d->held_count,
	    .has_states = d->states != NULL,
	    .port_count = 1,
	};
	int fds[3] = {memfd_create("counters", MFD_CLOEXEC), memfd_create("held", MFD_CLOEXEC), d->states_fd};

	snprintf(hello.ports[0].name, sizeof(hello.ports[0].name), "eth0");
	hello.ports[0].mtu = 1500;
	hello.ports[0].queues = 1;
	if (d->parks)
		hello.ports[0].flags = (uint8_t)(SLUICE_PORT_CAN_PARK | (d->parked & 1 ? SLUICE_PORT_PARKED : 0));
	for (uint32_t i = 0; i < d->held_count; i++) {
		ssize_t ignored = write(fds[1], &d->held[i].id, sizeof(d->held[i].id));
		(void)ignored;
	}
	send_message(d->socket, &hello, sizeof(hello), fds, 2 + hello.has_states);
	close(fds[0]);
	close(fds[1]);
}

static void handle(struct fake_dataplane *d, const void *bytes, int fd)
{
	const struct sluice_message_header *header = bytes;
	struct sluice_message_ack ack = {.header = header_of(SLUICE_MESSAGE_ACK, sizeof(ack))};

	switch (header->type) {
	case SLUICE_MESSAGE_STATES: take_states(d, fd); break;
	case SLUICE_MESSAGE_LOOKUPS: take_lookups(d, fd, ((const struct sluice_message_lookups *)bytes)->bytes); break;
	case SLUICE_MESSAGE_TABLE:
		ack.generation = ((const struct sluice_message_table *)bytes)->generation;
		ack.error = d->silent ? 0 : take_table(d, fd, bytes, ack.text, sizeof(ack.text));
		if (!d->silent)
			send_message(d->socket, &ack, sizeof(ack), NULL, 0);
		break;
	case SLUICE_MESSAGE_PARK: {
		struct sluice_message_park park = *(const struct sluice_message_park *)bytes;
		if (!d->parks || park.ports > 1 || park.ports == d->parked)
			fault(d, "asked to park what cannot be, or is so already");
		d->parks_received++;
		d->parked = park.ports;
		park.header.type = SLUICE_MESSAGE_PARKED;
		if (!d->silent)
			send_message(d->socket, &park, sizeof(park), NULL, 0);
		break;
	}
	default: fault(d, "a message of an unknown type");
	}
}

static bool receive(struct fake_dataplane *d)
{
	_Alignas(8) uint8_t buffer[SLUICE_MESSAGE_MAX];
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec data = {buffer, sizeof(buffer)};
	struct msghdr m = {
	    .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	int fd = -1;

	ssize_t n = recvmsg(d->socket, &m, MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return false;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	pthread_mutex_lock(&d->lock);
	if ((size_t)n < sizeof(struct sluice_message_header) ||
	    (fd < 0) != (((const struct sluice_message_header *)buffer)->type == SLUICE_MESSAGE_PARK))
		fault(d, "a message without its descriptor");
	else
		handle(d, buffer, fd);
	pthread_mutex_unlock(&d->lock);
	if (fd >= 0)
		close(fd);
	return true;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	for (int i = 0; i < 500; i++) {
		if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
			return fd;
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	close(fd);
	return -1;
}

static void *run(void *argument)
{
	struct fake_dataplane *d = argument;

	d->socket = connect_to(d->path);
	if (d->socket < 0)
		return NULL;
	pthread_mutex_lock(&d->lock);
	say_hello(d);
	pthread_mutex_unlock(&d->lock);
	while (!d->stop) {
		struct pollfd p = {.fd = d->socket, .events = POLLIN};
		if (poll(&p, 1, 20) > 0 && !receive(d))
			break;
	}
	close(d->socket);
	return NULL;
}

struct fake_dataplane *fake_dataplane_start(const struct fake_dataplane_options *options)
{
	struct fake_dataplane *d = calloc(1, sizeof(*d)), *from = options->heir_of;

	snprintf(d->path, sizeof(d->path), "%s", options->socket);
	d->silent = options->silent;
	d->parks = options->parks;
	d->parked = options->parks;
	d->refuse_from = options->refuse_from;
	d->states_fd = -1;
	pthread_mutex_init(&d->lock, NULL);
	if (from) {
		d->held = from->held;
		d->held_count = from->held_count;
		d->bytes = from->bytes;
		d->table = from->table;
		d->lookups = from->lookups;
		d->states_fd = from->states_fd;
		d->states = from->states;
		from->held = NULL;
		from->held_count = 0;
		from->bytes = NULL;
		from->lookups = NULL;
		from->states_fd = -1;
		from->states = NULL;
	}
	pthread_create(&d->thread, NULL, run, d);
	return d;
}

void fake_dataplane_refuse_from(struct fake_dataplane *d, uint64_t generation)
{
	pthread_mutex_lock(&d->lock);
	d->refuse_from = generation;
	pthread_mutex_unlock(&d->lock);
}

void fake_dataplane_be_silent(struct fake_dataplane *d)
{
	pthread_mutex_lock(&d->lock);
	d->silent = true;
	pthread_mutex_unlock(&d->lock);
}

void fake_dataplane_stop(struct fake_dataplane *d)
{
	d->stop = true;
	pthread_join(d->thread, NULL);
}

void fake_dataplane_free(struct fake_dataplane *d)
{
	for (uint32_t i = 0; i < d->held_count; i++)
		free(d->held[i].buckets);
	free(d->held);
	free(d->bytes);
	free(d->lookups);
	if (d->states)
		munmap((void *)d->states, SLUICE_BACKENDS_MAX);
	if (d->states_fd >= 0)
		close(d->states_fd);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

uint64_t fake_dataplane_generation(struct fake_dataplane *d)
{
	pthread_mutex_lock(&d->lock);
	uint64_t generation = d->bytes ? d->table.header->generation : 0;
	pthread_mutex_unlock(&d->lock);
	return generation;
}

uint32_t fake_dataplane_lookups_received(struct fake_dataplane *d)
{
	pthread_mutex_lock(&d->lock);
	uint32_t count = d->lookups_received;
	pthread_mutex_unlock(&d->lock);
	return count;
}

uint32_t fake_dataplane_tables_received(struct fake_dataplane *d)
{
	pthread_mutex_lock(&d->lock);
	uint32_t count = d->tables_received;
	pthread_mutex_unlock(&d->lock);
	return count;
}

uint32_t fake_dataplane_parks(struct fake_dataplane *d, uint32_t *ret_parked)
{
	pthread_mutex_lock(&d->lock);
	uint32_t count = d->parks_received;
	*ret_parked = d->parked;
	pthread_mutex_unlock(&d->lock);
	return count;
}

const char *fake_dataplane_fault(struct fake_dataplane *d)
{
	return d->fault;
}

uint8_t fake_dataplane_state(struct fake_dataplane *d, uint32_t number)
{
	return d->states ? __atomic_load_n(&d->states[number], __ATOMIC_RELAXED) : 0;
}

uint32_t fake_dataplane_decide(struct fake_dataplane *d, const struct sluice_flow *flow)
{
	uint32_t backend = SLUICE_NONE;

	pthread_mutex_lock(&d->lock);
	uint32_t n = d->bytes ? sluice_service_find(&d->table, flow) : SLUICE_NONE;
	if (n != SLUICE_NONE && d->table.services[n].lookup != SLUICE_NONE) {
		const struct sluice_service *s = &d->table.services[n];
		uint64_t hash = sluice_flow_hash(&d->table.header->hash_key, flow, (enum sluice_affinity)s->affinity);
		backend =
		    sluice_bucket_owner(s, d->lookups[s->lookup], d->states, sluice_hash_bucket(hash, s->lookup_size));
	}
	pthread_mutex_unlock(&d->lock);
	return backend;
}

struct fake_buckets fake_dataplane_buckets(struct fake_dataplane *d, const struct sluice_flow *flow)
{
	struct fake_buckets buckets = {0};

	pthread_mutex_lock(&d->lock);
	uint32_t n = d->bytes ? sluice_service_find(&d->table, flow) : SLUICE_NONE;
	if (n != SLUICE_NONE && d->table.services[n].lookup != SLUICE_NONE) {
		const struct sluice_lookup_ref *ref = &d->table.lookup_refs[d->table.services[n].lookup];
		const sluice_bucket *words = d->lookups[d->table.services[n].lookup];
		buckets.size = ref->size;
		buckets.id = ref->id;
		buckets.previous_size = d->table.services[n].previous_size;
		buckets.previous_closing = d->table.services[n].previous_closing;
		for (uint32_t b = 0; b < ref->size; b++) {
			buckets.open += sluice_bucket_cur(words[b]) != sluice_bucket_prev(words[b]);
			buckets.closing += sluice_bucket_is_closing(words[b]);
		}
	}
	pthread_mutex_unlock(&d->lock);
	return buckets;
}

uint32_t fake_dataplane_previous(struct fake_dataplane *d, const struct sluice_flow *flow)
{
	uint32_t backend = SLUICE_NONE;

	pthread_mutex_lock(&d->lock);
	uint32_t n = d->bytes ? sluice_service_find(&d->table, flow) : SLUICE_NONE;
	if (n != SLUICE_NONE && d->table.services[n].lookup != SLUICE_NONE) {
		const struct sluice_service *s = &d->table.services[n];
		const sluice_bucket *words = d->lookups[s->lookup];
		uint64_t hash = sluice_flow_hash(&d->table.header->hash_key, flow, (enum sluice_affinity)s->affinity);
		sluice_bucket word = words[sluice_hash_bucket(hash, s->lookup_size)], before = 0;
		if (s->previous_lookup) {
			hash = sluice_flow_hash(&d->table.header->hash_key, flow,
						(enum sluice_affinity)s->previous_affinity);
			before = d->lookups[s->previous_lookup - 1][sluice_hash_bucket(hash, s->previous_size)];
		}
		backend = s->first_backend + sluice_bucket_prev(sluice_decide_word(s, word, before));
	}
	pthread_mutex_unlock(&d->lock);
	return backend;
}

struct sluice_message_hello fake_dataplane_hello(void)
{
	return (struct sluice_message_hello){.header = {.magic = SLUICE_MESSAGE_MAGIC,
							.abi = SLUICE_ABI,
							.type = SLUICE_MESSAGE_HELLO,
							.bytes = sizeof(struct sluice_message_hello)},
					     .pid = 7,
					     .held_lookups = 3,
					     .port_count = 1};
}
