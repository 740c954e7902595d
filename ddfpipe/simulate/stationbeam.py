"""Station beams for the simulator, one everybeam call a source and time."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

import numpy as np

from ddfpipe.errors import DataError
from ddfpipe.simulate.geometry import itrf_directions
from ddfpipe.simulate.realisation import Layout
from ddfpipe.simulate.sky import lmn_of


def _telescope(path: Path):
    """everybeam's telescope of a measurement set.

    Wheels of everybeam look for their coefficients where they were built, and its casacore finds
    no measures tables of its own: both are told where the installed ones are (importing
    python-casacore announces its tables through the environment).
    """
    import casacore  # noqa: F401

    for prefix in (sys.prefix, site.getuserbase() or sys.prefix, "/usr/local", "/usr"):
        folder = Path(prefix) / "share" / "everybeam"
        if (folder / "HamakerHBACoeff.h5").is_file():
            os.environ.setdefault("EVERYBEAM_DATADIR", str(folder))
            break
    import everybeam

    try:
        return everybeam.load_telescope(
            str(path), use_differential_beam=False, element_response_model="hamaker"
        )
    except RuntimeError as err:
        raise DataError(
            f"simulation: everybeam cannot use the station tables of {path} ({err}); "
            "simulate with beam = 'none'"
        ) from err


def _pointings(path: Path, layout: Layout) -> np.ndarray:
    """ITRF unit vectors (time, 3, 3) of the phase centre, the station and the tile beams."""
    from casacore.tables import table

    field = table(f"{path}::FIELD", ack=False)
    delay = field.getcell("DELAY_DIR", 0)[0]
    has_tile = "LOFAR_TILE_BEAM_DIR" in field.colnames()
    tile = np.ravel(field.getcell("LOFAR_TILE_BEAM_DIR", 0)) if has_tile else delay
    field.close()
    ra, dec = np.array([[layout.ra0, layout.dec0], delay, tile]).T
    return itrf_directions(layout.rotation, lmn_of(ra, dec, layout.ra0, layout.dec0))


def station_beam(
    path: Path, layout: Layout, lmn: np.ndarray, freq: np.ndarray, full: bool
) -> np.ndarray:
    """Voltage beams towards sources at direction cosines lmn (src, 3), n - 1 last.

    path: a measurement set with LOFAR's station tables; its FIELD table says where stations and
    tiles point.  Returns complex64 (time, ant, src, chan): the mean of the array factors of the
    two hands over that of the phase centre; or, when `full`, (time, ant, src, chan, 2, 2):
    J0^-1 J, where J is the Jones matrix with the element beam and J0 that of the phase centre.
    Stations without working elements have a beam of zero.
    """
    telescope = _telescope(path)
    directions = itrf_directions(layout.rotation, lmn)
    pointings = _pointings(path, layout)
    stations = np.arange(layout.n_ant, dtype=np.uint64)
    shape = (len(layout.times), layout.n_ant, len(lmn), len(freq))
    out = np.empty(shape + ((2, 2) if full else ()), np.complex64)
    for t, time in enumerate(layout.times):
        centre, station, tile = pointings[t]
        when = np.array([time])

        def jones(direction: np.ndarray) -> np.ndarray:
            found = telescope.station_response(when, stations, freq, direction, station, tile)[0]
            return np.nan_to_num(found, nan=0.0)

        def factor(direction: np.ndarray) -> np.ndarray:
            both = telescope.array_factor(when[0], stations, freq, direction, station, tile)
            return np.nan_to_num(0.5 * (both[..., 0, 0] + both[..., 1, 1]), nan=0.0)

        if full:
            inverse = np.linalg.pinv(jones(centre))  # zero for a dead station
            for s in range(len(lmn)):
                out[t, :, s] = inverse @ jones(directions[t, s])
        else:
            reference = factor(centre)
            reference[reference == 0] = np.inf  # a dead station stays zero
            for s in range(len(lmn)):
                out[t, :, s] = factor(directions[t, s]) / reference
    return out
