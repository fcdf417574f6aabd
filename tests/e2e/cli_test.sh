#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# shuntd and shunt as real processes: configuration, every command, exit codes, the store, a guest, the end.
# Everything is in a temporary directory; no namespace is needed. As root it also tries a user to drop to.
#
#   cli_test.sh SHUNTD SHUNT [FORWARD]
#
# FORWARD is the forwarder example; without it nothing attaches. SANDBOX=no is for sanitizers.
set -u

for tool in python3 xenstore-ls xenstore-write xenstore-read; do
	if ! command -v "$tool" >/dev/null; then
		echo "skipped: $tool is missing (install python3 and xenstore-utils)"
		exit 77
	fi
done
shuntd=$1
shunt=$2
forward=${3:-}
sandbox=${SANDBOX:-kill}
dir=$(mktemp -d)
run=$dir/run
export SHUNT_SOCKET=$run/control.sock
export XENSTORED_PATH=$run/store.sock
pids=
daemon=
failed=0

cleanup() {
	for pid in $pids $daemon; do
		kill "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

fail() {
	echo "FAIL: $*"
	failed=1
}

# expect CODE TEXT COMMAND...: the exit code, and TEXT in what it prints, which is one line if the code is not 0.
expect() {
	local code=$1 text=$2
	shift 2
	local out
	out=$("$@" 2>&1 </dev/null)
	local got=$?
	[ $got -eq "$code" ] || fail "$*: exit code $got, not $code: $out"
	case $out in
	*"$text"*) ;;
	*) fail "$*: no '$text' in: $out" ;;
	esac
	if [ "$code" -ne 0 ] && [ "$(printf '%s\n' "$out" | wc -l)" -ne 1 ]; then
		fail "$*: more than one line: $out"
	fi
}

# value EXPRESSION COMMAND...: evaluate a Python expression over `r`, the JSON that shunt --json COMMAND prints.
value() {
	local expression=$1
	shift
	"$shunt" --json "$@" | python3 -c "import json, sys; r = json.load(sys.stdin); print(($expression))"
}

same() {
	[ "$2" = "$3" ] || fail "$1: '$2', not '$3'"
}

# until TIMES COMMAND...: try every 50 ms.
until_true() {
	local times=$1
	shift
	while [ "$times" -gt 0 ]; do
		"$@" && return 0
		sleep 0.05
		times=$((times - 1))
	done
	return 1
}

# start CONFIG: in the background, ready when its control socket answers.
start() {
	"$shuntd" -c "$1" 2>"$dir/log" &
	daemon=$!
	until_true 100 answers || fail "shuntd does not answer: $(cat "$dir/log")"
}

answers() {
	"$shunt" vif list >/dev/null 2>&1
}

# Ask it to end; the exit code and the run directory must be clean.
finish() {
	kill -"${1:-TERM}" "$daemon"
	wait "$daemon"
	same "exit code" $? 0
	daemon=
	same "files left" "$(ls -A "$run")" ""
}

ended() {
	! kill -0 "$1" 2>/dev/null
}

state_is() {
	[ "$(value "r['state']" vif show "$1")" = "$2" ]
}

base() {
	printf '[shuntd]\nrun = %s\nsandbox = %s\ncaptures = %s\n' "$run" "$sandbox" "$dir"
}

# ---- the configuration ----

# bad LINE TEXT CONFIG: refused with FILE:LINE: ... TEXT and exit code 2, with and without -t.
bad() {
	printf '%b' "$3" >"$dir/bad.conf"
	expect 2 "$dir/bad.conf:$1: " "$shuntd" -t -c "$dir/bad.conf"
	expect 2 "$2" "$shuntd" -c "$dir/bad.conf"
}

