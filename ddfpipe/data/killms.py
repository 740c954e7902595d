"""killMS solution files (`killMS.<name>.sols.npz`).

Field `Sols` is a record array over time: t0, t1 (s), G (chan, ant, dir, 2, 2) complex64 and Stats
(chan, ant, 4) float32.  Beside it: FreqDomains (chan, 2) Hz, StationNames, SkyModel and ClusterCat
(name, ra, dec, l, m, flux, cluster; radians), BeamTimes, MSName, MSNameTime0, ModelName.  Such a
file can hold pickled Python objects; they are never opened here and never written.

What its readers do with it decides how it is written.  DDFacet and killMS know stations by their
number in the measurement set alone.  They give a sample that no interval holds the first interval,
or move all later samples by it: so the intervals are written without gaps and stretched at both
ends, as killMS's own are.  They take MaskedSols of the first station, time and direction as that
of a whole channel: so it marks channels in which nothing is known, and our flags go in `Flags`.
Read off killMS 3.3 and DDFacet 1.0 (ClassJones, ClassJonesDomains, MergeSols, SmoothSols).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ddfpipe.calibration.gains import CORRELATIONS, GainTable, as_jones
from ddfpipe.data.atomic import atomic_path
from ddfpipe.data.images import SkyGrid
from ddfpipe.errors import SolveError

CATALOGUE = np.dtype([("Name", "S200"), ("ra", "<f8"), ("dec", "<f8"), ("l", "<f8"), ("m", "<f8"),
                      ("SumI", "<f8"), ("Cluster", "<i8")])
STRETCH = 1000.0
"""Seconds by which killMS begins its first interval early and ends its last one late."""
NAMES = "DirectionNames"
"""Entry of `GainTable.meta` with the names of the directions, separated by commas."""
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

    The first and last interval, which killMS stretches, get the length of the others, so that
    interval centres are those of the data.  `SolsOrig` and other extras are not read; for BeamTimes
    see `beam_times`.  Raises SolveError when required fields lack or do not fit each other.
    """
    arrays = read_npz(path)
    lacking = {"Sols", "FreqDomains", "StationNames"} - set(arrays)
    if lacking or not {"t0", "t1", "G"} <= set(arrays["Sols"].dtype.names or ()):
        raise SolveError(f"{path}: field(s) {', '.join(sorted(lacking)) or 'of Sols'} missing; it "
                         "is not a killMS solution file")
    sols, domains = arrays["Sols"], arrays["FreqDomains"]
    stations = [str(_text(name)) for name in arrays["StationNames"]]
    shape = sols["G"].shape
    if len(shape) != 6 or shape[4:] != (2, 2) or domains.shape != (shape[1], 2) \
            or len(stations) != shape[2]:
        raise SolveError(f"{path}: gains of shape {shape} for {len(stations)} stations and "
                         f"frequencies {domains.shape}; the file is damaged")
    jones = sols["G"].reshape(shape[:4] + (4,))
    bad = _flags(jones, arrays)
    keep = _correlations(jones, bad, arrays.get("Correlations"))
    gains, flag = jones[..., keep], bad[..., keep]
    error = arrays.get("Error")
    directions, names = _directions(arrays, shape[3])
    meta = {key: arrays[key].item() for key in
            ("MSName", "MSNameTime0", "ModelName")
            if key in arrays and arrays[key].ndim == 0}
    if "SmoothMode" in arrays:  # one word for phases and one for amplitudes
        meta["SmoothMode"] = ",".join(str(word) for word in arrays["SmoothMode"].ravel())
    edges = arrays.get("TimeEdges")
    if edges is None or edges.shape != (shape[0], 2):
        edges = _unstretched(np.stack([sols["t0"], sols["t1"]], axis=1),
                             float(meta.get("MSNameTime0", np.nan)))
    return GainTable(edges, domains, np.where(flag, _identity(gains.shape[-1]), gains), stations,
                     directions, error=None if error is None or error.shape != gains.shape
                     else error, flag=flag, ant_pos=arrays.get("StationPositions"),
                     meta=meta | names)


