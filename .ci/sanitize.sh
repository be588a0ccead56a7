#!/usr/bin/env bash
# The tests under tools that see what they cannot: use of freed memory, leaks, data races.
#
#     .ci/sanitize.sh address      # AddressSanitizer with LeakSanitizer, over the whole suite
#     .ci/sanitize.sh thread       # ThreadSanitizer, over the engine's tests, std instrumented, too
#     .ci/sanitize.sh valgrind     # memcheck, over the engine's tests
#     .ci/sanitize.sh all
#
# With --quick it is the engine's tests alone under AddressSanitizer, a minute or two. With
# --if-possible what cannot run here is no failure. The engine's tests are those of tests/it that
# need no other crates (.ci/engine). All of them include the reactor that lies.
#
# The compiler is the stable one: RUSTC_BOOTSTRAP lets it take the flags. For `thread` std has to
# be built anew with the same flags; Debian's rustc-web, cargo-web and rust-web-src can, with the
# sanitizer's run-time library of rustup's toolchain.
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
    *) echo "what is $flag?" >&2 && exit 2 ;;
    esac
done
# The watchdogs of the tests wait for so many times longer.
export SOLOIST_TEST_PATIENCE=10

impossible() {
    echo "cannot run: $*" >&2
    $if_possible && exit 0
    exit 1
}

[ "$(uname -sm)" = "Linux x86_64" ] || impossible "this is for Linux on x86_64"

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
    export TSAN_OPTIONS="suppressions=$root/.ci/tsan.supp halt_on_error=1"
    (cd .ci/engine && SOLOIST_LIES=1..201 /usr/bin/cargo test \
        -Z build-std=std,panic_abort,panic_unwind,test \
        --target $target --target-dir "$out/thread" -- "${tests[@]}")
}

valgrind() {
    type -P valgrind >/dev/null || impossible "apt-get install valgrind"
    # A test may fork and exec itself; each counts. Leaks are left to `address`, which knows those
    # that are on purpose.
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

# Which tests, for whoever looks for something: SOLOIST_TESTS="threads:: wakes::"
read -ra tests <<<"${SOLOIST_TESTS:-}"

case "$what" in
address | thread | valgrind) "$what" ;;
all)
    for one in address thread valgrind; do
        "$0" "$one" "${@:2}"
    done
    ;;
*) echo "what is $what?" >&2 && exit 2 ;;
esac
