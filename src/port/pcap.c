/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcap: a capture file of Ethernet frames, through libpcap. Reading takes what libpcap reads (pcap with either byte
 * order and time unit, pcapng), as fast as the caller polls; the times in the file are not kept. Writing makes a pcap
 * file with nanoseconds of CLOCK_REALTIME.
 *
 * A file that is read is somebody else's input: libpcap bounds a record at 256 KiB, here each frame is copied into
 * packets within the intake's capacity. A record that libpcap refuses counts as one malformed frame and ends the file.
 * A file that is written is flushed once a batch; the batch counts as delivered only then.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <pcap/pcap.h>

#include "base/log.h"
#include "port/intake.h"
#include "port/port.h"
#include "port/vnet.h"

enum {
	SNAPLEN = 262144, /* libpcap's own largest for Ethernet */
};

struct pcap_port {
	struct shunt_port port;
	int fd;
	enum capture_mode mode;
	pcap_t *pcap;
	bool passed;           /* the pass that is on gave a frame: the next one will too */
	bool ended;            /* no more frames, or no more writing */
	struct intake in;      /* reading */
	pcap_dumper_t *dumper; /* writing */
	uint8_t *frame;        /* one frame in one piece, to write it */
};

static struct pcap_port *pcap_port(struct shunt_port *port)
{
	return (struct pcap_port *)port;
}

static void pcap_port_end(struct pcap_port *p)
{
	p->ended = true;
	p->port.info.link_up = false;
}

/* A stream of its own over the file, from the start: the library closes it with its handle. */
static FILE *pcap_port_stream(const struct pcap_port *p, const char *mode)
{
	int fd = fcntl(p->fd, F_DUPFD_CLOEXEC, 0);
	FILE *file;

	if (fd < 0)
		return NULL;
	file = fdopen(fd, mode);
	if (!file)
		(void)close(fd);
	else
		rewind(file);
	return file;
}

/* Begin to read the file from its start. */
static int pcap_port_rewind(struct pcap_port *p)
{
	char error[PCAP_ERRBUF_SIZE];
	FILE *file = pcap_port_stream(p, "r");
	pcap_t *pcap;

	if (!file)
		return -errno;
	pcap = pcap_fopen_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, error);
	if (!pcap) {
		log_warn("%s: %s", p->port.info.name, error);
		(void)fclose(file);
		return -EINVAL;
	}
	if (pcap_datalink(pcap) != DLT_EN10MB) {
		pcap_close(pcap);
		return -EPROTONOSUPPORT;
	}
	if (p->pcap)
		pcap_close(p->pcap);
	p->pcap = pcap;
	p->passed = false;
	return 0;
}

/* A packet of the bytes that the file has of a frame; NULL if it died. */
static struct shunt_packet *pcap_port_packet(
	struct pcap_port *p, const struct pcap_pkthdr *header, const uint8_t *bytes)
{
	struct iovec iov[INTAKE_PIECES];
	struct shunt_packet *packet;
	uint32_t done = 0;

	port_count_rx(&p->port, 0, 1, header->caplen);
	if (header->caplen < ETH_HEADER) {
		port_drop_rx(&p->port, 0, SHUNT_DROP_RUNT, 1);
		return NULL;
	}
	if (header->caplen > SHUNT_MAX_FRAME || header->caplen > p->in.capacity) {
		port_drop_rx(&p->port, 0, SHUNT_DROP_OVERSIZE, 1);
		return NULL;
	}
	(void)intake_iov(&p->in, 0, iov);
	for (unsigned i = 0; done < header->caplen; i++) {
		uint32_t part = MIN(header->caplen - done, (uint32_t)iov[i].iov_len);

		memcpy(iov[i].iov_base, bytes + done, part);
		done += part;
	}
	packet = intake_take(&p->in, 0, header->caplen);
	if (header->caplen < header->len)
		packet->flags |= SHUNT_PKT_TRUNCATED;
	return packet;
}

