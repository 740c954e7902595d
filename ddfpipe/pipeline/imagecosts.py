"""What facets, predictions and images of our own engine cost.

Passes grow with visibilities times facets, transforms with pixels times w planes, deconvolution and
products with pixels; see docs/performance.md and `ddfpipe.pipeline.costs`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ddfpipe.engines.base import ImageJob, VisSelection
from ddfpipe.pipeline.costs import (
    BASE_MEMORY, FLOAT, NS, WEIGHT, Cost, World, mapped, used_visibilities, visibilities,
)
from ddfpipe.units import ARCSEC, DEGREE, EARTH_RATE, KM, SPEED_OF_LIGHT

if TYPE_CHECKING:
    from ddfpipe.data.setsize import SetSize

GRID, GRID_DEGREE, SKIP = 7 * NS, 14 * NS, 0.5 * NS
"""A visibility and facet in a pass to the image; more for every degree that the facet is wider than
half a degree, where less is averaged; the same where its weight is zero."""
BOX, PLANE, PLANES = 8 * NS, 4.5 * NS, 0.06 * NS
"""A pixel of a facet's box between its grid of a band and the image: always, times the w planes
(transforms), times their square (series that weigh each plane)."""
AVERAGE, SAMPLE, SAMPLES = 10 * NS, 420 * NS, 0.3
"""Where grids exceed the memory: averaging a visibility of a facet, gridding an averaged sample,
samples that are left of a visibility."""
DIRECT, FAINT, GROUPS, DEGRID, DEGRID_PLANE = 0.5 * NS, 0.25 * NS, 40 * NS, 8 * NS, 2.5 * NS
"""A visibility that is worked out: a component summed directly with its smearing, and without;
beams of the components of a facet; degridding a facet, and each of its w planes."""
GAINS, SPREAD = 5 * NS, 8 * NS
"""Any visibility of a facet seen through gains; the same and found from nodes."""
LOAD = 7 * NS
"""A pixel and w plane of a facet on its way to the grid that is degridded."""
DUCC, DUCC_PIXEL = 150 * NS, 110 * NS
"""The same degridded by ducc0, where the grid is too large; a pixel of the facet each time."""
CLEAN, SHALLOW, PICTURE = 700 * NS, 0.4, 550 * NS
"""A pixel: of a band and major cycle in deconvolution, and the part of that down to a hundredth of
the peak; of an image in products and figures."""
CLEAN_SHARED, SHALLOW_FACTOR = 0.6, 0.01
"""Part of the deconvolution that threads share; part of the peak from which it is shallow."""
IMAGE = 0.1
"""Seconds of any image."""
COMPONENTS = 600
"""Components of a model in a square degree."""
DIRECT_LIMIT, DIRECT_BRIGHT = 120, 40
"""Components of a facet that are summed directly: all up to the first, else the second."""
MAX_FACET = 1.5 * DEGREE
TAPS = 8
RESIDENT_PLANES = 17
"""Arrays (band, y, x) float32 that are held while an image is made, its temporary ones included."""
ON_DISK, IN_MEMORY, LARGE_PLANES = 7, 400e6, 4.5
"""Those of more bytes than that lie in the scratch folder: residual, the one before, two
attenuations, model, the model before, dirty image.  Planes (y, x) that such an image holds in
memory when no grid is open: four at most, while its mask is made, and half a one to spare."""
RESIDENT_PSFS = 2
"""The same of its PSFs (facet, band, n, n)."""
GRID_SHARE, GRID_BYTES = 0.3, 160e6
"""Part of the memory that open grids may take, and bytes that they usually take."""
NODES, NODE_SUMS, BLOCK, MOST = 3e-3, 1.5, 32, 0.6
"""Seconds of looking for the nodes of a facet in a chunk; how much more a component costs at a
node, as few channels share a phase; slots of a block; part of the samples from which on all are
worked out."""
PREDICT_BYTES, CHUNK_BYTES = 400e6, 256e6
"""Largest grid of a prediction; bytes of four correlations that are predicted at a time."""
W_SHARE = 0.4
"""Largest w over the longest baseline, of a night at 57 degrees north; more at low declinations."""
IMAGING, PREDICTION, PATCHES = (1.25, 5, 1.0), (1.25, 5, 0.5), (1.25, 2, 0.5)
"""Grids of images, of predictions, of PSFs: size over that of the image; w planes where w does not
matter; planes a radian that w turns a corner of the facet by."""
TRANSFORM_BYTES = 18
"""Bytes of a facet's pixel in the buffers of a thread's transforms."""
IMAGE_FILES, CYCLE_FILES = 10, 2
"""FITS images of any image, and of each of its major cycles."""
CACHED_STATES = 2
"""Residuals that are kept of an image: of its beginning, and of its last cycle."""


@dataclass(frozen=True)
class Facets:
    """Facets of an image, all alike.

    count: number.  side: of a square as large as a mean box, pixels; longer: longer side of such a
    box; largest: side of the largest one.  area: square degrees of sky that a facet owns.
    """

    count: float
    side: float
    longer: float
    largest: float
    area: float

    @property
    def psf_side(self) -> float:
        """Pixels of a side of the patches of the PSF, as `imager.psf_size` has them."""
        return min(max(2 * self.largest, 512 if self.count <= 64 else 256), 1024)


def facets_of(npix: int, cell: float, n_dir: int | None) -> Facets:
    """Facets of an image of `npix` pixels of `cell` rad about `n_dir` directions; None: squares.

    A Voronoi cell fills two thirds of its box, the widest is 1.9 times as wide as a square of the
    mean area, and cells wider than MAX_FACET become several (means over random directions).
    """
    width = npix * cell
    degrees = (width / DEGREE) ** 2
    if n_dir is None:
        tiles = math.ceil(width / MAX_FACET)
        side = npix / tiles
        return Facets(tiles**2, side, side, side, degrees / tiles**2)
    equal = width / math.sqrt(n_dir)
    pieces = 1 + 4.3 * max(0.0, equal / MAX_FACET - 0.55)
    count = n_dir * pieces
    boxes = min(1.5 / pieces**0.1, float(n_dir))
    largest = min(1.9 * equal, MAX_FACET, width) / cell
    side = min(npix * math.sqrt(boxes / count), largest)
    return Facets(count, side, min(1.2 * side, largest), largest, degrees / count)


def grid_shape(facet_side: float, cell: float, sets: list["SetSize"], vis: VisSelection,
               layout: tuple[float, float, float] = IMAGING) -> tuple[float, float]:
    """(w planes, bytes) of a facet's open grid of one band, as imaging/facetgrid.py lays it out."""
    longest = max((float(s.lengths[-1]) for s in sets if s.n_bl), default=0.0)
    wave = max((float(s.freqs.max()) for s in sets), default=0.0) / SPEED_OF_LIGHT
    uv = min(longest, vis.uv_km[1] * KM) * wave
    w = W_SHARE * min(longest, 1.5 * vis.uv_km[1] * KM) * wave
    turns = math.pi * w * (facet_side * cell) ** 2 / 4
    planes = layout[1] + layout[2] * (turns + 2.4 * turns ** (1 / 3))
    side = layout[0] * facet_side
    reach = min(side / 2, uv * cell * side)
    return planes, FLOAT * planes * 2 * (reach + TAPS) * (2 * reach + TAPS)


