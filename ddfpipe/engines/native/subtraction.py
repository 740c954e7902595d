"""Visibilities of a model that are taken out of the data while these are read.

What lies far outside an image still shines through the side lobes of the station beams.  It is
imaged once, over a very wide field, and predicted through the beam alone; the measurement sets
stay as they are (the classic pipeline rewrites a column DATA_SUB instead).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...data.model import PixelModel, load_model
from ...data.viscache import VisCache
from ...imaging.facets import FacetSet
from ...naming import image_product
from ...units import MHZ
from .facetmaps import make_maps
from .facetmodel import split_model
from .gainfield import GainField, LoadedGains
from .modelsky import sky_facets
from .parallel import in_threads
from .predictor import Predictor
from .reader import Taken
from .state import digest
from .visibilities import Data, MSData, assign_bands, kept_array

BAND = 4.0 * MHZ
"""Widest band within which the beam inside a facet is taken as constant."""


def subtractor(engine, root: str | None, decorrelation: bool, monitor) -> Callable | None:
    """Function of a VisCache to what the model of image `root` gives in it, or None for no root.

    The prediction of a measurement set depends on nothing but the set and the model, and is kept
    with the Stokes copies of the cache directory.

    Raises
    ------
    SkyModelError : the model cannot be read
    """
    if root is None:
        return None
    path = engine.workdir / image_product(root, "model")
    model = load_model(path)

    def take(cache: VisCache) -> Taken:
        key = digest(
            "taken out", cache.path.name, cache.meta["fingerprint"], path, engine.beam_model,
            decorrelation,
        )[:16]

        def fill(out: np.ndarray) -> None:
            predict_model(engine, cache, model, decorrelation, monitor, out)

        return Taken(kept_array(cache, key, engine.cache_dir, fill), key)

    return take


def predict_model(
    engine, cache: VisCache, model: PixelModel, decorrelation: bool, monitor, out: np.ndarray
) -> None:
    """Write the visibilities (time, bl, chan) of a model through the beam alone into `out`."""
    if model.size == 0:
        out[:] = 0
        return
    data = _one_set(cache)
    s = data.sets[0]
    facets = occupied_facets(
        sky_facets(model.grid.nx, model.grid.cell, None, data.phase_centre), model
    )
    beam = engine.beam(cache.ms_path)
    maps = make_maps(data, facets, beam, decorrelation)
    parts = split_model(model.on_bands(data.band_freq), facets, maps)
    predictor = Predictor(facets, parts, decorrelation)
    gains = GainField(cache, facets, LoadedGains((), (), ()), beam)

    def predict(part: slice) -> None:
        vis = np.zeros((part.stop - part.start, *s.shape[1:]), np.complex64)
        predictor.add(cache, part, s.band, gains, vis)
        out[part] = vis

    for _ in in_threads(
        predict, s.chunks(), threads=engine.threads, monitor=monitor,
        what=f"predicting what is taken out of {cache.name}",
    ):
        pass


def _one_set(cache: VisCache) -> Data:
    """A measurement set on its own; its weights enter only means over a facet."""
    width = cache.freq.max() - cache.freq.min()
    n_bands = int(min(cache.n_chan, max(2, np.ceil(width / BAND))))
    band = assign_bands([cache.freq], n_bands)[0]
    n_bands = band.max() + 1
    s = MSData(cache, np.broadcast_to(np.complex64(0), cache.weight.shape), cache.weight, band)
    data = Data([s], cache.phase_centre, np.zeros(n_bands), np.zeros(n_bands))
    data.refresh_bands()
    empty = data.band_weight == 0
    data.band_freq[empty] = [cache.freq[band == k].mean() for k in np.flatnonzero(empty)]
    return data


def occupied_facets(facets: FacetSet, model: PixelModel) -> FacetSet:
    """The facets that hold components of a model, numbered anew: of a wide field, a few."""
    owners = np.unique(facets.facet_map().ravel()[model.index])
    kept = [facets.facets[owner] for owner in owners if owner >= 0]
    return replace(facets, facets=tuple(replace(f, index=k) for k, f in enumerate(kept)))
