"""Dynamic spectra of single positions: residuals of Stokes I and V, rephased and summed.

The method is that of DynSpecMS (Tasse et al., https://github.com/cyriltasse/DynSpecMS; Feeney-
Johansson et al. 2021, A&A 653, A101).  One pass over the data serves all positions: the model is
taken out of a chunk once, and all positions of a facet, which share solutions, are then summed in
one compiled loop.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ...data.images import SkyGrid
from ...data.model import load_model
from ...data.spectra import Piece, create_piece
from ...data.targets import Position, read_positions
from ...errors import SkyModelError
from ...imaging.beamforming import beamform
from ...imaging.facets import FacetSet
from ...imaging.smearing import uvw_rate
from ...naming import image_product
from ..base import SpectraJob
from .gainfield import GainField, load_gains
from .modelsky import model_predictor
from .parallel import in_threads
from .stokes import stokes_copy
from .subtraction import subtractor
from .visibilities import Data, Scratch, open_data

CHUNK_BYTES = 64e6
"""Size of the chunks of time; that of a chunk's gains towards the positions of a facet is alike."""


def directions_of(facets: FacetSet) -> tuple[np.ndarray, np.ndarray]:
    """Direction cosines (l, m) of every direction that owns a part of the image."""
    places = {f.dir_index: (f.l_dir, f.m_dir) for f in facets.facets}
    return tuple(np.array([places[k] for k in sorted(places)]).T)


class PositionGains:
    """Gains of one measurement set towards positions: the solutions of their facets, the beam
    there.

    Parameters
    ----------
    cache : VisCache; loaded : LoadedGains; beam : Beam
    l, m : (pos,) of the positions; l_dir, m_dir : (pos,) of the directions they belong to
    amplitudes : a station whose solution's amplitude lies outside this range gets zero
    """

    def __init__(self, cache, loaded, beam, l, m, l_dir, m_dir, amplitudes):
        facets = [
            SimpleNamespace(l0=a, m0=b, l_dir=c, m_dir=d) for a, b, c, d in zip(l, m, l_dir, m_dir)
        ]
        self.field = GainField(cache, SimpleNamespace(facets=facets), loaded, beam)
        self.low, self.high = amplitudes
        self.chan_index = self.field.chan_index

    def group(self, members: np.ndarray, part: slice) -> np.ndarray:
        """(pos, time, channel block, ant) complex64 towards positions of one direction."""
        solution = self.field.solution(members[0], part)
        size = np.abs(solution)
        solution = np.where((size >= self.low) & (size <= self.high), solution, 0)
        return np.stack([solution * self.field.beam(k, part) for k in members])


class DynamicSpectra:
    """One job of spectra on the native engine."""

    def __init__(self, engine, job: SpectraJob, monitor):
        self.engine, self.job, self.monitor = engine, job, monitor

    def run(self) -> Path:
        """Fill the job's output folder (see `data.spectra`) and return it.

        Raises
        ------
        SkyModelError : model, catalogue or positions cannot be used
        SolveError, DataError : solutions or data cannot be read
        """
        job, engine = self.job, self.engine
        positions = read_positions(engine.workdir / job.positions)
        with Scratch(engine.cache_dir / f"ddfpipe.scratch.{job.name}") as scratch:
            data = open_data(
                job.vis, cache_dir=engine.cache_dir, solsdir=engine.solsdir, scratch=scratch,
                weights=job.weights, weights_from=job.weights_from, n_bands=self._bands(),
                drop_international=engine.drop_international, monitor=self.monitor,
                subtractor=subtractor(engine, job.vis.minus, job.decorrelation, self.monitor),
                workdir=engine.workdir,
            )
            predictor = model_predictor(
                engine, data, job.model, job.clusters, job.decorrelation
            )
            self._all_sets(data, predictor, positions)
        self.monitor.message(
            f"{job.name}: spectra towards {len(positions)} positions from {len(data.sets)} "
            "measurement sets"
        )
        return job.output

    def _bands(self) -> int:
        model = load_model(self.engine.workdir / image_product(self.job.model, "model"))
        return len(model.freq)

    def _all_sets(self, data: Data, predictor, positions: list[Position]) -> None:
        job, engine = self.job, self.engine
        grid = SkyGrid(*data.phase_centre, 2, 2, 1e-5)
        l, m = grid.lm_of([p.ra for p in positions], [p.dec for p in positions])
        if not np.isfinite(l + m).all():
            raise SkyModelError(f"{job.positions}: a position lies more than 90 degrees from the "
                                "phase centre")
        l_dir, m_dir = directions_of(predictor.facets)
        owner = np.argmin((l[:, None] - l_dir) ** 2 + (m[:, None] - m_dir) ** 2, axis=1)
        groups = [np.flatnonzero(owner == k) for k in np.unique(owner)]
        for number, s in enumerate(data.sets):
            cache = s.cache
            beam = engine.beam(cache.ms_path)
            loaded = load_gains(job.gains, cache, engine.solsdir)
            piece = create_piece(
                job.output, number, len(positions), time=cache.time, freq=cache.freq,
                interval=cache.interval, width=float(cache.chan_width.mean()),
            )
            towards = PositionGains(
                cache, loaded, beam, l, m, l_dir[owner], m_dir[owner], job.amplitudes
            )
            field = GainField(cache, predictor.facets, loaded, beam)
            circular = stokes_copy(s.reader, "V", engine.cache_dir, self.monitor)
            self._one_set(s, predictor, field, circular, towards, groups, (l, m), piece)
            piece.flux.flush()
            piece.weight.flush()

    def _one_set(self, s, predictor, field, circular, towards, groups, lm, piece: Piece) -> None:
        """Spectra of one measurement set, chunk by chunk; every chunk fills its own times."""
        cache = s.cache
        smear = (piece.width, cache.interval) if self.job.decorrelation else None

        def work(part: slice) -> None:
            residual = np.array(s.vis[part])
            predictor.subtract(cache, part, s.band, field, residual)
            uvw = np.ascontiguousarray(cache.uvw[part])
            rate = uvw_rate(uvw, cache.phase_centre[1])
            for members in groups:
                flux, weight = beamform(
                    first=residual, second=circular[part], weight=s.weight[part], uvw=uvw,
                    rate=rate, freq=cache.freq, l=lm[0][members], m=lm[1][members],
                    gain=towards.group(members, part), chan_index=towards.chan_index,
                    ant1=cache.ant1, ant2=cache.ant2, smear=smear,
                )
                piece.flux[:, members, part], piece.weight[members, part] = flux, weight

        for _ in in_threads(
            work, s.chunks(CHUNK_BYTES), threads=self.engine.threads, monitor=self.monitor,
            what=f"spectra of {cache.name}",
        ):
            pass