/* What libpcap's "no frame" means: begin again, or end. True: ask for the next frame. */
static bool pcap_port_wrap(struct pcap_port *p, int result)
{
	if (result == PCAP_ERROR_BREAK && p->mode == CAPTURE_LOOP && p->passed &&
		pcap_port_rewind(p) == 0)
		return true;
	if (result == PCAP_ERROR) {
		log_warn("%s: %s", p->port.info.name, pcap_geterr(p->pcap));
		port_count_rx(&p->port, 0, 1, 0);
		port_drop_rx(&p->port, 0, SHUNT_DROP_MALFORMED, 1);
	}
	pcap_port_end(p);
	return false;
}

static unsigned pcap_port_rx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	struct pcap_port *p = pcap_port(port);
	unsigned count = 0;

	(void)queue;
	/* Each turn reads a frame or begins the file again, of which each is work enough to be bounded by n. */
	for (unsigned turn = 0; turn < n && !p->ended && p->mode != CAPTURE_WRITE; turn++) {
		struct pcap_pkthdr *header;
		const uint8_t *bytes;
		int result;

		if (!intake_ready(&p->in, 1))
			break;
		result = pcap_next_ex(p->pcap, &header, &bytes);
		if (result != 1) {
			if (!pcap_port_wrap(p, result))
				break;
			continue;
		}
		p->passed = true;
		packets[count] = pcap_port_packet(p, header, bytes);
		intake_done(&p->in, 1);
		if (packets[count])
			count++;
	}
	return count;
}

/* May this packet be written? False and *why if it cannot stand in a file. */
static bool pcap_port_admits(
	const struct pcap_port *p, const struct shunt_packet *packet, enum shunt_drop *why)
{
	if (packet->head_len < ETH_HEADER)
		*why = SHUNT_DROP_RUNT;
	else if (packet->gso_type != SHUNT_GSO_NONE)
		*why = SHUNT_DROP_GSO;
	else if (packet->flags & SHUNT_PKT_CSUM_PARTIAL)
		*why = SHUNT_DROP_CSUM;
	else if (packet->len > SHUNT_MAX_FRAME)
		*why = SHUNT_DROP_OVERSIZE;
	else if (p->ended || p->mode != CAPTURE_WRITE)
		*why = SHUNT_DROP_TX_ERROR;
	else
		return true;
	return false;
}

/* Write one frame, a tag in its bytes. */
static void pcap_port_dump(struct pcap_port *p, const struct shunt_packet *packet)
{
	struct iovec iov[VNET_IOV];
	struct pcap_pkthdr header = {0};
	uint8_t tag[VLAN_TAG];
	struct timespec now;
	uint32_t len = 0;
	unsigned n;

	n = vnet_frame_iov(packet, tag, iov);
	for (unsigned i = 0; i < n; i++) {
		memcpy(p->frame + len, iov[i].iov_base, iov[i].iov_len);
		len += (uint32_t)iov[i].iov_len;
	}
	(void)clock_gettime(CLOCK_REALTIME, &now);
	/* The file is one of nanoseconds, and so is the field. */
	header.ts = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec};
	header.caplen = len;
	header.len = len;
	pcap_dump((u_char *)p->dumper, &header, p->frame);
}

static unsigned pcap_port_tx(
	struct shunt_port *port, unsigned queue, struct shunt_packet **packets, unsigned n)
{
	struct pcap_port *p = pcap_port(port);
	uint64_t written = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		enum shunt_drop why;

		if (pcap_port_admits(p, packets[i], &why)) {
			pcap_port_dump(p, packets[i]);
			written++;
			bytes += packets[i]->len;
		} else {
			port_drop_tx(port, queue, why, 1);
		}
	}
	if (written && (pcap_dump_flush(p->dumper) || ferror(pcap_dump_file(p->dumper)))) {
		/* How much of the batch the file has is unknown, and so is where the next record would begin. */
		log_warn("%s: cannot write: %s", port->info.name, strerror(errno));
		port_drop_tx(port, queue, SHUNT_DROP_TX_ERROR, written);
		pcap_port_end(p);
	} else {
		port_count_tx(port, queue, written, bytes);
	}
	shunt_packets_release(packets, n);
	return n;
}

