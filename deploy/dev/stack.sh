#!/bin/bash
# The whole system on one machine, for development and trying out: what `make run`, `make start`,
# `make stop`, `make status`, `make logs` and `make -s env` do.
#
# A private Redis (AOF on) and a private PostgreSQL under var/ unless REDIS_HOST / DATABASE_URL
# name others; E2B itself when E2B_API_KEY is set, otherwise the local sandbox host.
# Settings come from the environment, then from .env.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
bin=$(realpath -m "${BUILD_DIR:-build/release}")
var=${SANDBOX_VAR_DIR:-$root/var}
run=$var/run log=$var/log
programs="redis postgres sandbox-host worker reaper gateway" # start order; stopped in reverse

die() { echo "stack: $*" >&2; exit 1; }

# .env fills what the environment leaves unset; values are taken literally, never evaluated
load_dotenv() {
    local line name
    [ -f .env ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]] || continue
        name=${BASH_REMATCH[2]} line=${BASH_REMATCH[3]}
        [[ $line =~ ^\"(.*)\"[[:space:]]*$ || $line =~ ^\'(.*)\'[[:space:]]*$ ]] && line=${BASH_REMATCH[1]}
        [ -z "${!name:-}" ] && [ -n "$line" ] && export "$name=$line"
    done <.env
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
as_postgres() { if [ "$(id -u)" -eq 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
pg_bin() { printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1; }

configure() {
    load_dotenv
    mkdir -p "$run" "$log" "$var/secrets"
    chmod 700 "$var/secrets"
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
    if [ -z "${E2B_API_KEY:-}" ]; then
        start_host=1
        host_port=$(free_port "${SANDBOX_HOST_PORT:-3900}")
        export SANDBOX_HOST_LISTEN=127.0.0.1:$host_port SANDBOX_HOST_DOMAIN=localhost:$host_port
        SANDBOX_HOST_API_KEY="e2b_$(secret host_api_key 20)"
        export SANDBOX_HOST_API_KEY
        SANDBOX_HOST_STATE_DIR=$(open_dir sandbox-host)
        mkdir -p "$(dirname "$SANDBOX_HOST_STATE_DIR")"
        export SANDBOX_HOST_STATE_DIR SANDBOX_HOST_ANY_TEMPLATE=1
        # for development: what this machine cannot enforce is logged at the host's start, not refused
        export SANDBOX_HOST_WITHOUT=${SANDBOX_HOST_WITHOUT:-users,memory,cpu,processes,disk,syscalls}
        if [ -z "${SANDBOX_HOST_TEMPLATES:-}" ]; then
            # every sandbox comes up with the tool server, and with code-server where this machine has it
            start_template=1
            SANDBOX_HOST_TEMPLATES=$(open_dir templates)
            export SANDBOX_HOST_TEMPLATES
            export SANDBOX_SERVICES=${SANDBOX_SERVICES:-mcp$(command -v code-server >/dev/null && echo ,vscode)}
        fi
        export E2B_API_KEY=$SANDBOX_HOST_API_KEY E2B_DOMAIN=$SANDBOX_HOST_DOMAIN
        export E2B_API_URL=http://127.0.0.1:$host_port E2B_SANDBOX_URL=http://127.0.0.1:$host_port
        export E2B_MAX_TIMEOUT_SECONDS=${E2B_MAX_TIMEOUT_SECONDS:-86400}
    fi
}

exported_names() {
    compgen -e | grep -E '^(REDIS_|DATABASE_|JWT_|GATEWAY_|WORKER_|REAPER_|E2B_|DAYTONA_|SANDBOX_|RUN_CMD_|LOG_LEVEL)' | sort
}
write_environment() {
    (umask 077
        { for name in $(exported_names); do printf 'export %s=%q\n' "$name" "${!name}"; done
          printf 'start_redis=%s start_postgres=%s start_host=%s\n' "$start_redis" "$start_postgres" "$start_host"
        } >"$run/environment")
}

launch() { # name, stop signal, command ...
    local name=$1 signal=$2
    shift 2
    setsid deploy/dev/supervise.sh "$name" "$run" "$signal" -- "$@" </dev/null >>"$log/$name.log" 2>&1 &
    disown
}
wait_for() { # what, seconds, command ...
    local what=$1 until=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || { tail -5 "$log"/*.log >&2; die "$what did not come up; logs are in $log"; }
        sleep 0.05
    done
}
redis_cli() { # as the running configuration says
    local args=(-h "$REDIS_HOST" -p "$REDIS_PORT" -n "$REDIS_DATABASE")
    [ -n "${REDIS_USERNAME:-}" ] && args+=(--user "$REDIS_USERNAME")
    REDISCLI_AUTH=${REDIS_PASSWORD:-} redis-cli "${args[@]}" "$@"
}

start() {
    running && { echo "already running; 'make status' shows it"; return 0; }
    [ -x "$bin/sandbox-gateway" ] || die "not built: run make build"
    port_free "${GATEWAY_LISTEN##*:}" || die "port ${GATEWAY_LISTEN##*:} is taken; set GATEWAY_LISTEN=127.0.0.1:PORT"
    write_environment
    if [ "$start_redis" = 1 ]; then
        mkdir -p "$var/redis"
        launch redis TERM redis-server deploy/redis.conf --port "$REDIS_PORT" --bind 127.0.0.1 --dir "$var/redis"
    fi
    if [ "$start_postgres" = 1 ]; then
        start_postgres
    fi
    [ "$start_template" = 1 ] && make_template
    if [ "$start_host" = 1 ]; then
        launch sandbox-host TERM "$bin/sandbox-host"
    fi
    [ "$start_redis" = 1 ] && wait_for Redis 10 redis_cli ping
    if [ "$start_postgres" = 1 ]; then
        wait_for PostgreSQL 20 "$(pg_bin)/pg_isready" -q -h 127.0.0.1 -p "$pg_port"
        if [ "$(PGPASSWORD=$(secret postgres_admin 16) psql -h 127.0.0.1 -p "$pg_port" -U postgres -Atc "select 1 from pg_database where datname='sandbox'" postgres)" != 1 ]; then
            PGPASSWORD=$(secret postgres_admin 16) psql -q -h 127.0.0.1 -p "$pg_port" -U postgres postgres \
                -v password="$(secret postgres_password 16)" <<<"CREATE ROLE sandbox LOGIN PASSWORD :'password'; CREATE DATABASE sandbox OWNER sandbox;"
        fi
    fi
    "$bin/sandbox-gateway" migrate >>"$log/migrate.log" 2>&1 || { tail -5 "$log/migrate.log" >&2; die "migrations failed"; }
    # the contract's test user, so that its example runs as printed; only ever made here
    printf 'TestPass123!' | "$bin/sandbox-gateway" user add sandbox_test --if-absent --password-stdin >>"$log/migrate.log" 2>&1 ||
        { tail -5 "$log/migrate.log" >&2; die "could not make the demo user"; }
    launch worker TERM "$bin/sandbox-worker"
    launch reaper TERM "$bin/sandbox-reaper"
    launch gateway TERM "$bin/sandbox-gateway" serve
    wait_for gateway 20 curl -fsS "http://127.0.0.1:${GATEWAY_LISTEN##*:}/readyz"
}

# what deploy/template makes of an image, for the local host: copies, because sandboxes may not be able
# to reach the originals
make_template() {
    local tools=$SANDBOX_HOST_TEMPLATES.opt
    rm -rf "$tools"
    install -d -m 755 "$SANDBOX_HOST_TEMPLATES" "$tools" "$tools/bin"
    install -m 755 "$bin/sandbox-tool-server" deploy/template/sandbox-services "$tools/bin"
    printf '{"startCommand": "exec /opt/sandbox/bin/sandbox-services run", "mounts": {"/opt/sandbox": "%s"}}\n' \
        "$tools" >"$SANDBOX_HOST_TEMPLATES/base.json"
}

start_postgres() {
    local data
    data=$(open_dir postgres)
    mkdir -p "$data"
    if [ "$(id -u)" -eq 0 ]; then chown postgres "$data"; fi
    chmod 700 "$data"
    if [ ! -f "$data/PG_VERSION" ]; then
        local pwfile
        pwfile=$(mktemp)
        secret postgres_admin 16 >"$pwfile"
        if [ "$(id -u)" -eq 0 ]; then chown postgres "$pwfile"; fi
        as_postgres "$(pg_bin)/initdb" -D "$data" -U postgres --pwfile="$pwfile" --auth=scram-sha-256 \
            --encoding=UTF8 --locale=C.UTF-8 >>"$log/postgres.log" 2>&1 || die "initdb failed; see $log/postgres.log"
        rm -f "$pwfile"
    fi
    local as_user=()
    if [ "$(id -u)" -eq 0 ]; then as_user=(setpriv --reuid=postgres --regid=postgres --init-groups); fi
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
    rm -f "$run/environment"
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
        echo "redis-cli -h $REDIS_HOST -p $REDIS_PORT -n $REDIS_DATABASE XINFO GROUPS sandbox:jobs:create"
        echo "psql '$DATABASE_URL' -c 'select status, count(*) from sandboxes group by 1'"
    else
        return 1
    fi
}

case ${1:-} in
run)
    clear_leftovers
    configure
    running && die "already running; 'make stop' first"
    trap 'trap "" INT TERM; echo; echo "stopping"; stop_all; exit 0' INT TERM
    trap 'stop_all' EXIT
    start
    banner
    echo "Ctrl-C stops everything. Logs: $log"
    while running; do sleep 0.5 & wait $!; done
    ;;
start)
    clear_leftovers
    configure
    trap 'stop_all' ERR
    start
    trap - ERR
    banner
    ;;
stop)
    mkdir -p "$run"
    stop_all
    echo stopped
    ;;
status) configure; status ;;
logs) exec tail -n 50 -F "$log"/*.log ;;
env)
    configure
    for name in $(exported_names); do printf 'export %s=%q\n' "$name" "${!name}"; done
    # shellcheck disable=SC2016 # for whoever evaluates it
    printf 'export PATH=%q:"$PATH"\n' "$bin"
    ;;
*) die "usage: stack.sh run|start|stop|status|logs|env" ;;
esac
