#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# run.sh BUILD SECONDS: each fuzz target for so long, from an empty corpus. A finding is a failure.
set -u
build=$1 seconds=$2
status=0
for target in "$build"/tests/fuzz/fuzz_*; do
	case $target in *.p) continue ;; esac
	echo "== $(basename "$target"), $seconds s"
	dir=$(mktemp -d)
	timeout $((seconds + 30)) "$target" -max_total_time="$seconds" -max_len=4096 -print_final_stats=1 -artifact_prefix="$dir/" \
		"$dir" 2>"$dir/log"
	code=$?
	tail -n 12 "$dir/log"
	if [ "$code" != 0 ]; then
		echo "FAIL: $target ended with $code"
		grep -E 'ERROR|SUMMARY|not so|runtime error' -A25 "$dir/log" | head -n 60
		for finding in "$dir"/crash-* "$dir"/timeout-* "$dir"/oom-*; do
			[ -f "$finding" ] && { echo "$finding"; base64 -w 100 "$finding"; }
		done
		status=1
	fi
	rm -rf "$dir"
done
exit $status
