"""Directions of a measurement set on the rotating Earth."""

from __future__ import annotations

import math

import numpy as np

from ddfpipe.units import DAY

FIELD_SCALE = 0.03
"""Distance in rad over which `EarthFrame` samples the conversion."""


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """(..., 3) unit vectors of J2000 directions in rad."""
    ra, dec = np.broadcast_arrays(np.asarray(ra, float), np.asarray(dec, float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


class EarthFrame:
    """J2000 directions in ITRF at an observatory, many at a time.

    casacore's measures convert three directions around `centre` per time (precession, nutation,
    aberration, Earth rotation); the linear map through them serves all others.  Its error is
    aberration's second order, 1e-4 times the square of the distance from the centre: 0.05 arcsec
    at 3 degrees.  Not thread-safe: casacore's frame is shared state.
    """

    def __init__(self, position: np.ndarray, centre: tuple[float, float]):
        """position (3,): ITRF, m.  centre: (ra, dec), J2000, rad."""
        from casacore.measures import measures

        self._measures = measures()
        self._measures.do_frame(
            self._measures.position("ITRF", *(f"{float(x)!r}m" for x in position))
        )
        axis = unit_vectors(*centre)
        east = np.array([-math.sin(centre[0]), math.cos(centre[0]), 0.0])
        north = np.cross(axis, east)
        corners = np.stack([axis, axis + FIELD_SCALE * east, axis + FIELD_SCALE * north])
        self._corners = corners / np.linalg.norm(corners, axis=1)[:, None]

    def _convert(self, vector: np.ndarray) -> np.ndarray:
        ra, dec = math.atan2(vector[1], vector[0]), math.asin(vector[2])
        direction = self._measures.direction("J2000", f"{ra!r}rad", f"{dec!r}rad")
        found = self._measures.measure(direction, "ITRF")
        return unit_vectors(found["m0"]["value"], found["m1"]["value"])

    def rotation(self, time: float) -> np.ndarray:
        """Matrix (3, 3) from J2000 to ITRF vectors at `time` (MJD UTC, s)."""
        for epoch in (float(time) - 30 * DAY, float(time)):
            # casacore extrapolates precession and nutation from a recent epoch, if there is one:
            # 1e-9 rad that would depend on earlier questions.  A far epoch in between clears that.
            self._measures.do_frame(self._measures.epoch("UTC", f"{epoch!r}s"))
            self._convert(self._corners[0])
        converted = np.stack([self._convert(corner) for corner in self._corners])
        return np.linalg.solve(self._corners, converted).T

    def itrf(self, time: float, vectors: np.ndarray) -> np.ndarray:
        """ITRF unit vectors (..., 3) of J2000 unit vectors (..., 3)."""
        out = vectors @ self.rotation(time).T
        return out / np.linalg.norm(out, axis=-1, keepdims=True)
