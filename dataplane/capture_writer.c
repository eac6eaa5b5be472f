/* SPDX-License-Identifier: Apache-2.0 */
#include "capture_writer.h"
#include "monotonic.h"

#include "sluice/icmp.h"
#include "sluice/packet.h"

#include <string.h>

void capture_writer_init(struct capture_writer *writer, struct sluice_capture_header *memory,
			 const struct sluice_capture_header *header, uint32_t worker)
{
	uint8_t *slots = (uint8_t *)memory;
	memset(writer, 0, sizeof(*writer));
	writer->filter = header->filter;
	writer->records = header->records;
	writer->countdown = header->filter.sample;
	writer->lease_ns = &memory->lease_ns;
	writer->ring = (struct sluice_capture_ring *)(slots + (size_t)SLUICE_CAPTURE_SLOT *
								  sluice_capture_ring_slot(worker, header->records));
}

/* The clock, by the vDSO: only while packets are captured. */
void capture_begin(struct capture_writer *writer)
{
	writer->now_ns = monotonic_ns();
	writer->is_read = writer->now_ns < __atomic_load_n(writer->lease_ns, __ATOMIC_RELAXED);
}

/* -------------------------------------------------------------------------- which ones ---- */

/* The client, as the filter understands it (sluice/capture.h). An answer is to it. */
static bool client_of(const uint8_t *l3, const uint8_t *end, bool is_answer, union sluice_address *ret)
{
	struct sluice_packet packet = {0};
	struct sluice_flow flow;
	enum sluice_verdict verdict = SLUICE_PASS_NOT_IP;

	if (l3 < end && l3[0] >> 4 == 4)
		verdict = sluice_packet_parse_ipv4(l3, l3, end, &packet);
	else if (l3 < end && l3[0] >> 4 == 6)
		verdict = sluice_packet_parse_ipv6(l3, l3, end, &packet);
	if (!packet.ip_version)
		return false;
	*ret = is_answer ? packet.flow.destination : packet.flow.source;
	if (!is_answer && verdict == SLUICE_PASS_PROTOCOL && sluice_icmp_error_flow(l3, end, &packet, &flow))
		*ret = flow.source;
	return true;
}

/* Where the sender's IP header is in a frame as it came; 0: nowhere. */
static uint16_t inner_offset_of(const struct rte_mbuf *packet)
{
	const uint8_t *data = rte_pktmbuf_mtod(packet, const uint8_t *);
	struct sluice_packet parsed;
	enum sluice_verdict verdict = sluice_packet_parse(data, data + packet->data_len, &parsed);
	return verdict == SLUICE_PASS_NOT_IP || parsed.l3_offset >= packet->data_len ? 0 : parsed.l3_offset;
}

/* about->inner_offset is known. */
static bool is_wanted(const struct capture_writer *writer, const struct rte_mbuf *packet,
		      const struct capture_about *about, uint32_t outcome)
{
	const uint8_t *data = rte_pktmbuf_mtod(packet, const uint8_t *);
	const union sluice_address *mask = &writer->filter.client_mask;
	union sluice_address client;
	bool has_client = (mask->halves[0] | mask->halves[1]) && about->inner_offset &&
			  client_of(data + about->inner_offset, data + packet->data_len,
				    sluice_verdict_is_answer(about->outcome), &client);
	return sluice_capture_wants(&writer->filter, outcome, about->service, has_client ? &client : NULL);
}

static bool is_sampled(struct capture_writer *writer)
{
	if (--writer->countdown)
		return false;
	writer->countdown = writer->filter.sample;
	return true;
}

/* ---------------------------------------------------------------------------- the ring ---- */

static struct sluice_capture_record *record_at(const struct capture_writer *writer, uint64_t position)
{
	return (struct sluice_capture_record *)((uint8_t *)writer->ring +
						SLUICE_CAPTURE_SLOT * (1 + (position & (writer->records - 1))));
}

static void count_lost(struct capture_writer *writer)
{
	__atomic_store_n(&writer->ring->lost, writer->ring->lost + 1, __ATOMIC_RELAXED);
}

