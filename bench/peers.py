#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What Shunt is measured against: DPDK's memif and vhost-user, and Linux's veth with a bridge.

    peers.py memif|vhost SIZE SECONDS [BURST]     Mpps, both directions together

memif and vhost: two dpdk-testpmd of one forwarding core each. The switch (CPU 1) forwards between two ports in io mode:
it reads no byte of a frame. The guest (CPU 0) has the other ends of both and writes and receives frames (flowgen mode:
headers are written, nothing is checked). What counts is what the switch sent. No hugepages and no device is needed.

veth: three network namespaces; two are joined by veth pairs to a bridge in the third.
"""

import argparse
import contextlib
import ctypes
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SWITCH_CPU = 1
GUEST_CPU = 0
PR_SET_PDEATHSIG = 1
ADDRESS = ("10.77.0.1", "10.77.0.2")
PROMPT = "testpmd> "
MBUFS = 16384

BURSTS = (32, 64, 128, 256)
RINGS = (256, 1024)  # slots
# Where a sweep over both found the best, usually.
BEST = {"memif": {"burst": 128, "ring": 256}, "vhost": {"burst": 32, "ring": 1024}}


class PeerError(Exception):
    pass


def child_setup(cpu):
    """For preexec_fn: ends with us, on one CPU."""
    parent = os.getpid()
    libc = ctypes.CDLL(None)

    def setup():
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})

    return setup


def end_on_signals():
    """Signals end this process as an exception does: what was started is stopped."""

    def end(number, _frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


class Testpmd:
    """
    A dpdk-testpmd at its prompt. Its main lcore sleeps at the prompt, one other lcore of the same CPU forwards: not to
    be run with a real-time policy, under which the one that polls never lets the other read.
    """

    def __init__(self, run, name, cpu, eal, app):
        self.name = name
        self.output = ""
        command = [
            "stdbuf", "-oL", "dpdk-testpmd", "--lcores", f"0@{cpu},1@{cpu}",
            f"--file-prefix=shunt-bench-{os.getpid()}-{name}", "--no-huge", "-m", "512", "--no-pci",
            "--no-telemetry", *eal, "--", "-i", "--nb-cores=1", f"--total-num-mbufs={MBUFS}", *app,
        ]
        environment = dict(os.environ, XDG_RUNTIME_DIR=run, RUNTIME_DIRECTORY=run)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, cwd=run, env=environment,
                                        preexec_fn=child_setup(None))
        try:
            self.until_prompt(20)
        except PeerError:
            self.stop()
            raise

    def until_prompt(self, seconds):
        """What it prints up to its next prompt."""
        end = time.monotonic() + seconds
        text = ""
        fd = self.process.stdout.fileno()
        while not text.endswith(PROMPT):
            left = end - time.monotonic()
            if left <= 0:
                raise PeerError(f"testpmd {self.name}: no prompt after {seconds} s:\n{text[-2000:]}")
            if not select.select([fd], [], [], left)[0]:
                continue
            piece = os.read(fd, 65536).decode(errors="replace")
            if not piece:
                raise PeerError(f"testpmd {self.name} ended:\n{text[-2000:]}")
            text += piece
        self.output += text
        return text

    def command(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise PeerError(f"testpmd {self.name} has gone") from error
        return self.until_prompt(10)

    def sent(self):
        """(seconds, frames sent by all ports so far)"""
        text = self.command("show port stats all")
        return time.monotonic(), sum(int(n) for n in re.findall(r"TX-packets:\s+(\d+)", text))

    def stop(self):
        if self.process.poll() is None:
            try:
                self.process.stdin.write(b"stop\nquit\n")
                self.process.stdin.flush()
                self.process.communicate(timeout=5)
            except (OSError, ValueError, subprocess.TimeoutExpired):
                self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream.close()
            except OSError:
                pass


def devices(kind, run, ring):
    """EAL's arguments for the switch and the guest."""
    sockets = [os.path.join(run, f"{kind}{i}") for i in range(2)]
    switch, guest = [], []
    for i, socket in enumerate(sockets):
        if kind == "memif":
            log2 = ring.bit_length() - 1
            common = f"id={i},socket={socket},socket-abstract=no,rsize={log2}"
            switch += ["--vdev", f"net_memif{i},role=server,{common}"]
            guest += ["--vdev", f"net_memif{i},role=client,zero-copy=yes,{common}"]
        else:
            switch += ["--vdev", f"net_vhost{i},iface={socket},queues=1"]
            guest += ["--vdev", f"virtio_user{i},path={socket},queues=1,queue_size={ring}"]
    # virtio_user needs it, and memif's client for zero copy, its faster mode.
    guest.append("--single-file-segments")
    return switch, guest


