/* SPDX-License-Identifier: Apache-2.0 */
#include "control.h"
#include "capture_memory.h"
#include "log.h"
#include "message.h"
#include "reject.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct control {
	struct control_context context;
	struct sockaddr_un address;
	int fd;            /* -1: not connected */
	int connect_error; /* the last one logged */
	bool useful;       /* this connection has brought a message that could be handled */
	bool quiet; /* the last one had not, and that was logged: an incompatible peer is met ten times a second */
};

int control_create(const struct control_context *context, struct control **ret)
{
	struct control *control = calloc(1, sizeof(*control));
	if (!control)
		return -ENOMEM;
	control->context = *context;
	control->fd = -1;
	control->address.sun_family = AF_UNIX;
	int length = snprintf(control->address.sun_path, sizeof(control->address.sun_path), "%s/%s",
			      context->runtime_dir, SLUICE_CONTROL_SOCKET);
	if (length < 0 || (size_t)length >= sizeof(control->address.sun_path)) {
		log_error("--runtime-dir %s is too long: %s in it must have at most %zu characters",
			  context->runtime_dir, SLUICE_CONTROL_SOCKET, sizeof(control->address.sun_path) - 1);
		free(control);
		return -ENAMETOOLONG;
	}
	*ret = control;
	return 0;
}

static void disconnect(struct control *control)
{
	if (control->fd >= 0)
		close(control->fd);
	control->fd = -1;
	if (control->context.capture)
		capture_memory_end(control->context.capture); /* nobody reads */
}

void control_destroy(struct control *control)
{
	if (!control)
		return;
	disconnect(control);
	free(control);
}

int control_fd(const struct control *control)
{
	return control->fd;
}

/* -------------------------------------------------------------------------------- send ---- */

/* One message with its descriptors. 0 or -errno. */
static int send_message(int fd, void *bytes, size_t length, const int *fds, uint32_t fd_count)
{
	struct iovec part = {bytes, length};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(SLUICE_MESSAGE_FDS_MAX * sizeof(int))];
	} ancillary = {0};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	if (fd_count) {
		message.msg_control = ancillary.room;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
	}
	ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	return sent < 0 ? -errno : 0;
}

static struct sluice_message_header make_header(enum sluice_message_type type, size_t bytes)
{
	return (struct sluice_message_header){
	    .magic = SLUICE_MESSAGE_MAGIC, .abi = SLUICE_ABI, .type = (uint16_t)type, .bytes = (uint32_t)bytes};
}

static void describe_ports(const struct control_context *context, struct sluice_message_hello *hello)
{
	hello->port_count = context->config->port_count;
	for (uint32_t i = 0; i < hello->port_count; i++) {
		struct port *port = context->ports->port[i];
		struct port_status status = {0};
		memcpy(hello->ports[i].name, context->config->ports[i].name, sizeof(hello->ports[i].name));
		if (!port)
			continue; /* path = "xdp": a number, and no queues of ours */
		port->ops->status(port, &status);
		memcpy(hello->ports[i].mac, status.mac, sizeof(status.mac));
		hello->ports[i].up = status.up;
		hello->ports[i].flags = (uint8_t)((port_can_park(port) ? SLUICE_PORT_CAN_PARK : 0) |
						  (port->parked ? SLUICE_PORT_PARKED : 0));
		hello->ports[i].mtu = status.mtu;
		hello->ports[i].queues = status.queues;
	}
}