/* Its record's place in the ring, or CAPTURE_NO_RECORD: it is full. Not the reader's yet. */
static uint64_t write_record(struct capture_writer *writer, const struct rte_mbuf *packet,
			     const struct capture_about *about)
{
	/* Pairs with the reader's release: it has done with what we overwrite. */
	if (writer->head - __atomic_load_n(&writer->ring->tail, __ATOMIC_ACQUIRE) >= writer->records) {
		count_lost(writer);
		return CAPTURE_NO_RECORD;
	}
	struct sluice_capture_record *record = record_at(writer, writer->head);
	uint8_t *to = (uint8_t *)(record + 1);
	uint32_t wanted = RTE_MIN(packet->pkt_len, writer->filter.snaplen), copied = 0;
	for (const struct rte_mbuf *m = packet; m && copied < wanted; m = m->next) {
		uint32_t bytes = RTE_MIN((uint32_t)m->data_len, wanted - copied);
		memcpy(to + copied, rte_pktmbuf_mtod(m, const uint8_t *), bytes);
		copied += bytes;
	}
	*record = (struct sluice_capture_record){
	    .sequence = writer->head + 1,
	    .time_ns = writer->now_ns,
	    .service = about->service,
	    .backend = about->backend,
	    .bucket = about->bucket,
	    .interface = about->port,
	    .frame_bytes = packet->pkt_len,
	    .copied_bytes = (uint16_t)copied,
	    .inner_offset = about->inner_offset,
	    .outcome = (uint8_t)about->outcome,
	    .flags = about->leaves ? SLUICE_CAPTURE_LEAVES : 0,
	};
	return writer->head++;
}

/* The reader may have all records. */
static void hand_over(struct capture_writer *writer)
{
	__atomic_store_n(&writer->ring->head, writer->head, __ATOMIC_RELEASE);
}

void capture_final(struct capture_writer *writer, const struct rte_mbuf *packet, const struct capture_about *about)
{
	struct capture_about known = *about;

	if (!writer->is_read)
		return;
	if (!known.inner_offset)
		known.inner_offset = inner_offset_of(packet);
	if (!is_wanted(writer, packet, &known, known.outcome) || !is_sampled(writer))
		return;
	write_record(writer, packet, &known);
	if (!writer->note_count)
		hand_over(writer);
}

/* What it becomes if it does not leave. */
static enum sluice_verdict unsent_outcome(uint32_t queue)
{
	return queue == CAPTURE_TO_KERNEL ? SLUICE_DROP_PASS_IMPOSSIBLE : SLUICE_DROP_TRANSMIT;
}

void capture_leaving(struct capture_writer *writer, const struct rte_mbuf *packet, uint32_t queue,
		     const struct capture_about *about)
{
	struct capture_note note = {.packet = packet, .position = CAPTURE_NO_RECORD, .queue = queue, .about = *about};

	if (!writer->is_read)
		return;
	if (!note.about.inner_offset)
		note.about.inner_offset = inner_offset_of(packet);
	bool is_wanted_sent = is_wanted(writer, packet, &note.about, about->outcome);
	if (!is_wanted_sent && !is_wanted(writer, packet, &note.about, unsent_outcome(queue)))
		return;
	if (writer->note_count == CAPTURE_NOTES) {
		count_lost(writer);
		return;
	}
	if (is_wanted_sent) {
		if (!is_sampled(writer))
			return;
		note.position = write_record(writer, packet, &note.about);
		if (note.position == CAPTURE_NO_RECORD)
			return;
	}
	writer->notes[writer->note_count++] = note;
}

static bool is_among(struct rte_mbuf *const *packets, uint32_t count, const struct rte_mbuf *packet)
{
	for (uint32_t i = 0; i < count; i++)
		if (packets[i] == packet)
			return true;
	return false;
}

/* The noted packet has not left. */
static void settle_unsent(struct capture_writer *writer, struct capture_note *note, enum sluice_verdict outcome)
{
	bool is_wanted_unsent = is_wanted(writer, note->packet, &note->about, outcome);

	if (note->position != CAPTURE_NO_RECORD) {
		record_at(writer, note->position)->outcome = is_wanted_unsent ? outcome : SLUICE_CAPTURE_VOID;
	} else if (is_wanted_unsent && is_sampled(writer)) {
		note->about.outcome = outcome;
		write_record(writer, note->packet, &note->about);
	}
}

void capture_settle(struct capture_writer *writer, uint32_t queue, struct rte_mbuf *const *unsent,
		    uint32_t unsent_count, enum sluice_verdict outcome)
{
	uint32_t kept = 0;

	if (!writer->note_count)
		return;
	for (uint32_t i = 0; i < writer->note_count; i++) {
		struct capture_note *note = &writer->notes[i];
		if (note->queue != queue)
			writer->notes[kept++] = *note;
		else if (is_among(unsent, unsent_count, note->packet))
			settle_unsent(writer, note, outcome);
	}
	writer->note_count = kept;
	if (!kept)
		hand_over(writer);
}
