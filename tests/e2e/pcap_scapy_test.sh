#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A capture file of scapy's goes through two pcap ports; scapy reads what comes out, byte for byte.
# Usage: pcap_scapy_test.sh PATH/test-port-pcap
set -eu

for python in python3 /usr/bin/python3; do
	"$python" -c 'import scapy' 2>/dev/null && break
	python=
done
if [ -z "$python" ]; then
	echo "SKIP: no python3 with scapy" >&2
	exit 77
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"$python" - "$dir" "$1" <<'PY'
import random, subprocess, sys, time
from scapy.all import Ether, IP, UDP, TCP, Dot1Q, Raw, raw, rdpcap, wrpcap, PcapNgWriter

directory, program = sys.argv[1:]
random.seed(3)
frames = []
for i in range(100):
    payload = Raw(random.randbytes(random.randint(0, 9000)))
    tag = Dot1Q(vlan=i + 1) if i % 3 == 0 else None
    top = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    top = top / tag if tag else top
    frames.append(top / IP(dst="10.0.0.2") / (UDP() if i % 2 else TCP()) / payload)

def check(name):
    start = time.time()
    subprocess.run([program, "copy", f"{directory}/{name}", f"{directory}/out.pcap"], check=True)
    out = rdpcap(f"{directory}/out.pcap")
    assert len(out) == len(frames), (name, len(out))
    for number, (sent, got) in enumerate(zip(frames, out)):
        assert raw(sent) == raw(got), (name, number)
        assert start - 1 < float(got.time) < time.time() + 1, (name, number, got.time)

wrpcap(f"{directory}/little.pcap", frames)
check("little.pcap")
wrpcap(f"{directory}/big.pcap", frames, endianness=">")
check("big.pcap")
wrpcap(f"{directory}/nano.pcap", frames, nano=True)
check("nano.pcap")
with PcapNgWriter(f"{directory}/ng.pcapng") as writer:
    for frame in frames:
        writer.write(frame)
check("ng.pcapng")
PY
