"""Columns that a user asked for (`[control] write_columns`), written into the measurement sets.

Names and meanings are those of the LoTSS pipeline (Tasse et al. 2021, A&A 648, A1), so that
programs which expect its columns find them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ...data import solutions
from ...data.model import load_model
from ...data.mscolumn import export_column
from ...data.viscache import VisCache, open_cache
from ...errors import DataError, SolveError
from ...naming import image_product
from ..base import ColumnsJob
from .gainfield import GainField, load_gains
from .modelsky import model_predictor
from .parallel import in_threads
from .predictor import Predictor
from .solveweights import load_weights
from .subtraction import subtractor
from .reader import Reader, open_reader
from .visibilities import Data, MSData, Scratch, assign_bands, drop_uncorrected, fill_weights

SCRATCH = "ddfpipe.scratch.columns"
"""Folder below the cache directory, of one measurement set at a time."""

EVERYWHERE = (0.0, math.inf)
"""Range of baselines: columns have no uv cut."""


class Columns:
    """One job of columns on the native engine."""

    def __init__(self, engine, job: ColumnsJob, monitor):
        self.engine, self.job, self.monitor = engine, job, monitor
        self._writers = {
            "SCALED_DATA": self._scaled, "DATA_DI_CORRECTED": self._corrected,
            "DD_PREDICT": self._predicted, "IMAGING_WEIGHT": self._weights,
        }

    def run(self) -> int:
        """Write every column of every measurement set; returns the rows filled, all together.

        Raises
        ------
        SolveError : the job lacks what a column is made from, or a solution set is not there
        DataError : a measurement set cannot take a column of the name
        ResourceError : a measurement set cannot be written
        """
        job, engine = self.job, self.engine
        self._require()
        caches = [
            open_cache(
                ms, job.column, engine.cache_dir, drop_international=engine.drop_international,
                monitor=self.monitor,
            )
            for ms in job.ms
        ]
        if "DD_PREDICT" in job.columns:
            self._data, self._predictor = self._sky(caches)
        rows, total = 0, len(caches) * len(job.columns)
        for done, (number, column) in enumerate(
            (number, column) for number in range(len(caches)) for column in job.columns
        ):
            self.monitor.check()
            with Scratch(engine.cache_dir / SCRATCH) as scratch:
                rows += self._writers[column](number, caches[number], scratch)
            self.monitor.progress("writing columns", done + 1, total)
        self.monitor.message(
            f"{', '.join(job.columns)} written into {len(caches)} measurement sets: {rows} rows"
        )
        return rows

    def _require(self) -> None:
        """Refuse a job whose columns cannot be made, before anything is written."""
        job = self.job
        needed = {
            "SCALED_DATA": (job.scale, "factors of a flux scale"),
            "DATA_DI_CORRECTED": (job.di, "direction-independent solutions"),
            "DD_PREDICT": (job.model, "a model"),
            "IMAGING_WEIGHT": (job.weights_from, "a solve that estimated weights"),
        }
        for column in job.columns:
            if column not in needed:
                raise DataError(f"column {column} cannot be written by the native engine; it "
                                f"knows {', '.join(needed)}")
            given, what = needed[column]
            if given is None:
                raise SolveError(f"column {column} needs {what}, which the job does not name")

    # -- data ------------------------------------------------------------------------------------

    def _scaled(self, number: int, cache: VisCache, scratch: Scratch) -> int:
        """The data on the flux scale, before direction-independent corrections."""
        values = self.corrected(cache, scratch, replace(self.job, di=None))
        return export_column(
            cache, cache.ms_path, "SCALED_DATA", values, unused=self.job.column
        )

    def _corrected(self, number: int, cache: VisCache, scratch: Scratch) -> int:
        """The data as they were imaged, four correlations; see `corrected`.

        Flagged samples keep what the data column holds.
        """
        return export_column(
            cache, cache.ms_path, "DATA_DI_CORRECTED", self.corrected(cache, scratch),
            unused=self.job.column,
        )

    def corrected(self, cache: VisCache, scratch: Scratch, job: ColumnsJob | None = None):
        """Function of (t0, t1) to the data (time, bl, chan, 4) complex64 as `job` corrects them.

        Good samples of stations without gains become NaN, which every program takes for flagged.
        """
        read = self.reader(cache, job)
        usable = scratch.array("usable", cache.weight.shape, np.float32)
        fill_weights(cache, EVERYWHERE, "unit", None, None, usable)
        for table in read.tables:
            drop_uncorrected(cache, table, usable)

        def piece(t0: int, t1: int) -> np.ndarray:
            self.monitor.check()
            vis = read(slice(t0, t1))
            vis[usable[t0:t1] == 0] = np.nan
            return vis

        return piece

    def reader(self, cache: VisCache, job: ColumnsJob | None = None) -> Reader:
        """The data as `job` corrects them."""
        job, engine = job or self.job, self.engine
        take = subtractor(engine, job.minus, job.decorrelation, self.monitor)
        return open_reader(cache, job, engine.solsdir, take, engine.workdir)

    # -- model -----------------------------------------------------------------------------------

    def _sky(self, caches: list[VisCache]) -> tuple[Data, Predictor]:
        """Weights and bands of all sets, and the model cut into facets.

        The weights enter only means over a facet; visibilities are not needed.
        """
        job, engine = self.job, self.engine
        model = load_model(engine.workdir / image_product(job.model, "model"))
        bands = assign_bands([c.freq for c in caches], len(model.freq))
        sets = [
            MSData(c, np.broadcast_to(np.complex64(0), c.weight.shape), c.weight, band)
            for c, band in zip(caches, bands)
        ]
        n_bands = max(b.max() for b in bands) + 1
        data = Data(sets, caches[0].phase_centre, np.zeros(n_bands), np.zeros(n_bands))
        data.refresh_bands()
        return data, model_predictor(engine, data, job.model, job.clusters, job.decorrelation)

    def _predicted(self, number: int, cache: VisCache, scratch: Scratch) -> int:
        """Visibilities of the model through beam and gains, unpolarised: XX = YY = I."""
        engine, s = self.engine, self._data.sets[number]
        gains = GainField(
            cache, self._predictor.facets, load_gains(self.job.gains, cache, engine.solsdir),
            engine.beam(cache.ms_path),
        )
        stokes = scratch.array("predicted", s.shape, np.complex64)

        def predict(part: slice) -> None:
            vis = np.zeros((part.stop - part.start, *s.shape[1:]), np.complex64)
            self._predictor.add(cache, part, s.band, gains, vis)
            stokes[part] = vis

        for _ in in_threads(
            predict, s.chunks(), threads=engine.threads, monitor=self.monitor,
            what=f"predicting {cache.name}",
        ):
            pass

        def piece(t0: int, t1: int) -> np.ndarray:
            self.monitor.check()
            vis = np.zeros((t1 - t0, *s.shape[1:], 4), np.complex64)
            vis[..., 0] = vis[..., 3] = stokes[t0:t1]
            return vis

        return export_column(cache, cache.ms_path, "DD_PREDICT", piece)

    # -- weights ---------------------------------------------------------------------------------

    def _weights(self, number: int, cache: VisCache, scratch: Scratch) -> int:
        return export_column(
            cache, cache.ms_path, "IMAGING_WEIGHT", self.imaging_weights(cache, scratch)
        )

    def imaging_weights(self, cache: VisCache, scratch: Scratch) -> np.ndarray:
        """WEIGHT_SPECTRUM times the solver's factors, (time, bl, chan) float32.

        Zero where flagged or not corrected.
        """
        solsdir, job = self.engine.solsdir, self.job
        factor = load_weights(solsdir, cache.name, job.weights_from)
        weight = scratch.array("weight", cache.weight.shape, np.float32)
        fill_weights(cache, EVERYWHERE, "imaging", factor, None, weight)
        for name in filter(None, (job.pre_di, job.di)):
            drop_uncorrected(cache, solutions.load_solution(solsdir, cache.name, name), weight)
        return weight
