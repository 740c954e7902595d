"""The sky of a field in the formats of each program."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfpipe.simulate.sky import radec_of

from .field import Field


def sexagesimal(angle: float, per_turn: float) -> str:
    """Degrees or hours (per_turn 360 or 24) with ten decimals of a second."""
    value = abs(angle) / (2 * np.pi) * per_turn
    whole = int(value)
    minutes = int((value - whole) * 60)
    seconds = ((value - whole) * 60 - minutes) * 60
    sign = "-" if angle < 0 else ""
    mark = "." if per_turn == 360 else ":"
    return f"{sign}{whole:02d}{mark}{minutes:02d}{mark}{seconds:013.10f}"


def write_arrays(field: Field, path: Path, patches: np.ndarray | None = None,
                 owner: np.ndarray | None = None) -> Path:
    """Known sources as an npz file; patches, owner: another division into directions."""
    known = ~field.sky.missing
    own = field.sky.owner[known] if owner is None else owner
    np.savez(path, l=field.sky.l[known], m=field.sky.m[known], flux=field.sky.flux[known],
             owner=own, patches=field.patches if patches is None else patches)
    return path


def write_skymodel(field: Field, path: Path) -> Path:
    """Known sources as makesourcedb text with patches dir00, dir01, ..."""
    lay, sky = field.layout, field.sky
    lines = ["FORMAT = Name, Type, Patch, Ra, Dec, I, SpectralIndex, LogarithmicSI, "
             "ReferenceFrequency='144e6'", ""]
    for d, (l, m) in enumerate(field.patches):
        ra, dec = radec_of(l, m, lay.ra0, lay.dec0)
        lines.append(f" , , dir{d:02d}, {sexagesimal(float(ra), 24)}, "
                     f"{sexagesimal(float(dec), 360)}")
    for s in np.flatnonzero(~sky.missing):
        ra, dec = radec_of(sky.l[s], sky.m[s], lay.ra0, lay.dec0)
        lines.append(f"s{s}, POINT, dir{sky.owner[s]:02d}, {sexagesimal(float(ra), 24)}, "
                     f"{sexagesimal(float(dec), 360)}, {sky.flux[s]:.8f}, [0.0], true, 144e6")
    path.write_text("\n".join(lines) + "\n")
    return path
