"""Voltage beams of the stations of a measurement set.

A beam is a function of time, frequency, station and direction, one at the phase centre: data
that were corrected (or calibrated) towards the centre see sources elsewhere through it.  The
LOFAR beams are those of everybeam (https://everybeam.readthedocs.io): the array factor of
dipoles in tiles and tiles in stations, and the Hamaker model of the dual dipole.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

import numpy as np

from ddfpipe.beam.environment import import_everybeam
from ddfpipe.beam.pointing import EarthFrame, unit_vectors
from ddfpipe.errors import ConfigError, DataError

MODELS = ("auto", "LOFAR", "array_factor", "full", "none")


class Beam(Protocol):
    """What the engines need of a beam."""

    def response(
        self, *, times: np.ndarray, freqs: np.ndarray, ra: np.ndarray, dec: np.ndarray
    ) -> np.ndarray:
        """Scalar voltage response, complex64 (time, freq, ant, dir), one at the phase centre.

        times: MJD UTC s; freqs: Hz; ra, dec: (dir,) J2000 rad.
        """


class UnitBeam:
    """No beam: one everywhere."""

    def __init__(self, n_ant: int):
        self.n_ant = n_ant

    def response(
        self, *, times: np.ndarray, freqs: np.ndarray, ra: np.ndarray, dec: np.ndarray
    ) -> np.ndarray:
        """Ones; see `Beam.response`."""
        shape = (len(times), len(freqs), self.n_ant, len(np.atleast_1d(ra)))
        return np.ones(shape, np.complex64)


def _tables(path: Path) -> dict:
    """Phase, delay and tile directions (2,) and station positions of a measurement set."""
    from casacore.tables import table

    try:
        field = table(f"{path}::FIELD", ack=False)
        antenna = table(f"{path}::ANTENNA", ack=False)
    except RuntimeError as err:
        raise DataError(f"{path}: not a readable measurement set ({err})") from err
    out = {name: field.getcell(f"{name}_DIR", 0)[0] for name in ("PHASE", "DELAY")}
    out["TILE"] = out["DELAY"]
    if "LOFAR_TILE_BEAM_DIR" in field.colnames():
        out["TILE"] = np.ravel(field.getcell("LOFAR_TILE_BEAM_DIR", 0))
    out["positions"] = antenna.getcol("POSITION")
    field.close()
    antenna.close()
    return out


class LofarBeam:
    """LOFAR's station beams towards any direction, relative to the phase centre.

    mode "array_factor": the mean of the array factors of the two hands, over that of the phase
    centre.  mode "full": its amplitude is sqrt(|B|^2 / 2), the Frobenius norm of B = J0^-1 J with
    the element beam, which is the factor that an unpolarised source's mean power sees; the phase
    is that of the trace of B.  `jones` gives B itself.

    The stations point to DELAY_DIR and their tiles to LOFAR_TILE_BEAM_DIR of the FIELD table.
    Safe to call from several threads: calls wait for each other, as everybeam's and casacore's
    frames are shared state.  A station without working elements has a response of zero.
    """

    def __init__(self, ms_path: str | Path, mode: str = "array_factor"):
        """Open the station tables of `ms_path`; it is only read.

        Raises DataError when they are missing, ConfigError for an unknown mode.
        """
        if mode not in ("array_factor", "full"):
            raise ConfigError(f"beam mode {mode!r}: choose array_factor or full")
        self.mode = mode
        tables = _tables(Path(ms_path))
        everybeam = import_everybeam()
        try:
            self._telescope = everybeam.load_telescope(
                str(ms_path), use_differential_beam=False, element_response_model="hamaker"
            )
        except RuntimeError as err:
            raise DataError(
                f"{ms_path}: everybeam cannot use its station tables ({err}); they need "
                "LOFAR_ANTENNA_FIELD; to go without, switch the beam off"
            ) from err
        self.n_ant = len(tables["positions"])
        self._stations = np.arange(self.n_ant, dtype=np.uint64)
        self._pointings = unit_vectors(
            *np.stack([tables["PHASE"], tables["DELAY"], tables["TILE"]]).T
        )
        self._frame = EarthFrame(tables["positions"][0], tuple(tables["PHASE"]))
        self._lock = threading.Lock()

    def _array_factors(self, time: float, freqs: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """(dir, ant, freq), normalised."""
        aims = self._frame.itrf(time, self._pointings)
        towards = [aims[0], *self._frame.itrf(time, vectors)]
        factors = np.array([
            self._telescope.array_factor(time, self._stations, freqs, d, aims[1], aims[2])
            for d in towards
        ])
        mean = 0.5 * (factors[..., 0, 0] + factors[..., 1, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(mean[1:] / mean[0], nan=0.0, posinf=0.0, neginf=0.0)

    def _matrices(self, time: float, freqs: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """(dir, ant, freq, 2, 2), normalised."""
        aims = self._frame.itrf(time, self._pointings)
        towards = [aims[0], *self._frame.itrf(time, vectors)]
        when = np.array([time])
        jones = np.array([
            self._telescope.station_response(when, self._stations, freqs, d, aims[1], aims[2])[0]
            for d in towards
        ])
        jones = np.nan_to_num(jones, nan=0.0)
        dead = ~(np.abs(np.linalg.det(jones[0])) > 0)
        jones[:, dead] = 0.0
        jones[0, dead] = np.eye(2)
        return np.linalg.inv(jones[0]) @ jones[1:]

    def _evaluate(self, function, tail: tuple[int, ...], times, freqs, ra, dec) -> np.ndarray:
        """`function` at all times, as complex64 (time, freq, ant, dir, *tail)."""
        freqs = np.atleast_1d(np.asarray(freqs, float))
        vectors = unit_vectors(np.atleast_1d(ra), np.atleast_1d(dec))
        times = np.atleast_1d(np.asarray(times, float))
        shape = (len(times), len(freqs), self.n_ant, len(vectors), *tail)
        out = np.empty(shape, np.complex64)
        for row, time in zip(out, times):
            with self._lock:
                values = function(float(time), freqs, vectors)
            row[:] = values.transpose(2, 1, 0, *range(3, values.ndim))
        return out

    def jones(
        self, *, times: np.ndarray, freqs: np.ndarray, ra: np.ndarray, dec: np.ndarray
    ) -> np.ndarray:
        """B = J0^-1 J, complex64 (time, freq, ant, dir, 2, 2), with array factor and element beam.

        J0 is the response towards the phase centre at the same time and frequency.
        """
        return self._evaluate(self._matrices, (2, 2), times, freqs, ra, dec)

    def response(
        self, *, times: np.ndarray, freqs: np.ndarray, ra: np.ndarray, dec: np.ndarray
    ) -> np.ndarray:
        """Scalar response in this beam's mode; see `Beam.response`."""
        if self.mode == "array_factor":
            return self._evaluate(self._array_factors, (), times, freqs, ra, dec)
        matrices = self.jones(times=times, freqs=freqs, ra=ra, dec=dec)
        amplitude = np.sqrt(0.5 * np.sum(np.abs(matrices) ** 2, axis=(-2, -1)))
        phase = np.angle(np.trace(matrices, axis1=-2, axis2=-1))
        return (amplitude * np.exp(1j * phase)).astype(np.complex64)


def make_beam(model: str, ms_path: str | Path) -> Beam:
    """The beam called `model` of the stations of `ms_path`.

    "array_factor" (also "LOFAR", the customary name), "full", "none", or "auto": the array factor
    where the tables describe LOFAR stations, none elsewhere.  Raises ConfigError for another
    name, DataError when the tables do not serve.
    """
    if model not in MODELS:
        raise ConfigError(f"beam model {model!r}: choose one of {', '.join(MODELS)}")
    if model == "auto":
        from casacore.tables import table

        try:
            main = table(str(ms_path), ack=False)
        except RuntimeError as err:
            raise DataError(f"{ms_path}: not a readable measurement set ({err})") from err
        model = "LOFAR" if "LOFAR_ANTENNA_FIELD" in main.keywordnames() else "none"
        main.close()
    if model == "none":
        return UnitBeam(len(_tables(Path(ms_path))["positions"]))
    return LofarBeam(ms_path, "full" if model == "full" else "array_factor")
