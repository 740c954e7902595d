#!/bin/bash
# Install WSClean and DP3, the programs behind [machine] engine = wsclean.
#
#   misc/install_lofar.sh [FOLDER]
#
# DP3 comes as a Python wheel and gets a virtual environment of its own in FOLDER (default: where
# ddfpipe looks for it, $XDG_DATA_HOME/ddfpipe/lofar or ~/.local/share/ddfpipe/lofar), since it
# brings its own libraries.  WSClean comes from Debian or Ubuntu: as root it is installed, otherwise
# the command for it is shown.  Running the script again updates both.
set -euo pipefail

folder=${1:-${DDFPIPE_TOOLS:-${XDG_DATA_HOME:-$HOME/.local/share}/ddfpipe/lofar}}
python=${PYTHON:-python3}

echo "DP3 -> $folder"
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --upgrade "dp3>=6.6,<7" "numpy>=2"
OPENBLAS_NUM_THREADS=1 "$folder/bin/DP3.py" -v

if command -v wsclean > /dev/null; then
    echo "WSClean: $(command -v wsclean)"
elif [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    apt-get update -q
    apt-get install -q -y wsclean
else
    echo "WSClean is not installed.  On Debian or Ubuntu: sudo apt-get install wsclean" >&2
    echo "elsewhere: https://wsclean.readthedocs.io/en/latest/installation.html" >&2
    exit 1
fi
wsclean -version
echo "Done.  ddfpipe finds both by itself; [machine] wsclean and dp3 name other places."