def transform_s(planes: float) -> float:
    """CPU seconds a pixel of the way from a facet's grid to its image."""
    return BOX + PLANE * planes + PLANES * planes**2


def beyond(filled: float) -> float:
    """Part of the facets whose grids exceed a room that a mean one fills to `filled`.

    Boxes differ: the largest exceed it at a third, nearly all at one.
    """
    return min(max(1.5 * filled - 0.5, 0.0), 1.0)


def pass_s(job: ImageJob, facets: Facets, world: World, psf: bool = False) -> float:
    """CPU seconds of gridding all facets once; psf: for their PSFs."""
    sets, cell, bands = world.of(job.vis.ms, job.vis.mhz), job.cell_arcsec * ARCSEC, job.n_bands
    every, used = visibilities(sets), used_visibilities(sets, job.vis)
    side, longer = (facets.psf_side,) * 2 if psf else (facets.side, facets.longer)
    planes, size = grid_shape(longer, cell, sets, job.vis, PATCHES if psf else IMAGING)
    filled = size / (GRID_SHARE * world.memory)
    without = 0.0 if psf else beyond(filled)
    wider = 0.0 if psf else max(0.0, facets.side * cell / DEGREE - 0.5)
    data = (1 - without) * ((GRID + GRID_DEGREE * wider) * used + SKIP * (every - used)) \
        + without * (AVERAGE * every + SAMPLE * SAMPLES * used)
    return facets.count * (data + side**2 * bands * transform_s(planes))