/* A port that reads has nothing to sleep on until its end, and one that writes never receives. */
static bool pcap_port_arm(struct shunt_port *port, unsigned queue)
{
	(void)queue;
	return pcap_port(port)->ended || pcap_port(port)->mode == CAPTURE_WRITE;
}

static int pcap_port_use_pool(struct shunt_port *port, unsigned queue, struct shunt_pool *pool)
{
	(void)queue;
	if (pcap_port(port)->mode == CAPTURE_WRITE)
		return -EOPNOTSUPP;
	return intake_use_pool(&pcap_port(port)->in, pool, ETH_HEADER);
}

static void pcap_port_close(struct shunt_port *port)
{
	struct pcap_port *p = pcap_port(port);

	intake_fini(&p->in);
	if (p->dumper)
		pcap_dump_close(p->dumper);
	if (p->pcap)
		pcap_close(p->pcap);
	free(p->frame);
	(void)close(p->fd);
	port_fini(port);
	free(p);
}

static const struct port_ops pcap_port_ops = {
	.kind = "pcap",
	.rx = pcap_port_rx,
	.tx = pcap_port_tx,
	.arm = pcap_port_arm,
	.use_pool = pcap_port_use_pool,
	.close = pcap_port_close,
};

/* Begin to write: the file has its header before the first frame. */
static int pcap_port_start_writing(struct pcap_port *p)
{
	FILE *file;

	p->frame = malloc(SHUNT_MAX_FRAME + VLAN_TAG);
	p->pcap = pcap_open_dead_with_tstamp_precision(
		DLT_EN10MB, SNAPLEN, PCAP_TSTAMP_PRECISION_NANO);
	if (!p->frame || !p->pcap)
		return -ENOMEM;
	if (ftruncate(p->fd, 0))
		return -errno;
	file = pcap_port_stream(p, "w");
	if (!file)
		return -errno;
	p->dumper = pcap_dump_fopen(p->pcap, file);
	if (!p->dumper) {
		(void)fclose(file);
		return -EIO;
	}
	return pcap_dump_flush(p->dumper) ? -errno : 0;
}

int port_pcap_from_fd(struct shunt_port **out, const char *name, int fd, enum capture_mode mode)
{
	struct pcap_port *p = calloc(1, sizeof(*p));
	struct stat st;
	int err = -ENOMEM;

	if (!p)
		goto fail;
	err = fstat(fd, &st) ? -errno : 0;
	if (!err && !S_ISREG(st.st_mode))
		err = -EINVAL;
	if (!err)
		err = port_init(&p->port, &pcap_port_ops, name, 1);
	if (err)
		goto fail;
	p->fd = fd;
	p->mode = mode;
	p->in.epfd = -1;
	p->port.info.mtu = SHUNT_MAX_FRAME - ETH_HEADER - VLAN_TAG;
	p->port.info.caps = SHUNT_CAP_VLAN;
	err = mode == CAPTURE_WRITE ? pcap_port_start_writing(p) : intake_init(&p->in, -1, 0);
	if (!err && mode != CAPTURE_WRITE)
		err = pcap_port_rewind(p);
	if (err) {
		pcap_port_close(&p->port);
		return err;
	}
	*out = &p->port;
	return 0;
fail:
	free(p);
	(void)close(fd);
	return err;
}

/* Cut `option` off the end of a name. */
static bool pcap_port_option(char *name, const char *option)
{
	size_t len = strlen(name);
	size_t cut = strlen(option);

	if (len <= cut || strcmp(name + len - cut, option) != 0)
		return false;
	name[len - cut] = '\0';
	return true;
}

int port_pcap_open(struct shunt_port **out, const char *name)
{
	enum capture_mode mode = CAPTURE_READ;
	char *path = strdup(name);
	int fd;

	if (!path)
		return -ENOMEM;
	if (pcap_port_option(path, ",write"))
		mode = CAPTURE_WRITE;
	else if (pcap_port_option(path, ",loop"))
		mode = CAPTURE_LOOP;
	/* O_NONBLOCK: opening something that turns out to be a FIFO must not wait. */
	if (mode == CAPTURE_WRITE)
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
	else
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	free(path);
	return fd < 0 ? -errno : port_pcap_from_fd(out, name, fd, mode);
}
