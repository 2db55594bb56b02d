#!/bin/sh
# Gives every service its secrets as files, in a volume of its own, so that none sees another's.
#
# A value comes from deploy/secrets/<name>, else from .env, else (own passwords and keys only) it is
# made once and kept in the volume secrets-kept. Without an E2B key everything is pointed at the
# local sandbox host. Runs once at every `up`; an empty file counts as "not set".
set -eu
umask 077
program_uid=10001

given() { # file name, environment variable: what the operator gave, or nothing
    if [ -s "/given/$1" ]; then cat "/given/$1"; else eval "printf %s \"\${$2:-}\""; fi
}
kept() { # file name, bytes: a random value that is made once
    [ -s "/secrets/kept/$1" ] || od -An -N"$2" -tx1 /dev/urandom | tr -d ' \n' >"/secrets/kept/$1"
    cat "/secrets/kept/$1"
}
put() { # services, file name, value
    for service in $1; do
        printf '%s\n' "$3" >"/secrets/$service/.new"
        chmod 0400 "/secrets/$service/.new"
        case $service in
        gateway | worker | reaper | host) chown "$program_uid:$program_uid" "/secrets/$service/.new" ;;
        grafana) chown 472:0 "/secrets/$service/.new" ;; # the user of Grafana's image
        esac
        mv -f "/secrets/$service/.new" "/secrets/$service/$2"
    done
}
for service in postgres gateway worker reaper host grafana; do chmod 0755 "/secrets/$service"; done

password=$(given postgres_password POSTGRES_PASSWORD)
password=${password:-$(kept postgres_password 24)}
case $password in
*[!A-Za-z0-9._~-]*) echo "secrets: postgres_password: only letters, digits and . _ ~ - (it becomes part of a URL)" >&2; exit 1 ;;
esac
put postgres postgres_password "$password"
database_url=$(given database_url DATABASE_URL)
put "gateway worker reaper" database_url "${database_url:-postgresql://sandbox:$password@postgres:5432/sandbox}"

jwt=$(given jwt_secret_key JWT_SECRET_KEY)
put gateway jwt_secret_key "${jwt:-$(kept jwt_secret_key 32)}"
for pem in jwt_public_key.pem jwt_private_key.pem; do # of RS256 and ES256
    if [ -s "/given/$pem" ]; then put gateway "$pem" "$(cat "/given/$pem")"; fi
done

e2b_key=$(given e2b_api_key E2B_API_KEY) host_key=e2b_$(kept host_api_key 20)
api_url=${E2B_API_URL:-} sandbox_url=${E2B_SANDBOX_URL:-} domain=${E2B_DOMAIN:-} services=${SANDBOX_SERVICES:-}
name=${E2B_NAME:-}
if [ -z "$e2b_key" ]; then
    echo "secrets: no deploy/secrets/e2b_api_key: sandboxes run on this machine (start with --profile local)"
    e2b_key=$host_key
    api_url=${api_url:-http://sandbox-host:3900} sandbox_url=${sandbox_url:-http://sandbox-host:3900}
    domain=${domain:-localhost:${SANDBOX_HOST_PORT:-3900}}
    services=${services:-mcp,vscode} # what the host's base template brings up
    name=${name:-local}
elif [ "$api_url" = http://sandbox-host:3900 ]; then
    host_key=$e2b_key
fi
put host host_api_key "$host_key"
put host host_domain "${domain:-localhost:${SANDBOX_HOST_PORT:-3900}}"
put "gateway worker" e2b_api_key "$e2b_key"
put "gateway worker" e2b_api_url "$api_url"
put "gateway worker" e2b_sandbox_url "$sandbox_url"
put "gateway worker" e2b_domain "$domain"
put gateway sandbox_services "$services"
put "gateway worker reaper" e2b_name "$name"
put "gateway worker" daytona_api_key "$(given daytona_api_key DAYTONA_API_KEY)"

grafana=$(given grafana_admin_password GRAFANA_ADMIN_PASSWORD)
put grafana grafana_admin_password "${grafana:-$(kept grafana_admin_password 12)}"
