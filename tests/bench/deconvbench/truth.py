"""What the sky truly looks like, and how well a model describes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import PixelModel
from ddfpipe.engines.native.restoring import restored_image
from ddfpipe.imaging.restore import beam_area
from ddfpipe.simulate.sky import Source, fluxes

EDGE = 0.1
"""An aperture is where the restored source is above this part of its peak."""

KINDS = {"p": "points", "o": "points on the halo", "d": "doubles", "h": "halo"}
"""Kinds of sources by the first letter of their names."""


def _inverse(source: Source, beam) -> tuple[np.ndarray, float]:
    """Inverse covariance (2, 2) over (l, m) in rad of a source seen with a beam, and its
    determinant over the beam's."""

    def covariance(major, minor, pa):
        along, across = np.array([np.sin(pa), np.cos(pa)]), np.array([np.cos(pa), -np.sin(pa)])
        wide = 8 * np.log(2)
        return (major**2 * np.outer(along, along) + minor**2 * np.outer(across, across)) / wide

    seen = covariance(*beam) + covariance(source.major, source.minor, source.pa)
    return np.linalg.inv(seen), np.linalg.det(seen) / np.linalg.det(covariance(*beam))


class Truth:
    """The sky restored with a beam.

    image (band, y, x) float32 Jy/beam; apertures: name to (flat pixels, (band,) Jy inside them).
    """

    def __init__(self, sources: list[Source], grid: SkyGrid, freq: np.ndarray, beam):
        self.grid, self.freq, self.beam = grid, np.asarray(freq, float), beam
        self.image = np.zeros((self.freq.size, *grid.shape), np.float32)
        self.apertures: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        flux = fluxes(sources, self.freq)
        groups: dict[str, list[int]] = {}
        for k, source in enumerate(sources):
            groups.setdefault(source.name.split(".")[0], []).append(k)
        for name, members in groups.items():
            own = np.zeros(grid.shape)
            spectrum = flux[members].sum(axis=0)
            for k in members:
                box, picture = self._picture(sources[k])
                own[box] += picture * flux[k].mean()
                for plane, jy in zip(self.image, flux[k]):
                    plane[box] += (jy * picture).astype(np.float32)
            inside = np.flatnonzero(own > EDGE * own.max())
            share = own.ravel()[inside].sum() / beam_area(beam, grid.cell) / flux[members].mean(
                axis=1).sum()
            self.apertures[name] = inside, spectrum * share

    def _picture(self, source: Source):
        """(box, image of 1 Jy in it, Jy/beam)."""
        grid = self.grid
        inverse, spread = _inverse(source, self.beam)
        y, x = (float(v) for v in grid.pixel(*grid.lm_of(source.ra, source.dec)))
        reach = int(np.ceil(2.2 * (source.major + self.beam[0]) / grid.cell))
        rows = slice(max(0, round(y) - reach), min(grid.ny, round(y) + reach + 1))
        cols = slice(max(0, round(x) - reach), min(grid.nx, round(x) + reach + 1))
        dm = (np.arange(rows.start, rows.stop) - y)[:, None] * grid.cell
        dl = (x - np.arange(cols.start, cols.stop))[None] * grid.cell
        power = inverse[0, 0] * dl**2 + 2 * inverse[0, 1] * dl * dm + inverse[1, 1] * dm**2
        return (rows, cols), np.exp(-0.5 * power) / np.sqrt(spread)


@dataclass(frozen=True)
class Quality:
    """What a program reached.

    inside, outside: rms of the residual in and outside the mask over that of the noise alone.
    flux: kind to (median, rms) of the relative error of the model's flux, sources above SURE sigma.
    restored: the same of the restored image.  index: kind to rms error of the spectral index.
    worst: largest residual over the noise.
    """

    inside: float
    outside: float
    worst: float
    flux: dict[str, tuple[float, float]]
    restored: dict[str, tuple[float, float]]
    index: dict[str, float]


SURE = 30.0
"""Sources brighter than this many times the noise of their aperture are judged."""


def judge(field, model: PixelModel, residual: np.ndarray) -> Quality:
    """Judge a model (bands as the field's) and what it leaves (band, y, x)."""
    truth, mask = field.truth, field.arrays["mask"]
    left = field.mean(residual)
    dark = np.zeros(mask.shape, np.float32)
    ones = np.ones(mask.shape)
    found = np.stack([restored_image(model, flux, ones, dark, truth.beam) for flux in model.flux])
    area = beam_area(truth.beam, field.grid.cell)
    miss = (found - truth.image).reshape(len(found), -1)
    gone = miss + residual.reshape(len(found), -1)
    lists: dict[str, list] = {}
    for name, (inside, true) in truth.apertures.items():
        sigma = field.noise * np.sqrt(inside.size / area)
        mean = float(field.weight @ true)
        if mean < SURE * sigma:
            continue
        short = miss[:, inside].sum(axis=1) / area
        slope = _index(field, true + short) - _index(field, true)
        lists.setdefault(KINDS[name[0]], []).append((
            float(field.weight @ short) / mean,
            float(field.weight @ gone[:, inside].sum(axis=1)) / area / mean, slope))
    table = {kind: np.array(rows) for kind, rows in lists.items()}
    return Quality(
        float(left[mask].std()) / field.noise, float(left[~mask].std()) / field.noise,
        float(np.abs(left).max()) / field.noise,
        {kind: _summary(rows[:, 0]) for kind, rows in table.items()},
        {kind: _summary(rows[:, 1]) for kind, rows in table.items()},
        {kind: _rms(rows[:, 2]) for kind, rows in table.items()},
    )


def _index(field, flux: np.ndarray) -> float:
    """Spectral index of (band,) fluxes by weighted least squares in logarithms."""
    x = np.log(field.arrays["band_freq"])
    x = x - field.weight @ x
    return float((field.weight * x) @ np.log(np.maximum(flux, 1e-9)) / (field.weight @ x**2))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _summary(values: np.ndarray) -> tuple[float, float]:
    return float(np.median(values)), _rms(values)
