"""Make the small files of other programs in tests/data/exchange (see its README).

    python tests/data/make_exchange_files.py FOLDER        DP3 and WSClean, from a simulated field

Needs both programs (DDFPIPE_TEST_DP3 tells where DP3 is); FOLDER is scratch.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
from exchange_tools import (
    PLACES, applied, corrections, ddecal, samples, small_field, wsclean_sources,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from other_programs import program  # noqa: E402

from ddfpipe.data.skymodel import read_skymodel, with_patches, write_skymodel  # noqa: E402

HERE = Path(__file__).resolve().parent / "exchange"
FULL = np.array([[1.0, 0.2 + 0.1j], [0.3, 0.8]])
MODES = ("diagonal", "fulljones", "tecandphase")
STEP = 7
"""Every so many rows are kept of what DP3 made of `FULL`."""


def main(folder: Path) -> None:
    """Write the files.  Names are relative: programs put their command lines into their files."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    HERE.mkdir(exist_ok=True)
    field = small_field(Path("field"))
    dp3, wsclean, ms = program("dp3"), program("wsclean"), field.ms[0]
    sky = Path("sky.skymodel")
    points = with_patches(read_skymodel(field.truth.with_name("given.skymodel")),
                          *np.radians(list(PLACES.values())).T, list(PLACES))
    write_skymodel(sky, points)
    kept = {}
    for mode in MODES:
        h5 = ddecal(dp3, ms, sky, mode, Path(f"dp3_{mode}.h5"))
        kept[mode] = applied(dp3, ms, Path(), h5, corrections(mode), "[east]", FULL)[::STEP]
        shutil.copy(h5, HERE / h5)
    where = samples(ms)
    rows = {key: where[key][::STEP] for key in ("time", "ant1", "ant2")}
    np.savez_compressed(HERE / "dp3_applied.npz", jones=FULL, freqs=where["freqs"],
                        names=where["names"], **rows, **kept)
    for scale, name in ((0, "points"), (8, "gaussians")):
        found = wsclean_sources(wsclean, field.ms, name, scale, 300, 40, Path())
        (HERE / f"wsclean_{name}.txt").write_text(found.read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
