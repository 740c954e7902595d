"""How well the flux scale is found.

    python tests/bench/flux_scale.py statistics|field|blurred [FOLDER]

statistics: many mock fields; scatter of the factors against the errors told.
field: measurement sets with wrong scales through the pipeline up to image_phase1.
blurred: the same with all of the ionosphere, as if no earlier calibration had been made.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from checkout import use_own_package

use_own_package("products")

from fluxscale_fields import mock_spectra, scaled_field  # noqa: E402

from ddfpipe.products.fluxscale.fit import fit_factors  # noqa: E402

CASES = {
    "scatter 5 % and 1 %": {},
    "the same, 4 of 40 wrong": {"outliers": 4},
    "15 sources": {"sources": 15},
    "noise of a third": {"noise": 1 / 3},
    "no scatter": {"scatter": (0.0, 0.0)},
    "26 planes": {"planes": 26},
    "curved spectra": {"curvature": 0.05},
}
REALISATIONS = 60


def statistics() -> None:
    """A line a case: mean and width of the pulls, rms and largest error, sources left out."""
    print(f"{REALISATIONS} realisations a case; per cent")
    for name, changes in CASES.items():
        pulls, errors, left_out, start = [], [], 0, time.monotonic()
        for seed in range(REALISATIONS):
            spectra, true = mock_spectra(seed, **changes)
            first = fit_factors(spectra, times=10)
            kept = spectra.select(~first.improbable)
            fit = fit_factors(kept, robust=False, start=first.factor, times=10)
            pulls.append((fit.factor - true) / fit.error)
            errors.append(fit.factor / true - 1)
            left_out += spectra.size - kept.size
        pulls, errors = np.array(pulls), 100 * np.array(errors)
        print(f"| {name} | {pulls.mean():.2f} | {pulls.std():.2f} | {errors.std():.2f} | "
              f"{np.abs(errors).max():.1f} | {left_out / REALISATIONS:.1f} | "
              f"{(time.monotonic() - start) / REALISATIONS:.1f} s", flush=True)


def field(folder: Path, removed: float) -> None:
    """Run a small field to image_phase1; factors and fluxes against the truth.

    removed: share of the ionosphere towards the centre that earlier calibration took out.
    """
    from ddfpipe.config import load_config
    from ddfpipe.data.images import read_image
    from ddfpipe.data.scales import load_factors
    from ddfpipe.errors import StopRequested
    from ddfpipe.pipeline.run import open_field, run
    from ddfpipe.pipeline.signals import StopFlag
    from ddfpipe.simulate.sky import fluxes
    from ddfpipe.simulate.truth import read_truth

    screen = {"diffractive_km": 15.0, "centre_removed": removed}
    _, sources = scaled_field(folder, rms=0.12, ionosphere=screen)
    options = {
        "data-mslist": folder / "mslist.txt", "data-full_mslist": folder / "big-mslist.txt",
        "data-colname": "DATA", "image-imsize": 900, "image-cellsize": 4.5,
        "image-psf_arcsec": 20, "image-low_psf_arcsec": 20, "image-low_cell": 4.5,
        "image-beam_model": "none", "solutions-ndir": 4, "solutions-NIterKF": [6] * 7,
        "solutions-dt_slow": 1, "control-bootstrap": True, "control-exitafter": "phase",
        "bootstrap-catalogues": [str(folder / "low.fits"), str(folder / "high.fits")],
        "bootstrap-frequencies": [74e6, 327e6], "bootstrap-radii": [20, 10],
        "image-uvmax": 26, "control-nobar": True,
    }
    home = folder / "run"
    home.mkdir(exist_ok=True)
    config = load_config([f"--{name}={value}" for name, value in options.items()])
    start = time.monotonic()
    try:
        run(replace(open_field(config, home), workdir=home), StopFlag())
    except StopRequested:
        pass
    table = load_factors(home / "bootstrap_L000007_factors.json")
    scale = read_truth(folder).arrays["flux_scale"]
    product = np.array(table.factor) * scale
    print(table.text())
    print("factor times wrong scale:", np.round(product, 4))
    print(f"largest error {100 * np.abs(product - 1).max():.1f} %, "
          f"pulls {np.round((product - 1) / (np.array(table.error) * scale), 1)}")
    for name in ("image_dirin_SSD_m_c_di_m", "image_phase1"):
        image = read_image(home / f"{name}.int.restored.fits")
        plane, freq = image.plane(), image.freq[0]
        ratio = []
        for source in sources:
            y, x = (int(round(float(v))) for v in image.grid.pixel_of(source.ra, source.dec))
            peak = plane[y - 3 : y + 4, x - 3 : x + 4].max()
            ratio.append(peak / fluxes([source], np.array([freq]))[0, 0])
        print(f"{name}: peak over true flux {np.median(ratio):.3f}, scatter {np.std(ratio):.3f}")
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["statistics"]:
        statistics()
    elif sys.argv[1:2] in (["field"], ["blurred"]):
        field(Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp()).absolute(),
              removed=float(sys.argv[1] == "field"))
    else:
        sys.exit(__doc__)
