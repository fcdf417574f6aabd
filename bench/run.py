#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The benchmarks: Shunt next to its peers, in one run, on one machine.

    run.py BUILD [--quick] [--only NAME]...     measure; writes BUILD/bench/results.json
    run.py BUILD --markdown                     the last results as a table for docs/performance.md

BUILD is a meson build directory. It needs root (network namespaces, TAP devices) and CPUs 0 and 1 to itself. README.md
says what each figure is. Exit code: 0 measured, 1 something failed or frames were lost unaccounted, 2 cannot start.
Whether an aim was met is printed and is not an exit code.
"""

import argparse
import contextlib
import json
import os
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import peers

ROUNDS = 5
QUICK_ROUNDS = 2
SIZES = {"slow-64B": 64, "slow-1500B": 1500}
SWEEP_SECONDS = 0.5
IDLE_VIFS = 1000
IDLE_SECONDS = 5
IDLE_CPU_LIMIT = 1.0  # % of a core
IDLE_MEMORY_LIMIT = 256.0  # KiB a vif
PAIR_SECONDS = 2
TCP_SECONDS = 3
PINGS = 500

PACKAGES = {"dpdk-testpmd": "dpdk", "stdbuf": "coreutils", "iperf3": "iperf3", "ip": "iproute2", "ping": "iputils-ping"}
NEEDS = {
    "slow-64B": ("dpdk-testpmd", "stdbuf"),
    "slow-1500B": ("dpdk-testpmd", "stdbuf"),
    "tap-tcp": ("ip", "iperf3"),
    "tap-rtt": ("ip", "ping"),
    "idle-vifs": (),
}

# The least ratio that is aimed at.
AIMS = {
    "slow-64B": 1.0,
    "slow-64B-vhost": 2.0,
    "tap-tcp": 0.5,
    "tap-rtt": 0.2,
    "idle-vifs-cpu": 1.0,
    "idle-vifs-rate": 0.95,
    "idle-vifs-memory": 1.0,
}


class BenchError(Exception):
    pass


def say(text):
    print(text, file=sys.stderr, flush=True)


def mid_mean(values):
    """The mean of the middle half: like a median, and finer than the whole microseconds that ping prints."""
    values = sorted(values)
    quarter = len(values) // 4
    return statistics.fmean(values[quarter:len(values) - quarter])


# ---- processes ----


def stop(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()


def start(stack, command, cpu=None, **options):
    process = subprocess.Popen(command, preexec_fn=peers.child_setup(cpu), **options)
    stack.callback(stop, process)
    return process


def output_of(command, timeout, cpu=None):
    """Run to the end; what it wrote to stdout."""
    with contextlib.ExitStack() as stack:
        process = start(stack, command, cpu, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{command[0]} took longer than {timeout} s") from error
        if process.returncode:
            raise BenchError(f"{' '.join(command)}: code {process.returncode}: {(err or out).decode().strip()[-500:]}")
        return out.decode()


def wait_line(process, pattern, seconds):
    """Wait until the process has written a line that matches to stdout."""
    end = time.monotonic() + seconds
    text = ""
    fd = process.stdout.fileno()
    while not re.search(pattern, text):
        left = end - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            raise BenchError(f"{process.args[0]}: not ready after {seconds} s: {text.strip()[-500:]}")
        piece = os.read(fd, 4096).decode(errors="replace")
        if not piece:
            raise BenchError(f"{process.args[0]} ended: {text.strip()[-500:]}")
        text += piece


# ---- shuntd ----


class Shuntd:
    """One shuntd with vifs by name, its control socket and what the kernel says about it."""

    def __init__(self, stack, bench, name, vifs, cpu=None):
        self.run = os.path.join(bench.run, name)
        config = os.path.join(bench.run, name + ".conf")
        self.log = os.path.join(bench.run, name + ".log")
        with open(config, "w", encoding="ascii") as file:
            file.write(f"[shuntd]\nrun = {self.run}\nworkers = 1\nlog = warning\n")
            if cpu is not None:
                file.write(f"cpus = {cpu}\n")
            for i, vif in enumerate(vifs):
                file.write(f"[vif {vif}]\nmac = 02:00:00:00:{i >> 8:02x}:{i & 255:02x}\n")
        with open(self.log, "wb") as log:
            self.process = start(stack, [bench.program("src/programs/shuntd/shuntd"), "-c", config], cpu,
                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait_ready()

    def wait_ready(self):
        end = time.monotonic() + 30
        while True:
            if self.process.poll() is not None:
                raise BenchError(f"shuntd ended with code {self.process.returncode}: {self.messages()}")
            with contextlib.suppress(OSError, ValueError):
                self.stats()
                return
            if time.monotonic() > end:
                raise BenchError(f"shuntd does not answer: {self.messages()}")
            time.sleep(0.05)

    def messages(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()[-1000:].strip()

    def socket(self, vif):
        return os.path.join(self.run, vif + ".sock")

    def stats(self):
        """The totals of `shunt stats --json`."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(10)
            control.connect(os.path.join(self.run, "control.sock"))
            control.sendall(b'{"verb": "stats"}\n')
            with control.makefile("rb") as lines:
                answer = json.loads(lines.readline())
        if not answer["ok"]:
            raise BenchError(f"shuntd: {answer['error']}")
        return answer["result"]["totals"]

    def pids(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            return [self.process.pid] + [int(pid) for pid in file.read().split()]

    def cpu_seconds(self):
        """CPU time of all its threads, its opener's included, to the nanosecond."""
        total = 0
        for pid in self.pids():
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                    total += int(file.read().split()[0])
        return total / 1e9

    def settle(self):
        """Wait until it has nothing left to do: a thousand guests take a while to come and to go."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            used = self.cpu_seconds()
            time.sleep(0.5)
            if self.cpu_seconds() - used < 0.01:
                return
        raise BenchError("shuntd does not come to rest")

    def memory(self):
        """
        KiB that the host spends: anonymous memory and page tables, and the whole of every memfd it made itself (they
        are allocated in full). Memory that the guest made and shared is the guest's: its memfds are named netif-*.
        """
        parts = {"anonymous": 0, "page-tables": 0, "memfds": 0}
        for pid in self.pids():
            parts["anonymous"] += proc_field(f"/proc/{pid}/smaps_rollup", "Pss_Anon")
            parts["page-tables"] += proc_field(f"/proc/{pid}/status", "VmPTE")
        with open(f"/proc/{self.process.pid}/maps", encoding="utf-8", errors="replace") as file:
            for line in file:
                mapping = re.match(r"(\w+)-(\w+) \S+ \S+ \S+ \d+ +/memfd:(?!netif-)", line)
                if mapping:
                    parts["memfds"] += (int(mapping[2], 16) - int(mapping[1], 16)) // 1024
        return parts


def proc_field(path, name):
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    raise BenchError(f"{path} has no {name}")


# ---- the benchmarks ----


class Bench:
    def __init__(self, build, run, rounds, quick):
        self.build = build
        self.run = run
        self.rounds = rounds
        self.quick = quick
        self.results = []
        self.details = {}
        self.wrong = []

    def program(self, path):
        path = os.path.join(self.build, path)
        if not os.access(path, os.X_OK):
            raise BenchError(f"{path} is not there: build first")
        return path

    def add(self, name, value, unit, peer, peer_value, ratio):
        self.results.append({"name": name, "value": round(value, 4), "unit": unit, "peer": peer,
                             "peer_value": round(peer_value, 4), "ratio": round(ratio, 4)})
        say(f"  {name}: {value:.4g} {unit}, {peer} {peer_value:.4g}, ratio {ratio:.3f}")

    def alternate(self, what, measures):
        """Every measure once a round. Returns the values of each, by name."""
        values = {name: [] for name in measures}
        for i in range(self.rounds):
            for name, measure in measures.items():
                values[name].append(measure())
            say(f"  {what} {i + 1}/{self.rounds}: " + ", ".join(f"{name} {v[-1]:.4g}" for name, v in values.items()))
        self.details[what] = values
        return values

    def pair(self, shuntd, size):
        """Mpps of verified frames, both directions together; what was sent, received and dropped has to add up."""
        before = shuntd.stats()
        said = json.loads(output_of(
            [self.program("bench/pair"), "-c", str(peers.GUEST_CPU), "-s", str(size), "-t", str(PAIR_SECONDS),
             "vif:" + shuntd.socket("a"), "vif:" + shuntd.socket("b")], 30))
        after = shuntd.stats()
        host = {key: after[key] - before[key] for key in ("received", "replicated", "delivered", "dropped", "lost")}
        self.details.setdefault("pairs", []).append({"guests": said, "host": host})
        arrived = said["good"] + said["bad"] + said["late"]
        for text, wrong in (
            ("frames arrived changed", said["bad"]),
            ("frames arrived out of order or twice", said["late"]),
            ("sent by the guests and received by the host differ", said["sent"] != host["received"]),
            ("delivered by the host and received by the guests differ", host["delivered"] != arrived),
            ("lost and dropped by name differ", said["lost"] != host["dropped"] + host["lost"]),
            ("the host's counters do not balance", not after["balanced"]),
        ):
            if wrong:
                self.wrong.append(f"{size} bytes: {text}: {json.dumps(said)} {json.dumps(host)}")
        return said["rate"] / 1e6

    def best(self, kind, size):
        """(burst, ring) at which a peer is fastest."""
        if self.quick:
            return peers.BEST[kind]["burst"], peers.BEST[kind]["ring"]
        rates = peers.sweep(kind, size, SWEEP_SECONDS)
        self.details[f"sweep {kind} {size}"] = [
            {"burst": burst, "ring": ring, "Mpps": rate / 1e6} for (burst, ring), rate in rates.items()]
        return max(rates, key=rates.get)

    def slow(self, name):
        size = SIZES[name]
        best = {kind: self.best(kind, size) for kind in peers.BEST}
        with contextlib.ExitStack() as stack:
            shuntd = Shuntd(stack, self, "slow", ["a", "b"], peers.SWITCH_CPU)
            values = self.alternate(name, {
                "shunt": lambda: self.pair(shuntd, size),
                "memif": lambda: peers.forward("memif", size, PAIR_SECONDS, *best["memif"]) / 1e6,
                "vhost": lambda: peers.forward("vhost", size, PAIR_SECONDS, *best["vhost"]) / 1e6,
            })
        ours = statistics.median(values["shunt"])
        for entry, kind, peer in ((name, "memif", "memif"), (name + "-vhost", "vhost", "vhost-user")):
            theirs = statistics.median(values[kind])
            burst, ring = best[kind]
            self.add(entry, ours, "Mpps", f"{peer}, burst {burst}, ring {ring}", theirs, ours / theirs)

    def taps(self, stack):
        """Two pairs of namespaces: {"shunt": (from, to), "veth": (from, to)}; each `to` is peers.ADDRESS[1]."""
        names = [f"shunt-bench-{os.getpid()}-{end}" for end in "ab"]
        shuntd = Shuntd(stack, self, "tap", ["a", "b"])
        for i, (name, vif) in enumerate(zip(names, "ab")):
            peers.netns(stack, name)
            tap = start(stack, [self.program("src/programs/shunt-tap/shunt-tap"), "-n", name, "-i", "eth0",
                                shuntd.socket(vif)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            wait_line(tap, r"eth0 up", 10)
            peers.configure(name, "eth0", i)
        return {"shunt": tuple(names), "veth": peers.veth_bridge(stack, f"shunt-bench-{os.getpid()}-veth")}

    def tcp(self, ends):
        sender, receiver = ends
        with contextlib.ExitStack() as stack:
            server = start(stack, peers.inside(receiver, "iperf3", "-s", "-1", "--forceflush"),
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            wait_line(server, r"Server listening", 5)
            said = json.loads(output_of(peers.inside(sender, "iperf3", "-J", "-t", str(TCP_SECONDS), "-c",
                                                     peers.ADDRESS[1]), TCP_SECONDS + 10))
        return said["end"]["sum_received"]["bits_per_second"] / 1e9

    def rtt(self, ends):
        sender, _ = ends
        said = output_of(peers.inside(sender, "ping", "-n", "-i", "0.002", "-c", str(PINGS), peers.ADDRESS[1]), 30)
        times = [float(t) * 1000 for t in re.findall(r"time=([\d.]+) ms", said)]
        if len(times) < PINGS * 0.99:
            self.wrong.append(f"ping: {len(times)} of {PINGS} came back")
        return mid_mean(times)

    def tap(self, name):
        with contextlib.ExitStack() as stack:
            ends = self.taps(stack)
            measure = {"tap-tcp": self.tcp, "tap-rtt": self.rtt}[name]
            for each in ends.values():
                output_of(peers.inside(each[0], "ping", "-n", "-c", "3", "-i", "0.1", peers.ADDRESS[1]), 10)
            values = self.alternate(name, {kind: lambda each=each: measure(each) for kind, each in ends.items()})
        ours, theirs = (statistics.median(values[kind]) for kind in ("shunt", "veth"))
        if name == "tap-tcp":
            self.add(name, ours, "Gbit/s", "veth + bridge", theirs, ours / theirs)
        else:
            self.add(name, ours, "us", "veth + bridge", theirs, theirs / ours)

    def idle(self, name):
        vifs = ["a", "b"] + [f"idle{i}" for i in range(IDLE_VIFS)]
        with contextlib.ExitStack() as stack:
            shuntd = Shuntd(stack, self, "idle", vifs, peers.SWITCH_CPU)
            alone = [self.pair(shuntd, 64) for _ in range((self.rounds + 1) // 2)]
            shuntd.settle()
            slab, memory = proc_field("/proc/meminfo", "SUnreclaim"), shuntd.memory()
            with contextlib.ExitStack() as guests:
                guest = start(guests, [self.program("bench/idle"), os.path.join(shuntd.run, "idle"), str(IDLE_VIFS)],
                              peers.GUEST_CPU, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                wait_line(guest, r"ready", 120)
                shuntd.settle()
                growth = {key: (value - memory[key]) / IDLE_VIFS for key, value in shuntd.memory().items()}
                slab = (proc_field("/proc/meminfo", "SUnreclaim") - slab) / IDLE_VIFS
                since, used = time.monotonic(), shuntd.cpu_seconds()
                time.sleep(IDLE_SECONDS)
                cpu = 100 * (shuntd.cpu_seconds() - used) / (time.monotonic() - since)
                crowd = [self.pair(shuntd, 64) for _ in range(self.rounds)]
            shuntd.settle()
            alone += [self.pair(shuntd, 64) for _ in range((self.rounds + 1) // 2)]
        kib = sum(growth.values())
        self.details[name] = {"alone": alone, "crowd": crowd, "KiB a vif": growth, "kernel, both ends, KiB a vif": slab}
        with_vifs, without = statistics.median(crowd), statistics.median(alone)
        self.add("idle-vifs-cpu", cpu, "% of a core", "limit", IDLE_CPU_LIMIT, IDLE_CPU_LIMIT / max(cpu, 1e-4))
        self.add("idle-vifs-rate", with_vifs, "Mpps", "the pair alone", without, with_vifs / without)
        self.add("idle-vifs-memory", kib, "KiB a vif", "limit", IDLE_MEMORY_LIMIT, IDLE_MEMORY_LIMIT / max(kib, 1e-4))

    def measure(self, name):
        say(f"{name}:")
        {"slow-64B": self.slow, "slow-1500B": self.slow, "tap-tcp": self.tap, "tap-rtt": self.tap,
         "idle-vifs": self.idle}[name](name)


# ---- what comes out ----


def rows(results):
    """Text of each entry: name, value, peer, its value, ratio, aim, met."""
    for entry in results:
        aim = AIMS.get(entry["name"])
        yield (entry["name"], f"{entry['value']:.4g} {entry['unit']}", entry["peer"], f"{entry['peer_value']:.4g}",
               f"{entry['ratio']:.2f}", f"{aim:.2f}" if aim else "-",
               "-" if not aim else "yes" if entry["ratio"] >= aim else "no")


HEADINGS = ("", "Shunt", "next to", "has", "ratio", "aim", "met")


def table(results):
    lines = [HEADINGS, *rows(results)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def markdown(results):
    lines = [HEADINGS, ("---",) * len(HEADINGS), *rows(results)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine():
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": os.uname().release, "load": os.getloadavg()[0]}


def cannot_start(names):
    """Why not, or None."""
    if os.geteuid() != 0:
        return "this needs root: network namespaces and TAP devices"
    if not {peers.GUEST_CPU, peers.SWITCH_CPU} <= os.sched_getaffinity(0):
        return "this needs CPUs 0 and 1"
    missing = {PACKAGES[tool] for name in names for tool in NEEDS[name] if not shutil.which(tool)}
    return f"missing packages: {' '.join(sorted(missing))}" if missing else None


def run(args):
    names = args.only or list(NEEDS)
    reason = cannot_start(names)
    if reason:
        say(f"run.py: {reason}")
        return 2
    peers.end_on_signals()
    if os.getloadavg()[0] > 0.5:
        say("note: the machine is busy; these figures need both CPUs to themselves")
    directory = tempfile.mkdtemp(prefix="shunt-bench-")
    bench = Bench(args.build, directory, QUICK_ROUNDS if args.quick else ROUNDS, args.quick)
    bench.details["machine"] = machine()
    try:
        for name in names:
            bench.measure(name)
    except (BenchError, peers.PeerError) as error:
        bench.wrong.append(str(error))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    out = os.path.join(args.build, "bench")
    for file_name, content in (("results.json", bench.results), ("details.json", bench.details)):
        with open(os.path.join(out, file_name), "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
    print(table(bench.results))
    missed = [row[0] for row in rows(bench.results) if row[-1] == "no"]
    if missed:
        print(f"bench: aims missed: {', '.join(missed)}")
    elif bench.results and not bench.wrong:
        print("bench: all aims met")
    for wrong in bench.wrong:
        say(f"run.py: wrong: {wrong}")
    return 1 if bench.wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="meson's build directory")
    parser.add_argument("--quick", action="store_true",
                        help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}, the peers' usual best settings")
    parser.add_argument("--only", action="append", choices=list(NEEDS), metavar="NAME", help="|".join(NEEDS))
    parser.add_argument("--markdown", action="store_true", help="print the last results, measure nothing")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    if not args.markdown:
        return run(args)
    with open(os.path.join(args.build, "bench", "results.json"), encoding="utf-8") as file:
        print(markdown(json.load(file)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