bad 2 'there is no such key' '[shuntd]\ncolour = red\n'
bad 1 'there is no such section' '[bridge br0]\n'
bad 2 'workers' '[shuntd]\nworkers = 0\n'
bad 3 'is given twice' '[vif a]\nmtu = 1500\nmtu = 1500\n'
bad 3 'is there twice' '[vif a]\n# a comment\n[vif a]\n'
bad 3 'is there twice' '[vif a]\n\n[port a]\nspec = null:x\n'
bad 2 'mac = 01:00:00:00:00:01' '[vif a]\nmac = 01:00:00:00:00:01\n'
bad 2 'vlan = 4095' '[vif a]\nvlan = 4095\n'
bad 2 'rate = fast' '[vif a]\nrate = fast\n'
bad 2 'owner = no-such-user-here' '[vif a]\nowner = no-such-user-here\n'
bad 2 'neither' '[vif a]\nmtu 1500\n'
bad 1 'before the first' 'mtu = 1500\n'
bad 1 'spec is missing' '[port up]\n'
bad 2 'spec = tun:x' '[port up]\nspec = tun:x\n'
bad 1 'exclude each other' '[port up]\nspec = null:x\nvlan = 5\ntrunk = all\n'
bad 1 'macs is missing' '[port up]\nspec = null:x\nkind = guest\n'
bad 1 'uses this name itself' '[vif control]\n'
bad 1 'a name has at most' '[vif ../x]\n'
bad 1 "']' is missing" '[vif a\n'
expect 2 'no-such-file' "$shuntd" -c "$dir/no-such-file"
expect 2 '-c FILE is missing' "$shuntd"
base >"$dir/good.conf"
expect 0 '' "$shuntd" -t -c "$dir/good.conf"

# ---- shunt without shuntd ----

expect 3 'start it' "$shunt" vif list
expect 2 'no such command' "$shunt" vif frobnicate
expect 2 'NAME is missing' "$shunt" vif show
expect 2 'not KEY=VALUE' "$shunt" vif add a mtu
expect 2 'given twice' "$shunt" vif add a mtu=1500 mtu=1501
expect 2 'takes no argument' "$shunt" stats now
"$shunt" doctor >"$dir/doctor" && fail "doctor is content without shuntd"
grep -q 'FAIL  shuntd: cannot be asked' "$dir/doctor" || fail "doctor: $(cat "$dir/doctor")"
grep -q 'cure: start it' "$dir/doctor" || fail "doctor names no cure"

# ---- vifs and ports ----

base >"$dir/shuntd.conf"
cat >>"$dir/shuntd.conf" <<'CONF'
workers = 2
log = warning

[port up]
spec = null:up
trunk = 2,5-9
native = 7

[vif web0]
uuid = 2f1c1a0e-7b1d-4f0e-9d55-5d1c0a3c0a01
mac = 02:00:00:00:00:0a
ips = 10.0.0.1, fe80::1
rate = 10Mb/s@20ms
memory = 16M

[vif web1]
CONF
start "$dir/shuntd.conf"
same 'names' "$(value "' '.join(v['name'] for v in r)" vif list)" 'web0 web1'
same 'ports' "$(value "[(p['name'], p['spec'], p['kind']) for p in r]" port list)" "[('up', 'null:up', 'uplink')]"
same 'trunk' "$(value "r['config']['trunk'], r['config']['native']" port show up)" "('2,5-9', 7)"
same 'mac' "$(value "r['config']['mac']" vif show web0)" 02:00:00:00:00:0a
same 'ips' "$(value "r['config']['ips']" vif show web0)" "['10.0.0.1', 'fe80::1']"
same 'rate' "$(value "r['config']['rate']" vif show web0)" 25000,20000
same 'state' "$(value "r['state']" vif show web1)" detached
same 'made-up mac' "$(value "int(r['config']['mac'][:2], 16) & 3" vif show web1)" 2
same 'socket mode' "$(stat -c %a "$run/web0.sock")" 600
"$shunt" vif show web0 | grep -q '^  mac  *02:00:00:00:00:0a$' || fail "vif show as text"

