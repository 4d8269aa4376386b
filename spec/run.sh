#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs suites that are already built and adds up what each of them counted: spec/run.sh unit lua e2e fuzz lint
# (normally by `make check`). Environment: B, the build folder; ONLY, a part of the names to run; PYTHON.
# Each run's output is kept in $B/log. The last line is "N passed, N failed"; a run that dies without counting, or
# claims success without having run anything, or leaves a sanitizer's report, is one failure.
set -u
cd "$(dirname "$0")/.." || exit 1

B=${B:-build}
ONLY=${ONLY:-}
PYTHON=${PYTHON:-/usr/bin/python3}
BUILT=$(realpath -m "$B") # B may be a path of its own
LOG=$BUILT/log
passed=0
failed=0

mkdir -p "$LOG"

export FAE_BIN=$BUILT/fae
export CMOCKA_MESSAGE_OUTPUT=stdout
asan=${ASAN_OPTIONS:-}
ubsan=${UBSAN_OPTIONS:-}
tsan=${TSAN_OPTIONS:-}

# Sanitizer reports go to files: a worker's report must fail the suite although its supervisor replaces it.
reports_to() {
    export ASAN_OPTIONS="abort_on_error=1:log_path=$1:$asan"
    export UBSAN_OPTIONS="print_stacktrace=1:log_path=$1:$ubsan"
    export TSAN_OPTIONS="halt_on_error=0:second_deadlock_stack=1:log_path=$1:$tsan"
}

# A line in $LOG/stalls for each 0.3 s and more that nobody ran. What failed meanwhile may have missed a deadline of its own.
watch_stalls() {
    local fd begin

    exec {fd}<> <(:)
    while kill -0 $$ 2>/dev/null; do
        begin=${EPOCHREALTIME/./}
        read -r -t 0.1 -u "$fd"
        [ $((${EPOCHREALTIME/./} - begin)) -lt 400000 ] || echo "$begin" >>"$LOG/stalls"
    done
}

# Each count_KIND LOG prints "PASSED FAILED", nothing when the output has no summary.
count_cmocka() {
    awk '/^\[  PASSED  \] .*[0-9]+ test\(s\)/ { sub(/ test\(s\).*/, ""); sub(/.* /, ""); p += $0; seen = 1 }
         /^\[  FAILED  \] .*[0-9]+ test\(s\)/ { sub(/ test\(s\).*/, ""); sub(/.* /, ""); f += $0; seen = 1 }
         END { if (seen) print p + 0, f + 0 }' "$1"
}

count_busted() {
    awk 'match($0, /[0-9]+ success(es)? \/ [0-9]+ failures? \/ [0-9]+ errors?/) {
             split(substr($0, RSTART, RLENGTH), n, / [a-z]+( \/ )?/); p += n[1]; f += n[2] + n[3]; seen = 1 }
         END { if (seen) print p + 0, f + 0 }' "$1"
}

count_pytest() {
    awk '/ in [0-9.]+s/ && /[0-9]+ (passed|failed|errors?|skipped|deselected|xfailed|xpassed)/ { line = $0 }
         END { if (line == "") exit
               n = split(line, w, /[ ,=]+/)
               for (i = 2; i <= n; i++) {
                   if (w[i] == "passed") p += w[i - 1]
                   if (w[i] == "failed" || w[i] ~ /^errors?$/) f += w[i - 1]
               }
               print p + 0, f + 0 }' "$1"
}

# "N passed, N failed" as the last such line: lint and the replay of fuzz seeds.
count_plain() {
    sed -n 's/^\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\1 \2/p' "$1" | tail -n 1
}

