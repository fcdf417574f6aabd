/* SPDX-License-Identifier: BSD-3-Clause */
/* forward: move packets between two ports, both ways, whatever they are.
 *
 *	forward vif:/run/shunt/web0.sock tap:eth9
 *	forward pcap:in.pcap pcap:out.pcap,write
 */
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>

#include <shunt/context.h>

static volatile sig_atomic_t stopping;

static void stop(int signal)
{
	(void)signal;
	stopping = 1;
}

/* Returns how many packets there were. What the receiver does not take is dropped, as a NIC would. */
static unsigned move(struct shunt_port *from, struct shunt_port *to)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	unsigned n = shunt_port_rx(from, 0, packets, SHUNT_BATCH);
	unsigned sent = shunt_port_tx(to, 0, packets, n);

	shunt_packets_release(packets + sent, n - sent);
	return n;
}

static void rest(struct shunt_context *context, struct shunt_port **ports)
{
	struct pollfd fds[3] = {{.fd = shunt_context_fd(context), .events = POLLIN},
		{.fd = shunt_port_fd(ports[0], 0), .events = POLLIN},
		{.fd = shunt_port_fd(ports[1], 0), .events = POLLIN}};

	/* A port that refuses has work; one without an fd is looked at every few milliseconds. */
	if (shunt_port_arm(ports[0], 0) && shunt_port_arm(ports[1], 0))
		(void)poll(fds, 3, fds[1].fd < 0 || fds[2].fd < 0 ? 5 : 100);
	shunt_context_process(context);
}

int main(int argc, char **argv)
{
	struct shunt_context *context;
	struct shunt_port *ports[2];

	if (argc != 3) {
		(void)fprintf(stderr, "usage: forward PORT PORT\n");
		return 2;
	}
	(void)signal(SIGINT, stop);
	(void)signal(SIGTERM, stop);
	if (shunt_context_new(&context))
		return 1;
	for (int i = 0; i < 2; i++) {
		if (shunt_open(context, argv[1 + i], NULL, &ports[i])) {
			(void)fprintf(stderr, "forward: %s\n", shunt_context_error(context));
			shunt_context_free(context);
			return 1;
		}
	}
	for (unsigned rounds = 0; !stopping; rounds++) {
		if (move(ports[0], ports[1]) + move(ports[1], ports[0]) == 0)
			rest(context, ports);
		else if (rounds % 1024 == 0) /* links come and go under traffic too */
			shunt_context_process(context);
	}
	shunt_port_close(ports[0]);
	shunt_port_close(ports[1]);
	shunt_context_free(context);
	return 0;
}
