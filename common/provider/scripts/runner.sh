#!/bin/sh
# runner.sh LIMIT CWD KILL ARG...: runs `ARG...` to its end, kills it and all it started at its time.
#
# LIMIT: hundredths of a second that the sandbox runs, 0 = no limit. CWD: "" = as it is.
# KILL: the text of kill.sh. SANDBOX_EXEC_ID names the command; SANDBOX_SUBREAPER=1: orphans come to
# this process. What happened is written behind the output, into both streams, as \001ID MARK\002:
#   E CODE BG        its own process ended with CODE; BG=1: what it started lives on
#   T [PID...]       its time is over; all is dead but these
#   W WHY            there is no such working directory: missing, not-a-directory, denied
limit=$1 cwd=$2 kill=$3
shift 3
id=${SANDBOX_EXEC_ID:-} reaper=${SANDBOX_SUBREAPER:-0} watch=
unset SANDBOX_SUBREAPER
exec 8>&1 9>&2 >/dev/null 2>&1
# a signal to the whole group is for the command; a handler, unlike "ignore", is not inherited
trap : HUP INT QUIT TERM

mark() {
    printf '\001%s %s\002' "$id" "$1" >&8
    printf '\001%s %s\002' "$id" "$1" >&9
}

if [ -n "$cwd" ]; then
    # shellcheck disable=SC2088 # the tilde is the caller's
    case $cwd in
    '~') cwd=$HOME ;;
    '~/'*) cwd=$HOME/${cwd#??} ;;
    /*) ;;
    *) cwd=./$cwd ;;
    esac
    if ! cd "$cwd"; then
        if [ ! -e "$cwd" ]; then why=missing; elif [ ! -d "$cwd" ]; then why=not-a-directory; else why=denied; fi
        mark "W $why"
        exit 126
    fi
fi

# uptime: sets $now in hundredths of a second
uptime() {
    read -r now _ </proc/uptime || return 1
    now=${now%.*}${now#*.}
}

# A pause of the sandbox may show as a jump of the clock. A tick of one second that took more than
# three was one: it counts as one second.
wait_running_time() {
    left=$limit
    uptime || now=0
    while [ "$left" -gt 0 ]; do
        last=$now
        tick=$left
        [ "$left" -lt 100 ] || tick=100
        case $tick in
        100) sleep 1 8>&- 9>&- & ;;
        ?) sleep "0.0$tick" 8>&- 9>&- & ;;
        *) sleep "0.$tick" 8>&- 9>&- & ;;
        esac
        nap=$!
        wait "$nap"
        if uptime && [ $((now - last)) -ge "$tick" ] && [ $((now - last)) -lt 300 ]; then tick=$((now - last)); fi
        left=$((left - tick))
    done
}

# kill_all [sudo -n]: sets $left to the pids that could not be killed; fails when it did not run
kill_all() {
    left=$(SANDBOX_EXEC_ID='' "$@" /bin/sh -c "$kill" sh "$id" "$$" 8>&- 9>&-)
    case $left in left*) left=${left#left} ;; *) return 1 ;; esac
}

watch_time() {
    nap=
    trap '' HUP INT QUIT TERM
    trap 'kill -KILL $nap; wait $nap; exit 0' USR1
    wait_running_time
    trap '' USR1
    kill_all || left=' 0'
    if [ -n "$left" ] && command -v sudo; then
        saved=$left
        kill_all sudo -n || left=$saved
    fi
    mark "T$left"
    exit 7
}

# alive PID: not gone, not a zombie
alive() {
    { read -r line <"/proc/$1/stat"; } || return 1
    line=${line##*) }
    case $line in [ZXx]*) return 1 ;; esac
}

# Our ancestors and we carry the id, too.
above=" $$ "
find_above() {
    up=$$
    while [ "$up" -gt 1 ] && read -r line <"/proc/$up/stat"; do
        line=${line##*) } line=${line#* }
        up=${line%% *}
        above="$above$up "
    done
}

# Is anything left of what the command started?
has_background() {
    if [ "$reaper" = 1 ] && [ -e "/proc/$$/task/$$/children" ]; then
        read -r children <"/proc/$$/task/$$/children"
        for child in $children; do
            if [ "$child" != "$watch" ] && alive "$child"; then return 0; fi
        done
        return 1
    fi
    # shellcheck disable=SC2013 # no blanks in these names
    for file in $(SANDBOX_EXEC_ID='' grep -lsF "SANDBOX_EXEC_ID=$id" /proc/[0-9]*/environ); do
        child=${file#/proc/} child=${child%/environ}
        case "$above$watch " in *" $child "*) continue ;; esac
        if alive "$child"; then return 0; fi
    done
    return 1
}

[ "$reaper" = 1 ] || find_above
if [ "$limit" -gt 0 ]; then
    watch_time &
    watch=$!
fi
# a subshell: this one's stderr must not be the command's, as it tells of a signal there
(exec >&8 2>&9 8>&- 9>&- && exec "$@")
code=$?
if [ -n "$watch" ]; then
    kill -USR1 "$watch"
    wait "$watch"
    [ $? -ne 7 ] || exit 137
    watch=
fi
if has_background; then
    mark "E $code 1"
    # envd and pipes read on as long as this process lives, and what is left may be printing
    exec 8>&- 9>&-
    while has_background; do sleep 5; done
else
    mark "E $code 0"
fi
exit "$code"