def node_share(size: "SetSize", radius: float, slots: float = 60) -> float:
    """Part of the visibilities of a facet of that radius (rad) that are worked out where chunks
    have so many slots, as imaging/nodes.py finds it baseline by baseline."""
    if not size.visibilities:
        return 1.0
    runs = 1 + np.count_nonzero(np.diff(size.times) > 1.5 * size.interval)
    n_chan, block = size.n_chan, min(BLOCK, slots, size.n_time / runs)
    turns = math.pi * radius * size.lengths / SPEED_OF_LIGHT
    steps = (0.8 * (size.freqs.max() - size.freqs.min()),
             0.7 * EARTH_RATE * (block - 1) * size.interval * size.freqs.max())
    share = 1.0
    for n, step in zip((n_chan, block), steps):
        share = share * np.minimum(1.0, (4.0 + 1.3 * turns * step) / n)
    return float(np.mean(np.where(share > MOST, 1.0, share)))


def predict_s(sets: list["SetSize"], facets: Facets, cell: float, memory: float,
              slots: float | None = None) -> float:
    """CPU seconds of predicting all visibilities of the model of an image.

    memory: bytes that the engine may use.  slots: time slots that a solve predicts at a time, at
    most; each time the grids of facets are made anew, unless sums are cheaper.  None: grids are
    kept for a whole measurement set.
    """
    inside = COMPONENTS * facets.area
    radius, every = 0.6 * facets.longer * cell, visibilities(sets)
    chunks = [math.ceil(s.n_time / max(1.0, slots or chunk_slots(s))) for s in sets]
    nodes = sum(s.visibilities * node_share(s, radius, s.n_time / max(n, 1))
                for s, n in zip(sets, chunks))
    # sources cluster: some facets hold few where the mean is above the limit, and the reverse
    crowded = inside / (inside + 2 * DIRECT_LIMIT)
    direct = (1 - crowded) * min(inside, DIRECT_LIMIT) + crowded * DIRECT_BRIGHT
    # all baselines of the data are predicted, whatever the image leaves out
    planes, size = grid_shape(facets.longer, cell, sets, VisSelection((), ""), PREDICTION)
    if slots is None:
        times, room = len(sets), GRID_SHARE * memory
    else:
        times, room = sum(chunks), PREDICT_BYTES
    without = beyond(size / room)
    pixel = (1 - without) * (BOX + LOAD * planes) + without * DUCC_PIXEL
    sample = (1 - without) * (DEGRID + DEGRID_PLANE * planes) + without * DUCC

    def worked_out(amount: float, sums: float = 1.0) -> float:
        faint = min(amount * sample + times * facets.side**2 * pixel,
                    amount * sums * FAINT * max(inside - DIRECT_BRIGHT, 0.0))
        return amount * (sums * DIRECT * direct + GROUPS) + crowded * faint

    spread = every * SPREAD + sum(chunks) * NODES
    return facets.count * min(worked_out(every) + every * GAINS,
                              worked_out(nodes, NODE_SUMS) + spread)


