#!/usr/bin/env bash
# Install WSClean and DP3, the programs behind [machine] engine = wsclean.
#
#     bash misc/install_lofar.sh [--dp3] [FOLDER]
#
# DP3 comes as a Python wheel and gets a virtual environment of its own in FOLDER (default: where
# ddfpipe looks for it, $DDFPIPE_TOOLS, $XDG_DATA_HOME/ddfpipe/lofar or ~/.local/share/ddfpipe/lofar),
# since it brings its own libraries: some 230 MB.  WSClean comes from Debian or Ubuntu: as root it is
# installed, otherwise the command for it is shown.  --dp3 leaves WSClean alone.  Running the script
# again leaves alone what works; remove FOLDER to update.
set -euo pipefail

only_dp3=
if [ "${1:-}" = --dp3 ]; then
    only_dp3=1
    shift
fi
folder=${1:-${DDFPIPE_TOOLS:-${XDG_DATA_HOME:-$HOME/.local/share}/ddfpipe/lofar}}
python=${PYTHON:-python3}

dp3_version() {
    OPENBLAS_NUM_THREADS=1 "$folder/bin/DP3.py" -v 2>/dev/null | head -n 1
}

if ! dp3_version >/dev/null; then
    echo "== installing DP3 into $folder (230 MB)"
    "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install -qq "dp3>=6.6,<7" "numpy>=2"
fi
dp3_version >/dev/null || { echo "DP3 was installed into $folder but does not start" >&2; exit 1; }
echo "== $(dp3_version) is ready in $folder"
[ -z "$only_dp3" ] || exit 0

if ! command -v wsclean >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "== apt-get install wsclean"
        apt-get -qq update
        apt-get -qq install --yes wsclean
    else
        echo "WSClean is not installed.  On Debian or Ubuntu: sudo apt-get install wsclean" >&2
        echo "elsewhere: https://wsclean.readthedocs.io/en/latest/installation.html" >&2
        exit 1
    fi
fi
echo "== WSClean: $(wsclean -version | grep -m1 -o 'WSClean version .*') ($(command -v wsclean))"
echo "ddfpipe finds both by itself; [machine] wsclean and dp3 name other places."
