#!/bin/sh
# Fuzzes every target for a while: fuzz/smoke.sh SECONDS [TARGET...]
# SANITIZER may be address; the default is none, which is faster. Needs a nightly toolchain; installs cargo-fuzz if it is missing. What it finds is in fuzz/artifacts/.
set -eu

sanitizer=${SANITIZER:-none}
seconds=${1:?usage: fuzz/smoke.sh SECONDS [TARGET...]}
shift
cd "$(dirname "$0")"

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "no nightly toolchain: skipped (rustup toolchain install nightly)"
    exit 0
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "installing cargo-fuzz, which takes a minute or two"
    cargo install --locked cargo-fuzz
fi

targets=${*:-$(cargo +nightly fuzz list --fuzz-dir .)}
echo "building $(echo "$targets" | wc -w) targets, which takes some minutes the first time"
cargo +nightly fuzz build --fuzz-dir . --features libfuzzer --sanitizer "$sanitizer"

failed=
for target in $targets; do
    # Findings of this run go into a corpus that is not committed.
    mkdir -p "work/$target" "artifacts/$target"
    log="work/$target.log"
    # A byte is cheap for a decoder and a network's round trip for a node.
    case $target in node_*) longest=600 ;; *) longest=4096 ;; esac
    printf '%-20s %s s ... ' "$target" "$seconds"
    if cargo +nightly fuzz run --fuzz-dir . --features libfuzzer --sanitizer "$sanitizer" "$target" \
        "work/$target" "corpus/$target" -- -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -max_len="$longest" \
        -print_final_stats=1 >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        coverage=$(sed -n 's/.*cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
        echo "$runs executions, $coverage edges"
    else
        echo "FAILED, see fuzz/$log"
        grep -E "panicked at|Test unit written|ERROR:" -A1 "$log" | head -8
        failed="$failed $target"
    fi
done
if [ -n "$failed" ]; then
    echo "findings in:$failed"
    exit 1
fi