def chunk_slots(size: "SetSize") -> float:
    """Time slots of a measurement set that are handled at a time."""
    return max(1.0, CHUNK_BYTES // max(32 * size.n_bl * size.n_chan, 1))


def planes_of(job: ImageJob, sets: list["SetSize"]) -> float:
    """Planes of a cube of a job, 0 without cubes."""
    if not job.cubes:
        return 0.0
    if job.band_mode == "channel":
        planes = sum(s.n_chan for s in {float(s.freqs.mean()): s for s in sets}.values())
    elif job.band_mode == "frequency":
        planes = len({float(s.freqs.mean()) for s in sets})
    else:
        planes = job.n_bands
    return planes * len(job.stokes)


def image_cost(job: ImageJob, world: World) -> Cost:
    """Cost of an image without that of reading its data for the first time."""
    sets, cell = world.of(job.vis.ms, job.vis.mhz), job.cell_arcsec * ARCSEC
    every, pixels, bands = visibilities(sets), float(job.npix) ** 2, job.n_bands
    facets = facets_of(job.npix, cell, world.n_dir if job.clusters else None)
    opened = 0 if job.reuse and job.reuse_what else 1
    dirty = pass_s(job, facets, world)
    psf = 0.0 if job.reuse else pass_s(job, facets, world, psf=True)
    model = predict_s(sets, facets, cell, world.memory)
    predictions = job.major_cycles + (1 if job.start_model and opened else 0)
    planes = planes_of(job, sets)
    # every plane is gridded by itself, but all of them share the visibilities out
    cubes = (dirty + planes * pixels * PICTURE) if planes else 0.0
    clean = CLEAN * pixels * bands * job.major_cycles
    if job.peak_factor >= SHALLOW_FACTOR:
        clean *= SHALLOW
    cost = Cost(
        (job.major_cycles + opened) * dirty + psf + predictions * model + cubes
        + clean * CLEAN_SHARED,
        WEIGHT * every + PICTURE * pixels + clean * (1 - CLEAN_SHARED) + IMAGE,
    )
    psf_bytes = facets.count * bands * min(facets.psf_side, 2 * job.npix) ** 2 * FLOAT
    plane = FLOAT * pixels
    return cost.plus(
        memory_bytes=image_memory(job, world, facets, psf_bytes), mapped_bytes=mapped(sets, 20),
        product_bytes=plane * (IMAGE_FILES + CYCLE_FILES * job.major_cycles
                               + planes * len(job.cubes)),
        cache_bytes=psf_bytes + plane * bands * (CACHED_STATES if job.major_cycles else 1),
        scratch_bytes=12 * every + plane * bands * _on_disk(job),
    )


def _on_disk(job: ImageJob) -> int:
    """Arrays of a job that do not lie in memory."""
    return ON_DISK if FLOAT * job.n_bands * job.npix**2 > IN_MEMORY else 0


def image_memory(job: ImageJob, world: World, facets: Facets, psf_bytes: float) -> float:
    """Peak memory of an image in bytes."""
    sets = world.of(job.vis.ms, job.vis.mhz)
    grid = grid_shape(facets.largest, job.cell_arcsec * ARCSEC, sets, job.vis)[1]
    room, a_thread = GRID_SHARE * world.memory, grid + TRANSFORM_BYTES * facets.largest**2
    # where a large facet leaves no room for another of its size, smaller ones fill it
    open_grids = min(world.threads * max(a_thread, GRID_BYTES / world.threads), room)
    plane = FLOAT * float(job.npix) ** 2
    if _on_disk(job):
        arrays = max(LARGE_PLANES * plane, open_grids)
    else:
        arrays = RESIDENT_PLANES * job.n_bands * plane + open_grids
    return BASE_MEMORY + arrays + RESIDENT_PSFS * psf_bytes + mapped(sets, 20)
