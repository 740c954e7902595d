#!/usr/bin/env bash
# Set up ddfpipe, simulate a small LOFAR field, and make its images with the whole pipeline.
#
#     bash misc/example.sh [DIR]         DIR is where the data and images go; default: example-run
#
# Less than ten minutes on two cores, 2.5 GB of disk.  May be run again: what is done is not done anew.
# Environment variables: see setup.sh.
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export DDFPIPE_VENV=${DDFPIPE_VENV:-$checkout/.venv}
mkdir -p "${1:-example-run}"
folder=$(cd "${1:-example-run}" && pwd)
bash "$checkout/misc/setup.sh"

unset PYTHONPATH PYTHONHOME
export PATH=$DDFPIPE_VENV/bin:$PATH
cd "$folder"
# Where the folder lies in a checkout, git is to leave it alone.
[ -e .gitignore ] || echo '*' >.gitignore
if [ -f simulated ]; then
    echo "== the measurement sets are in $folder already"
else
    echo "== simulating six measurement sets in $folder"
    simulate.py --config example --output .
    touch simulated
fi
[ -f example.cfg ] || cp "$checkout/examples/example.cfg" .

echo "== pipeline.py example.cfg"
pipeline.py example.cfg

echo "== the sky that was simulated, before and after calibration by direction"
python "$checkout/misc/compare_with_truth.py" truth.skymodel \
    image_dirin_SSD_m.int.restored.fits image_full_ampphase_di_m.NS.int.restored.fits

final=image_full_ampphase_di_m.NS.app.restored.fits
cat <<END

== done.  In $folder:

  report.html      the page of the run: stages, figures, pictures of all images and gains
  previews/image_dirin_SSD_m.app.restored.fits.png
                   the field before calibration by direction ...
  previews/$final.png
                   ... and after
  $final
                   the final image, apparent flux (flat noise); .int. is corrected for the beam
  truth.skymodel   the sky that was simulated
  SOLSDIR/         gains of every measurement set: h5parm (*.h5) and killMS files

To use the commands yourself:

  source $DDFPIPE_VENV/bin/activate
  cd $folder
  pipeline.py status example.cfg
END
