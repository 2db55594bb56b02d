#!/bin/sh
# follow.sh MODE ID STDOUT-OFFSET STDERR-OFFSET WAIT CWD LIMIT BOOT RUNNER KILL: a command whose output
# is kept in files and handed out piece by piece. WAIT: how many hundredths of a second to wait for more.
#
# MODE run: starts the command, then follows it. start: starts it, answers its pid, leaves it alone.
# follow: hands out what there is behind the offsets, and deletes what is before them, at the end all.
# run and start take two lines of base64 on stdin: environment, command.
#
# Answers "@@ID", then "E WHY", "P PID", or
#   C STDOUT-SIZE STDERR-SIZE      sizes seen while it waited, in order of time; none or some
#   S CODE STDOUT-SIZE STDOUT-AT STDERR-SIZE STDERR-AT    CODE: of the runner, once it has ended and
#                                                         nobody can print any more; else -
# and both outputs in base64, from AT on (behind the offset when what was there is dropped), each
# closed by a line with a dot; then "gone" when that was all and the files are removed. The output is a chain of files named by where they begin.
exec 2>/dev/null
mode=$1 id=$2 oo=$3 oe=$4 wait=$5 cwd=$6 limit=$7 boot=$8 runner=$9
shift 9
kill=$1 d=/tmp/.sandbox-exec-$id n=0 grace=3
chunk=1048576
echo "@@$id"

# shellcheck disable=SC2016,SC2089 # programs for further shells
# DIRECTORY SHELL KEEP: becomes the command; tells its pid, takes its environment. Without KEEP its
# output is lost, and the files hold what the runner says.
inner='[ -n "$3" ] || exec >/dev/null 2>&1
    c=$(wc -c <"$1/cmd"); t=; [ "$c" -lt 100000 ] && t=$(cat "$1/cmd")
    echo $$ >"$1/p"; mv "$1/p" "$1/pid"; . "$1/env"
    if [ "$c" -lt 100000 ]; then exec "$2" -l -c "$t"; else exec "$2" -l "$1/cmd"; fi'

# shellcheck disable=SC2016 # as above
# DIRECTORY NAME: keeps one output. One file per 1024 reads, at most four that nobody has taken; then
# the command waits up to ten seconds for its reader, and the oldest is dropped. When the directory is
# gone, what processes left in the background print is read and forgotten: they must not fail.
keep='trap "" HUP INT QUIT TERM; d=$1 at=0 old=
    while [ -d "$d" ]; do
        dd bs=16384 count=1024 >"$d/$2.$at" 2>/dev/null
        size=$(wc -c <"$d/$2.$at" 2>/dev/null) || break
        if [ "$size" = 0 ]; then
            [ "$at" = 0 ] || rm -f "$d/$2.$at"
            exit 0
        fi
        old="$old $at" at=$((at + size)) n=0
        while :; do
            first= count=0 left=
            for s in $old; do
                [ -e "$d/$2.$s" ] || continue
                first=${first:-$s} count=$((count + 1)) left="$left $s"
            done
            old=$left
            [ "$count" -ge 4 ] && [ "$n" -lt 100 ] || break
            n=$((n + 1)); sleep 0.1
        done
        [ "$count" -lt 4 ] || rm -f "$d/$2.$first"
    done
    exec cat >/dev/null'

# shellcheck disable=SC2016 # as above
# KEEP DIRECTORY SHELL BOOT ARG...: runs the command in the background; without KEEP its output is lost.
outer='(
    keep=$1 d=$2 boot=$4
    trap : HUP INT QUIT TERM
    # a signal to the whole group of the command is not for us
    run() {
        exec 4>&2 2>/dev/null # a shell tells there of a runner that was killed
        (SANDBOX_EXEC_ID="${d#*exec-}" exec $(command -v setsid) sh -c "$boot" sh "$@" sh "$d" "$sh" "$keep" 2>&4 4>&-)
        echo $? >"$d/code"
    }
    sh=$3
    shift 4
    if [ -n "$keep" ]; then
        { run "$@" 2>&3 3>&- | sh -c "$keep" sh "$d" out 3>&-; } 3>&1 >/dev/null | sh -c "$keep" sh "$d" err
        mv "$d/code" "$d/exit"
    else
        run "$@" >>"$d/out.0" 2>>"$d/err.0"
        sleep 1
        rm -rf "$d"
    fi
    ) </dev/null >/dev/null 2>&1 &'