expect 0 'web2' "$shunt" vif add web2 mac=02:00:00:00:00:0c vlan=5 flood=100 unknown-unicast=yes
expect 1 'there is a vif of this name' "$shunt" vif add web2
expect 1 'there is a port of this name' "$shunt" vif add up
expect 1 'another port has one of its addresses' "$shunt" vif add web3 mac=02:00:00:00:00:0c vlan=5
[ -e "$run/web3.sock" ] && fail "a refused vif left its socket"
expect 2 'mtu = 20: must be' "$shunt" vif add web3 mtu=20
expect 2 'no such key' "$shunt" vif add web3 colour=red
expect 2 'no such user' "$shunt" vif add web3 owner=no-such-user-here
expect 0 '' "$shunt" vif set web2 vlan=none ips=10.0.0.2
same 'set' "$(value "r['config']['vlan'], r['config']['ips'], r['config']['flood']" vif show web2)" \
	"(None, ['10.0.0.2'], 100)"
expect 2 'uuid' "$shunt" vif set web2 uuid=2f1c1a0e-7b1d-4f0e-9d55-5d1c0a3c0a01
expect 1 'no such vif' "$shunt" vif set nobody mtu=1500
expect 1 'no guest is attached' "$shunt" vif kick web2
expect 1 'not connected' "$shunt" vif rehome web2
expect 0 '' "$shunt" vif del web2
expect 1 'no such vif' "$shunt" vif del web2
[ -e "$run/web2.sock" ] && fail "a deleted vif left its socket"

expect 0 'p1' "$shunt" port add p1 spec=null:a kind=guest macs=02:00:00:00:00:0d vlan=9
expect 1 'no such port' "$shunt" port del p2
expect 2 'spec is missing' "$shunt" port add p2
expect 1 'capture directory' "$shunt" port add p2 spec=pcap:../../etc/passwd
expect 0 '' "$shunt" port add out "spec=pcap:$dir/out.pcap,write"
same 'fdb' "$(value "sorted((e['mac'], e['vlan'], e['port']) for e in r if e['port'] == 'p1')" fdb)" \
	"[('02:00:00:00:00:0d', 9, 'p1')]"
expect 0 '' "$shunt" port del p1
expect 0 '' "$shunt" port del out
same 'balance' "$(value "r['totals']['balanced'], len(r['workers'])" stats)" '(True, 2)'

# Requests that are not what shunt would send.
python3 - "$SHUNT_SOCKET" <<'PY' || fail "raw requests"
import json, socket, sys

def ask(*lines):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(5)
    s.connect(sys.argv[1])
    try:
        s.sendall(b"".join(lines))
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    return read(s, len(lines))

def read(s, n):
    f = s.makefile()
    out = []
    for _ in range(n):
        line = f.readline()
        if not line:
            break
        out.append(json.loads(line))
    return out

for text in (b"\n", b"nonsense\n", b"[]\n", b'"vif.list"\n', b'{"verb": 1}\n', b'{"verb": "vif.list", "x": 1}\n',
             b'{"verb": "vif.list", "args": []}\n', b'{"verb": "vif.list", "args": {"name": "a"}}\n',
             b'{"verb": "vif.show"}\n', b'{"verb": "vif.show", "args": {"name": 5}}\n', b'{"verb": "no.such"}\n',
             b'{"verb": "vif.add", "args": {"name": "q", "mtu": [1]}}\n', b'{"verb": "stats", "verb": "stats"}\n',
             b'{"verb": "vif.show", "args": {"name": "' + b"a" * 5000 + b'"}}\n', b"\xff\xfe\x00\n", b"[" * 4000 + b"\n"):
    answers = ask(text)
    assert len(answers) == 1 and answers[0]["ok"] is False and answers[0]["error"], text
answers = ask(*[b'{"verb": "vif.list"}\n', b'{"verb": "stats"}\n'] * 200)
assert len(answers) == 400 and answers[399]["result"]["totals"], "many requests at once"
assert ask(b"x" * 70000 + b"\n")[0]["ok"] is False, "a line that is too long"
# More clients than it serves, which ask nothing: the others go on when they leave.
idle = []
for _ in range(40):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    idle.append(s)
for s in idle:
    s.close()
PY
until_true 40 answers || fail "idle clients block it"

# ---- the store, the second shuntd, doctor ----