static int send_hello(struct control *control)
{
	const struct control_context *context = &control->context;
	const struct sluice_table *table = table_store_current(context->store);
	int states = table_store_states_fd(context->store);
	struct sluice_message_hello hello = {
	    .header = make_header(SLUICE_MESSAGE_HELLO, sizeof(hello)),
	    .pid = (uint32_t)getpid(),
	    .workers = context->workers,
	    .generation = table ? table->header->generation : 0,
	    .table_digest = table ? table->header->checksum : 0,
	    .has_states = states >= 0,
	    .features = context->capture ? SLUICE_FEATURE_CAPTURE : 0,
	};
	int held = table_store_held_ids(context->store, &hello.held_lookups);
	if (held < 0)
		return held;
	describe_ports(context, &hello);
	const int fds[SLUICE_MESSAGE_FDS_MAX] = {context->counters->fd, held, states};
	int error = send_message(control->fd, &hello, sizeof(hello), fds, hello.has_states ? 3 : 2);
	close(held);
	return error;
}

static int send_ack(struct control *control, uint64_t generation, int error, const struct sluice_refusal *refusal)
{
	struct sluice_message_ack ack = {
	    .header = make_header(SLUICE_MESSAGE_ACK, sizeof(ack)), .generation = generation, .error = error};
	if (error)
		snprintf(ack.text, sizeof(ack.text), "%s", refusal->text);
	return send_message(control->fd, &ack, sizeof(ack), NULL, 0);
}

/* ----------------------------------------------------------------------------- connect ---- */

void control_visit(struct control *control)
{
	if (control->fd >= 0)
		return;
	control->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error = control->fd < 0 ? -errno : 0;
	if (!error && connect(control->fd, (const struct sockaddr *)&control->address, sizeof(control->address)))
		error = -errno;
	if (!error)
		error = send_hello(control);
	if (!error) {
		control->connect_error = 0;
		control->useful = false;
		if (!control->quiet)
			log_notice("connected to the control plane");
		return;
	}
	disconnect(control);
	if (error == control->connect_error)
		return;
	control->connect_error = error;
	if (error == -ENOENT || error == -ECONNREFUSED)
		log_notice("the control plane is away (%s): forwarding by the table there is, trying again",
			   control->address.sun_path);
	else
		log_warning("%s: %s; trying again", control->address.sun_path, strerror(-error));
}

/* ----------------------------------------------------------------------------- receive ---- */

/* A message came in one packet: its bytes and descriptors (the caller closes them). Length, 0 at the end, or -errno. */
static ssize_t receive_message(int fd, void *bytes, size_t room, int *ret_fds, uint32_t *ret_fd_count)
{
	struct iovec part = {bytes, room};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(SLUICE_MESSAGE_FDS_MAX * sizeof(int))];
	} ancillary;
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = ancillary.room,
				 .msg_controllen = CMSG_LEN(SLUICE_MESSAGE_FDS_MAX * sizeof(int))};

	*ret_fd_count = 0;
	ssize_t length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (length < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			uint32_t count = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			memcpy(ret_fds + *ret_fd_count, CMSG_DATA(c), count * sizeof(int));
			*ret_fd_count += count;
		}
	/* Cut: of the bytes the parser would notice, of the descriptors it might not. */
	return message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EMSGSIZE : length;
}

static void put_in_use(struct control *control, const struct message *message)
{
	const struct sluice_table *table = table_store_current(control->context.store);
	log_info("table of generation %llu is in use: %u services, room for %u backends",
		 (unsigned long long)message->generation, table->header->services.count, table->header->backends.count);
	if (control->context.writer)
		last_table_writer_offer(control->context.writer, table_store_get(control->context.store));
}

/* A table that cannot be used is refused and the connection stays; the error here is of the connection. */
static int handle_table(struct control *control, const struct message *message, int fd)
{
	struct sluice_refusal refusal;
	const struct sluice_table_header *header;
	const void *bytes;
	int error = message_map(message, fd, &bytes, &refusal);
	if (!error) {
		header = bytes;
		if (header->generation != message->generation)
			error = reject(&refusal, -EINVAL, "table: is of generation %llu, the message says %llu",
				       (unsigned long long)header->generation, (unsigned long long)message->generation);
		else
			error = table_store_publish(control->context.store, bytes, message->bytes, &refusal);
		munmap((void *)(uintptr_t)bytes, message->bytes);
	}
	int send_error = send_ack(control, message->generation, error, &refusal);
	if (error)
		log_error("table of generation %llu is refused: %s", (unsigned long long)message->generation,
			  refusal.text);
	else
		put_in_use(control, message);
	return send_error;
}

