#!/bin/bash
# The whole system on one machine, for development and trying out: what `make run`, `make start`,
# `make stop`, `make status`, `make logs` and `make -s env` do.
#
# A private Redis (AOF on) and a private PostgreSQL under var/ unless REDIS_HOST / DATABASE_URL
# name others; E2B itself when E2B_API_KEY is set, otherwise the local sandbox host.
# Settings come from the environment, then from .env (or the file that SANDBOX_DOTENV names).
# A start that fails stops what it has started, prints the failing program's own words and exits with 1.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
bin=$(realpath -m "${BUILD_DIR:-build/release}")
var=${SANDBOX_VAR_DIR:-$root/var}
run=$var/run log=$var/log dotenv=${SANDBOX_DOTENV:-.env}
programs="redis postgres sandbox-host worker reaper gateway" # start order; stopped in reverse

die() { echo "stack: $*" >&2; exit 1; }

# .env fills what the environment leaves unset; values are taken literally, never evaluated
load_dotenv() {
    local line name
    [ -f "$dotenv" ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%$'\r'} # a file written on Windows
        [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]] || continue
        name=${BASH_REMATCH[2]} line=${BASH_REMATCH[3]}
        [[ $line =~ ^\"(.*)\"[[:space:]]*$ || $line =~ ^\'(.*)\'[[:space:]]*$ ]] && line=${BASH_REMATCH[1]}
        [ -z "${!name:-}" ] && [ -n "$line" ] && export "$name=$line"
    done <"$dotenv"
    return 0
}

port_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() {
    local port=$1
    while ! port_free "$port"; do port=$((port + 1)); done
    echo "$port"
}
secret() { # a secret made once: name, bytes
    [ -s "$var/secrets/$1" ] || (umask 077; od -An -N"$2" -tx1 /dev/urandom | tr -d ' \n' >"$var/secrets/$1")
    cat "$var/secrets/$1"
}
# The process of a pid file (see supervise.sh), if it still runs: pids come again, above all after a reboot,
# and then belong to something else.
pid_of() { # file
    local pid started stat
    read -r pid started 2>/dev/null <"$1" && stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1 # a bare return is 0 in a trap
    read -r -a stat <<<"${stat##*) }"
    [ "${stat[0]}" != Z ] && [ "${stat[19]}" = "$started" ] && echo "$pid"
}
# One start or stop at a time. Nothing that is started inherits the lock (see launch).
lock() { # seconds to wait for it
    mkdir -p "$var"
    exec 9>"$var/lock"
    flock -w "$1" 9 || die "another start or stop of this system is under way"
}
unlock() { exec 9>&-; }
alive() { pid_of "$run/$1.supervisor.pid" >/dev/null; }
running() { alive gateway; }

# PostgreSQL refuses root, and sandboxes run under user ids of their own: where others cannot enter
# var/ (a clone under /root), what they must reach lies elsewhere. So it does where the path is too
# long for the sockets in it (SANDBOX_HOST_STATE_DIR takes 60 characters).
open_dir() { # name
    local elsewhere=/tmp/sandbox-server-$UID
    [ "$UID" -eq 0 ] && elsewhere=/var/lib/sandbox-server-dev
    if [ ${#var} -gt 45 ] ||
        { [ "$(id -u)" -eq 0 ] && ! setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$var"; }; then
        echo "$elsewhere/$(printf %s "$var" | cksum | cut -d' ' -f1)/$1"
    else
        echo "$var/$1"
    fi
}
# What a program of another account must enter and own.
account_dir() { # folder, account
    mkdir -p "$1"
    chmod 700 "$1"
    if [ "$(id -u)" -eq 0 ]; then chown -R "$2" "$1"; fi
}
as_account() { # account: the words that start a program as it, none for an ordinary user
    as_user=()
    if [ "$(id -u)" -eq 0 ]; then as_user=(setpriv "--reuid=$1" "--regid=$1" --init-groups); fi
}
as_postgres() { if [ "$(id -u)" -eq 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
pg_bin() { printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1; }

configure() {
    load_dotenv
    mkdir -p "$run" "$log" "$var/secrets"
    chmod 700 "$var/secrets" "$log"
    if [ -f "$run/environment" ] && running; then
        # the running stack's own settings win, so that `make env` and `make status` tell the truth
        # shellcheck disable=SC1091
        . "$run/environment"
        return
    fi
    start_redis=0 start_postgres=0 start_host=0 start_template=0
    if [ -z "${REDIS_HOST:-}" ]; then
        start_redis=1
        export REDIS_HOST=127.0.0.1 REDIS_PORT REDIS_DATABASE=0
        REDIS_PORT=$(free_port 6390)
        REDIS_PASSWORD=$(secret redis_password 16)
        export REDIS_PASSWORD
    fi
    export REDIS_PORT=${REDIS_PORT:-6379} REDIS_DATABASE=${REDIS_DATABASE:-0}
    if [ -z "${DATABASE_URL:-}" ]; then
        start_postgres=1
        pg_port=$(free_port 5490)
        DATABASE_URL="postgresql://sandbox:$(secret postgres_password 16)@127.0.0.1:$pg_port/sandbox"
        export DATABASE_URL
    fi
    export JWT_SECRET_KEY=${JWT_SECRET_KEY:-$(secret jwt_secret 32)}
    export GATEWAY_LISTEN=${GATEWAY_LISTEN:-127.0.0.1:8000}
    export GATEWAY_SANDBOX_LISTEN=${GATEWAY_SANDBOX_LISTEN:-127.0.0.1:$(free_port $((${GATEWAY_LISTEN##*:} + 1)))}
    if [ -z "${E2B_API_KEY:-}" ]; then
        start_host=1
        host_port=$(free_port "${SANDBOX_HOST_PORT:-3900}")
        export SANDBOX_HOST_LISTEN=127.0.0.1:$host_port SANDBOX_HOST_DOMAIN=localhost:$host_port
        SANDBOX_HOST_API_KEY="e2b_$(secret host_api_key 20)"
        export SANDBOX_HOST_API_KEY
        SANDBOX_HOST_STATE_DIR=$(open_dir sandbox-host)
        mkdir -p "$(dirname "$SANDBOX_HOST_STATE_DIR")"
        export SANDBOX_HOST_STATE_DIR SANDBOX_HOST_BASE_ALIASES=${E2B_TEMPLATE_ID:-base}
        # for development: what this machine cannot enforce is logged at the host's start, not refused
        export SANDBOX_HOST_WITHOUT=${SANDBOX_HOST_WITHOUT:-users,memory,cpu,processes,disk,syscalls}
        if [ -z "${SANDBOX_HOST_TEMPLATES:-}" ]; then
            # every sandbox comes up with the tool server, and with code-server or a page that says how to get it
            start_template=1
            SANDBOX_HOST_TEMPLATES=$(open_dir templates)
            export SANDBOX_HOST_TEMPLATES
            export SANDBOX_SERVICES=${SANDBOX_SERVICES:-mcp,vscode}
        fi
        export E2B_API_KEY=$SANDBOX_HOST_API_KEY E2B_DOMAIN=$SANDBOX_HOST_DOMAIN
        export E2B_API_URL=http://127.0.0.1:$host_port E2B_SANDBOX_URL=http://127.0.0.1:$host_port
        export E2B_MAX_TIMEOUT_SECONDS=${E2B_MAX_TIMEOUT_SECONDS:-86400} E2B_NAME=${E2B_NAME:-local}
    fi
}

exported_names() {
    compgen -e | grep -E '^(REDIS_|DATABASE_|JWT_|GATEWAY_|WORKER_|REAPER_|E2B_|DAYTONA_|SANDBOX_|RUN_CMD_|RETENTION_|LOG_LEVEL)' | sort
}
write_environment() {
    (umask 077
        { for name in $(exported_names); do printf 'export %s=%q\n' "$name" "${!name}"; done
          printf 'start_redis=%s start_postgres=%s start_host=%s\n' "$start_redis" "$start_postgres" "$start_host"
        } >"$run/environment")
}

declare -A log_start # name -> bytes of its log before this start
open_log() { # name
    (umask 077; : >>"$log/$1.log")
    chmod 600 "$log/$1.log"
    log_start[$1]=$(stat -c %s "$log/$1.log")
}
said() { # name: the last lines it has logged since this start
    tail -c +$((log_start[$1] + 1)) "$log/$1.log" | grep -v '"event":"supervisor\.' | tail -3
}
launch() { # name, stop signal, command ...
    local name=$1 signal=$2
    shift 2
    open_log "$name"
    # STACK_RUN_DIR tells `stop` which processes are ours when the pid files are gone
    STACK_RUN_DIR=$run setsid deploy/dev/supervise.sh "$name" "$run" "$signal" -- "$@" </dev/null >>"$log/$name.log" 2>&1 9>&- &
    disown
    wait_until_noted "$name"
}
wait_until_noted() { # name: until its supervisor has written its pid, or has come and gone
    local until=$((SECONDS + 5))
    until [ -e "$run/$1.supervisor.pid" ] || grep -q '"event":"supervisor.gave_up"' <(tail -c +$((log_start[$1] + 1)) "$log/$1.log"); do
        [ $SECONDS -lt $until ] || break
        sleep 0.01
    done
}
failed_to_start() { # name, what it is called
    said "$1" >&2
    die "$2 did not start; its log is $log/$1.log"
}
wait_for() { # name, what it is called, seconds, command ...
    local name=$1 what=$2 until=$((SECONDS + $3)) other
    shift 3
    until "$@" >/dev/null 2>&1; do
        # a supervisor ends by itself only when its program refused its configuration
        for other in "${!log_start[@]}"; do alive "$other" || failed_to_start "$other" "$other"; done
        [ $SECONDS -lt $until ] || failed_to_start "$name" "$what"
        sleep 0.05
    done
}
once() { # what it is called, command ...: must succeed
    local what=$1
    shift
    "$@" >>"$log/migrate.log" 2>&1 9>&- && return
    tail -c +$((setup_log_start + 1)) "$log/migrate.log" | tail -3 >&2
    die "$what failed; the log is $log/migrate.log"
}
redis_cli() { # as the running configuration says
    local args=(-h "$REDIS_HOST" -p "$REDIS_PORT" -n "$REDIS_DATABASE")
    [ -n "${REDIS_USERNAME:-}" ] && args+=(--user "$REDIS_USERNAME")
    REDISCLI_AUTH=${REDIS_PASSWORD:-} redis-cli "${args[@]}" "$@"
}

ready() { curl -fsS --max-time 5 "http://127.0.0.1:${GATEWAY_LISTEN##*:}/readyz"; }
start() {
    [ -x "$bin/sandbox-gateway" ] || die "not built: run make build"
    port_free "${GATEWAY_LISTEN##*:}" || die "port ${GATEWAY_LISTEN##*:} is taken; set GATEWAY_LISTEN=127.0.0.1:PORT"
    write_environment
    if [ "$start_redis" = 1 ]; then
        start_redis
    fi
    if [ "$start_postgres" = 1 ]; then
        start_postgres
    fi
    [ "$start_template" = 1 ] && make_template
    if [ "$start_host" = 1 ]; then
        launch sandbox-host TERM "$bin/sandbox-host"
    fi
    [ "$start_redis" = 1 ] && wait_for redis Redis 10 redis_cli ping
    if [ "$start_postgres" = 1 ]; then
        wait_for postgres PostgreSQL 20 "$(pg_bin)/pg_isready" -q -h 127.0.0.1 -p "$pg_port"
        if [ "$(as_admin -Atc "select 1 from pg_database where datname='sandbox'")" != 1 ]; then
            as_admin -q -v password="$(secret postgres_password 16)" \
                <<<"CREATE ROLE sandbox LOGIN PASSWORD :'password'; CREATE DATABASE sandbox OWNER sandbox;"
        fi
    fi
    (umask 077; : >>"$log/migrate.log")
    chmod 600 "$log/migrate.log"
    setup_log_start=$(stat -c %s "$log/migrate.log")
    once "the migration of the database" "$bin/sandbox-gateway" migrate
    # the contract's test user, so that its example runs as printed; only ever made here
    once "making the demo user" "$bin/sandbox-gateway" user add sandbox_test --if-absent --password-stdin < <(printf 'TestPass123!')
    launch worker TERM "$bin/sandbox-worker"
    launch reaper TERM "$bin/sandbox-reaper"
    launch gateway TERM "$bin/sandbox-gateway" serve
    wait_for gateway "the gateway" 20 ready
    local name
    for name in "${!log_start[@]}"; do alive "$name" || failed_to_start "$name" "$name"; done
}
as_admin() { # psql as the administrator of the private PostgreSQL
    PGPASSWORD=$(secret postgres_admin 16) psql -h 127.0.0.1 -p "$pg_port" -U postgres "$@" postgres
}

# Redis reads its password from a file of its own account: arguments are seen by everybody.
start_redis() {
    local data as_user
    data=$(open_dir redis)
    mkdir -p "$(dirname "$data")" "$data"
    (umask 077
        { cat deploy/redis.conf
          printf '\nport %s\nbind 127.0.0.1\ndir "%s"\nrequirepass %s\n' "$REDIS_PORT" "$data" "$REDIS_PASSWORD"
        } >"$data/redis.conf")
    account_dir "$data" redis
    as_account redis
    launch redis TERM "${as_user[@]}" redis-server "$data/redis.conf"
}

# what deploy/template makes of an image, for the local host: copies, because sandboxes may not be able
# to reach the originals
make_template() {
    local tools=$SANDBOX_HOST_TEMPLATES.opt mount=
    rm -rf "$tools"
    install -d -m 755 "$SANDBOX_HOST_TEMPLATES" "$tools" "$tools/bin"
    install -m 755 "$bin/sandbox-tool-server" deploy/template/sandbox-services "$tools/bin"
    if [ "${WITH_CODE_SERVER:-0}" = 1 ]; then
        # the folder below build/ may be out of reach for sandboxes; links cost no space where a link can be made
        rm -rf "$tools.code-server"
        cp -al build/code-server "$tools.code-server" 2>/dev/null || cp -a build/code-server "$tools.code-server"
        chmod -R go+rX "$tools.code-server"
        mount=", \"/opt/code-server\": \"$tools.code-server\""
        ln -s /opt/code-server/bin/code-server "$tools/bin/code-server"
    fi
    printf '{"startCommand": "exec /opt/sandbox/bin/sandbox-services run", "mounts": {"/opt/sandbox": "%s"%s}}\n' \
        "$tools" "$mount" >"$SANDBOX_HOST_TEMPLATES/base.json"
}

start_postgres() {
    local data as_user pwfile
    data=$(open_dir postgres)
    account_dir "$data" postgres
    if [ ! -f "$data/PG_VERSION" ]; then
        open_log postgres
        pwfile=$(mktemp)
        secret postgres_admin 16 >"$pwfile"
        if [ "$(id -u)" -eq 0 ]; then chown postgres "$pwfile"; fi
        as_postgres "$(pg_bin)/initdb" -D "$data" -U postgres --pwfile="$pwfile" --auth=scram-sha-256 \
            --encoding=UTF8 --locale=C.UTF-8 >>"$log/postgres.log" 2>&1 9>&- || die "initdb failed; see $log/postgres.log"
        rm -f "$pwfile"
    fi
    as_account postgres
    # SIGINT = fast shutdown: a stop does not wait for idle connections
    launch postgres INT "${as_user[@]}" "$(pg_bin)/postgres" -D "$data" -p "$pg_port" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c logging_collector=off -c max_connections=200
}

stop_one() {
    local name=$1 file pid until
    # its supervisor, which takes it along, or the program itself where that was killed
    for file in "$run/$name.supervisor.pid" "$run/$name.pid"; do
        pid=$(pid_of "$file") || continue
        kill -TERM "$pid" 2>/dev/null || true
        until=$((SECONDS + 35))
        while pid_of "$file" >/dev/null; do
            if [ $SECONDS -ge $until ]; then
                echo "stack: $name did not stop, killing it" >&2
                kill -KILL "$pid" 2>/dev/null || true
                if pid=$(pid_of "$run/$name.pid"); then kill -KILL "$pid" 2>/dev/null || true; fi
                break
            fi
            sleep 0.05
        done
    done
    rm -f "$run/$name.supervisor.pid" "$run/$name.pid"
}
stop_all() {
    local name reversed=
    for name in $programs; do reversed="$name $reversed"; done
    for name in $reversed; do stop_one "$name"; done
    stop_unnoted
    rm -f "$run/environment"
}
# Processes of this system that no pid file names (var/ was removed, a supervisor was killed): each has
# STACK_RUN_DIR in its environment. Of a process tree only the top is listed.
unnoted() {
    local dir pid parent
    declare -A ours=()
    for dir in /proc/[0-9]*; do
        pid=${dir#/proc/}
        if [ "$pid" != $$ ] && tr '\0' '\n' <"$dir/environ" 2>/dev/null | grep -qxF "STACK_RUN_DIR=$run"; then
            parent=$(sed -nE 's/^PPid:\s*//p' "$dir/status" 2>/dev/null) && ours[$pid]=$parent
        fi
    done 2>/dev/null
    for pid in "${!ours[@]}"; do
        [ -n "${ours[${ours[$pid]:-0}]:-}" ] || echo "$pid"
    done
}
stop_unnoted() {
    local pids pid signal until=$((SECONDS + 35))
    while pids=$(unnoted) && [ -n "$pids" ]; do
        for pid in $pids; do
            signal=TERM
            [ $SECONDS -lt $until ] || signal=KILL
            # SIGTERM makes PostgreSQL wait for its clients
            if [ $signal = TERM ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = postgres ]; then signal=INT; fi
            kill -s $signal "$pid" 2>/dev/null || true
        done
        sleep 0.2
    done
}

# of a stack that was killed hard; before its ports are looked for
clear_leftovers() {
    running || stop_all
}

banner() {
    local url=http://127.0.0.1:${GATEWAY_LISTEN##*:}
    cat <<EOF

Sandbox Server is up: $url   (user sandbox_test, password TestPass123!)
$( [ "$start_host" = 1 ] && echo "Sandboxes run on this machine (sandbox-host, $E2B_API_URL)." || echo "Sandboxes run at E2B." )
E2B's SDKs: E2B_API_URL=$url E2B_SANDBOX_URL=http://127.0.0.1:${GATEWAY_SANDBOX_LISTEN##*:} E2B_API_KEY=(a key of this server)

Paste these three lines:

TOKEN=\$(curl -s -X POST '$url/api/v1/auth/login/swagger?username=sandbox_test&password=TestPass123!' | sed -E 's/.*"access_token":"([^"]+)".*/\\1/')
SANDBOX=\$(curl -s -X POST $url/agent/sandboxes/sandboxes/create -H "Authorization: Bearer \$TOKEN" -H "X-Request-ID: \$(cat /proc/sys/kernel/random/uuid)" -H 'Content-Type: application/json' -d '{"user_id":"me"}' | sed -E 's/.*"sandbox_id":"([^"]+)".*/\\1/'); echo "\$SANDBOX"
curl -s -X POST $url/agent/sandboxes/sandboxes/run-cmd -H "Authorization: Bearer \$TOKEN" -H "X-Request-ID: \$(cat /proc/sys/kernel/random/uuid)" -H 'Content-Type: application/json' -d '{"sandbox_id":"'\$SANDBOX'","command":"echo Hello && pwd && python3 --version"}'

EOF
}

status() {
    local name state
    for name in $programs; do
        if alive "$name"; then
            state="running, pid $(pid_of "$run/$name.pid" || echo '?')"
        else
            state="not running"
            case $name in
            redis) [ "${start_redis:-0}" = 0 ] && [ -n "${REDIS_HOST:-}" ] && state="external, $REDIS_HOST:$REDIS_PORT" ;;
            postgres) [ "${start_postgres:-0}" = 0 ] && [ -n "${DATABASE_URL:-}" ] && state="external (DATABASE_URL)" ;;
            sandbox-host) [ "${start_host:-0}" = 0 ] && [ -n "${E2B_API_KEY:-}" ] && state="not used, E2B itself is" ;;
            esac
        fi
        printf '%-13s %s\n' "$name" "$state"
    done
    if running; then
        printf '%-13s %s\n' readyz "$(curl -sS --max-time 5 "http://127.0.0.1:${GATEWAY_LISTEN##*:}/readyz" 2>&1)"
        echo
        # shellcheck disable=SC2016 # for whoever pastes them
        echo 'eval "$(make -s env)"    # passwords for the two lines below, in this shell only'
        echo "redis-cli -h $REDIS_HOST -p $REDIS_PORT -n $REDIS_DATABASE XINFO GROUPS ${REDIS_PREFIX:-sandbox:}jobs:create"
        # shellcheck disable=SC2016
        echo 'psql "$DATABASE_URL" -c "select status, count(*) from sandboxes group by 1"'
    else
        return 1
    fi
}

case ${1:-} in
run)
    lock 0
    clear_leftovers
    configure
    running && die "already running; 'make stop' first"
    trap 'trap "" INT TERM; echo; echo "stopping"; exit 0' INT TERM
    trap 'stop_all' EXIT
    start
    unlock
    banner
    echo "Ctrl-C stops everything. Logs: $log"
    while running; do sleep 0.5 & wait $!; done
    ;;
start)
    lock 0
    clear_leftovers
    configure
    if running; then
        ready >/dev/null || die "already running, but not ready; 'make status' shows more, 'make stop' ends it"
        echo "already running; 'make status' shows it"
        exit 0
    fi
    trap 'exit 1' INT TERM
    trap 'stop_all' EXIT
    start
    trap - EXIT
    banner
    ;;
stop)
    lock 60
    mkdir -p "$run"
    stop_all
    echo stopped
    ;;
status) configure; status ;;
logs) exec tail -n 50 -F "$log"/*.log ;;
env)
    configure
    for name in $(exported_names); do printf 'export %s=%q\n' "$name" "${!name}"; done
    # redis-cli asks the environment for its password
    [ -n "${REDIS_PASSWORD:-}" ] && printf 'export REDISCLI_AUTH=%q\n' "$REDIS_PASSWORD"
    # shellcheck disable=SC2016 # for whoever evaluates it
    printf 'export PATH=%q:"$PATH"\n' "$bin"
    ;;
*) die "usage: stack.sh run|start|stop|status|logs|env" ;;
esac
