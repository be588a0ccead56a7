#!/usr/bin/env bash
# Fuzzes the crate: bytes become programs of tasks (fuzz/fuzz_targets/program.rs).
#
#     .ci/fuzz.sh [SECONDS]          # 60 by default
#     .ci/fuzz.sh --minimise         # reduces fuzz/corpus to the fewest files with the same coverage
#     .ci/fuzz.sh --run FILE...      # runs these inputs once
#
# SOLOIST_FUZZ_TRACE=1 prints each instruction. With SOLOIST_REQUIRE_PROGRAMS=1 it fails if there is no
# C++ compiler, which libFuzzer needs.
#
# It runs on the stable toolchain: the flags are those of `cargo fuzz`, which the compiler accepts with
# RUSTC_BOOTSTRAP. Inputs that fail are written to fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."

target=x86_64-unknown-linux-gnu
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/fuzz"
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=address -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 -Cdebug-assertions --cfg fuzzing"
if ! command -v c++ >/dev/null; then
    echo "there is no C++ compiler: nothing is fuzzed" >&2
    # As for tests whose program is missing: skipped, or failed if all programs are required.
    [ -z "${SOLOIST_REQUIRE_PROGRAMS:-}" ] || exit 1
    exit 0
fi
cargo build --release --target $target --manifest-path fuzz/Cargo.toml
program="$CARGO_TARGET_DIR/$target/release/program"

corpus=fuzz/corpus/program
# New inputs are not part of the repository unless --minimise adds them.
found="$CARGO_TARGET_DIR/found"
artifacts=fuzz/artifacts/program/
mkdir -p $artifacts
# The programs may use standard error. libFuzzer and failures write to a copy of it.
options=(-close_fd_mask=2 -timeout=60 -rss_limit_mb=4096 -artifact_prefix=$artifacts)

case "${1:-60}" in
--minimise)
    rm -rf "$corpus.least"
    mkdir -p "$corpus.least" "$found"
    "$program" "${options[@]}" -set_cover_merge=1 "$corpus.least" $corpus "$found"
    rm -rf $corpus
    mv "$corpus.least" $corpus
    ;;
--run)
    shift
    "$program" "${options[@]}" "$@"
    ;;
*)
    mkdir -p "$found"
    "$program" "${options[@]}" -max_total_time="${1:-60}" -max_len=384 -print_final_stats=1 \
        ${FUZZ_ARGS:-} "$found" $corpus
    ;;
esac
