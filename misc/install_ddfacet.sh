#!/usr/bin/env bash
# Install DDFacet and killMS, the programs behind [machine] engine = ddfacet.
#
#   misc/install_ddfacet.sh [FOLDER]
#
# killMS 3.3 was written for DDFacet 0.9 and does not work with 1.0, so each gets a virtual
# environment of its own: FOLDER/ddf-image (DDFacet 1.0) and FOLDER/ddf-solve (DDFacet 0.9, killMS).
# FOLDER is by default where ddfpipe looks for them: $XDG_DATA_HOME/ddfpipe or
# ~/.local/share/ddfpipe; elsewhere say so with DDFPIPE_DDF_TOOLS=FOLDER or with [machine] ddfacet
# and killms.  Both are compiled here, which takes some 7 minutes of processor time and 2.5 GB of
# disk.  Python is PYTHON, or python3; 3.11 and 3.12 have ready-made packages for all they need.
# A compiler and Python's headers come from Debian or Ubuntu: as root they are installed,
# otherwise the command for them is shown.
set -euo pipefail

folder=${1:-${DDFPIPE_DDF_TOOLS:-${XDG_DATA_HOME:-$HOME/.local/share}/ddfpipe}}
python=${PYTHON:-python3}
[ -n "${PYTHON:-}" ] || [ ! -x /usr/bin/python3 ] || python=/usr/bin/python3
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-2}

headers() {
    "$python" -c 'import os, sysconfig
raise SystemExit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))'
}

needed=()
command -v g++ > /dev/null || needed+=(g++)
headers || needed+=(python3-dev)
"$python" -c 'import venv, ensurepip' 2> /dev/null || needed+=(python3-venv)
if [ ${#needed[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        apt-get update -q
        apt-get install -q -y --no-install-recommends "${needed[@]}"
    else
        echo "Needed first.  On Debian or Ubuntu: sudo apt-get install ${needed[*]}" >&2
        exit 1
    fi
fi

# make NAME PACKAGE...: a virtual environment with the packages, one after the other, since killMS
# must find the DDFacet that it was written for.
make() {
    local place=$folder/$1
    shift
    echo "$* -> $place"
    "$python" -m venv "$place"
    "$place/bin/python" -m pip install --quiet --upgrade pip wheel "setuptools>=82"
    local package
    for package in "$@"; do
        "$place/bin/python" -m pip install --quiet "$package"
    done
}

# works PLACE CODE: the packages of an environment can be imported; what they leave in shared
# memory goes with them.
works() {
    "$1/bin/python" -c "$2
import os, shutil
for name in (f'ddf.{os.getpid()}', f'shared_dict:{os.getpid()}'):
    shutil.rmtree('/dev/shm/' + name, ignore_errors=True)" > /dev/null
}

make ddf-image ddfacet==1.0.0.0
works "$folder/ddf-image" 'import DDFacet.Imager.ClassDeconvMachine'
make ddf-solve ddfacet==0.9.1.0 killms==3.3.0
works "$folder/ddf-solve" 'import DDFacet.Data.ClassVisServer, killMS.Data.ClassVisServer'
for program in ddf-image/bin/DDF.py ddf-solve/bin/kMS.py ddf-solve/bin/ClipCal.py; do
    test -x "$folder/$program" || { echo "$folder/$program was not installed" >&2; exit 1; }
done
echo "Done.  ddfpipe finds both by itself; [machine] ddfacet and killms name other places."