/* The workers are there before packets are, and packets have gone before the workers do. */
static int handle_park(struct control *control, uint32_t ports)
{
	const struct control_context *context = &control->context;
	struct sluice_message_park parked = {.header = make_header(SLUICE_MESSAGE_PARKED, sizeof(parked)),
					     .ports = ports_park(context->ports, ports)};
	if (context->loops)
		loops_follow_parked(context->loops);
	ports_visit(context->ports, table_store_current(context->store) != NULL);
	return send_message(control->fd, &parked, sizeof(parked), NULL, 0);
}

static int handle_lookups(struct control *control, const struct message *message, int fd,
			  struct sluice_refusal *ret_refusal)
{
	const void *bytes;
	int error = message_map(message, fd, &bytes, ret_refusal);
	if (error)
		return error;
	error = table_store_add_lookups(control->context.store, bytes, message->bytes, ret_refusal);
	munmap((void *)(uintptr_t)bytes, message->bytes);
	return error;
}

static int handle_capture(struct control *control, const struct message *message, int fd,
			  struct sluice_refusal *ret_refusal)
{
	if (!control->context.capture)
		return reject(ret_refusal, -EPROTO, "CAPTURE: was not offered");
	if (!message->bytes) {
		capture_memory_end(control->context.capture);
		return 0;
	}
	int error = capture_memory_begin(control->context.capture, fd, message->bytes, ret_refusal);
	if (!error || error == -EINVAL)
		return error;
	/* Nothing that the control plane did wrong. Without the connection it would ask again and again. */
	log_error("%s", ret_refusal->text);
	return 0;
}

/* 0, or -errno with why: the connection is to be closed. */
static int handle(struct control *control, const void *bytes, size_t length, const int *fds, uint32_t fd_count,
		  struct sluice_refusal *ret_refusal)
{
	struct message message;
	int error = message_parse(bytes, length, fd_count, &message, ret_refusal);
	if (error)
		return error;
	switch (message.type) {
	case SLUICE_MESSAGE_STATES: return table_store_adopt_states(control->context.store, fds[0], ret_refusal);
	case SLUICE_MESSAGE_CAPTURE: return handle_capture(control, &message, fds[0], ret_refusal);
	case SLUICE_MESSAGE_LOOKUPS: return handle_lookups(control, &message, fds[0], ret_refusal);
	case SLUICE_MESSAGE_PARK: error = handle_park(control, message.ports); break;
	default: error = handle_table(control, &message, fds[0]);
	}
	return error ? reject(ret_refusal, error, "an acknowledgement cannot be sent: %s", strerror(-error)) : 0;
}

void control_receive(struct control *control)
{
	struct sluice_refusal refusal = {""};
	uint8_t bytes[SLUICE_MESSAGE_MAX];
	int fds[SLUICE_MESSAGE_FDS_MAX];
	uint32_t fd_count;
	ssize_t length = receive_message(control->fd, bytes, sizeof(bytes), fds, &fd_count);
	int error = 0;

	if (length == -EAGAIN || length == -EINTR)
		return;
	if (length > 0)
		error = handle(control, bytes, (size_t)length, fds, fd_count, &refusal);
	for (uint32_t i = 0; i < fd_count; i++)
		close(fds[i]);
	if (length > 0 && !error) {
		control->useful = true;
		control->quiet = false;
		return;
	}
	if (length < 0)
		error = reject(&refusal, (int)length, "%s", strerror((int)-length));
	if (error && !control->quiet)
		log_error("control plane: %s; closing the connection", refusal.text);
	else if (!control->quiet)
		log_notice("the control plane has gone: forwarding by the table there is");
	control->quiet = !control->useful;
	disconnect(control);
}