def _text(value: object) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _flags(jones: np.ndarray, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Where nothing is known: flags of ours, channels masked by MergeSols, values not finite.

    MergeSols makes a channel for every gap in frequency, which holds zeros and is masked.
    """
    bad = ~np.isfinite(jones)
    own, masked = arrays.get("Flags"), arrays.get("MaskedSols")
    if own is not None and own.shape == jones.shape:
        bad |= own
    if masked is not None and masked.size == jones.size:
        bad |= (masked != 0).reshape(jones.shape)
    return bad | (jones == 0).all(axis=-1, keepdims=True)


def _directions(arrays: Mapping[str, np.ndarray], n_dir: int) -> tuple[np.ndarray, dict[str, str]]:
    """(n_dir, 2) radians, NaN when the file does not tell, and their names if they have any."""
    catalogue = arrays.get("ClusterCat", arrays.get("SkyModel"))
    if catalogue is None or len(catalogue) != n_dir:
        return np.full((n_dir, 2), np.nan), {}
    names = [_text(name) for name in catalogue["Name"]] if "Name" in catalogue.dtype.names else []
    known = bool(names) and all(names) and len(set(names)) == n_dir
    return (np.stack([catalogue["ra"], catalogue["dec"]], axis=1),
            {NAMES: ",".join(names)} if known else {})


def _unstretched(edges: np.ndarray, begin: float) -> np.ndarray:
    """Edges (n, 2) whose first and last interval are not longer than the usual one.

    begin: first time of the measurement set (NaN if unknown), which tells where the first interval
    begins when there are fewer than three of them.
    """
    out = edges.copy()
    if len(out) > 2:
        usual = float(np.median(np.diff(edges[1:-1], axis=1)))
    elif len(out) and 0.0 < begin - edges[0, 0] <= STRETCH + 1.0 and begin < edges[0, 1]:
        usual = float(edges[0, 1] - begin)
    else:
        return out
    if edges[0, 1] - edges[0, 0] > 1.5 * usual:
        out[0, 0] = edges[0, 1] - usual
    if len(out) > 1 and edges[-1, 1] - edges[-1, 0] > 1.5 * usual:
        out[-1, 1] = edges[-1, 0] + usual
    return out


def stretched(edges: np.ndarray) -> np.ndarray:
    """(n, 2) edges without gaps that reach STRETCH seconds beyond both ends (see the module)."""
    out = np.array(edges, np.float64)
    if len(out):
        middle = (out[1:, 0] + out[:-1, 1]) / 2
        out[1:, 0] = out[:-1, 1] = middle
        out[0, 0] -= STRETCH
        out[-1, 1] += STRETCH
    return out


def beam_times(path: str | Path) -> np.ndarray:
    """BeamTimes (n,) of a killMS file, s: where the beam of its solve was sampled; empty
    if none."""
    return np.asarray(read_npz(path).get("BeamTimes", np.zeros(0)), np.float64)


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
                 flux: np.ndarray | None = None, beam: np.ndarray | None = None,
                 centre: tuple[float, float] | None = None) -> None:
    """Write a table in killMS's layout, without any pickled object.

    lm: (n_dir, 2) direction cosines, or centre: (ra, dec) radians to compute them about; flux:
    (n_dir,) Jy; for the catalogue (zero if not given).  beam: BeamTimes, at which DDFacet then
    samples its beam.  Stations must have the order of the measurement set, see the module.
    Flagged gains are written as the identity.  Errors, positions, true interval edges and flags
    travel in extra entries that killMS's readers pass over.
    """
    n_time, n_chan, n_ant, n_dir = table.gains.shape[:4]
    gains = np.where(table.flag, _identity(table.n_corr), table.gains)
    sols = np.zeros(n_time, [("t0", "<f8"), ("t1", "<f8"),
                             ("G", "<c8", (n_chan, n_ant, n_dir, 2, 2)),
                             ("Stats", "<f4", (n_chan, n_ant, 4))])
    sols["t0"], sols["t1"] = stretched(table.time_edges).T
    sols["G"] = as_jones(gains)
    catalogue = _catalogue(table, lm, flux, centre)
    unknown = table.flag.all(axis=(0, 2, 3, 4))
    masked = np.zeros(sols["G"].shape, np.int16)
    masked[:, unknown] = 1
    first = table.time_edges[0, 0] if n_time else 0.0
    arrays = {"MSName": np.array(str(table.meta.get("MSName", ""))),
              "MSNameTime0": np.array(float(table.meta.get("MSNameTime0", first))),
              "Sols": sols, "StationNames": np.array(table.ant_names), "SkyModel": catalogue,
              "ClusterCat": catalogue, "SourceCatSub": np.zeros(0), "ModelName":
                  np.array(str(table.meta.get("ModelName", ""))),
              "FreqDomains": table.freq_edges,
              "BeamTimes": np.zeros(0) if beam is None else np.asarray(beam, np.float64),
              "MaskedSols": masked, "Correlations": np.array(CORRELATIONS[table.n_corr]),
              "Flags": np.broadcast_to(_as_four(table.flag), sols["G"].shape[:4] + (4,)),
              "TimeEdges": table.time_edges}
    if "SmoothMode" in table.meta:
        arrays["SmoothMode"] = np.array(str(table.meta["SmoothMode"]).split(","))
    if table.error is not None:
        arrays["Error"] = table.error.astype(np.float32)
    if table.ant_pos is not None:
        arrays["StationPositions"] = np.asarray(table.ant_pos, np.float64)
    write_npz(path, arrays)


def _as_four(flag: np.ndarray) -> np.ndarray:
    """Flags (..., 1, 2 or 4) for XX, XY, YX, YY; an absent XY or YX is known to be zero."""
    if flag.shape[-1] == 4:
        return flag
    out = np.zeros(flag.shape[:-1] + (4,), bool)
    out[..., 0], out[..., 3] = flag[..., 0], flag[..., -1]
    return out


def _catalogue(table: GainTable, lm: np.ndarray | None, flux: np.ndarray | None,
               centre: tuple[float, float] | None) -> np.ndarray:
    n_dir = len(table.directions)
    names = str(table.meta.get(NAMES, "")).split(",")
    catalogue = np.zeros(n_dir, CATALOGUE)
    catalogue["Name"] = [name.encode() for name in names] if len(names) == n_dir and all(names) \
        else [f"c{i}".encode() for i in range(n_dir)]
    catalogue["ra"], catalogue["dec"] = table.directions.T
    catalogue["Cluster"] = np.arange(n_dir)
    if lm is None and centre is not None:
        lm = np.stack(SkyGrid(*centre, 1, 1, 1.0).lm_of(*table.directions.T), axis=1)
    if lm is not None:
        catalogue["l"], catalogue["m"] = np.nan_to_num(np.asarray(lm, float)).T
    if flux is not None:
        catalogue["SumI"] = flux
    return catalogue
