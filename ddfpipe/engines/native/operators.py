"""From visibilities to facets and back: the operators of one imaging job.

`adjoint` grids every facet through its own gains; `residual` takes a model out of the data.  The
visibilities left over are kept on disk between the two, so that memory does not grow with the data.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...imaging import facetpredict
from ...imaging.averaging import average_to_facet, plan_averaging
from ...imaging.facetgrid import FacetGrid, open_grids
from ...imaging.facetpass import grid_chunk
from ...imaging.facets import Facet, FacetSet
from ...imaging.gridimage import transform_bytes
from ...imaging.gridding import samples_to_facet
from ...imaging.psf import psf_samples
from ...imaging.smearing import smearing_factor, uvw_rate
from ...imaging.weighting import DensityGrid
from ...imaging.workspace import workspace
from ...units import SPEED_OF_LIGHT
from .facetmaps import FacetMaps
from .facetmodel import split_model
from .modelpass import subtract_model
from .parallel import in_threads
from .predictor import Predictor

LOSS = 0.0005
"""Decorrelation that averaging may cost at a facet's corner."""

PSF_LOSS = 40
"""The same for the corner of a PSF, in units of LOSS: only side lobes lie there."""

W_SHARE = 0.05
"""Error that the treatment of w may make, in units of the loss by averaging."""

GROUP, GRID_BYTES = 8, 160e6
"""Facets that are gridded together so that visibilities are read and laid out once for all of
them: at most, and bytes of their grids in all threads."""

EPSILON = 1e-5
"""Accuracy of ducc0's gridding."""

SAMPLE_BYTES = 80
"""Memory of a sample waiting for the gridder: uvw, visibility, weight, and the copy of all."""

SAMPLE_LIMITS = (1_000_000, 100_000_000)
"""Fewest and most samples handed to the gridder at once."""


def sample_limit(memory: float, threads: int, n_bands: int) -> int:
    """Samples that may wait for the gridder in each band, so that all take `memory` bytes."""
    low, high = SAMPLE_LIMITS
    return int(min(max(memory / (SAMPLE_BYTES * threads * n_bands), low), high))


def briggs(data, npix: int, cell: float, robust: float | None, monitor=None) -> None:
    """Replace the natural weights of `data` by robust ones, in place; None leaves them."""
    if robust is None:
        return
    longest = max(
        float(np.abs(s.cache.uvw[..., :2]).max()) * s.cache.freq.max() for s in data.sets
    )
    grid = DensityGrid(npix, cell, longest / SPEED_OF_LIGHT)
    for s in data.sets:
        for part in s.chunks():
            grid.add(s.cache.uvw[part], s.cache.freq, s.weight[part])
            if monitor is not None:
                monitor.check()
    grid.finalize(robust)
    for s in data.sets:
        for part in s.chunks():
            s.weight[part] = grid.apply(s.cache.uvw[part], s.cache.freq, s.weight[part])


def psf_box(facet: Facet, size: int) -> Facet:
    """A facet of `size` pixels a side about the centre of another."""
    whole = np.zeros(size, np.int32)
    return replace(
        facet, ny=size, nx=size, y0=facet.y0 + facet.ny // 2 - size // 2,
        x0=facet.x0 + facet.nx // 2 - size // 2, start=whole, stop=whole + size,
    )


def reach(data) -> tuple[float, float]:
    """Largest |w| and largest |u| or |v| in wavelengths of visibilities that have any weight."""
    w_max = uv_max = 1.0
    for s in data.sets:
        for part in s.chunks():
            used = np.any(s.weight[part] > 0, axis=-1)
            if used.any():
                w, uv = facetpredict.reach(s.cache.uvw[part][used], s.cache.freq)
                w_max, uv_max = max(w_max, w), max(uv_max, uv)
    return w_max, uv_max


