#!/bin/bash
# Runs fuzz targets: tests/fuzz/run.sh BUILD_DIR TARGET...
#
# FUZZ_SECONDS each (default 60), beginning with the kept inputs of tests/fuzz/corpus/<target>. New
# inputs gather in BUILD_DIR/inputs/<target>, findings in BUILD_DIR/findings; exits 1 if there is one.
# FUZZ_KEEP=1 instead copies the gathered inputs that reach new code into the kept ones.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
shift
export ASAN_OPTIONS=detect_leaks=1:handle_abort=1:allocator_may_return_null=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
failed=0
for target in "$@"; do
    kept=tests/fuzz/corpus/$target found=$build/inputs/$target findings=$build/findings/$target-
    mkdir -p "$kept" "$found" "$build/findings"
    flags=(-max_len=8192 -timeout=20 -rss_limit_mb=2048 -artifact_prefix="$findings")
    [ ! -f "tests/fuzz/$target.dict" ] || flags+=(-dict="tests/fuzz/$target.dict")
    program=$build/tests/fuzz/fuzz_$target
    if [ -n "${FUZZ_KEEP:-}" ]; then
        "$program" "${flags[@]}" -merge=1 -use_counters=0 "$kept" "$found" 2>&1 | tail -1
        continue
    fi
    log=$build/findings/$target.log
    if "$program" "${flags[@]}" -max_total_time="${FUZZ_SECONDS:-60}" "$found" "$kept" >"$log" 2>&1; then
        echo "ok   $target: $(grep -oE 'Done [0-9]+ runs in [0-9]+ second' "$log" | tail -1)s," \
            "$(grep -oE 'cov: [0-9]+' "$log" | tail -1)"
    else
        failed=1
        echo "FAIL $target: $log"
        tail -40 "$log"
    fi
done
exit $failed