class Forwarding:
    """Two testpmd that are connected, for as long as the context lasts."""

    def __init__(self, kind, size, ring=None):
        self.kind = kind
        self.size = size
        self.ring = ring or BEST[kind]["ring"]
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            run = tempfile.mkdtemp(prefix="shunt-peer-")
            stack.callback(shutil.rmtree, run, ignore_errors=True)
            switch_devices, guest_devices = devices(self.kind, run, self.ring)
            rings = [f"--rxd={self.ring}", f"--txd={self.ring}"]
            self.switch = Testpmd(run, "switch", SWITCH_CPU, switch_devices, ["--forward-mode=io", *rings])
            stack.callback(self.switch.stop)
            self.guest = Testpmd(run, "guest", GUEST_CPU, guest_devices,
                                 ["--forward-mode=flowgen", f"--txpkts={self.size}", *rings])
            stack.callback(self.guest.stop)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        self.stack.close()

    def rate(self, seconds, burst):
        """Frames a second, both directions together, that the switch sent."""
        both = (self.switch, self.guest)
        for testpmd in both:
            testpmd.command(f"set burst {burst}")
            testpmd.command("start")
        time.sleep(0.5)
        since, before = self.switch.sent()
        time.sleep(seconds)
        until, after = self.switch.sent()
        for testpmd in reversed(both):
            testpmd.command("stop")
        if after == before:
            raise PeerError(f"{self.kind}: nothing was forwarded")
        return (after - before) / (until - since)


def forward(kind, size, seconds, burst=None, ring=None):
    with Forwarding(kind, size, ring) as forwarding:
        return forwarding.rate(seconds, burst or BEST[kind]["burst"])


def sweep(kind, size, seconds):
    """Frames a second by (burst, ring)."""
    rates = {}
    for ring in RINGS:
        with Forwarding(kind, size, ring) as forwarding:
            for burst in BURSTS:
                rates[burst, ring] = forwarding.rate(seconds, burst)
    return rates


# ---- Linux ----


def ip(*arguments):
    done = subprocess.run(["ip", *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise PeerError(f"ip {' '.join(arguments)}: {done.stderr.decode().strip()}")


def inside(netns_name, *command):
    return ["ip", "netns", "exec", netns_name, *command]


def netns_del(name):
    with contextlib.suppress(PeerError):
        ip("netns", "del", name)


def netns(stack, name):
    """A network namespace that goes with the stack; without IPv6, which would send on its own."""
    ip("netns", "add", name)
    stack.callback(netns_del, name)
    subprocess.run(inside(name, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6"),
                   stderr=subprocess.DEVNULL, check=False)
    ip("-n", name, "link", "set", "lo", "up")


def configure(name, device, end):
    ip("-n", name, "address", "add", ADDRESS[end] + "/24", "dev", device)
    ip("-n", name, "link", "set", device, "up")


def veth_bridge(stack, prefix):
    """Two namespaces and a bridge in a third between them. Returns the names of the two."""
    middle = prefix + "-br"
    ends = (prefix + "-a", prefix + "-b")
    for name in (middle, *ends):
        netns(stack, name)
    ip("-n", middle, "link", "add", "br0", "type", "bridge")
    ip("-n", middle, "link", "set", "br0", "up")
    for i, name in enumerate(ends):
        ip("-n", middle, "link", "add", f"port{i}", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", middle, "link", "set", f"port{i}", "master", "br0", "up")
        configure(name, "eth0", i)
    return ends


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(BEST))
    parser.add_argument("size", type=int, help="frame length in bytes, without FCS")
    parser.add_argument("seconds", type=float)
    parser.add_argument("burst", type=int, nargs="?")
    parser.add_argument("--ring", type=int, help="ring size")
    args = parser.parse_args()
    end_on_signals()
    try:
        rate = forward(args.kind, args.size, args.seconds, args.burst, args.ring)
    except (PeerError, FileNotFoundError) as error:
        print(f"peers.py: {error}", file=sys.stderr)
        return 1
    print(f"{rate / 1e6:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
