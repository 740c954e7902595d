"""What a measurement set says about itself, and lists of measurement sets.

Measurement sets are opened read-only and never changed here.  The layout is that of the
MeasurementSet definition 2.0 (CASA memo 229) with LOFAR's additions.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.errors import DataError

CORRELATION_NAMES = {1: "I", 2: "Q", 3: "U", 4: "V", 5: "RR", 6: "RL", 7: "LR", 8: "LL",
                     9: "XX", 10: "XY", 11: "YX", 12: "YY"}
ROWS_PER_READ = 1_000_000
READ_BYTES = 64 << 20

CASACORE_LOCK = threading.RLock()
"""casacore's tables are not safe to use from several threads; `open_table` holds this."""


@dataclass(frozen=True)
class AppliedBeam:
    """The beam correction a column says it carries: mode as LOFAR writes it, direction in rad."""

    mode: str
    ra: float
    dec: float


@dataclass(frozen=True, eq=False)
class MSInfo:
    """Facts of one measurement set.

    times: (n_time,) f8, centres of the time slots, MJD seconds, ascending.  interval: seconds.
    freqs, chan_width: (n_chan,) f8, Hz, in the order of the file; widths are positive.
    ant_pos: (n_ant, 3) f8, ITRF metres.  stations_used: (n_ant,) bool, those with cross
    correlations.  phase_centre: right ascension (0..2 pi) and declination, J2000, rad.
    observation: the file's name up to the first underscore.
    """

    path: Path
    name: str
    n_rows: int
    times: np.ndarray
    interval: float
    freqs: np.ndarray
    chan_width: np.ndarray
    ref_freq: float
    ant_names: tuple[str, ...]
    ant_pos: np.ndarray
    stations_used: np.ndarray
    phase_centre: tuple[float, float]
    observation: str
    columns: tuple[str, ...]
    data_columns: tuple[str, ...]
    dysco_columns: tuple[str, ...]
    corr_types: tuple[int, ...]
    n_spw: int
    telescope: str
    target: str
    antenna_set: str
    applied_beam: dict[str, AppliedBeam]
    has_antenna_field: bool

    @property
    def n_chan(self) -> int:
        """Number of channels."""
        return len(self.freqs)

    @property
    def n_time(self) -> int:
        """Number of time slots."""
        return len(self.times)

    @property
    def correlations(self) -> tuple[str, ...]:
        """Names of the correlations, such as ("XX", "XY", "YX", "YY")."""
        return tuple(CORRELATION_NAMES.get(c, str(c)) for c in self.corr_types)

    @property
    def freq_range(self) -> tuple[float, float]:
        """Lower edge of the lowest and upper edge of the highest channel, Hz."""
        return (float((self.freqs - self.chan_width / 2).min()),
                float((self.freqs + self.chan_width / 2).max()))

    @property
    def time_range(self) -> tuple[float, float]:
        """Start of the first and end of the last slot, MJD seconds."""
        return self.times[0] - self.interval / 2, self.times[-1] + self.interval / 2

    @cached_property
    def flagged_fraction(self) -> float:
        """Flagged fraction of the cross correlations; reads the whole FLAG column, piecewise."""
        return flagged_fraction(self.path)


@contextmanager
def open_table(path: str | Path, *, readonly: bool = True) -> Iterator[Any]:
    """A casacore table, closed at the end of the block; its errors become DataError.

    Without read locks casacore leaves every byte of a table alone; a lock file that it had to
    make is removed again.
    """
    from casacore.tables import table

    path = Path(path)
    lock = path / "table.lock"
    had_lock = lock.exists()
    option = "usernoread" if readonly else "auto"
    with CASACORE_LOCK:
        try:
            opened = table(str(path), readonly=readonly, ack=False, lockoptions=option)
        except Exception as error:  # casacore raises bare RuntimeErrors of many kinds
            raise DataError(_cannot_read(path, error)) from error
        try:
            yield opened
        except RuntimeError as error:
            raise DataError(_cannot_read(path, error)) from error
        finally:
            opened.close()
            if readonly and not had_lock:
                _unlink_quietly(lock)


