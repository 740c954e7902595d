"""The whole measurement on a made-up cube, PyBDSF included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ddfpipe.data.images import SkyGrid, write_image
from ddfpipe.data.scales import load_factors
from ddfpipe.errors import StageFailed
from ddfpipe.pipeline.fluxscale import scale_files
from ddfpipe.products.fluxscale.matching import Reference
from ddfpipe.products.fluxscale.run import measure_scale
from ddfpipe.simulate.sky import fluxes
from ddfpipe.units import ARCSEC, FWHM_TO_SIGMA
from fluxscale_fields import CENTRE, field_sources, write_survey

CELL, BEAM = 5.0 * ARCSEC, 20.0 * ARCSEC
GRID = SkyGrid(*np.radians(CENTRE), 400, 400, CELL)
FREQ = np.array([122e6, 133e6, 151e6, 166e6])
WRONG = np.array([0.9, 1.15, 1.05, 0.85])


class Listener:
    def __init__(self):
        self.messages = []

    def check(self):
        pass

    def progress(self, *words):
        pass

    def message(self, text):
        self.messages.append(text)


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Folder with cube, images and surveys of twelve sources; the third plane is noise alone."""
    folder = tmp_path_factory.mktemp("cube")
    sources = field_sources(12, 0.24, 4)
    sigma = BEAM / CELL * FWHM_TO_SIGMA
    rows, columns = np.mgrid[: GRID.ny, : GRID.nx]
    flux = fluxes(sources, FREQ)
    rng = np.random.default_rng(1)
    planes = gaussian_filter(rng.standard_normal((4, 400, 400)), (0, sigma, sigma))
    planes *= 3e-3 / planes.std()
    for source, spectrum in zip(sources, flux):
        y, x = GRID.pixel_of(source.ra, source.dec)
        spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))
        planes += (spectrum * WRONG * [1, 1, 0, 1])[:, None, None] * spot
    mean = planes[[0, 1, 3]].mean(axis=0)
    beam = (BEAM, BEAM, 0.0)
    write_image(folder / "cube.fits", planes, GRID, freq=FREQ, beam=beam)
    for name in ("app.fits", "int.fits"):
        write_image(folder / name, mean, GRID, freq=140e6, beam=beam)
    for name, freq in (("low.fits", 74e6), ("high.fits", 327e6)):
        write_survey(folder / name, sources, freq, 0.02, seed=int(freq / 1e6))
        write_survey(folder / f"other_{name}", field_sources(12, 0.24, 9), freq)
    return folder


def measure(field, folder, listener, prefix=""):
    references = [Reference(field / f"{prefix}{name}.fits", name, freq, 10.0, name)
                  for name, freq in (("low", 74e6), ("high", 327e6))]
    return measure_scale(field / "cube.fits", field / "app.fits", field / "int.fits", references,
                         "L7", scale_files(folder, "L7"), least=5, threads=1, monitor=listener)


def test_wrong_scales_are_found(field, tmp_path):
    listener = Listener()
    table = measure(field, tmp_path, listener)
    used = [0, 1, 3]
    assert table.frequency == tuple(FREQ[used]) and 10 <= table.sources <= 12
    factor, error = np.array(table.factor), np.array(table.error)
    assert np.abs(factor * WRONG[used] - 1).max() < 0.03
    assert (np.abs(factor * WRONG[used] - 1) < 4 * error).all() and error.max() < 0.03
    assert -1.0 < table.spectral_index < -0.5
    assert any("151.0 MHz is blank or too noisy" in text for text in listener.messages)
    files = scale_files(tmp_path, "L7")
    assert all(path.exists() for path in files.values())
    assert load_factors(files["factors"]) == table


def test_surveys_of_another_field_are_refused_with_all_counts(field, tmp_path):
    with pytest.raises(StageFailed, match="in low: 0.*on_failure=unscaled") as caught:
        measure(field, tmp_path, Listener(), prefix="other_")
    assert "found: 12" in str(caught.value) and "alone within 100 arcsec: 12" in str(caught.value)
    assert not scale_files(tmp_path, "L7")["factors"].exists()
