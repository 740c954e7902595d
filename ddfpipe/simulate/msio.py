"""Writes measurement sets as LOFAR's correlator and pre-processing leave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddfpipe.simulate.realisation import Layout
from ddfpipe.simulate.stations import Station

POSITION = {"QuantumUnits": ["m"] * 3, "MEASINFO": {"type": "position", "Ref": "ITRF"}}
DIRECTION = {"QuantumUnits": ["rad"] * 2, "MEASINFO": {"type": "direction", "Ref": "J2000"}}


def tiled_columns(n_chan: int, extra: list[str]) -> tuple[dict, dict]:
    """Table description and storage managers of the tiled columns."""
    from casacore.tables import makearrcoldesc, maketabdesc

    tile = [4, n_chan, max(1, 65536 // (4 * n_chan))]
    names = {"DATA": 0j, "FLAG": False, "WEIGHT_SPECTRUM": 0.0, **dict.fromkeys(extra, 0j)}
    kinds = {complex: "complex", bool: "boolean", float: "float"}
    descs, managers = [], {}
    for number, (name, zero) in enumerate(names.items()):
        manager = f"Tiled{name}"
        descs.append(makearrcoldesc(
            name, zero, ndim=2, shape=[n_chan, 4], datamanagertype="TiledColumnStMan",
            datamanagergroup=manager, valuetype=kinds[type(zero)], options=4,
        ))
        managers[f"*{number + 1}"] = {
            "TYPE": "TiledColumnStMan", "NAME": manager, "SEQNR": number,
            "SPEC": {"DEFAULTTILESHAPE": tile}, "COLUMNS": [name],
        }
    return maketabdesc(descs), managers


def _fill_row(table, row: int, values: dict) -> None:
    for name, value in values.items():
        table.putcell(name, row, value)


def _add_column(table, name: str, value, ndim: int | None = None, keywords=None) -> None:
    """Add a column for values like `value` (an array when ndim is given)."""
    from casacore.tables import makearrcoldesc, makescacoldesc, maketabdesc

    if ndim is None:
        desc = makescacoldesc(name, value)
    else:
        desc = makearrcoldesc(name, value, ndim=ndim)
    table.addcols(maketabdesc(desc))
    if keywords:
        table.putcolkeywords(name, keywords)


def _antennas(main, stations: list[Station]) -> None:
    """ANTENNA, with LOFAR's extra columns, and FEED."""
    from casacore.tables import table

    antenna = table(main.getkeyword("ANTENNA"), readonly=False, ack=False)
    _add_column(antenna, "LOFAR_STATION_ID", 0)
    _add_column(antenna, "LOFAR_PHASE_REFERENCE", 0.0, 1, POSITION)
    antenna.addrows(len(stations))
    sites = {s.name[:5]: k for k, s in enumerate(stations)}
    for row, station in enumerate(stations):
        _fill_row(antenna, row, {
            "NAME": station.name, "STATION": "LOFAR", "TYPE": "GROUND-BASED", "MOUNT": "X-Y",
            "POSITION": station.position, "OFFSET": np.zeros(3), "DISH_DIAMETER": 31.26,
            "FLAG_ROW": False, "LOFAR_STATION_ID": sites[station.name[:5]],
            "LOFAR_PHASE_REFERENCE": station.position,
        })
    antenna.close()


def _feeds(main, n_ant: int, middle: float, span: float) -> None:
    """FEED: two linear dipoles at 45 degrees."""
    from casacore.tables import table

    feed = table(main.getkeyword("FEED"), readonly=False, ack=False)
    feed.addrows(n_ant)
    for row in range(n_ant):
        _fill_row(feed, row, {
            "ANTENNA_ID": row, "FEED_ID": 0, "BEAM_ID": -1, "SPECTRAL_WINDOW_ID": -1,
            "INTERVAL": span, "TIME": middle, "NUM_RECEPTORS": 2, "POSITION": np.zeros(3),
            "BEAM_OFFSET": np.zeros((2, 2)), "RECEPTOR_ANGLE": np.full(2, -np.pi / 4),
            "POLARIZATION_TYPE": ["X", "Y"], "POL_RESPONSE": np.eye(2, dtype=np.complex64),
        })
    feed.close()


