#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Debian's XenStore tools against the store: as domain 0 and as a guest.
#
#   store_tools_test.sh STORE_SERVER
set -u

for tool in read write ls watch rm list chmod exists; do
	if ! command -v "xenstore-$tool" >/dev/null; then
		echo "skipped: xenstore-$tool is missing (install xenstore-utils)"
		exit 77
	fi
done
if [ $# -ne 1 ]; then
	echo "usage: $0 STORE_SERVER" >&2
	exit 2
fi
server=$1
dir=$(mktemp -d)
pids=
failed=0

cleanup() {
	for pid in $pids; do
		kill "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# serve SOCKET [OPTION...]: start a store and wait until it listens.
serve() {
	socket=$1
	shift
	touch "$socket.out"
	"$server" "$@" "$socket" >"$socket.out" 2>"$socket.err" &
	pids="$pids $!"
	n=0
	until grep -q ready "$socket.out"; do
		n=$((n + 1))
		if [ "$n" -gt 100 ]; then
			echo "the store did not start:"
			cat "$socket.err"
			exit 1
		fi
		sleep 0.05
	done
}

# expect WHAT EXPECTED COMMAND...: the command succeeds and prints exactly that.
expect() {
	what=$1
	expected=$2
	shift 2
	if ! got=$(timeout 10 "$@" 2>&1) || [ "$got" != "$expected" ]; then
		printf 'FAIL %s\n  expected: %s\n  got: %s\n' "$what" "$expected" "$got"
		failed=1
	else
		echo "ok   $what"
	fi
}

# refuse WHAT COMMAND...: the command fails, by its own decision.
refuse() {
	what=$1
	shift
	timeout 10 "$@" >/dev/null 2>&1
	status=$?
	if [ "$status" -eq 0 ] || [ "$status" -ge 124 ]; then
		echo "FAIL $what: exit status $status"
		failed=1
	else
		echo "ok   $what"
	fi
}

serve "$dir/zero"
serve "$dir/guest" --domain 5

XENSTORED_PATH=$dir/zero
export XENSTORED_PATH
expect "write two keys in one transaction" "" xenstore-write /a/b one /a/c two
expect "read" "one
two" xenstore-read /a/b /a/c
expect "list" "b
c" xenstore-list /a
expect "exists" "" xenstore-exists /a/b
refuse "exists, but not" xenstore-exists /a/x
refuse "read of nothing" xenstore-read /a/x
expect "write an empty value" "" xenstore-write /a/empty ""
expect "read an empty value" "" xenstore-read /a/empty
expect "chmod" "" xenstore-chmod /a/b n0 r5
expect "ls" "a = \"\"
 b = \"one\"
 c = \"two\"
 empty = \"\"
local = \"\"
 domain = \"\"
  0 = \"\"" xenstore-ls
expect "ls with permissions and whole paths" "/a/b = \"one\"   (n0,r5)
/a/c = \"two\"   (n0)
/a/empty = \"\"   (n0)" xenstore-ls -f -p /a
expect "rm" "" xenstore-rm /a/c
refuse "read of what was removed" xenstore-read /a/c
refuse "a bad path" xenstore-write /a//b x
refuse "a dot" xenstore-write /a.b x

# A directory longer than one message.
i=0
args=
while [ "$i" -lt 600 ]; do
	args="$args /many/a-long-name-$i $i"
	i=$((i + 1))
done
# shellcheck disable=SC2086 # two words each
expect "write 600 keys" "" xenstore-write $args
expect "list 600 keys" 600 sh -c 'xenstore-list /many | wc -l'
expect "rm with all below" "" xenstore-rm /many
refuse "nothing is left" xenstore-exists /many/a-long-name-599

# Watches: the first event comes at once, then one for each change.
touch "$dir/watch"
timeout 10 xenstore-watch -n 3 /w >"$dir/watch" 2>&1 &
watch=$!
n=0
until grep -q '^/w$' "$dir/watch" || [ "$n" -gt 100 ]; do
	n=$((n + 1))
	sleep 0.05
done
expect "write what is watched" "" xenstore-write /w/x 1
expect "remove what is watched" "" xenstore-rm /w
wait "$watch"
expect "watch" "/w
/w/x
/w" cat "$dir/watch"

XENSTORED_PATH=$dir/guest
expect "guest: write and read its own" "" xenstore-write device/x 1
expect "guest: a relative path is below its home" 1 xenstore-read /local/domain/5/device/x
expect "guest: permissions" "device/x = \"1\"   (n5)" xenstore-ls -f -p device
refuse "guest: write elsewhere" xenstore-write /a 1
refuse "guest: read elsewhere" xenstore-read /local
refuse "guest: list the root" xenstore-list /
refuse "guest: give a node away" xenstore-chmod device/x n0
expect "guest: rm" "" xenstore-rm device

exit "$failed"
