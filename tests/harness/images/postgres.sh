#!/usr/bin/env bash
# What the image `postgres` does with this machine's PostgreSQL: makes the data folder at the first start, with the owner and the
# database that the environment names, runs the scripts for it, and becomes the server. It listens on the pod's address only.
set -euo pipefail

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort --version-sort | tail -n 1)
PATH=${bin:+$bin:}$PATH

# NAME or the content of the file that NAME_FILE names.
setting() {
    local file=${1}_FILE
    if [ -n "${!1-}" ] && [ -n "${!file-}" ]; then
        echo "both $1 and $file are set (but are exclusive)" >&2
        exit 1
    fi
    if [ -n "${!file-}" ]; then cat "${!file}"; else echo "${!1-$2}"; fi
}

# PostgreSQL refuses to run as root. Its own user may be locked out of a checkout below /root. Nobody outlives the pod.
as_owner=(setpriv --pdeathsig KILL)
[ "$(id -u)" != 0 ] || as_owner+=(--reuid postgres --regid postgres --clear-groups --inh-caps=+dac_override --ambient-caps=+dac_override)

initialise() {
    local user password database method script
    user=$(setting POSTGRES_USER postgres)
    password=$(setting POSTGRES_PASSWORD "")
    database=$(setting POSTGRES_DB "$user")
    method=$(setting POSTGRES_HOST_AUTH_METHOD scram-sha-256)
    if [ -z "$password" ] && [ "$method" != trust ]; then
        echo "Error: Database is uninitialized and superuser password is not specified: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE." >&2
        exit 1
    fi
    # shellcheck disable=SC2046 # arguments, as one variable
    "${as_owner[@]}" -- initdb --username="$user" --pwfile=<(printf '%s\n' "$password") --auth-local=trust --auth-host="$method" \
        --no-sync --pgdata="$PGDATA" $(setting POSTGRES_INITDB_ARGS "")
    touch "$PGDATA/unfinished"
    echo "host all all all $method" >>"$PGDATA/pg_hba.conf"

    # For the scripts: reached by its socket only, so that nobody takes it for the server that is wanted.
    local socket server
    socket=$(mktemp --directory /tmp/postgres-XXXXXX)
    chmod 777 "$socket"
    "${as_owner[@]}" -- postgres -D "$PGDATA" -c listen_addresses= -c unix_socket_directories="$socket" &
    server=$!
    export PGHOST=$socket PGUSER=$user
    until pg_isready --quiet; do
        kill -0 "$server"
        sleep 0.05
    done
    if [ "$database" != postgres ]; then
        psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --dbname=postgres --set=name="$database" <<<'create database :"name"'
    fi
    for script in "$TENANTRY_INITDB_SCRIPTS"/*; do
        case $script in
        *.sh) echo "running $script" && if [ -x "$script" ]; then POSTGRES_USER=$user POSTGRES_DB=$database "$script"; else . "$script"; fi ;;
        *.sql) echo "running $script" && psql --no-psqlrc --set=ON_ERROR_STOP=1 --dbname="$database" --file="$script" ;;
        esac
    done
    unset PGUSER
    kill -INT "$server"
    wait "$server"
    rm -rf "$socket" "$PGDATA/unfinished"
}

# Options only: they are the server's.
case ${1-postgres} in
-* | postgres) ;;
*) exec "$@" ;;
esac
[ "${1-}" = postgres ] && shift

if [ ! -e "$PGDATA/PG_VERSION" ] || [ -e "$PGDATA/unfinished" ]; then
    # A first start that was cut short has made nothing that anybody relies on.
    rm -rf "${PGDATA:?}"/*
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    [ "$(id -u)" != 0 ] || chown postgres:postgres "$PGDATA"
    initialise
fi
# What was killed leaves its lock behind; a pod's data has one owner at a time.
rm -f "$PGDATA/postmaster.pid"
exec "${as_owner[@]}" -- postgres "$@" -c listen_addresses="$TENANTRY_BIND_ADDRESS" -c unix_socket_directories=
