#!/usr/bin/env bash
# What the image `valkey` does, with this machine's Valkey or Redis. It listens on the pod's address only.
set -euo pipefail
cd "$TENANTRY_WORKING_FOLDER"

case ${1-valkey-server} in
-* | *.conf) set -- valkey-server "$@" ;;
valkey-server | redis-server) [ $# -gt 0 ] || set -- valkey-server ;;
*) exec "$@" ;;
esac
shift
# What is said here wins over what the arguments say: there is no network namespace to bind all of.
server=$(command -v valkey-server || command -v redis-server)
exec "$server" "$@" --bind "$TENANTRY_BIND_ADDRESS" --protected-mode no