refuse() {
    rm -rf "$d"
    echo "E $1"
    exit 0
}
begin() {
    mkdir -m 700 "$d" || {
        [ -d "$d" ] && return 0 # this request has been here before
        echo 'E no place in /tmp'
        exit 0
    }
    if ! { cat >"$d/in" && sed -n 1p "$d/in" | base64 -d >"$d/env" && sed -n 2p "$d/in" | base64 -d >"$d/cmd" &&
        : >"$d/out.0" && : >"$d/err.0"; }; then
        refuse 'the command could not be stored'
    fi
    [ "$mode" = run ] || keep=
    # with job control a background job does not ignore SIGINT
    if sh=$(command -v bash); then
        set -- "$sh" -m -c
    else
        sh=$(command -v sh)
        set -- "$sh" -c
        if command -v setsid >/dev/null; then set -- setsid "$@"; fi
    fi
    "$@" "$outer" sh "$keep" "$d" "$sh" "$boot" "$runner" "$limit" "$cwd" "$kill" sh -c "$inner"
}
nap() {
    if [ "$n" -lt 10 ]; then s=1; else s=5; fi
    sleep "0.0$s" || {
        sleep 1
        s=100
    }
    n=$((n + s))
}
# total NAME: sets $total to the bytes there ever were, $best to the file that holds the offset $2,
# $whole to 1 when it is the last
total() {
    total=0 best='' least=''
    for file in "$d/$1".*; do
        from=${file##*.}
        [ "$from" -ge "$total" ] && total=$from
        if [ -z "$least" ] || [ "$from" -lt "$least" ]; then least=$from; fi
        if [ "$from" -le "$2" ] && [ "$from" -ge "${best:-0}" ]; then best=$from; fi
    done
    best=${best:-$least}
    size=$(wc -c <"$d/$1.$total")
    whole=
    [ "$best" != "$total" ] || whole=1
    total=$((total + size))
}
# hand NAME OFFSET FILE-BEGIN
hand() {
    tail -c +$(($2 - $3 + 1)) "$d/$1.$3" | head -c $chunk | base64
    echo .
    for file in "$d/$1".*; do
        [ "${file##*.}" -ge "$3" ] || rm -f "$file"
    done
}

case $mode in run | start) begin ;; esac
if [ "$mode" = start ]; then
    while [ ! -f "$d/pid" ] && [ ! -s "$d/err.0" ] && [ -d "$d" ] && [ "$n" -lt 500 ]; do nap; done
    if [ -f "$d/pid" ]; then
        read -r pid <"$d/pid"
        echo "P $pid"
        exit 0
    fi
fi
[ -d "$d" ] || {
    echo 'E the command is not known'
    exit 0
}
last=
while :; do
    code=-
    [ ! -f "$d/exit" ] || read -r code <"$d/exit"
    total out "$oo"
    so=$total fo=$best wo=$whole
    total err "$oe"
    se=$total fe=$best we=$whole
    if [ "$last" != "$so $se" ]; then
        last="$so $se"
        echo "C $last"
    fi
    if [ "$code" != - ] || [ "$n" -ge "$wait" ]; then break; fi
    if [ "$so" -gt "$oo" ] || [ "$se" -gt "$oe" ]; then
        grace=$((grace - 1))
        [ $grace -gt 0 ] || break
    fi
    nap
done
[ "$oo" -ge "$fo" ] || oo=$fo
[ "$oe" -ge "$fe" ] || oe=$fe
echo "S $code $so $oo $se $oe"
hand out "$oo" "$fo"
hand err "$oe" "$fe"
if [ "$code" != - ] && [ "$wo$we" = 11 ] && [ $((so - oo)) -le $chunk ] && [ $((se - oe)) -le $chunk ]; then
    rm -rf "$d"
    echo gone
fi
exit 0
