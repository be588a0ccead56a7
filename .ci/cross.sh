#!/usr/bin/env bash
# Other systems than Linux: type-checks the crate for macOS, FreeBSD and Windows, and runs the portable
# tests for Windows under Wine. Installs and uses Debian's Rust, which includes the source of std, so that no
# target has to be downloaded.
#
# --if-possible: succeeds, with a message, if the packages cannot be installed.
# --minutes N: succeeds, with a message, if the tests are not done after N minutes.
# --types: only type-checks, which takes a few minutes at most.
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES=(rustc-web cargo-web rust-web-src gcc-mingw-w64-x86-64 wine wine64)
WINDOWS=x86_64-pc-windows-gnu
TARGETS=(aarch64-apple-darwin x86_64-unknown-freebsd "$WINDOWS")

# Tests that are left out under Wine 8.
SKIPPED=(
    # A reset reads as the end of the stream (also in a C program that does nothing else).
    streams::tcp::b75_closing_after_a_reset_is_no_error_and_no_hang
    streams::b75_a_drop_delivers_the_last_bytes_and_a_linger_of_zero_resets
    streams::the_stream_ends_when_its_write_half_is_dropped
    a_reset_affects_no_other_client
    clients_that_reset_at_once_affect_no_other
    copy::a_reset_of_the_client_is_an_error
    examples::fetch_reports_each_failure_and_fetches_the_other_pages
    # A datagram that is refused fails the next send, as on Linux.
    udp::b99_a_connected_socket_receives_on_after_a_refusal
    # An address that the machine does not have can be bound to.
    bad_input::addresses_that_cannot_be_used
    # Any keepalive time is accepted, and leaving a group without joining it is another error.
    bad_input::options_that_the_system_refuses
    # Too slow. Every socket call is two or three requests to the server process of Wine; a page of
    # ten_pages takes 63 requests, or 0.1 s on a busy machine. These tests exceed their timeouts.
    wakes::b10_what_comes_right_after_a_read_that_would_block_is_reported
    every_byte_comes_back_on_200_connections
    ten_pages::a_thousand_pages_at_once
    # Starting 200 processes takes longer than the watchdog allows.
    ten_pages::every_way_gets_many_pages_with_few_workers
    # On a busy machine, its sleeps of 210 ms take 300 ms and more.
    slow::a_slow_poll_names_the_task
)

possible=
types=
minutes=
while [ $# -gt 0 ]; do
    case "$1" in
    --if-possible) possible=yes ;;
    --types) types=yes ;;
    --minutes)
        minutes=${2-wrong}
        shift
        ;;
    *) minutes=wrong ;;
    esac
    if [[ ! $minutes =~ ^[0-9]*$ ]]; then
        echo "usage: .ci/cross.sh [--if-possible] [--minutes N] [--types]" >&2
        exit 2
    fi
    shift
done

step() {
    printf '\n--- %s (%d s)\n' "$*" "$SECONDS"
}

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Runs a command for at most SECONDS. Status 124 is a timeout.
at_most() {
    local seconds=$1 left
    shift
    if [ -n "$minutes" ]; then
        left=$((minutes * 60 - SECONDS))
        seconds=$((left < seconds ? left : seconds))
    fi
    [ "$seconds" -gt 0 ] || return 124
    timeout --kill-after=10 "$seconds" "$@" || {
        local status=$?
        # Killed, since it did not end after SIGTERM.
        [ $status != 137 ] || return 124
        return $status
    }
}

# Called after a timeout: fails, unless --minutes was given.
too_long() {
    [ -n "$minutes" ] && [ "$SECONDS" -ge $((minutes * 60 - 1)) ] || fail "$1: not done in time"
    echo "NOT DONE within $minutes minutes: $1"
    summary
    exit 0
}

