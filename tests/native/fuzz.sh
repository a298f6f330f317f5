#!/bin/sh
# Fuzz each tests/native/fuzz_*.c, or those named, for SECONDS each (default 60): fuzz.sh [SECONDS [NAME ...]]
# With the sanitizers, against all of native/ that needs no kernel. Corpora and what was found stay in build/fuzz.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- $(basename -s .c -a tests/native/fuzz_*.c)

for name in "$@"; do
	corpus=build/fuzz/$name.corpus
	mkdir -p "$corpus"
	clang -O1 -g -std=gnu11 -Wall -Wextra -Werror -I. \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
		-o "build/fuzz/$name" "tests/native/$name.c" \
		native/ring.c native/sketch.c native/group_table.c native/groups.c native/groups_tick.c -lm
	echo "$name: $seconds s"
	"build/fuzz/$name" -max_total_time="$seconds" -max_len=4106 -verbosity=0 -print_final_stats=1 \
		-artifact_prefix="build/fuzz/$name." "$corpus"
done
