#!/usr/bin/env bash
# Set up ddfpipe: a virtual environment with this checkout and all that it needs.
#
#     bash misc/setup.sh [EXTRA]
#
# EXTRA is a group of optional packages from pyproject.toml, e.g. test.  May be run again at any
# time; what is up to date is left alone.  pip is used as you have configured it.
#
# Environment variables
#     DDFPIPE_VENV   folder of the virtual environment; default: .venv in the checkout
#     PYTHON         the Python to make it with; default: python3
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${DDFPIPE_VENV:-$checkout/.venv}
python=${PYTHON:-python3}
extra=${1:-}
wanted=$checkout${extra:+[$extra]}
stamp=$venv/.ddfpipe${extra:+-$extra}

# Paths to other software must not leak into the environment.
unset PYTHONPATH PYTHONHOME

fail() {
    echo "setup.sh: $*" >&2
    exit 1
}

check_python() {
    command -v "$python" >/dev/null || fail "no $python here; install Python 3.11 or newer"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$("$python" --version) is too old, 3.11 or newer is needed; name one with PYTHON=..."
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv"
}

up_to_date() {
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] &&
        [ -z "$(cd "$checkout" && find ddfpipe scripts pyproject.toml -newer "$stamp" \
            -not -name '*.pyc' -not -name '__pycache__' -not -name '*.nb[ic]' -print -quit)" ]
}

install() {
    # setuptools would install files that an earlier build left here and the checkout lost since.
    rm -rf "$checkout/build/lib" "$checkout"/build/bdist.*
    # A stamp speaks of the last installation only.
    rm -f "$venv"/.ddfpipe*
    "$venv/bin/python" -m pip install -qq "$wanted"
    # The version number alone does not tell pip that the checkout has changed.
    "$venv/bin/python" -m pip install -qq --force-reinstall --no-deps "$checkout"
}

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    check_python
    echo "== making the virtual environment $venv"
    "$python" -m venv "$venv"
fi
if ! up_to_date; then
    if [ -x "$venv/bin/pipeline.py" ]; then
        echo "== bringing ddfpipe in $venv up to date"
    else
        echo "== installing ddfpipe and what it needs into $venv (downloads some 300 MB)"
    fi
    install || fail "pip could not install all that is needed; its messages are above"
    "$venv/bin/pipeline.py" --version >/dev/null || fail "pipeline.py was installed but does not start"
    printf '%s\n' "$wanted" >"$stamp"
fi
echo "== $("$venv/bin/pipeline.py" --version) is ready in $venv"