summary() {
    step "what was done"
    echo "type-checked, with all features that exist there and with none: ${checked[*]}"
    if [ ${#ran[@]} -gt 0 ]; then
        echo "run on Windows, under $(wine --version):"
        printf '  %s\n' "${ran[@]}"
        echo "left out (the reasons are in this script): ${#SKIPPED[@]} names"
    fi
}

install_packages() {
    local package missing=() apt=(apt-get)
    for package in "${PACKAGES[@]}"; do
        if ! dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q ' installed$'; then
            missing+=("$package")
        fi
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || apt=(sudo -n apt-get)
    echo "installing ${missing[*]}"
    "${apt[@]}" -q update >/dev/null &&
        DEBIAN_FRONTEND=noninteractive "${apt[@]}" -q install -y --no-install-recommends \
            "${missing[@]}" >/dev/null
}

step "packages"
if ! install_packages; then
    [ -n "$possible" ] || fail "not all of these can be installed: ${PACKAGES[*]}"
    echo "NOT CHECKED: macOS, FreeBSD and Windows. Not all of these can be installed:"
    echo "${PACKAGES[*]}"
    exit 0
fi
/usr/bin/rustc --version

mkdir -p "${CARGO_TARGET_DIR:-target}/cross"
target=$(cd "${CARGO_TARGET_DIR:-target}/cross" && pwd)
log=$target/cargo.log

# Runs Debian's cargo, building the crates of std in the first argument.
debian_cargo() {
    local std=$1 status=0
    shift
    at_most 1800 env -u RUSTUP_TOOLCHAIN -u RUSTFLAGS RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
        CARGO_TARGET_DIR="$target" CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 \
        /usr/bin/cargo "$@" -Z "build-std=$std" --locked >"$log" 2>&1 || status=$?
    grep -vE '^ +(Compiling|Checking|Downloaded|Downloading) ' "$log" || true
    [ $status != 124 ] || too_long "cargo $*"
    [ $status = 0 ] || fail "cargo $*: failed"
    # cargo shows only the warnings of this crate.
    ! grep -q '^warning' "$log" || fail "there are warnings"
}

checked=()
ran=()
for system in "${TARGETS[@]}"; do
    step "type-check for $system, all features and none"
    debian_cargo std,panic_abort check --all-features --target "$system"
    debian_cargo std,panic_abort check --no-default-features --target "$system"
    checked+=("$system")
done

if [ -n "$types" ]; then
    summary
    echo "NOT RUN: the tests on Windows, under Wine. Without --types they are."
    exit 0
fi

step "build of the tests for $WINDOWS"
debian_cargo std,panic_abort,panic_unwind,test \
    test --no-run --all-features --target "$WINDOWS"
program() {
    sed -n "s|^  Executable .*$1 (\(.*\))\$|\1|p" "$log"
}
units=$(program src/lib.rs)
tests=$(program tests/it/main.rs)
memory=$(program tests/memory.rs)

step "Wine"
# std imports this function from a DLL that Wine 8 lacks. Programs search their own directory for it.
stub=$target/bcryptprimitives
cat >"$stub.c" <<'END'
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) {
    return SystemFunction036(data, (ULONG)length);
}
END
x86_64-w64-mingw32-gcc -shared -o "$stub.dll" "$stub.c" -ladvapi32
cp "$stub.dll" "$(dirname "$tests")"
cp "$stub.dll" "$target/$WINDOWS/debug/examples"

# A temporary Wine prefix. It and its processes are removed when the script exits.
WINEPREFIX=$(mktemp -d "$target/wine.XXXXXX")
export WINEPREFIX WINEDEBUG=-all RUST_BACKTRACE=0
# The watchdogs of the tests expect faster socket calls.
export SOLOIST_TEST_PATIENCE=5
trap 'timeout 30 wineserver -k || true; rm -rf "$WINEPREFIX"' EXIT
# No debugger after a crash, and no dialogs that offer downloads.
export WINEDLLOVERRIDES="winedbg.exe=d;mscoree,mshtml=d"
wine --version
at_most 300 wine wineboot --init </dev/null >/dev/null 2>&1 || {
    [ $? != 124 ] || too_long "the start of Wine"
    fail "Wine does not start"
}

# The output goes to a file, since processes that Wine leaves running would keep a pipe open.
run() {
    local name=$1 seconds=$2 results=$target/$1.log status=0 passed
    shift 2
    step "$name, run on Windows under Wine"
    at_most "$seconds" wine "$@" </dev/null >"$results" 2>&1 || status=$?
    if [ $status != 0 ]; then
        grep -v ' \.\.\. ok' "$results" | tail -n 200
        [ $status != 124 ] || too_long "$name"
        fail "$name: not all tests pass under Wine"
    fi
    passed=$(grep '^test result: ' "$results" | tail -n 1)
    [ -n "$passed" ] || fail "$name: the tests did not finish"
    echo "$passed"
    ran+=("$name: ${passed#test result: }")
}

skips=()
for test in "${SKIPPED[@]}"; do
    skips+=(--skip "$test")
done
run unit-tests 120 "$units"
run integration-tests 600 "$tests" "${skips[@]}"
run memory-tests 240 "$memory" "${skips[@]}"
summary
echo "cross: all checks passed"
