#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Nothing is lost without a name, and shuntd's counters say what others count.

    conservation_test.py SHUNTD SHUNT PEER WORKERS

Three guests (a, b with two queues, c) and two outside hosts behind an uplink port each send numbered frames to one another
and to everybody, while b does not run for a second, a is moved between workers, c is killed and comes back, and the
second uplink is deleted. Then, when nothing is under way:

    what a sender sent               = what shuntd received from there
    what shuntd delivered somewhere  = what was received there
    received + replicated            = delivered + drops, each with a name, + lost with a port that went away
    no frame is changed, repeated or out of order

What the kernel itself threw away on the veth pairs or before a socket is asked for and taken into account. Of a guest that
is killed what was on its rings, and of a deleted uplink what was in its socket, is known up to their sizes only.

The peers outside are packet sockets of the kernel's in a network namespace; see conservation_peer.c.
"""

import array
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

STATE, SENT, RECEIVED, BAD, LATE, ALIEN, DROPS = range(7)
SENT_TO, RECEIVED_OF, PEERS = 16, 32, 16
WORDS = RECEIVED_OF + PEERS * PEERS
BROADCAST = (15, "ff:ff:ff:ff:ff:ff")
RING = 256  # slots of each of a queue's rings
BATCH = 64
NAMED = {"tx-full", "tx-closed", "link-down", "no-receiver", "handoff", "no-memory"}


class Peer:
    def __init__(self, test, name, ident, mac, port, rate, queues=1, netns=None):
        self.name, self.ident, self.mac, self.port = name, ident, mac, port
        self.rate, self.queues, self.netns = rate, queues, netns
        self.path = f"{test.dir}/{name}.counts"
        self.process = None

    def start(self, test, others):
        enter = ["ip", "netns", "exec", self.netns] if self.netns else []
        dests = [f"{ident}={mac}" for ident, mac in [(o.ident, o.mac) for o in others] + [BROADCAST]]
        self.process = test.start(self.name, *enter, test.peer, self.path, str(self.ident), self.port, self.mac,
                                  str(self.rate), str(self.queues), *dests)

    def counts(self):
        words = array.array("Q")
        with contextlib.suppress(OSError, ValueError), open(self.path, "rb") as file:
            words.frombytes(file.read())
        return words if len(words) == WORDS else array.array("Q", [0] * WORDS)

    def state(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended")
        return self.counts()[STATE]


class Test:
    def __init__(self, shuntd, shunt, peer, workers):
        self.shuntd, self.shunt, self.peer, self.workers = shuntd, shunt, peer, workers
        self.dir = tempfile.mkdtemp(prefix="shunt-conservation-")
        self.processes = []
        self.namespaces = []
        self.failed = []

    def start(self, name, *command):
        with open(f"{self.dir}/{name}.log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def close(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "del", name], check=False, timeout=10)
        shutil.rmtree(self.dir, ignore_errors=True)

    def fail(self, text):
        self.failed.append(text)
        print(f"FAIL {text}", flush=True)

    def check(self, good, text):
        if good:
            print(f"ok   {text}", flush=True)
        else:
            self.fail(text)

    def ask(self, *command):
        done = subprocess.run([self.shunt, "--json", "--socket", f"{self.dir}/run/control.sock", *command],
                              capture_output=True, text=True, timeout=10, check=True)
        return json.loads(done.stdout)

    def until(self, condition, what, seconds=10):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(subprocess.CalledProcessError):
                if condition():
                    return
            time.sleep(0.02)
        raise RuntimeError(f"not within {seconds} s: {what}")

    def namespace(self, name):
        full = f"shunt-conservation-{os.getpid()}-{name}"
        self.namespaces.append(full)
        run("ip", "netns", "add", full)
        run("ip", "netns", "exec", full, "sh", "-c",
            "f=/proc/sys/net/ipv6/conf/default/disable_ipv6; [ ! -e $f ] || echo 1 >$f")
        return full

    def set_up(self):
        self.nic, self.out = self.namespace("nic"), self.namespace("out")
        for i in range(2):
            run("ip", "link", "add", f"nic{i}", "netns", self.nic, "mtu", "9000", "type", "veth", "peer", "name", f"eth{i}",
                "netns", self.out, "mtu", "9000")
            run("ip", "-n", self.nic, "link", "set", f"nic{i}", "up")
            run("ip", "-n", self.out, "link", "set", f"eth{i}", "up")
        with open(f"{self.dir}/shuntd.conf", "w", encoding="utf-8") as file:
            file.write(f"[shuntd]\nrun = {self.dir}/run\nworkers = {self.workers}\n")
            for i in range(2):
                file.write(f"[port up{i}]\nspec = packet:nic{i}\nnetns = {self.nic}\n")
            for i, name in enumerate("abc"):
                file.write(f"[vif {name}]\nmac = 02:00:00:00:00:0{name}\nmtu = 9000\nqueues = {2 if name == 'b' else 1}\n")
        daemon = self.start("shuntd", self.shuntd, "-c", f"{self.dir}/shuntd.conf")
        self.until(lambda: daemon.poll() is not None or self.ask("vif", "list"), "shuntd answers")

        def guest(name, ident, rate, queues=1):
            return Peer(self, name + str(ident), ident, f"02:00:00:00:00:0{name}", f"vif:{self.dir}/run/{name}.sock", rate,
                        queues)

        def outside(i):
            mac = run("ip", "netns", "exec", self.out, "cat", f"/sys/class/net/eth{i}/address").strip()
            return Peer(self, f"out{i}", 3 + i, mac, f"raw:eth{i}", 8000, netns=self.out)

        self.a, self.b, self.c = guest("a", 0, 12000), guest("b", 1, 12000, 2), guest("c", 2, 8000)
        self.c_again = guest("c", 5, 8000)
        self.outs = [outside(0), outside(1)]
        self.peers = [self.a, self.b, self.c, *self.outs]
        # Outside first: what reaches a device before anybody listens there is dropped. Outside hosts do not send to each
        # other.
        for some, others in ((self.outs, [self.a, self.b, self.c]), ([self.a, self.b, self.c], self.peers)):
            for peer in some:
                peer.start(self, [other for other in others if other is not peer])
            for peer in some:
                self.until(lambda peer=peer: peer.state() >= 1, f"{peer.name} is connected")

    def traffic(self, seconds):
        """For that long, and until everybody has sent and received meanwhile."""
        running = [peer for peer in self.peers if peer.process.poll() is None]
        before = {peer: peer.counts() for peer in running}
        time.sleep(seconds)
        self.until(lambda: all(peer.counts()[SENT] > before[peer][SENT] and peer.counts()[RECEIVED] > before[peer][RECEIVED]
                               for peer in running), "traffic flows")

    def faults(self):
        self.traffic(0.5)
        os.kill(self.b.process.pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(self.b.process.pid, signal.SIGCONT)
        self.traffic(0.3)
        for _ in range(3):
            self.ask("vif", "rehome", "a")
            self.traffic(0.1)
        self.c.process.kill()
        self.c.process.wait()
        self.until(lambda: self.ask("vif", "show", "c")["state"] == "detached", "c is detached")
        self.traffic(0.2)
        self.c_again.start(self, [self.a, self.b, self.outs[0]])
        self.until(lambda: self.c_again.state() >= 1, "c is connected again")
        self.peers.append(self.c_again)
        self.traffic(0.2)
        self.ask("port", "del", "up1")
        self.peers.remove(self.outs[1])
        self.traffic(0.5)
        self.peers.append(self.outs[1])

    def quiesce(self):
        running = [peer for peer in self.peers if peer.process.poll() is None]
        for peer in running:
            peer.process.send_signal(signal.SIGUSR1)
        for peer in running:
            self.until(lambda peer=peer: peer.state() == 2, f"{peer.name} sends no more")
        last = {"seen": None, "since": time.monotonic()}

        def still():
            stats = self.ask("stats")
            seen = (stats["totals"], [list(peer.counts()) for peer in running])
            if seen != last["seen"]:
                last["seen"], last["since"] = seen, time.monotonic()
            return time.monotonic() - last["since"] > 0.5

        self.until(still, "it becomes quiet", 20)
        return self.ask("stats")

    def veth_drops(self, number, outwards):
        """What the kernel dropped between the two ends."""
        ends = [(self.nic, f"nic{number}"), (self.out, f"eth{number}")]
        stats = [json.loads(run("ip", "-n", netns, "-s", "-j", "link", "show", device))[0]["stats64"] for netns, device in ends]
        return stats[not outwards]["tx"]["dropped"] + stats[outwards]["rx"]["dropped"]

    def socket_drops(self, device):
        """What the kernel dropped because the socket of shuntd's port was full."""
        text = run("ip", "netns", "exec", self.nic, "ss", "-0", "-a", "-m", "-O")
        lines = [line for line in text.splitlines() if f":{device} " in line]
        return sum(int(n) for line in lines for n in re.findall(r"skmem:\(.*?,d(\d+)\)", line)) if lines else None

    def guest_agrees(self, name, peer, port):
        c = peer.counts()
        front = f" - {c[DROPS]} dropped by its front end" if c[DROPS] else ""
        self.check(c[SENT] - c[DROPS] == port["rx-packets"],
                   f"{name}: sent {c[SENT]}{front} = received from it {port['rx-packets']}")
        self.check(c[RECEIVED] == port["tx-packets"], f"{name}: delivered to it {port['tx-packets']} = received {c[RECEIVED]}")

    def killed_guest_agrees(self, port):
        """c was killed and came back: exact up to what was on the first one's rings, and what it had
        taken from them and not yet counted."""
        sent = sum(peer.counts()[SENT] - peer.counts()[DROPS] for peer in (self.c, self.c_again))
        received = sum(peer.counts()[RECEIVED] for peer in (self.c, self.c_again))
        self.check(-1 <= sent - port["rx-packets"] <= RING,
                   f"c, killed once: sent {sent}, received from it {port['rx-packets']}: {sent - port['rx-packets']} on its ring")
        self.check(0 <= port["tx-packets"] - received <= RING + BATCH,
                   f"c, killed once: delivered to it {port['tx-packets']}, received {received}: "
                   f"{port['tx-packets'] - received} on its ring")

    def uplink_agrees(self, port):
        c = self.outs[0].counts()
        on_veth, in_socket = self.veth_drops(0, False), self.socket_drops("nic0")
        if in_socket is None:
            raise RuntimeError("ss does not show the socket of up0")
        self.check(c[SENT] == port["rx-packets"] + on_veth + in_socket,
                   f"up0: sent {c[SENT]} = received from it {port['rx-packets']} + dropped by the kernel {on_veth} on the veth, "
                   f"{in_socket} before the socket")
        on_veth = self.veth_drops(0, True)
        self.check(port["tx-packets"] == c[RECEIVED] + on_veth + c[DROPS],
                   f"up0: delivered to it {port['tx-packets']} = received {c[RECEIVED]} + dropped by the kernel {on_veth} on the "
                   f"veth, {c[DROPS]} before the socket")

    def deleted_uplink_agrees(self, totals, ports):
        c = self.outs[1].counts()
        received = totals["received"] - sum(port["rx-packets"] for port in ports.values())
        delivered = totals["delivered"] - sum(port["tx-packets"] for port in ports.values())
        on_veth = self.veth_drops(1, True)
        self.check(0 < received <= c[SENT], f"up1, deleted: received from it {received} of {c[SENT]} sent, some after its end")
        self.check(delivered == c[RECEIVED] + on_veth + c[DROPS],
                   f"up1, deleted: delivered to it {delivered} = received {c[RECEIVED]} + dropped by the kernel {on_veth} on the "
                   f"veth, {c[DROPS]} before the socket")

    def balance(self, stats):
        t, drops = stats["totals"], stats["drops"]
        names = ", ".join(f"{name} {n}" for name, n in drops.items())
        self.check(t["received"] + t["replicated"] == t["delivered"] + sum(drops.values()) + t["lost"],
                   f"all: received {t['received']} + replicated {t['replicated']} = delivered {t['delivered']} + dropped "
                   f"{sum(drops.values())} ({names}) + lost {t['lost']}")
        self.check(set(drops) <= NAMED, f"drops have the names that were to be expected: {', '.join(drops)}")

    def frames_right(self):
        for peer in self.peers:
            c = peer.counts()
            self.check(c[BAD] == c[LATE] == c[ALIEN] == 0,
                       f"{peer.name}: {c[BAD]} changed, {c[LATE]} repeated or out of order, {c[ALIEN]} of others")
        for sender in self.peers:
            for receiver in self.peers:
                sent = sender.counts()[SENT_TO + receiver.ident]
                got = receiver.counts()[RECEIVED_OF + sender.ident * PEERS + receiver.ident]
                if got > sent + (sender is self.c):
                    self.fail(f"{sender.name} to {receiver.name}: received {got} of {sent}")

    def covered(self, stats):
        """What was to be tried did happen."""
        drops = stats["drops"]
        for name in ("tx-full", "link-down"):
            self.check(drops.get(name, 0) > 0, f"{name} was tried: {drops.get(name, 0)}")
        self.check(stats["totals"]["replicated"] > 0, f"replication was tried: {stats['totals']['replicated']}")
        handed = sum(worker["handed-over"] for worker in stats["workers"])
        self.check((handed > 0) == (self.workers > 1), f"{self.workers} workers, {handed} handed over")

    def go(self):
        self.set_up()
        self.faults()
        stats = self.quiesce()
        vifs = {vif["name"]: vif for vif in stats["vifs"]}
        ports = {port["name"]: port for port in stats["ports"]}
        self.guest_agrees("a", self.a, vifs["a"])
        self.guest_agrees("b", self.b, vifs["b"])
        self.killed_guest_agrees(vifs["c"])
        self.uplink_agrees(ports["up0"])
        self.deleted_uplink_agrees(stats["totals"], {**vifs, **ports})
        self.balance(stats)
        self.frames_right()
        self.covered(stats)

    def logs(self):
        for name in sorted(os.listdir(self.dir)):
            if name.endswith(".log"):
                with open(f"{self.dir}/{name}", encoding="utf-8", errors="replace") as file:
                    print(f"---- {name}\n{file.read()[-1500:]}")


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout


def main():
    if len(sys.argv) != 5:
        print("usage: conservation_test.py SHUNTD SHUNT PEER WORKERS", file=sys.stderr)
        return 2
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("ss"):
        print("skipped: needs root and iproute2")
        return 77
    test = Test(*sys.argv[1:4], int(sys.argv[4]))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit("ended by a signal"))
    try:
        test.go()
    except (RuntimeError, subprocess.SubprocessError) as error:
        test.fail(f"{error} {getattr(error, 'stderr', None) or ''}")
    finally:
        if test.failed:
            test.logs()
        test.close()
    return 1 if test.failed else 0


if __name__ == "__main__":
    sys.exit(main())
