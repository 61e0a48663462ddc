#!/bin/sh
# Makes or mends the virtual environment of requirements.lock: `dev/bootstrap.sh DIRECTORY`.
# With uv, which pip brings (both pinned by hash); where uv cannot be had, with pip alone and the same lock.
set -eu

cd "$(dirname "$0")/.."
venv=$1
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "chatrelay needs Python 3.11 or newer; $python is not. Set PYTHON to one." >&2
    exit 1
fi
# A directory that was moved, or whose Python is gone, is made anew.
if ! "$venv/bin/python" -c 'import pip, sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null; then
    echo "making $venv"
    if ! "$python" -m venv --clear "$venv"; then
        echo "no virtual environment could be made: on Debian, apt-get install python3-venv" >&2
        exit 1
    fi
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1 UV_NO_PROGRESS=1
with_pip="$venv/bin/python -m pip install --quiet"
with_uv="$venv/bin/uv pip"

sync() {
    $with_uv sync --quiet --python "$venv/bin/python" --require-hashes "$@" requirements.lock
}

echo "installing what requirements.lock names"
# uv trusts its own list of certificate authorities; a network with one of its own has that in the system's.
if $with_pip --require-hashes -r dev/bootstrap.lock && { sync 2>"$venv/uv.log" || sync --system-certs; }; then
    $with_uv install --quiet --python "$venv/bin/python" --no-deps --editable . --editable clients/python
else
    echo "uv cannot do it; going on with pip, which takes a minute" >&2
    $with_pip --require-hashes -r requirements.lock
    $with_pip --no-deps --editable . --editable clients/python
fi

# Compiled once, here: where PYTHONDONTWRITEBYTECODE is set, each process would compile all that it imports at each of its starts.
"$venv/bin/python" -m compileall -q -j 0 "$venv"/lib/python*/site-packages api clients dev migrations ops shared worker || true
