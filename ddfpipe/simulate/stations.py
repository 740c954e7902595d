"""LOFAR's Dutch high-band stations: positions, axes and tiles, from lofarantpos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TILE_PITCH = 1.25
"""Spacing of the dipoles of a high-band tile, m."""


@dataclass(frozen=True)
class Station:
    """One antenna field as a measurement set describes it.  ITRF, m.

    position (3,): phase centre.  axes (3, 3): rows are the unit vectors p, q, r of the field.
    elements (n, 3) and tile (16, 3): offsets of tiles, and of dipoles within one; used (n,) bool.
    """

    name: str
    field: str
    position: np.ndarray
    axes: np.ndarray
    elements: np.ndarray
    used: np.ndarray
    tile: np.ndarray


def _dipoles(rotation: float, to_etrs: np.ndarray) -> np.ndarray:
    """ITRF offsets (16, 3) of the dipoles of a tile rotated clockwise by `rotation` (rad)."""
    grid = (np.arange(4) - 1.5) * TILE_PITCH
    p, q = np.meshgrid(grid, grid[::-1])
    cos, sin = np.cos(rotation), np.sin(rotation)
    pqr = np.stack([cos * p + sin * q, -sin * p + cos * q, 0 * p], axis=-1).reshape(16, 3)
    return pqr @ to_etrs.T


def _station(db, name: str) -> Station:
    """Describe antenna field `name` (CS001HBA0, RS106HBA ...).

    Remote stations use the 24 inner of their 48 tiles (HBA_DUAL_INNER), so that all stations have
    beams of the same size.
    """
    centre = np.asarray(db.phase_centres[name])
    to_etrs = np.asarray(db.pqr_to_etrs[name])
    elements = np.asarray(db.antenna_etrs(name)) - centre
    used = np.ones(len(elements), bool)
    if len(elements) > 24:
        used[np.argsort(np.hypot(*(elements @ to_etrs[:, :2]).T), kind="stable")[24:]] = False
    tile = _dipoles(db.hba_rotations[name], to_etrs)
    return Station(name, name[5:], centre, to_etrs.T.copy(), elements, used, tile)


def dutch_stations(core_fields: int = 48, remote: int = 14) -> list[Station]:
    """`core_fields` of the 48 core ear fields and `remote` of the 14 remote stations.

    A part of either is spread evenly over the stations by their distance from the core's centre,
    so that a few give short and long baselines alike.
    """
    from lofarantpos.db import LofarAntennaDatabase

    db = LofarAntennaDatabase()
    names = sorted(db.phase_centres)
    core = [n for n in names if n.startswith("CS") and n.endswith(("HBA0", "HBA1"))]
    outer = [n for n in names if n.startswith("RS") and n.endswith("HBA")]
    centre = np.asarray(db.phase_centres["CS002HBA"])

    def pick(fields: list[str], count: int) -> list[str]:
        far = sorted(fields, key=lambda n: float(np.linalg.norm(db.phase_centres[n] - centre)))
        return [far[round(i)] for i in np.linspace(0, len(far) - 1, count)] if count else []

    chosen = sorted(pick(core, core_fields)) + sorted(pick(outer, remote))
    return [_station(db, name) for name in chosen]


def baselines(n_ant: int, autocorrelations: bool) -> tuple[np.ndarray, np.ndarray]:
    """(ant1, ant2), int32, ant1 <= ant2, in the order of LOFAR's correlator tables."""
    ant1, ant2 = np.triu_indices(n_ant, 0 if autocorrelations else 1)
    return ant1.astype(np.int32), ant2.astype(np.int32)
