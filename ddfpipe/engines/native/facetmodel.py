"""The components of a sky model facet by facet: what a predictor sums directly, what it degrids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...data.model import PixelModel
from ...imaging.facets import Facet, FacetSet
from ...imaging.footprint import HALF, spread
from ...imaging.sky import n_minus_one
from ...units import DEGREE
from .stationbeams import StationBeams

DIRECT_LIMIT = 120
"""Components of a facet up to which all are summed with their own beams and smearing."""

DIRECT_BRIGHT = 40
"""Components of a more crowded facet that are summed directly, the brightest ones."""

GROUP = 0.1 * DEGREE
"""Components summed directly share a beam within squares of this size."""


@dataclass
class FacetModel:
    """The components of a sky model that one facet owns.

    y, x : (n,) box pixels, fractional; l, m : (n,) direction cosines
    response : (band, n) flux seen through the gain of the facet's centre, over the true one
    smear : (n,) smearing at the component over that at the facet's centre
    stations : StationBeams, or None without a beam
    bright : (n,) bool, components to be summed directly
    """

    facet: Facet
    model: PixelModel
    y: np.ndarray
    x: np.ndarray
    l: np.ndarray
    m: np.ndarray
    response: np.ndarray
    smear: np.ndarray
    stations: StationBeams | None = None

    def __post_init__(self):
        self.bright = np.ones(self.size, bool)
        if self.size > DIRECT_LIMIT:
            flux = np.abs((self.model.flux * self.response).mean(axis=0))
            self.bright[np.argsort(-flux, kind="stable")[DIRECT_BRIGHT:]] = False
            # the box must hold the whole footprint of a point between pixels
            low = np.minimum(self.y, self.x) < HALF
            high = (self.y >= self.facet.ny - HALF - 0.5) | (self.x >= self.facet.nx - HALF - 0.5)
            self.bright |= self.model.free & (low | high)

    @property
    def size(self) -> int:
        return self.model.size

    @property
    def extent(self) -> tuple[float, float]:
        """Largest distance of a component from the facet's centre: in l and m (rad), and in n."""
        f = self.facet
        depth = np.abs(n_minus_one(self.l, self.m) - n_minus_one(f.l0, f.m0))
        return (float(np.hypot(self.l - f.l0, self.m - f.m0).max(initial=0.0)),
                float(depth.max(initial=0.0)))

    def groups(self) -> list[np.ndarray]:
        """Indices of the bright components, those near to each other together."""
        index = np.flatnonzero(self.bright)
        if self.stations is None:
            return [index] if index.size else []
        squares = np.floor(np.stack([self.l[index], self.m[index]], axis=1) / GROUP)
        _, number = np.unique(squares, axis=0, return_inverse=True)
        number = number.reshape(-1)
        return [index[number == k] for k in range(number.max(initial=-1) + 1)]


def split_model(model: PixelModel, facets: FacetSet, maps) -> list[FacetModel]:
    """Share out a model among facets.

    maps : FacetMaps
    """
    owner = facets.facet_map().ravel()[model.index]
    out = []
    for facet in facets.facets:
        part = model.select(owner == facet.index)
        row, col = part.yx()
        response, smear = maps.at(facet.index, row - facet.y0, col - facet.x0)
        y, x = part.place()
        y, x = y - facet.y0, x - facet.x0
        l, m = part.lm()
        out.append(FacetModel(facet, part, y, x, l, m, response, smear, maps.stations))
    return out


def mean_spectrum(piece: FacetModel, flux: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n,) over the channels of the faint components' flux (chan, all), and (chan,) factors
    by which it comes nearest to all of them in a channel."""
    flux = flux[:, ~piece.bright]
    mean = flux.mean(axis=0)
    power = float((mean**2).sum(dtype=np.float64))
    shares = flux @ mean / power if power > 0 else np.ones(len(flux))
    return mean, shares.astype(np.float32)


def faint_image(piece: FacetModel, flux: np.ndarray) -> np.ndarray:
    """(ny, nx) float32 image of a facet's faint components, flux (n,), smeared relative to the
    facet's centre."""
    which = ~piece.bright
    image = np.zeros((piece.facet.ny, piece.facet.nx), np.float32)
    spread(piece.y[which], piece.x[which], (flux * piece.smear[which])[None], image[None])
    return image
