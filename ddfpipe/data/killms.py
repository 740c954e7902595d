"""killMS solution files (`killMS.<name>.sols.npz`).

Field `Sols` is a record array over time: t0, t1 (s), G (chan, ant, dir, 2, 2) complex64 and Stats
(chan, ant, 4) float32.  Beside it: FreqDomains (chan, 2) Hz, StationNames, SkyModel and ClusterCat
(name, ra, dec, l, m, flux, cluster; radians), BeamTimes, MSName, MSNameTime0, ModelName.  Such a
file can hold pickled Python objects; they are never opened here and never written.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ddfpipe.calibration.gains import CORRELATIONS, GainTable, as_jones
from ddfpipe.data.atomic import atomic_path
from ddfpipe.errors import SolveError

CATALOGUE = np.dtype([("Name", "S200"), ("ra", "<f8"), ("dec", "<f8"), ("l", "<f8"), ("m", "<f8"),
                      ("SumI", "<f8"), ("Cluster", "<i8")])
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time stamp inside the zip archive, so that equal tables give equal bytes."""


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays of an npz file; entries that hold Python objects are left out, never unpickled.

    Raises SolveError when the file is missing, truncated or no npz.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            out = {}
            for key in file.files:
                try:
                    out[key] = file[key]
                except ValueError as error:
                    if "allow_pickle" not in str(error) and "Object arrays" not in str(error):
                        raise
            return out
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise SolveError(f"{path}: cannot be read as a solution file ({error}); remove it and "
                         "solve again") from error


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as an npz, atomically, with the same bytes for the same arrays.

    numpy's own writer stamps entries with the time of day on some versions; this one does not.
    Raises SolveError for arrays of Python objects.
    """
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for key, value in arrays.items():
            value = np.asanyarray(value)
            if value.dtype.hasobject:
                raise SolveError(f"{path}: entry {key} holds Python objects, which would have to "
                                 "be pickled")
            info = zipfile.ZipInfo(f"{key}.npy", EPOCH)
            with archive.open(info, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(value), allow_pickle=False)


def read_killms(path: str | Path) -> GainTable:
    """A killMS file as a GainTable with n_corr 1, 2 or 4, whichever loses nothing.

    The nominal edges are kept as they are; killMS stretches its first and last intervals.
    `SolsOrig` and other extras are not read.  Raises SolveError when required fields lack.
    """
    arrays = read_npz(path)
    lacking = {"Sols", "FreqDomains", "StationNames"} - set(arrays)
    if lacking or arrays["Sols"].dtype.names is None:
        raise SolveError(f"{path}: field(s) {', '.join(sorted(lacking)) or 'of Sols'} missing; it "
                         "is not a killMS solution file")
    sols = arrays["Sols"]
    jones = sols["G"].reshape(sols["G"].shape[:4] + (4,))
    n_dir = jones.shape[3]
    directions = np.full((n_dir, 2), np.nan)
    catalogue = arrays.get("ClusterCat", arrays.get("SkyModel"))
    if catalogue is not None and len(catalogue) == n_dir:
        directions = np.stack([catalogue["ra"], catalogue["dec"]], axis=1)
    masked = arrays.get("MaskedSols")
    bad = ~np.isfinite(jones)
    if masked is not None and masked.size == jones.size:
        bad |= (masked != 0).reshape(jones.shape)
    keep = _correlations(jones, bad, arrays.get("Correlations"))
    gains, flag = jones[..., keep], bad[..., keep]
    error = arrays.get("Error")
    if error is not None and error.shape != gains.shape:
        error = None
    return GainTable(np.stack([sols["t0"], sols["t1"]], axis=1), arrays["FreqDomains"],
                     np.where(flag, _identity(gains.shape[-1]), gains),
                     [str(name) for name in arrays["StationNames"]],
                     directions, error=error, flag=flag, ant_pos=arrays.get("StationPositions"),
                     meta={key: arrays[key].item() for key in
                           ("MSName", "MSNameTime0", "ModelName", "SmoothMode")
                           if key in arrays and arrays[key].ndim == 0})


def _correlations(jones: np.ndarray, bad: np.ndarray, stored: np.ndarray | None) -> list[int]:
    """Which of XX, XY, YX, YY a table needs: as stored, else all that differ or are not zero."""
    choices = {1: [0], 2: [0, 3], 4: [0, 1, 2, 3]}
    if stored is not None and stored.size in choices:
        return choices[stored.size]
    if np.any(jones[..., 1:3] != 0):
        return choices[4]
    same = (np.array_equal(jones[..., 0], jones[..., 3], equal_nan=True)
            and np.array_equal(bad[..., 0], bad[..., 3]))
    return choices[1 if same else 2]


def _identity(n_corr: int) -> np.ndarray:
    return np.array({1: [1], 2: [1, 1], 4: [1, 0, 0, 1]}[n_corr], np.complex64)


def write_killms(table: GainTable, path: str | Path, *, lm: np.ndarray | None = None,
                 flux: np.ndarray | None = None) -> None:
    """Write a table in killMS's layout, without any pickled object.

    lm: (n_dir, 2) direction cosines, flux: (n_dir,) Jy, for the catalogue (zero if not given).
    Flagged gains are written as the identity and marked in MaskedSols.  Errors, positions and
    flags travel in extra entries that killMS's readers pass over.
    """
    n_time, n_chan, n_ant, n_dir = table.gains.shape[:4]
    gains = np.where(table.flag, _identity(table.n_corr), table.gains)
    sols = np.zeros(n_time, [("t0", "<f8"), ("t1", "<f8"),
                             ("G", "<c8", (n_chan, n_ant, n_dir, 2, 2)),
                             ("Stats", "<f4", (n_chan, n_ant, 4))])
    sols["t0"], sols["t1"] = table.time_edges.T
    sols["G"] = as_jones(gains)
    catalogue = np.zeros(n_dir, CATALOGUE)
    catalogue["Name"] = [f"c{i}".encode() for i in range(n_dir)]
    catalogue["ra"], catalogue["dec"] = table.directions.T
    catalogue["Cluster"] = np.arange(n_dir)
    if lm is not None:
        catalogue["l"], catalogue["m"] = np.asarray(lm).T
    if flux is not None:
        catalogue["SumI"] = flux
    masked = as_jones(table.flag.astype(np.int16))
    first = table.time_edges[0, 0] if n_time else 0.0
    arrays = {"MSName": np.array(str(table.meta.get("MSName", ""))),
              "MSNameTime0": np.array(float(table.meta.get("MSNameTime0", first))),
              "Sols": sols, "StationNames": np.array(table.ant_names), "SkyModel": catalogue,
              "ClusterCat": catalogue, "ModelName":
                  np.array(str(table.meta.get("ModelName", ""))),
              "FreqDomains": table.freq_edges, "BeamTimes": np.zeros(0), "MaskedSols": masked,
              "Correlations": np.array(CORRELATIONS[table.n_corr])}
    if "SmoothMode" in table.meta:
        arrays["SmoothMode"] = np.array(str(table.meta["SmoothMode"]))
    if table.error is not None:
        arrays["Error"] = table.error.astype(np.float32)
    if table.ant_pos is not None:
        arrays["StationPositions"] = np.asarray(table.ant_pos, np.float64)
    write_npz(path, arrays)