# run KIND NAME SECONDS COMMAND...: one program under a time limit, one line of result, its log when it failed. Both
# come in one piece, since another may be running.
run() {
    local kind=$1 name=$2 limit=$3 status p=0 f=0 begin end counts why='' report again stalls
    local log=$LOG/${name//[\/ ]/-}.log
    shift 3

    rm -f "$log" "$log".san.*
    reports_to "$log.san"
    begin=$(date +%s%N)
    for again in 1 2 0; do
        stalls=$(wc -l <"$LOG/stalls")
        { timeout -k 5 "$limit" "$@" >"$log" 2>&1 </dev/null; } 2>/dev/null # the shell's own "Aborted" says nothing new
        status=$?
        [ "$status" -ne 0 ] && [ "$again" -ne 0 ] && [ "$kind" != pytest ] || break # which does that for each test
        [ "$(wc -l <"$LOG/stalls")" -ne "$stalls" ] || break
        printf '%-28s failed while the machine stood still, and is run again:\n%s\n' "$name" "$(grep -a -m 5 -i 'fail' "$log")"
    done
    end=$(date +%s%N)
    counts=$("count_$kind" "$log")
    read -r p f <<<"${counts:-0 0}"

    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        why="not done after $limit s"
    elif [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then
        why="exit code $status"
    elif [ -z "$counts" ]; then
        why="ended without counting its tests"
    elif [ "$status" -eq 0 ] && [ "$f" -ne 0 ]; then
        why="exit code 0 in spite of failures"
    fi
    for report in "$log".san.*; do
        [ -e "$report" ] || continue
        why="${why:+$why, }sanitizer report"
        { echo; cat "$report"; } >>"$log"
    done
    if [ -n "$why" ] && [ "$f" -eq 0 ]; then
        f=1
    fi
    report=$(
        printf '%-28s %5d passed %4d failed  %6s s%s\n' "$name" "$p" "$f" \
            "$(((end - begin) / 1000000000)).$(printf %02d $(((end - begin) / 10000000 % 100)))" "${why:+  ($why)}"
        if [ "$f" -ne 0 ]; then
            echo "---- the end of ${log#"$PWD"/} ----"
            tail -n 80 "$log"
            echo "----"
        fi
    )
    printf '%s\n' "$report"
    passed=$((passed + p))
    failed=$((failed + f))
}

# together LANE LANE: two functions at once, and the sum of what they counted. For suites that wait more than they compute.
together() {
    local lane counts p f pids=()

    for lane; do
        rm -f "$LOG/$lane.count"
        { trap - EXIT && passed=0 failed=0 && "$lane" && echo "$passed $failed" >"$LOG/$lane.count"; } &
        pids+=($!)
    done
    wait "${pids[@]}"
    for lane; do
        counts=$(cat "$LOG/$lane.count") || counts="0 1"
        read -r p f <<<"$counts"
        passed=$((passed + p))
        failed=$((failed + f))
    done
}

# unit_lane N: every second program.
unit_lane() {
    local source name i=0

    for source in spec/unit/test_*"$ONLY"*.c; do
        [ -e "$source" ] || continue
        i=$((i + 1))
        [ $((i % 2)) -eq "$1" ] || continue
        name=$(basename "$source" .c)
        run cmocka "unit/${name#test_}" 120 "$B/unit/$name"
    done
}

unit_even() { unit_lane 0; }
unit_odd() { unit_lane 1; }
suite_unit() { together unit_even unit_odd; }

lua_jit() {
    run busted lua 120 "$B/fae" test "${lua_files[@]}"
    run busted "lua jit=off" 120 env FAE_TEST_JIT=off "$B/fae" test "${lua_files[@]}"
}

lua_stress() { run busted "lua gc=stress" 300 env FAE_TEST_GC=stress "$B/fae" test "${lua_files[@]}"; }

suite_lua() {
    mapfile -t lua_files < <(find spec/lua -name "*${ONLY}*_spec.lua" | sort)
    [ ${#lua_files[@]} -gt 0 ] || return 0
    [ -n "$ONLY" ] || lua_files=(spec/lua)
    together lua_jit lua_stress
}

suite_e2e() {
    local files=()

    mapfile -t files < <(find spec/e2e -name 'test_*.py' | sort)
    [ ${#files[@]} -gt 0 ] || return 0
    # By file, so that the slow ones can be seen.
    local file name
    for file in "${files[@]}"; do
        name=$(basename "$file" .py)
        name=e2e/${name#test_}
        if [ -n "$ONLY" ] && [[ $name != *"$ONLY"* ]]; then
            grep -q "def test_.*$ONLY" "$file" || continue
            run pytest "$name" 300 "$PYTHON" -B -m pytest -q -p no:cacheprovider -k "$ONLY" "$file"
        else
            run pytest "$name" 300 "$PYTHON" -B -m pytest -q -p no:cacheprovider "$file"
        fi
    done
}

suite_fuzz() {
    local source name

    for source in spec/fuzz/fuzz_*"$ONLY"*.c; do
        [ -e "$source" ] || continue
        name=$(basename "$source" .c)
        name=${name#fuzz_}
        run plain "fuzz/$name" 120 "$B/replay/fuzz_$name" "spec/fuzz/seeds/$name"
    done
}

suite_lint() {
    [ -z "$ONLY" ] || return 0
    run plain lint 120 spec/lint.sh
}

true >"$LOG/stalls"
watch_stalls &
watcher=$!
trap 'kill "$watcher"' EXIT

for suite; do
    case $suite in
    unit | lua | e2e | fuzz | lint) "suite_$suite" ;;
    *)
        echo "spec/run.sh: no suite \"$suite\" (unit lua e2e fuzz lint)" >&2
        exit 2
        ;;
    esac
done

if [ -n "$ONLY" ] && [ $((passed + failed)) -eq 0 ]; then
    echo "no spec is called *$ONLY*"
    failed=1
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
