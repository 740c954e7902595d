#!/usr/bin/env bash
# Set up ddfpipe with what the tests need, and run the tests.
#
#     bash misc/test.sh [WORD...]        words are handed to pytest, e.g. -m 'not slow' or -n 0
#
# The tests use the installed package and its scripts, not the folder ddfpipe of the checkout.
# DP3, which one of the engines uses, goes into an environment of its own inside that of ddfpipe; where it
# cannot be installed its tests skip and say so.  The exit code is that of pytest.  Environment
# variables: see setup.sh; DDFPIPE_TOOLS names a folder where DP3 lies already.
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export DDFPIPE_VENV=${DDFPIPE_VENV:-$checkout/.venv}
bash "$checkout/misc/setup.sh" test
export DDFPIPE_TOOLS=${DDFPIPE_TOOLS:-$DDFPIPE_VENV/lofar}
timeout 600 bash "$checkout/misc/install_lofar.sh" --dp3 ||
    echo "== DP3 cannot be installed; going on without it"

unset PYTHONPATH PYTHONHOME
export PATH=$DDFPIPE_VENV/bin:$PATH
# Compiled kernels and records of the tests stay out of the checkout.
export NUMBA_CACHE_DIR=$DDFPIPE_VENV/numba-cache
export HYPOTHESIS_STORAGE_DIRECTORY=$DDFPIPE_VENV/hypothesis
export MPLBACKEND=Agg
cd "$checkout"
# "pytest", not "python -m pytest": the latter would import ddfpipe from the checkout.
# Two processes, each with whole files, for most tests use one core only.
exec pytest -p no:cacheprovider -ra -n 2 --dist loadfile "$@"
