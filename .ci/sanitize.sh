#!/usr/bin/env bash
# The tests under tools that detect uses of freed memory, leaks and data races.
#
#     .ci/sanitize.sh address      # AddressSanitizer with LeakSanitizer, over the whole suite
#     .ci/sanitize.sh thread       # ThreadSanitizer, over the engine's tests and std
#     .ci/sanitize.sh valgrind     # memcheck, over the engine's tests
#     .ci/sanitize.sh all
#
# --quick runs only the engine's tests under AddressSanitizer, which takes a minute or two. With
# --if-possible, a check that cannot run on this machine is not a failure. The engine's tests are those in
# tests/it that need few dependencies (.ci/engine). All runs include the tests with false events of the
# reactor (soloist_liar).
#
# It uses the stable compiler, which accepts the flags with RUSTC_BOOTSTRAP. For `thread`, std has to be
# rebuilt with the same flags, by Debian's rustc-web, cargo-web and rust-web-src together with the run-time
# library of the sanitizer from rustup's toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

target=x86_64-unknown-linux-gnu
out="${CARGO_TARGET_DIR:-$root/target}/sanitize"
what=${1:-all}
quick=false
if_possible=false
for flag in "${@:2}"; do
    case "$flag" in
    --quick) quick=true ;;
    --if-possible) if_possible=true ;;
    *) echo "unknown option: $flag" >&2 && exit 2 ;;
    esac
done
# Multiplies the timeouts of the watchdogs of the tests.
export SOLOIST_TEST_PATIENCE=10

impossible() {
    echo "cannot run: $*" >&2
    $if_possible && exit 0
    exit 1
}

[ "$(uname -sm)" = "Linux x86_64" ] || impossible "this needs Linux on x86_64"

address() {
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address --cfg soloist_liar"
    export ASAN_OPTIONS=detect_stack_use_after_return=1
    export LSAN_OPTIONS="suppressions=$root/.ci/lsan.supp print_suppressions=0"
    if $quick; then
        (cd .ci/engine && SOLOIST_LIES=1..201 cargo test --target $target --target-dir "$out/address")
        return
    fi
    # The tests run the examples.
    cargo build --examples --all-features --target $target --target-dir "$out/address-all"
    cargo test --all-features --lib --test it --test memory --test load \
        --target $target --target-dir "$out/address-all"
    cargo test -p soloist-ecosystem --target $target --target-dir "$out/address-all"
}

thread() {
    local library=rustlib/$target/lib/librustc-stable_rt.tsan.a
    for needed in /usr/bin/cargo /usr/bin/rustc /usr/lib/rustlib/src; do
        [ -e $needed ] || impossible "apt-get install rustc-web cargo-web rust-web-src"
    done
    if ! [ -e /usr/lib/$library ]; then
        local runtime
        runtime="$(rustc --print sysroot)/lib/$library"
        [ -e "$runtime" ] || impossible "there is no $runtime"
        ln -s "$runtime" /usr/lib/$library || impossible "cannot write to /usr/lib/rustlib"
    fi
    export RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc RUSTFLAGS="-Zsanitizer=thread --cfg soloist_liar"
    # die_after_fork: a test forks, and its child starts threads.
    export TSAN_OPTIONS="suppressions=$root/.ci/tsan.supp halt_on_error=1 die_after_fork=0"
    (cd .ci/engine && SOLOIST_LIES=1..201 /usr/bin/cargo test \
        -Z build-std=std,panic_abort,panic_unwind,test \
        --target $target --target-dir "$out/thread" -- "${tests[@]}")
}

valgrind() {
    type -P valgrind >/dev/null || impossible "apt-get install valgrind"
    # Tests may start themselves as child processes, which are checked, too. `address` checks for leaks: it
    # has a list of intended ones.
    local run="valgrind --quiet --error-exitcode=99 --trace-children=yes --fair-sched=try"
    run+=" --suppressions=$root/.ci/valgrind.supp"
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$run"
    export RUSTFLAGS="--cfg soloist_liar"
    # What has to do with memory. Some of the others wait for the clock, and it is slow here.
    [ ${#tests[@]} -gt 0 ] || tests=(cancellation:: tasks:: teardown:: wakes:: promise:: panics::
        reentrancy:: group:: stress:: liar)
    (cd .ci/engine && SOLOIST_LIES=1..21 cargo test --target $target --target-dir "$out/valgrind" \
        -- --test-threads 2 "${tests[@]}")
}

# To run only some tests: SOLOIST_TESTS="threads:: wakes::"
read -ra tests <<<"${SOLOIST_TESTS:-}"

case "$what" in
address | thread | valgrind) "$what" ;;
all)
    for one in address thread valgrind; do
        "$0" "$one" "${@:2}"
    done
    ;;
*) echo "unknown check: $what" >&2 && exit 2 ;;
esac