def _unlink_quietly(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass  # a read-only disk: casacore could not make it either


def _cannot_read(path: Path, error: Exception) -> str:
    if not path.exists() and (path.parent / "table.dat").exists():
        return f"{path.parent}: lacks its table {path.name}; copy or unpack it anew"
    if not path.exists():
        return f"{path}: does not exist; check the name in the list of measurement sets"
    text = " ".join(str(error).split())
    if "shared library" in text.lower() or "storagemanager" in text.lower():
        return f"{path}: casacore lacks a storage manager for it ({text}); install it"
    return f"{path}: cannot be read, it is corrupt or incomplete ({text}); copy or unpack it anew"


def read_metadata(path: str | Path) -> MSInfo:
    """Read the facts of the measurement set `path`.

    Raises DataError when it is missing, corrupt or empty, or when its rows are not one regular
    grid: several spectral windows or fields, or baseline-dependent averaging.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path}: does not exist; check the name in the list of measurement sets"
                        if not path.exists() else f"{path}: is not a measurement set")
    with open_table(path) as main:
        _require_main_table(path, main)
        columns = tuple(main.colnames())
        _refuse_bda(path, main)
        spw, pol, field = _single_layout(path, main)
        rows = _scan_rows(path, main)
        data_columns = tuple(c for c in columns
                             if main.getcoldesc(c)["valueType"] in ("complex", "dcomplex"))
        beams = {c: b for c in data_columns if (b := _applied_beam(main.getcolkeywords(c)))}
        dysco = tuple(str(c) for manager in main.getdminfo().values()
                      if "dysco" in manager["TYPE"].lower() for c in manager["COLUMNS"])
        n_rows, subtables = main.nrows(), set(main.keywordnames())
    used = np.zeros(len(rows["names"]), bool)
    used[: len(rows["used"])] = rows["used"]
    return MSInfo(
        path=path, name=path.name, n_rows=n_rows, times=rows["times"], interval=rows["interval"],
        ant_names=rows["names"], ant_pos=rows["positions"], stations_used=used,
        observation=path.stem.split("_")[0], columns=columns, data_columns=data_columns,
        dysco_columns=dysco, applied_beam=beams,
        has_antenna_field="LOFAR_ANTENNA_FIELD" in subtables,
        phase_centre=_phase_centre(path, field), **_spectral(path, spw, pol),
        **_observation(path))


def _require_main_table(path: Path, main: Any) -> None:
    needed = ("TIME", "INTERVAL", "ANTENNA1", "ANTENNA2", "UVW", "FLAG", "FIELD_ID",
              "DATA_DESC_ID")
    missing = [c for c in needed if c not in main.colnames()]
    if missing:
        raise DataError(f"{path}: is not a measurement set, it lacks column(s) "
                        f"{', '.join(missing)}")
    if main.nrows() == 0:
        raise DataError(f"{path}: has no rows; leave it out of the list")


def _refuse_bda(path: Path, main: Any) -> None:
    bda = [k for k in ("BDA_TIME_AXIS", "BDA_FACTORS") if k in main.keywordnames()]
    if bda:
        raise DataError(
            f"{path}: is averaged by baseline (it has a table {bda[0]}), which is not supported; "
            "use the data before that averaging, or expand it with DP3's bdaexpander step")


def _single_layout(path: Path, main: Any) -> tuple[int, int, int]:
    """Ids of the one spectral window, polarisation and field that the rows use."""
    described = _used_ids(main, "DATA_DESC_ID")
    fields = _used_ids(main, "FIELD_ID")
    with open_table(path / "DATA_DESCRIPTION") as table:
        if described[-1] >= table.nrows() or described[0] < 0:
            raise DataError(f"{path}: DATA_DESC_ID {described[-1]} is not in DATA_DESCRIPTION; "
                            "the set is inconsistent, copy or unpack it anew")
        spw = [int(table.getcell("SPECTRAL_WINDOW_ID", d)) for d in described]
        pol = [int(table.getcell("POLARIZATION_ID", d)) for d in described]
    if len(described) > 1:
        raise DataError(f"{path}: has {len(described)} spectral windows in one table; split it "
                        "into one measurement set for each (baseline-dependent averaging is not "
                        "supported)")
    if len(fields) > 1:
        raise DataError(f"{path}: has {len(fields)} fields (FIELD_ID {fields}); split it into one "
                        "measurement set for each field")
    return spw[0], pol[0], fields[0]


def _used_ids(main: Any, column: str) -> list[int]:
    found: set[int] = set()
    for start, count in row_blocks(main.nrows(), ROWS_PER_READ):
        found.update(np.unique(main.getcol(column, start, count)).tolist())
    return sorted(found)


def row_blocks(n_rows: int, rows: int) -> Iterator[tuple[int, int]]:
    """(start, count) of consecutive blocks of at most `rows` rows."""
    for start in range(0, n_rows, rows):
        yield start, min(rows, n_rows - start)


def _scan_rows(path: Path, main: Any) -> dict[str, Any]:
    with open_table(path / "ANTENNA") as table:
        names = tuple(table.getcol("NAME"))
        positions = np.asarray(table.getcol("POSITION"), float)
    used = np.zeros(len(names), bool)
    times: list[np.ndarray] = []
    interval = float(main.getcell("INTERVAL", 0))
    last_usual, first_odd = -np.inf, np.inf
    for start, count in row_blocks(main.nrows(), ROWS_PER_READ):
        time = main.getcol("TIME", start, count)
        times.append(np.unique(time))
        ant1, ant2 = (main.getcol(f"ANTENNA{i}", start, count) for i in (1, 2))
        if min(ant1.min(), ant2.min()) < 0 or max(ant1.max(), ant2.max()) >= len(names):
            raise DataError(f"{path}: rows refer to stations that its ANTENNA table lacks; the "
                            "set is inconsistent, copy or unpack it anew")
        cross = ant1 != ant2
        used[ant1[cross]] = used[ant2[cross]] = True
        widths = main.getcol("INTERVAL", start, count)
        odd = np.abs(widths - interval) > 0.01 * interval
        last_usual = max(last_usual, time[~odd].max(initial=-np.inf))
        first_odd = min(first_odd, time[odd].min(initial=np.inf))
    unique = np.unique(np.concatenate(times))
    if not np.isfinite(unique).all() or not interval > 0:
        raise DataError(f"{path}: TIME or INTERVAL holds values that are no times; copy or unpack "
                        "it anew")
    # Some averagers leave a shorter last slot; any other mixture is no regular grid.
    if first_odd <= last_usual:
        raise DataError(f"{path}: INTERVAL differs from row to row: averaged by baseline or "
                        "joined from unequal pieces, which is not supported; use the data before "
                        "that step")
    return {"times": time_slots(unique, interval), "interval": interval, "used": used,
            "names": names, "positions": positions}


def time_slots(times: np.ndarray, interval: float) -> np.ndarray:
    """Centres of the slots of sorted `times` (MJD seconds): (n_time,) f8.

    Times closer than a quarter of `interval` belong to one slot (rounding of TIME by averagers).
    """
    first = np.r_[True, np.diff(times) > 0.25 * interval]
    slot = np.cumsum(first) - 1
    offset = times - times[0]
    return times[0] + np.bincount(slot, offset) / np.bincount(slot)


def _spectral(path: Path, spw: int, pol: int) -> dict[str, Any]:
    with open_table(path / "SPECTRAL_WINDOW") as table:
        freqs = np.asarray(table.getcell("CHAN_FREQ", spw), float)
        width = np.abs(np.asarray(table.getcell("CHAN_WIDTH", spw), float))
        ref_freq = float(table.getcell("REF_FREQUENCY", spw))
        n_spw = table.nrows()
    if freqs.size == 0 or not (np.isfinite(freqs) & (freqs > 0)).all():
        raise DataError(f"{path}: SPECTRAL_WINDOW gives no usable channel frequencies; copy or "
                        "unpack it anew")
    with open_table(path / "POLARIZATION") as table:
        types = tuple(int(c) for c in table.getcell("CORR_TYPE", pol))
    return {"freqs": freqs, "chan_width": width, "ref_freq": ref_freq, "n_spw": n_spw,
            "corr_types": types}


def _phase_centre(path: Path, field: int) -> tuple[float, float]:
    with open_table(path / "FIELD") as table:
        if field >= table.nrows():
            raise DataError(f"{path}: FIELD_ID {field} is not in its FIELD table; the set is "
                            "inconsistent, copy or unpack it anew")
        ra, dec = np.asarray(table.getcell("PHASE_DIR", field), float).reshape(-1, 2)[0]
        frame = table.getcolkeywords("PHASE_DIR").get("MEASINFO", {}).get("Ref", "J2000")
    if frame not in ("J2000", "ICRS"):
        raise DataError(f"{path}: phase centre is given in {frame}; only J2000 is supported, "
                        "convert it (for example with DP3's phaseshift step)")
    return float(ra % (2 * np.pi)), float(dec)


def _observation(path: Path) -> dict[str, str]:
    with open_table(path / "OBSERVATION") as table:
        def first(column: str) -> str:
            if column not in table.colnames() or table.nrows() == 0:
                return ""
            value = table.getcell(column, 0)
            return str(value if isinstance(value, str) else (list(value) or [""])[0])

        return {"telescope": first("TELESCOPE_NAME"), "target": first("LOFAR_TARGET"),
                "antenna_set": first("LOFAR_ANTENNA_SET")}


def _applied_beam(keywords: dict[str, Any]) -> AppliedBeam | None:
    mode = keywords.get("LOFAR_APPLIED_BEAM_MODE")
    if mode is None:
        return None
    direction = keywords.get("LOFAR_APPLIED_BEAM_DIR", {})
    ra, dec = (float(direction.get(m, {}).get("value", np.nan)) for m in ("m0", "m1"))
    return AppliedBeam(str(mode), ra, dec)


def flagged_fraction(path: str | Path) -> float:
    """Fraction of flagged samples (all correlations) in the cross-correlation rows of `path`.

    The FLAG column is read in pieces of at most 64 MB.  A set without cross correlations counts
    as wholly flagged.  Raises DataError when the column cannot be read.
    """
    flagged = total = 0
    with open_table(path) as main:
        rows = max(1, READ_BYTES // max(1, np.size(main.getcell("FLAG", 0))))
        for start, count in row_blocks(main.nrows(), rows):
            cross = main.getcol("ANTENNA1", start, count) != main.getcol("ANTENNA2", start, count)
            flags = main.getcol("FLAG", start, count)[cross]
            if "FLAG_ROW" in main.colnames():
                flags[main.getcol("FLAG_ROW", start, count)[cross]] = True
            flagged += int(np.count_nonzero(flags))
            total += flags.size
    return flagged / total if total else 1.0


def read_list(listfile: str | Path) -> list[Path]:
    """Measurement sets named in `listfile`, one a line; blank lines and `#` comments are skipped.

    A relative name is looked up in the current directory, then beside the list; one found in
    neither is returned as it stands, for `preflight` to report with all others.  Raises DataError
    when the list is missing, unreadable, empty, or names a measurement set twice.
    """
    listfile = Path(listfile)
    try:
        lines = listfile.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{listfile}: no such list of measurement sets; make it with "
                        "make_mslists.py or correct the option that names it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{listfile}: is not a readable text file ({error}); it should name one "
                        "measurement set a line") from error
    names = [re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip() for line in lines]
    paths = [_locate(Path(name), listfile.parent) for name in names if name]
    if not paths:
        raise DataError(f"{listfile}: names no measurement set; it should name one a line")
    seen: set[Path] = set()
    twice = sorted({str(p) for p in paths if p.resolve() in seen or seen.add(p.resolve())})
    if twice:
        raise DataError(f"{listfile}: names more than once: {', '.join(twice)}; remove the "
                        "repeated lines")
    return paths


def _locate(name: Path, beside: Path) -> Path:
    if name.is_absolute() or name.exists() or not (beside / name).exists():
        return name
    return beside / name