def _spectral(main, freq: np.ndarray, width: float) -> None:
    """SPECTRAL_WINDOW, POLARIZATION and DATA_DESCRIPTION."""
    from casacore.tables import table

    window = table(main.getkeyword("SPECTRAL_WINDOW"), readonly=False, ack=False)
    window.addrows(1)
    widths = np.full(len(freq), width)
    _fill_row(window, 0, {
        "MEAS_FREQ_REF": 5, "CHAN_FREQ": freq, "CHAN_WIDTH": widths, "EFFECTIVE_BW": widths,
        "RESOLUTION": widths, "NUM_CHAN": len(freq), "TOTAL_BANDWIDTH": float(widths.sum()),
        "REF_FREQUENCY": float(freq.mean()), "NAME": f"SB{freq[0] / 1e6:.3f}MHz",
        "FREQ_GROUP": 0, "FREQ_GROUP_NAME": "", "IF_CONV_CHAIN": 0, "NET_SIDEBAND": 1,
        "FLAG_ROW": False,
    })
    window.close()
    pol = table(main.getkeyword("POLARIZATION"), readonly=False, ack=False)
    pol.addrows(1)
    _fill_row(pol, 0, {
        "NUM_CORR": 4, "CORR_TYPE": np.arange(9, 13, dtype=np.int32), "FLAG_ROW": False,
        "CORR_PRODUCT": np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int32),
    })
    pol.close()
    desc = table(main.getkeyword("DATA_DESCRIPTION"), readonly=False, ack=False)
    desc.addrows(1)
    _fill_row(desc, 0, {"SPECTRAL_WINDOW_ID": 0, "POLARIZATION_ID": 0, "FLAG_ROW": False})
    desc.close()


def _field(main, layout: Layout, name: str) -> None:
    """FIELD, with the direction of the tile beams."""
    from casacore.tables import table

    field = table(main.getkeyword("FIELD"), readonly=False, ack=False)
    _add_column(field, "LOFAR_TILE_BEAM_DIR", 0.0, 1, DIRECTION)
    field.addrows(1)
    centre = np.array([[layout.ra0, layout.dec0]])
    _fill_row(field, 0, {
        "NAME": name, "CODE": "", "TIME": float(layout.times[0]), "NUM_POLY": 0,
        "DELAY_DIR": centre, "PHASE_DIR": centre, "REFERENCE_DIR": centre, "SOURCE_ID": -1,
        "FLAG_ROW": False, "LOFAR_TILE_BEAM_DIR": centre[0],
    })
    field.close()


def _observation(main, layout: Layout, name: str, freqs: tuple[float, float]) -> None:
    """OBSERVATION with the LOFAR columns that readers and everybeam look at."""
    from casacore.tables import table

    obs = table(main.getkeyword("OBSERVATION"), readonly=False, ack=False)
    start = float(layout.times[0] - layout.interval / 2)
    end = float(layout.times[-1] + layout.interval / 2)
    extra = {
        "LOFAR_OBSERVATION_ID": name.lstrip("L"), "LOFAR_ANTENNA_SET": "HBA_DUAL_INNER",
        "LOFAR_FILTER_SELECTION": "HBA_110_190", "LOFAR_CLOCK_FREQUENCY": 200.0,
        "LOFAR_OBSERVATION_START": start, "LOFAR_OBSERVATION_END": end,
        "LOFAR_OBSERVATION_FREQUENCY_MIN": freqs[0] / 1e6,
        "LOFAR_OBSERVATION_FREQUENCY_MAX": freqs[1] / 1e6,
    }
    for column, value in extra.items():
        _add_column(obs, column, value)
    _add_column(obs, "LOFAR_TARGET", "", 1)
    obs.addrows(1)
    _fill_row(obs, 0, {
        "TELESCOPE_NAME": "LOFAR", "OBSERVER": "simulated", "PROJECT": "simulation",
        "TIME_RANGE": np.array([start, end]), "RELEASE_DATE": end, "SCHEDULE_TYPE": "LOFAR",
        "SCHEDULE": ["simulation"], "LOG": [""], "FLAG_ROW": False, "LOFAR_TARGET": [name], **extra,
    })
    obs.close()


