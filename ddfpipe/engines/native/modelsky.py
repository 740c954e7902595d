"""The model of an image cut into facets, ready to be turned into visibilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...data.clusters import read_clusters
from ...data.model import load_model
from ...errors import SkyModelError
from ...imaging.facets import FacetSet, regular_facets, voronoi_facets
from ...naming import image_product
from ...units import DEGREE
from .facetmaps import make_maps
from .facetmodel import split_model
from .predictor import Predictor
from .visibilities import Data

MAX_FACET = 1.5 * DEGREE
"""Widest facet: beyond it the beam and smearing of one centre no longer serve."""


def sky_facets(npix: int, cell: float, clusters: Path | None, phase_centre) -> FacetSet:
    """Voronoi cells of a cluster catalogue, or regular facets without one.

    npix, cell : of the image, pixels a side and rad; phase_centre : (ra, dec) rad

    Raises
    ------
    SkyModelError : a direction cannot lie in the image, or the catalogue cannot be read
    """
    if clusters is None:
        return regular_facets(npix=npix, cell=cell, max_size_rad=MAX_FACET)
    l, m = read_clusters(clusters).lm(*phase_centre)
    if not np.all(np.isfinite(l)):
        raise SkyModelError(
            f"{clusters}: a direction lies more than 90 degrees from the phase centre"
        )
    return voronoi_facets(npix=npix, cell=cell, l=l, m=m, max_size_rad=MAX_FACET)


def model_predictor(
    engine, data: Data, root: str, clusters: Path | None, decorrelation: bool
) -> Predictor:
    """Predictor of the model of image `root` in the bands of `data`.

    clusters : catalogue that defines the facets, relative to the working directory, or None

    Raises
    ------
    SkyModelError : model or catalogue cannot be read
    """
    model = load_model(engine.workdir / image_product(root, "model"))
    path = engine.workdir / clusters if clusters else None
    facets = sky_facets(model.grid.nx, model.grid.cell, path, data.phase_centre)
    beams = [engine.beam(s.cache.ms_path) for s in data.sets]
    maps = make_maps(data, facets, beams, decorrelation)
    parts = split_model(model.on_bands(data.band_freq), facets, maps)
    return Predictor(facets, parts, decorrelation)
