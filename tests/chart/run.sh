#!/usr/bin/env bash
# Tests of the chart, the manifests, the Tiltfile and the Dockerfile. Needs Python 3.11, kubectl and promtool; the rest comes from PyPI into a
# folder of its own. Ends with `N passed, N failed`. Arguments go to pytest: `tests/chart/run.sh -k schema`.
#   run.sh          run the tests
#   run.sh render   rewrite what is generated: CRD copies, kustomize base, rendered output, the values table
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=${CARGO_TARGET_DIR:-$root/target}/chart-venv

command -v kubectl >/dev/null || { echo "tests/chart: kubectl is missing; install it (https://kubernetes.io/docs/tasks/tools/) and run again" >&2; exit 1; }

if ! command -v promtool >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus; } >/dev/null
    else
        echo "tests/chart: promtool is missing; install Prometheus (Debian: apt-get install prometheus) and run again" >&2
        exit 1
    fi
fi

# A finished environment carries the requirements it was made from, so a changed pin or an interrupted install makes a new one.
if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    rm -rf "$venv"
    mkdir -p "$(dirname "$venv")"
    if ! python3 -m venv "$venv" >/dev/null 2>&1; then
        # Debian ships the module apart from Python.
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            { apt-get update -qq && apt-get install -y -qq python3-venv; } >/dev/null
            python3 -m venv "$venv"
        else
            echo "tests/chart: python3 cannot make a virtual environment; install python3-venv and run again" >&2
            exit 1
        fi
    fi
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
fi

export PYTHONDONTWRITEBYTECODE=1
if [ "${1:-}" = render ]; then
    shift
    exec "$venv/bin/python" "$here/render.py" "$@"
fi
exec "$venv/bin/python" -m pytest --quiet --rootdir "$here" -p no:cacheprovider -p no:logging "$here" "$@"
