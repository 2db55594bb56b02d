#!/bin/sh
# kill.sh ID ROOT: kills ROOT (0 = not known), all that descends from it or carries ID as
# SANDBOX_EXEC_ID in its environment, and what is in a session of one of those. Spares its own ancestors.
# Stops processes until no new one turns up, so that nothing can fork away, then kills; repeats until
# none is left alive. Prints "left PID...": those that it could not kill; exit status 1 when there are any.
id=$1 root=$2 spare=" 0 1 $$ " seen=' ' empty=0 round=0
mark() {
    case $1 in *[!0-9]* | '') return 1 ;; esac
    case "$spare$seen" in *" $1 "*) return 1 ;; esac
    seen="$seen$1 "
    kill -STOP "$1" 2>/dev/null
    return 0
}
# load PID: sets $state, $ppid and $session
load() {
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    line=${line##*) }
    state=${line%% *} line=${line#* }
    ppid=${line%% *} line=${line#* }
    line=${line#* }
    session=${line%% *}
}
collect() {
    more=1
    while [ $more = 1 ]; do
        more=0
        # shellcheck disable=SC2013 # no blanks in these names
        for file in $(grep -lsF "SANDBOX_EXEC_ID=$id" /proc/[0-9]*/environ); do
            pid=${file#/proc/}
            if mark "${pid%/environ}"; then more=1; fi
        done
        for file in /proc/[0-9]*; do
            pid=${file#/proc/}
            load "$pid" || continue
            case $state in Z | X | x) continue ;; esac
            case "$seen" in
            *" $ppid "* | *" $session "*) ;;
            *) if [ "$ppid" != "$root" ] || [ "$root" = 0 ]; then continue; fi ;;
            esac
            if mark "$pid"; then more=1; fi
        done
    done
}
# Sets $left to those that live, and $dying when one of them may yet die.
look() {
    left='' dying=
    for pid in $seen; do
        load "$pid" || continue
        case $state in Z | X | x) continue ;; esac
        left="$left $pid"
        if kill -KILL "$pid" 2>/dev/null; then dying=1; fi
    done
}
up=$$
while load "$up" && [ "$ppid" -gt 1 ]; do
    up=$ppid
    spare="$spare$up "
done
mark "$root"
while [ $round -lt 14 ]; do
    round=$((round + 1))
    collect
    look
    if [ -z "$left" ]; then
        # one in the middle of an exec shows no environment: nothing found counts the second time
        if [ "$seen" = ' ' ]; then empty=$((empty + 1)); else empty=0; fi
        if [ $empty -ge 2 ]; then break; fi
        seen=' '
    elif [ -z "$dying" ]; then
        break
    fi
    sleep 0.05
done
echo "left$left"
[ -z "$left" ]
