"""What DDFacet and killMS read besides visibilities: lists, gains, models and masks on their grid.

DDFacet's images have odd sizes of small prime factors, so it images a few pixels more than the job
asks for, on the same pixels, and what is beyond the job's image is cut away afterwards.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...data.atomic import atomic_write_text
from ...data.clusters import read_clusters, write_clusters
from ...data.dicomodel import write_dicomodel
from ...data.dicopickle import write_pickle
from ...data.images import SkyGrid, write_image
from ...data.killms import write_killms
from ...data.model import PixelModel
from ...errors import ImagingError
from ...naming import solution_file
from ...units import SPEED_OF_LIGHT
from ..external.view import View
from ..native.gainfield import load_gains
from .commands import Imaging, fast_size

NODES = "directions.npy"
"""The catalogue of directions, in the folder of a job."""

USED_VISIBILITIES = 0.9
"""Part of the plane of visibilities of an image that DDFacet's gridding kernels reach well."""


def wide_grid(grid: SkyGrid) -> SkyGrid:
    """The grid of DDFacet's image that holds `grid` (square): the same pixels, more of them."""
    size = fast_size(grid.nx)
    return replace(grid, ny=size, nx=size)


def predicting_grid(grid: SkyGrid, view: View) -> SkyGrid:
    """The grid on which DDFacet and killMS predict a model of `grid` (square) for all baselines.

    They leave out what lies beyond the visibilities that the pixels of an image tell apart: models
    of long baselines would be zero.  So pixels are cut into as many parts as the longest needs,
    with the components in the middle of one.
    """
    longest = max(
        float(np.hypot(*np.moveaxis(np.asarray(s.cache.uvw[..., :2]), -1, 0)).max())
        * float(s.cache.freq.max()) for s in view.sets
    ) / SPEED_OF_LIGHT
    parts = max(1, math.ceil(2 * longest * grid.cell / USED_VISIBILITIES))
    size = fast_size(grid.nx if parts == 1 else parts * (grid.nx + 1))
    return replace(grid, ny=size, nx=size, cell=grid.cell / parts)


def _offset(narrow: SkyGrid, wide: SkyGrid) -> int:
    """Pixels by which a narrow grid begins after a wide one, on both axes."""
    return wide.nx // 2 - narrow.nx // 2


def cut(image: np.ndarray, wide: SkyGrid, narrow: SkyGrid) -> np.ndarray:
    """The part (..., y, x) of an image on a wide grid that lies on the narrow one."""
    first = _offset(narrow, wide)
    return np.ascontiguousarray(
        image[..., first : first + narrow.ny, first : first + narrow.nx]
    )


def write_mask(path: Path, mask: np.ndarray, narrow: SkyGrid, wide: SkyGrid, freq: float) -> Path:
    """A mask (y, x) of the narrow grid as FITS on the wide one."""
    if mask.shape != narrow.shape:
        raise ImagingError(f"a mask of {mask.shape} pixels does not fit {narrow.shape}")
    out = np.zeros(wide.shape, np.float32)
    first = _offset(narrow, wide)
    out[first : first + narrow.ny, first : first + narrow.nx] = mask
    return write_image(path, out, wide, freq=freq, unit="")


def write_list(path: Path, view: View) -> Path:
    """Text file of the working copies."""
    atomic_write_text(path, "".join(f"{ms.absolute()}\n" for ms in view.paths))
    return path


def write_gains(folder: Path, choice, view: View, solsdir: Path) -> tuple[str, ...]:
    """Gains of a `GainChoice` in killMS's files below `folder`, for every working copy.

    Normalised as the choice says, which is why DDFacet is not asked to.  Phases alone where it is
    for phases.  Returns the names of the solution sets, () without gains.
    Raises SolveError when a solution set is missing or of other stations.
    """
    if choice is None:
        return ()
    for s, copy in zip(view.sets, view.copies):
        loaded = load_gains(choice, s.cache, solsdir)
        for name, table in zip(choice.names, loaded.tables):
            path = solution_file(folder, copy.path, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_killms(table, path, centre=view.data.phase_centre)
    return tuple(choice.names)


def write_model(path: Path, model: PixelModel, freq: float, options: dict | None = None,
                monitor=None) -> Path:
    """A model on DDFacet's grid as DicoModel, with its spectra about `freq` (Hz).

    options: DDFacet's own, section -> option -> value, which killMS looks for in the file.
    """
    like = None
    if options is not None:
        like = path.with_suffix(".options")
        write_pickle(like, {
            "Type": "SSD2", "RefFreq": freq, "Comp": {}, "GD": options,
            "ModelShape": [1, 1, model.grid.nx, model.grid.nx], "SolveParam": ["Poly0", "Poly1"],
        })
    changing = write_dicomodel(path, model, ref_freq=freq, like=like)
    if changing and monitor is not None:
        monitor.message(f"{changing} of {model.size} components change sign over the band, which "
                        "DDFacet's spectra cannot: their mean flux is used")
    return path


def write_nodes(folder: Path, clusters: Path) -> str:
    """A catalogue of directions (text, ds9 regions, records) as DDFacet and killMS read one."""
    return str(write_clusters(folder / NODES, read_clusters(clusters)))


def largest_w(view: View) -> float:
    """Largest |w| of the data in metres."""
    return max(float(np.abs(np.asarray(s.cache.uvw[..., 2])).max()) for s in view.sets)


def imaging_of(engine, npix: int, cell_arcsec: float, folder: Path, view: View, *,
               robust: float | None = 0.0, n_bands: int = 1, prefix: str = "img",
               decorrelation: bool = True, smooth_beam: bool = False, mode: str = "AP",
               solutions: tuple[str, ...] = (), nodes: Path | None = None,
               model: Path | None = None) -> Imaging:
    """DDFacet's options for images or predictions of a job; npix is DDFacet's own size.

    nodes: catalogue of the directions that shape the facets
    """
    native = engine.native
    wisdom = native.cache_dir.absolute() / "ddfpipe.wisdom"
    wisdom.mkdir(parents=True, exist_ok=True)
    sets = write_list(folder / f"{prefix}.txt", view)
    return Imaging(
        str(engine.tools["ddfacet"].path), str(folder / prefix), str(sets),
        largest_w(view), npix, cell_arcsec,
        robust, n_bands, native.threads, str(folder / "cache"), str(wisdom),
        solsdir=str(folder / "gains"), solutions=solutions, mode=mode,
        nodes=None if nodes is None else write_nodes(folder, nodes),
        model=None if model is None else str(model),
        decorrelation=decorrelation, smooth_beam=smooth_beam, beam=engine.beam,
    )
