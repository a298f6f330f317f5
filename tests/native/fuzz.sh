#!/bin/sh
# Fuzz every tests/native/fuzz_*.c for SECONDS each (default 60) with the sanitizers: fuzz.sh [SECONDS]
# fuzz_NAME.c tests native/NAME.c. What was found and the corpus stay in build/fuzz.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-60}

for harness in tests/native/fuzz_*.c; do
	name=$(basename "$harness" .c)
	corpus=build/fuzz/$name.corpus
	mkdir -p "$corpus"
	clang -O1 -g -std=gnu11 -Wall -Wextra -Werror -I. \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
		-o "build/fuzz/$name" "$harness" "native/${name#fuzz_}.c" -lm
	echo "$name: $seconds s"
	"build/fuzz/$name" -max_total_time="$seconds" -max_len=4098 -verbosity=0 -print_final_stats=1 \
		-artifact_prefix="build/fuzz/$name." "$corpus"
done