def _antenna_fields(main, stations: list[Station]) -> None:
    """LOFAR_ANTENNA_FIELD: what everybeam builds the stations from."""
    from casacore.tables import makearrcoldesc, makescacoldesc, maketabdesc, table

    position = {"keywords": POSITION}
    desc = maketabdesc([
        makescacoldesc("ANTENNA_ID", 0), makescacoldesc("NAME", ""),
        makearrcoldesc("POSITION", 0.0, ndim=1, **position),
        makearrcoldesc("COORDINATE_AXES", 0.0, ndim=2, **position),
        makearrcoldesc("ELEMENT_OFFSET", 0.0, ndim=2, **position),
        makearrcoldesc("ELEMENT_FLAG", False, ndim=2), makescacoldesc("TILE_ROTATION", 0.0),
        makearrcoldesc("TILE_ELEMENT_OFFSET", 0.0, ndim=2, **position),
    ])
    path = f"{main.name()}/LOFAR_ANTENNA_FIELD"
    fields = table(path, desc, nrow=len(stations), ack=False)
    for row, station in enumerate(stations):
        _fill_row(fields, row, {
            "ANTENNA_ID": row, "NAME": station.field, "POSITION": station.position,
            "COORDINATE_AXES": station.axes, "ELEMENT_OFFSET": station.elements,
            "ELEMENT_FLAG": np.repeat(~station.used[:, None], 2, axis=1), "TILE_ROTATION": 0.0,
            "TILE_ELEMENT_OFFSET": station.tile,
        })
    fields.close()
    main.putkeyword("LOFAR_ANTENNA_FIELD", f"Table: {path}")


def create_ms(
    path: Path, layout: Layout, stations: list[Station], freq: np.ndarray, width: float,
    scans: np.ndarray, extra_columns: list[str],
) -> None:
    """Create a measurement set with all its metadata; the tiled columns are filled by `put_tiled`.

    path must not exist.  freq (chan,) and width in Hz; scans (time,); rows are ordered by time,
    then baseline.
    """
    from casacore.tables import default_ms

    desc, managers = tiled_columns(len(freq), extra_columns)
    main = default_ms(str(path), desc, managers)
    n_time, n_bl = layout.uvw.shape[:2]
    main.addrows(n_time * n_bl)
    times = np.repeat(layout.times, n_bl)
    for name in ("TIME", "TIME_CENTROID"):
        main.putcol(name, times)
    for name in ("INTERVAL", "EXPOSURE"):
        main.putcol(name, np.full(len(times), layout.interval))
    main.putcol("ANTENNA1", np.tile(layout.ant1, n_time))
    main.putcol("ANTENNA2", np.tile(layout.ant2, n_time))
    main.putcol("UVW", layout.uvw.reshape(-1, 3))
    main.putcol("SCAN_NUMBER", np.repeat(scans, n_bl))
    main.putcol("SIGMA", np.ones((len(times), 4), np.float32))
    main.putcol("WEIGHT", np.ones((len(times), 4), np.float32))
    main.putcol("STATE_ID", np.full(len(times), -1, np.int32))
    span = float(layout.times[-1] - layout.times[0] + layout.interval)
    _antennas(main, stations)
    _feeds(main, len(stations), float(layout.times.mean()), span)
    _spectral(main, freq, width)
    _field(main, layout, path.stem.split("_")[0])
    _observation(main, layout, path.stem.split("_")[0], (freq[0], freq[-1]))
    _antenna_fields(main, stations)
    main.close()


def put_tiled(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Write columns given as (time, bl, chan, corr) or (row, chan, corr) into existing ones."""
    from casacore.tables import table

    main = table(str(path), readonly=False, ack=False)
    for name, values in columns.items():
        main.putcol(name, np.ascontiguousarray(values.reshape(-1, *values.shape[-2:])))
    main.close()


APPLIED_BEAM = {"none": "None", "array_factor": "ArrayFactor", "full": "Full"}


def note_applied_beam(path: Path, beam: str, ra0: float, dec0: float) -> None:
    """Say in the data columns' keywords that the beam of the phase centre is taken out already.

    These are the keywords by which DP3, everybeam and WSClean know; beam is that of the
    specification, the direction in rad.
    """
    from casacore.tables import table

    angles = {f"m{k}": {"value": float(x), "unit": "rad"} for k, x in enumerate((ra0, dec0))}
    main = table(str(path), readonly=False, ack=False)
    for column in {"DATA", "CLEAN_DATA"} & set(main.colnames()):
        main.putcolkeyword(column, "LOFAR_APPLIED_BEAM_MODE", APPLIED_BEAM[beam])
        direction = {"type": "direction", "refer": "J2000", **angles}
        main.putcolkeyword(column, "LOFAR_APPLIED_BEAM_DIR", direction)
    main.close()