class SampleBuffer:
    """Averaged samples of one sub-band on their way to the gridder."""

    def __init__(self, facet: Facet, cell: float, limit: int):
        self.facet, self.cell, self.limit = facet, cell, limit
        self.image = np.zeros((facet.ny, facet.nx), np.float32)
        self.parts, self.count = [], 0

    def add(self, uvw, vis, weight) -> None:
        self.parts.append((uvw, vis, weight))
        self.count += len(vis)
        if self.count > self.limit:
            self.flush()

    def flush(self) -> np.ndarray:
        """Grid what is waiting; returns the image so far."""
        if self.count:
            uvw, vis, weight = (np.concatenate(a) for a in zip(*self.parts))
            samples_to_facet(
                uvw=uvw, vis=vis, weight=weight, facet=self.facet, cell=self.cell,
                epsilon=EPSILON, out=self.image,
            )
        self.parts, self.count = [], 0
        return self.image


class Operators:
    """Adjoint and residual of one job.

    Parameters
    ----------
    data : Data, weighted
    facets : FacetSet
    gains : list of GainField, one a measurement set
    maps : FacetMaps
    scratch : Scratch
    memory : bytes that open grids or waiting samples may take, all threads together
    """

    def __init__(self, data, facets: FacetSet, gains, maps: FacetMaps, scratch, *,
                 decorrelation: bool, threads: int, memory: float, monitor):
        self.data, self.facets, self.gains, self.maps = data, facets, gains, maps
        self.scratch, self.threads, self.monitor = scratch, threads, monitor
        self.decorrelation, self.memory = decorrelation, memory
        self.limit = sample_limit(memory, threads, data.n_bands)
        self.norm = np.zeros((len(facets.facets), data.n_bands))
        self._residual = None
        self._reach = None

    # -- data to image ---------------------------------------------------------------------------

    def dirty_facet(self, index: int):
        """(band, ny, nx) sum of w K* V of the current residual and (band,) sum of w|K|²."""
        return self._gridded([index], self._dirty_boxes(), psf=False)[0]

    def psf_facet(self, index: int, size: int) -> np.ndarray:
        """(band, size, size) response to a source at the facet's centre, of apparent flux one."""
        return self._normalised(index, self._gridded([index], self._psf_boxes(size), psf=True)[0])

    def _dirty_boxes(self) -> list[Facet]:
        return list(self.facets.facets)

    def _psf_boxes(self, size: int) -> list[Facet]:
        return [psf_box(facet, size) for facet in self.facets.facets]

    def _normalised(self, index: int, gridded) -> np.ndarray:
        norm = np.where(self.norm[index] > 0, self.norm[index], np.inf)
        return gridded[0] * (1.0 / norm)[:, None, None].astype(np.float32)

    def _grid(self, box: Facet, loss: float | None = None) -> FacetGrid:
        """The empty grid of one sub-band of a facet, as good as an averaging that costs `loss`."""
        loss = LOSS if loss is None else loss
        if self._reach is None:
            self._reach = reach(self.data)
        return FacetGrid(box, self.facets.cell, *self._reach, accuracy=W_SHARE * loss)

    def _groups(self, sizes: list[int]) -> list[list[int]]:
        """Facets that are gridded together, by the bytes of their grids: as many as the memory
        holds, and GROUP at most."""
        room, n = min(self.memory, GRID_BYTES) / self.threads, len(sizes)
        most = max(1, min(GROUP, -(-n // self.threads)))
        groups, used = [], 0
        for index, size in enumerate(sizes):
            if not groups or used + size > room or len(groups[-1]) == most:
                groups.append([])
                used = 0
            groups[-1].append(index)
            used += size
        return groups

    def _gridded(self, indices: list[int], boxes: list[Facet], psf: bool) -> list[tuple]:
        """(image (band, ny, nx), sum of w|K|² (band,)) of each facet."""
        loss = PSF_LOSS * LOSS if psf else LOSS
        first = self._grid(boxes[indices[0]], loss)
        if 4 * first.size > self.memory:
            return [self._sampled(index, boxes[index], psf) for index in indices]
        found = [self._gridded_band(band, indices, boxes, psf, loss)
                 for band in range(self.data.n_bands)]
        return [(np.stack([images[k] for images, _ in found]),
                 np.array([norm[k] for _, norm in found])) for k in range(len(indices))]

    def _gridded_band(self, band: int, indices, boxes, psf: bool, loss: float) -> tuple:
        """(images, (facet,) sums of w|K|²) of one sub-band."""
        grids = [self._grid(boxes[index], loss) for index in indices]
        buffer = workspace("grids", (sum(grid.size for grid in grids),), np.float32)
        open_grids(grids, buffer)
        norm = np.zeros(len(indices))
        for i, part, chans in self._pieces(band):
            s, cache = self.data.sets[i], self.data.sets[i].cache
            norm += grid_chunk(
                grids=grids, buffer=buffer, uvw=np.asarray(cache.uvw[part]),
                vis=None if psf else self._residual[i][part][..., chans],
                weight=s.weight[part][..., chans], freq=cache.freq[chans],
                chan_width=float(cache.chan_width.mean()), interval=cache.interval,
                times=cache.time[part], dec0=cache.phase_centre[1],
                dec=loss, smear=psf and self.decorrelation,
                gains=[self.gains[i].stations(index, part, chans) for index in indices],
            )
        return [grid.image() for grid in grids], norm

    def _sampled(self, index: int, box: Facet, psf: bool) -> tuple[np.ndarray, np.ndarray]:
        """As `_gridded`, of one facet whose grids the memory does not hold: ducc0 grids it."""
        facet, n_bands = self.facets.facets[index], self.data.n_bands
        buffers = [SampleBuffer(box, self.facets.cell, self.limit) for _ in range(n_bands)]
        norm = np.zeros(n_bands)
        every = ((band, *piece) for band in range(n_bands) for piece in self._pieces(band))
        for band, i, part, chans in every:
            s = self.data.sets[i]
            weight = s.weight[part][..., chans]
            if psf and self.decorrelation:
                weight = weight * self._centre_smearing(s.cache, part, chans, facet)
            vis = np.zeros(weight.shape, np.complex64) if psf \
                else self._residual[i][part][..., chans]
            samples = self._average(i, part, chans, facet, vis, weight)
            norm[band] += samples.sum_norm
            if psf:
                buffers[band].add(
                    samples.uvw, psf_samples(samples.uvw, facet.l0, facet.m0), samples.norm
                )
            else:
                buffers[band].add(samples.uvw, samples.vis, samples.weight)
        return np.stack([b.flush() for b in buffers]), norm

    def _pieces(self, band: int):
        """(measurement set, slice of time, channels) of all the data of a sub-band."""
        for i, s in enumerate(self.data.sets):
            chans = np.flatnonzero(s.band == band)
            if chans.size:
                for part in s.chunks():
                    yield i, part, slice(chans[0], chans[-1] + 1)

    def _average(self, i, part, chans, facet, vis, weight):
        cache = self.data.sets[i].cache
        uvw = np.ascontiguousarray(cache.uvw[part])
        freq = cache.freq[chans]
        plan = plan_averaging(
            uvw=uvw, rate=uvw_rate(uvw, cache.phase_centre[1]), freq=freq,
            chan_width=float(cache.chan_width.mean()), interval=cache.interval, facet=facet,
            cell=self.facets.cell, dec=LOSS, times=cache.time[part],
        )
        gains = self.gains[i].stations(facet.index, part, chans)
        return average_to_facet(
            uvw=uvw, vis=vis, weight=weight, freq=freq, facet=facet, plan=plan, gains=gains
        )

    @staticmethod
    def _centre_smearing(cache, part, chans, facet):
        uvw = np.ascontiguousarray(cache.uvw[part])
        return smearing_factor(
            uvw=uvw, rate=uvw_rate(uvw, cache.phase_centre[1]), freq=cache.freq[chans],
            chan_width=float(cache.chan_width.mean()), interval=cache.interval,
            l=facet.l0, m=facet.m0,
        )

    def adjoint(self) -> np.ndarray:
        """(band, npix, npix) float32 apparent image of the current residual.

        Also sets `norm` (facet, band), the sums of w|K|².
        """
        npix, total = self.facets.npix, self.data.band_weight
        image = self.scratch.image((self.data.n_bands, npix, npix))
        for index, (dirty, norm) in self._each(self._dirty_boxes(), False, "gridding"):
            self.norm[index] = norm
            scale = np.sqrt(norm * total)
            scale = np.where(scale > 0, 1 / np.maximum(scale, 1e-300), 0)
            dirty *= scale[:, None, None].astype(np.float32)
            self.facets.facets[index].paste(dirty, image)
        return image

    def psfs(self, size: int) -> np.ndarray:
        """(facet, band, size, size) float32; `adjoint` must have run."""
        out = np.empty((len(self.facets.facets), self.data.n_bands, size, size), np.float32)
        for index, gridded in self._each(self._psf_boxes(size), True, "PSFs"):
            out[index] = self._normalised(index, gridded)
        return out

    def _each(self, boxes: list[Facet], psf: bool, what: str):
        """Yield (index, what `_gridded` makes of it) of every facet, in order."""
        sizes = [4 * self._grid(box).size for box in boxes]
        largest = max(size + transform_bytes(box) for size, box in zip(sizes, boxes))
        groups = self._groups(sizes)
        results = in_threads(
            lambda group: self._gridded(group, boxes, psf), groups,
            # fewer at a time where memory is short: a grid that is not open costs more than threads
            threads=max(1, min(self.threads, int(self.memory / largest))),
            monitor=self.monitor, what=what,
        )
        for group, gridded in zip(groups, results):
            yield from zip(group, gridded)

    # -- model to data ---------------------------------------------------------------------------

    def predictor(self, model) -> Predictor:
        """Predictor of a PixelModel through this job's facets."""
        return Predictor(
            self.facets, split_model(model, self.facets, self.maps), self.decorrelation
        )

    def set_residual(self, model) -> None:
        """Make data minus `model` (PixelModel or None) what `adjoint` grids next."""
        if model is None or model.size == 0:
            self._residual = [s.vis for s in self.data.sets]
            return
        if self._residual is None or self._residual[0] is self.data.sets[0].vis:
            self._residual = [
                self.scratch.array(f"residual{i}", s.shape, np.complex64)
                for i, s in enumerate(self.data.sets)
            ]
        subtract_model(
            self.predictor(model), self.data, self.gains, self._residual, memory=self.memory,
            threads=self.threads, monitor=self.monitor,
        )

    @property
    def residual(self) -> list[np.ndarray] | None:
        """What `adjoint` grids: (time, bl, chan) of each measurement set; None at first."""
        return self._residual

    def take_residual(self, residual: list[np.ndarray]) -> None:
        """Make `residual` (as the property) what `adjoint` grids next."""
        self._residual = residual

    # -- norms -----------------------------------------------------------------------------------

    def attenuation(self) -> np.ndarray:
        """(band, npix, npix) float32: apparent over intrinsic flux."""
        return self._attenuation(smeared=False)

    def seen(self) -> np.ndarray:
        """(band, npix, npix) float32: attenuation times decorrelation over that at the facet's
        centre, by which the PSF knows it."""
        return self._attenuation(smeared=True)

    def _attenuation(self, smeared: bool) -> np.ndarray:
        npix = self.facets.npix
        out = self.scratch.image((self.data.n_bands, npix, npix))
        for facet in self.facets.facets:
            beam, smearing = self.maps.box(facet.index)
            root = np.sqrt(self.norm[facet.index] / np.maximum(self.data.band_weight, 1e-300))
            box = (beam * root[:, None, None]).astype(np.float32)
            facet.paste(box * smearing if smeared else box, out)
        return out
