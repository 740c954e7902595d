"""Models predicted at nodes agree with models predicted everywhere."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import PixelModel
from ddfpipe.engines.native import facetmodel, predictor
from ddfpipe.engines.native.facetmodel import split_model
from ddfpipe.engines.native.predictor import Predictor
from ddfpipe.engines.native.stationbeams import StationBeams
from ddfpipe.imaging import facetpredict
from ddfpipe.imaging.facets import regular_facets
from ddfpipe.imaging.gains import StationGains
from ddfpipe.imaging.smearing import EARTH_RATE
from ddfpipe.units import ARCSEC, DEGREE

CENTRE, NPIX, CELL = (1.0, 0.9), 2000, 6 * ARCSEC
N_ANT, N_TIME, N_CHAN = 30, 200, 16
BANDS = np.repeat([0, 1], 8)


class Beam:
    """Gaussian beams of three widths that drift with time."""

    def response(self, *, times, freqs, ra, dec):
        x, y = (ra - CENTRE[0]) * np.cos(CENTRE[1]), dec - CENTRE[1]
        width = np.resize([4.0, 3.0, 2.5], N_ANT)[:, None] * DEGREE
        drift = 0.3 * DEGREE * (np.asarray(times) / 900.0)[:, None, None, None]
        wide = (np.asarray(freqs) / 140e6)[:, None, None]
        return np.exp(-((x - drift) ** 2 + y**2) * wide / (2 * width**2)).astype(np.complex64)


@pytest.fixture(scope="module")
def cache():
    """A dense core of 12 stations within 1 km, others up to 20 km out."""
    rng = np.random.default_rng(3)
    place = rng.normal(size=(N_ANT, 3)) * np.r_[np.full(12, 300.0), np.full(18, 7e3)][:, None]
    ant1, ant2 = np.triu_indices(N_ANT, 1)
    d, time = place[ant2] - place[ant1], 8.0 * np.arange(N_TIME)
    hour = 0.3 + EARTH_RATE * time[:, None]
    sin, cos, up, level = np.sin(hour), np.cos(hour), np.sin(CENTRE[1]), np.cos(CENTRE[1])
    uvw = np.stack([
        sin * d[:, 0] + cos * d[:, 1], -up * cos * d[:, 0] + up * sin * d[:, 1] + level * d[:, 2],
        level * cos * d[:, 0] - level * sin * d[:, 1] + up * d[:, 2]], axis=-1)
    return SimpleNamespace(
        name="x", path="x.ms", uvw=uvw, time=time, interval=8.0, phase_centre=CENTRE,
        freq=140e6 + 97656.25 * np.arange(N_CHAN), chan_width=np.full(N_CHAN, 97656.25),
        n_chan=N_CHAN, n_bl=len(ant1), n_ant=N_ANT, ant1=ant1, ant2=ant2,
    )


def make(cache, n: int, beam: bool) -> tuple[Predictor, float]:
    """(Predictor of n components of one facet whose spectra differ, sum of their fluxes)."""
    facets = regular_facets(npix=NPIX, cell=CELL, max_size_rad=1.2 * DEGREE)
    facet = facets.facets[-1]
    rng = np.random.default_rng(n)
    rows, cols = (first + rng.integers(8, size - 8, n) for first, size in
                  ((facet.y0, facet.ny), (facet.x0, facet.nx)))
    index = np.unique(rows * NPIX + cols)
    flux = rng.exponential(size=(1, index.size)) * np.ones((2, 1))
    flux[1] *= rng.uniform(0.99, 1.01, index.size)  # spectral indices of up to 1.8
    freq = [cache.freq[BANDS == k].mean() for k in (0, 1)]
    model = PixelModel(SkyGrid(*CENTRE, NPIX, NPIX, CELL), np.array(freq), index,
                       flux.astype(np.float32))
    stations = StationBeams([Beam()], [cache], NPIX * CELL) if beam else None
    at = lambda _, y, x: (np.ones((2, y.size)), np.ones(y.size))  # noqa: E731
    maps = SimpleNamespace(at=at, stations=stations)
    return Predictor(facets, split_model(model, facets, maps)), float(flux.sum(axis=1).max())


def predicted(found: Predictor, cache, loaded: bool = False):
    """(visibilities of all slots but the first, classes of baselines)."""
    part, out = slice(1, N_TIME), np.zeros((N_TIME - 1, cache.n_bl, N_CHAN), np.complex64)
    index = found.occupied()[0]
    gain = np.exp(1j * np.arange(N_ANT)) * np.ones((1, 2, 1))
    gains = StationGains(gain, np.zeros(N_TIME - 1), BANDS, cache.ant1, cache.ant2)
    grid = found.load(cache, index, BANDS) if loaded else None
    found.add_facet(cache, part, index, BANDS, gains, out, -1.0, grid)
    return out, found._classes(cache, index, predictor._chunk(cache, part, BANDS))


@pytest.mark.parametrize("n, beam, loaded", [
    (60, False, False), (60, True, False), (900, True, False), (900, False, True)])
def test_nodes_change_nothing(cache, monkeypatch, n, beam, loaded):
    monkeypatch.setattr(facetmodel, "GROUP", 0.3 * DEGREE)
    if not loaded:
        monkeypatch.setattr(facetpredict, "DIRECT", 0.0)  # sums always pay
    found, flux = make(cache, n, beam)
    few, classes = predicted(found, cache, loaded)
    share = predictor._chunk(cache, slice(1, N_TIME), BANDS).share(classes)
    assert share < 0.6 and len(classes) > 2
    monkeypatch.setattr(predictor, "NODES", np.inf)
    found, _ = make(cache, n, beam)
    every, classes = predicted(found, cache, loaded)
    assert [c.time for c in classes] == [None]
    assert 0 < abs(few - every).max() < 2e-4 * flux
    assert abs(few - every).std() < 2e-5 * flux


def test_nodes_that_do_not_pay_are_not_used(cache, monkeypatch):
    """One component is summed sooner than spread; a small chunk is not worth the trouble."""
    found, _ = make(cache, 1, False)
    _, classes = predicted(found, cache)
    assert [c.time for c in classes] == [None]
    found, _ = make(cache, 200, False)
    index = found.occupied()[0]
    small = predictor._chunk(cache, slice(0, 2), BANDS)
    assert [c.time for c in found._classes(cache, index, small)] == [None]
