#!/bin/bash
# Keeps one program running: restarts it when it dies, until told to stop. A program that refuses its
# arguments or its configuration (exit status 64 or 78) is not restarted: it would refuse them again.
# Usage: supervise.sh NAME RUN_DIR STOP_SIGNAL -- command ...
# Own pid -> RUN_DIR/NAME.supervisor.pid, the program's -> RUN_DIR/NAME.pid, each with its start time
# (/proc/PID/stat), which tells it from a later process of the same number. SIGTERM passes STOP_SIGNAL
# to the program, waits for it and ends.
set -u
name=$1 run_dir=$2 stop_signal=$3
shift 4
note() { # pid, file: whole or not at all
    local stat
    stat=$(cat "/proc/$1/stat") && read -r -a stat <<<"${stat##*) }"
    echo "$1 ${stat[19]:-}" >"$2.new" && mv "$2.new" "$2"
}
note $$ "$run_dir/$name.supervisor.pid"
child=0 stopping=0
trap 'stopping=1; [ $child -ne 0 ] && kill -s "$stop_signal" $child 2>/dev/null' TERM INT
while [ $stopping -eq 0 ]; do
    started=$SECONDS
    "$@" &
    child=$!
    note $child "$run_dir/$name.pid"
    # a signal to this shell ends the wait before the program has ended
    while :; do
        wait $child
        status=$?
        kill -0 $child 2>/dev/null || break
    done
    [ $stopping -ne 0 ] && break
    case $status in
    64 | 78)
        echo "{\"event\":\"supervisor.gave_up\",\"service\":\"$name\",\"status\":$status}" >&2
        break
        ;;
    esac
    echo "{\"event\":\"supervisor.restart\",\"service\":\"$name\",\"status\":$status}" >&2
    # a program that cannot start must not spin
    [ $((SECONDS - started)) -lt 2 ] && sleep 1
done
rm -f "$run_dir/$name.pid" "$run_dir/$name.supervisor.pid"
