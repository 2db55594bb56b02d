#!/bin/bash
# Keeps one program running: restarts it when it dies, until told to stop.
# Usage: supervise.sh NAME RUN_DIR STOP_SIGNAL -- command ...
# Own pid -> RUN_DIR/NAME.supervisor.pid, the program's -> RUN_DIR/NAME.pid. SIGTERM passes
# STOP_SIGNAL to the program, waits for it and ends.
set -u
name=$1 run_dir=$2 stop_signal=$3
shift 4
echo $$ >"$run_dir/$name.supervisor.pid"
child=0 stopping=0
trap 'stopping=1; [ $child -ne 0 ] && kill -s "$stop_signal" $child 2>/dev/null' TERM INT
while [ $stopping -eq 0 ]; do
    started=$SECONDS
    "$@" &
    child=$!
    echo $child >"$run_dir/$name.pid"
    while kill -0 $child 2>/dev/null; do wait $child; status=$?; done
    [ $stopping -ne 0 ] && break
    echo "{\"event\":\"supervisor.restart\",\"service\":\"$name\",\"status\":${status:-0}}" >&2
    # a program that cannot start must not spin
    [ $((SECONDS - started)) -lt 2 ] && sleep 1
done
rm -f "$run_dir/$name.pid" "$run_dir/$name.supervisor.pid"
