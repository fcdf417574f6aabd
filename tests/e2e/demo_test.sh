#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The demo, shortened: it passes; each way to break it makes it fail and name what was broken; ended by a signal at
# different moments it fails too. Whatever happens, no namespace, process or file of it is left.
#
#	demo_test.sh DEMO BUILD [CASE...]
set -u

for tool in ip ping iperf3 python3; do
	if ! command -v "$tool" >/dev/null; then
		echo "skipped: $tool is missing (tools/deps demo)"
		exit 77
	fi
done
if [ "$(id -u)" -ne 0 ]; then
	echo "skipped: needs root"
	exit 77
fi
if [ $# -lt 2 ]; then
	echo "usage: $0 DEMO BUILD [CASE...]" >&2
	exit 2
fi
demo=$1
export BUILD=$2
shift 2
dir=$(mktemp -d)
export TMPDIR=$dir/tmp
running=
failed=0

cleanup() {
	if [ -n "$running" ]; then
		kill "$running" 2>/dev/null
		wait "$running" 2>/dev/null
	fi
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

fail() {
	echo "FAIL $case: $*"
	tail -n 30 "$dir/out"
	failed=1
}

# The processes that have the demo's directory or a namespace of the demo PID in their command line.
processes() {
	local file line
	for file in /proc/[0-9]*/cmdline; do
		line=$(tr '\0' ' ' 2>/dev/null <"$file") || continue
		case $line in
		*"$TMPDIR/shunt-demo-"* | *"shunt-demo-$1-"*) echo "$line" ;;
		esac
	done
}

# finish CODE LAST NAMED: wait for the demo; its exit code, its last line (a pattern), what the last line names.
finish() {
	wait "$running"
	local code=$? pid=$running last
	running=
	last=$(tail -n 1 "$dir/out")
	[ "$code" -eq "$1" ] || fail "exit code $code, not $1"
	# shellcheck disable=SC2254 # a pattern
	case $last in
	$2) ;;
	*) fail "the last line is: $last" ;;
	esac
	case $last in
	*"$3"*) ;;
	*) fail "the last line does not name '$3': $last" ;;
	esac
	[ -z "$(processes "$pid")" ] || fail "processes are left: $(processes "$pid")"
	ip netns list | grep -q "^shunt-demo-$pid-" && fail "namespaces are left"
	[ -z "$(ls -A "$TMPDIR")" ] || fail "files are left: $(ls -A "$TMPDIR")"
	[ $failed -ne 0 ] || echo "ok   $case: $last"
}

# begin [WHAT]: start the demo, broken. It gets the signals that this shell ignores for what it starts in the background.
begin() {
	case=${1:+BREAK=$1}
	case=${case:-whole}
	mkdir -p "$TMPDIR"
	BREAK=${1:-} env --default-signal=INT "$demo" --seconds 1 >"$dir/out" 2>&1 </dev/null &
	running=$!
}

# interrupt SIGNAL TEXT: once it has printed TEXT.
interrupt() {
	begin
	case="SIG$1 after '$2'"
	for _ in $(seq 300); do
		grep -q -e "$2" "$dir/out" && break
		sleep 0.1
	done
	kill -"$1" "$running"
	finish 1 'demo: FAIL (*' "SIG$1"
}

[ $# -gt 0 ] || set -- whole uplink switch guest signals usage
for what in "$@"; do
	case $what in
	whole)
		begin
		finish 0 'demo: PASS' ''
		;;
	uplink)
		begin uplink
		finish 1 'demo: FAIL (*' 'A -> outside'
		grep -q '^A -> B  *0 of ' "$dir/out" || fail 'the guests do not reach each other'
		;;
	switch)
		begin switch
		finish 1 'demo: FAIL (*' 'shuntd does not answer'
		;;
	guest)
		begin guest
		finish 1 'demo: FAIL (*' 'vif b: detached'
		grep -q '^A -> outside  *0 of ' "$dir/out" || fail 'A does not reach outside'
		;;
	signals)
		interrupt INT 'starting'
		interrupt TERM 'A -> B'
		interrupt INT 'A -> outside'
		;;
	usage)
		case=usage
		BREAK=nonsense "$demo" >"$dir/out" 2>&1 </dev/null
		[ $? -eq 2 ] || fail 'BREAK=nonsense is taken'
		;;
	*)
		echo "no such case: $what" >&2
		exit 2
		;;
	esac
done
exit $failed