xenstore-write /cli-test hello || fail "xenstore-write"
same 'store' "$(xenstore-read /cli-test)" hello
xenstore-ls | grep -q 'cli-test = "hello"' || fail "xenstore-ls"
expect 1 'another shuntd' "$shuntd" -c "$dir/shuntd.conf"
same 'pid file' "$(cat "$run/shuntd.pid")" "$daemon"
"$shunt" doctor >"$dir/doctor" || fail "doctor: $(cat "$dir/doctor")"
grep -q '^ok    shuntd: version' "$dir/doctor" || fail "doctor: $(cat "$dir/doctor")"
grep -q '^ok    worker 1: alive' "$dir/doctor" || fail "doctor: $(cat "$dir/doctor")"
same 'doctor as JSON' "$(value "r['failed']" doctor)" 0
if [ "$sandbox" != no ]; then
	for file in /proc/"$daemon"/task/*/status; do
		same "seccomp of $file" "$(awk '/^Seccomp:/ {print $2}' "$file")" 2
		same "capabilities of $file" "$(awk '/^CapPrm:/ {print $2}' "$file")" 0000000000000000
	done
fi

# ---- a guest ----

if [ -n "$forward" ]; then
	python3 - "$dir/in.pcap" <<'PY'
import struct, sys
frame = bytes.fromhex("02000000000b" "02000000000a" "88b5") + bytes(50)
with open(sys.argv[1], "wb") as f:
    f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
    for i in range(100):
        f.write(struct.pack("<IIII", 0, i, len(frame), len(frame)) + frame)
PY
	expect 0 '' "$shunt" vif add b mac=02:00:00:00:00:0b
	expect 0 '' "$shunt" vif del web0
	expect 0 '' "$shunt" vif add a mac=02:00:00:00:00:0a
	"$forward" "vif:$run/b.sock" null:sink 2>"$dir/b.log" &
	pids="$pids $!"
	until_true 100 state_is b connected || fail "b does not connect: $(cat "$dir/b.log")"
	"$forward" "pcap:$dir/in.pcap,loop" "vif:$run/a.sock" 2>"$dir/a.log" &
	sender=$!
	pids="$pids $sender"
	until_true 100 state_is a connected || fail "a does not connect: $(cat "$dir/a.log")"
	received() {
		[ "$(value "r['counters']['tx-packets']" vif show b)" -gt 100 ]
	}
	until_true 100 received || fail "b receives nothing"
	expect 0 '' "$shunt" vif rehome a
	until_true 100 state_is a connected || fail "a is not connected after rehome"
	expect 0 '' "$shunt" vif kick a
	until_true 100 state_is a connected || fail "a does not come back after kick"
	kill "$sender"
	wait "$sender" 2>/dev/null
	until_true 100 state_is a detached || fail "a is not detached after its guest ended"
	balanced() {
		[ "$(value "r['totals']['under-way']" stats)" -eq 0 ]
	}
	until_true 100 balanced || fail "packets are missing: $("$shunt" --json stats)"
	same 'attachments' "$(value "r['attachments'] >= 2" vif show a)" True
fi

# ---- the end ----

finish TERM
start "$dir/shuntd.conf"
expect 0 '' "$shunt" shutdown
wait "$daemon"
same 'exit code after shutdown' $? 0
daemon=
same 'files left after shutdown' "$(ls -A "$run")" ''

# Killed: the opener cleans up, and the next one starts.
start "$dir/shuntd.conf"
disown "$daemon"
kill -KILL "$daemon"
until_true 40 ended "$daemon"
start "$dir/shuntd.conf"
finish INT

if [ "$(id -u)" -eq 0 ] && id nobody >/dev/null 2>&1; then
	chmod 755 "$dir"
	sed 's/^workers.*/user = nobody/' "$dir/shuntd.conf" >"$dir/nobody.conf"
	start "$dir/nobody.conf"
	same 'user' "$(stat -c %U /proc/"$daemon"/task/"$daemon"/stat 2>/dev/null; awk '/^Uid:/ {print $2}' /proc/"$daemon"/status)" \
		"$(printf 'root\n%s' "$(id -u nobody)")"
	expect 0 '' "$shunt" vif add other owner=nobody
	finish
fi

[ $failed -eq 0 ] && echo "cli: all passed"
exit $failed
