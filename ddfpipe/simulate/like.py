"""Simulated skies over the metadata of a real measurement set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.errors import DataError
from ddfpipe.simulate import geometry, msio
from ddfpipe.simulate.realisation import Layout
from ddfpipe.simulate.spec import SimulationSpec

COPIED_COLUMNS = (
    "UVW", "FLAG_CATEGORY", "WEIGHT", "SIGMA", "ANTENNA1", "ANTENNA2", "ARRAY_ID", "DATA_DESC_ID",
    "EXPOSURE", "FEED1", "FEED2", "FIELD_ID", "FLAG_ROW", "INTERVAL", "OBSERVATION_ID",
    "PROCESSOR_ID", "SCAN_NUMBER", "STATE_ID", "TIME", "TIME_CENTROID",
)


@dataclass(frozen=True)
class Template:
    """What is taken from a measurement set.

    time_of, baseline_of (row,): where each row belongs in the layout's regular grid.
    flags (row, chan, 4) bool; weights (row, chan, 4) float32.
    """

    layout: Layout
    stations: list[str]
    freq: np.ndarray
    width: float
    time_of: np.ndarray
    baseline_of: np.ndarray
    flags: np.ndarray
    weights: np.ndarray

    def to_rows(self, grid: np.ndarray) -> np.ndarray:
        """(time, bl, ...) -> (row, ...)."""
        return grid[self.time_of, self.baseline_of]

    def to_grid(self, rows: np.ndarray, fill) -> np.ndarray:
        """(row, ...) -> (time, bl, ...); cells that have no row hold `fill`."""
        shape = (*self.layout.uvw.shape[:2], *rows.shape[1:])
        out = np.full(shape, fill, rows.dtype)
        out[self.time_of, self.baseline_of] = rows
        return out


def _subtable(main, name: str, columns: list[str]) -> list[np.ndarray]:
    from casacore.tables import table

    sub = table(main.getkeyword(name), ack=False)
    values = [sub.getcol(column) for column in columns]
    sub.close()
    return values


def _weights(main, shape: tuple[int, ...]) -> np.ndarray:
    """WEIGHT_SPECTRUM, or WEIGHT for all channels where there is none."""
    if "WEIGHT_SPECTRUM" in main.colnames() and main.iscelldefined("WEIGHT_SPECTRUM", 0):
        return main.getcol("WEIGHT_SPECTRUM").astype(np.float32)
    return np.broadcast_to(main.getcol("WEIGHT")[:, None, :], shape).astype(np.float32)


def read_template(path: str | Path) -> Template:
    """Metadata of the measurement set at `path`, which is not changed.

    Raises DataError when it cannot be opened, holds several fields or spectral windows, other
    correlations than XX, XY, YX, YY, or two rows of the same baseline and time.
    """
    from casacore.tables import table

    try:
        main = table(str(path), ack=False)
    except RuntimeError as err:
        raise DataError(f"simulation: like: {path} is not a readable measurement set") from err
    (corr_type,) = _subtable(main, "POLARIZATION", ["CORR_TYPE"])
    (centres,) = _subtable(main, "FIELD", ["PHASE_DIR"])
    (names, positions) = _subtable(main, "ANTENNA", ["NAME", "POSITION"])
    (windows,) = _subtable(main, "SPECTRAL_WINDOW", ["NUM_CHAN"])
    if len(windows) != 1 or len(centres) != 1 or list(corr_type[0]) != [9, 10, 11, 12]:
        raise DataError(
            f"simulation: like: {path} must hold one field and one spectral window with the "
            "correlations XX, XY, YX, YY; split it first"
        )
    (chan_freq, chan_width) = _subtable(main, "SPECTRAL_WINDOW", ["CHAN_FREQ", "CHAN_WIDTH"])
    times, time_of = np.unique(main.getcol("TIME"), return_inverse=True)
    ant1, ant2 = main.getcol("ANTENNA1"), main.getcol("ANTENNA2")
    pairs, baseline_of = np.unique(ant1 * len(names) + ant2, return_inverse=True)
    cell = time_of * len(pairs) + baseline_of
    if len(np.unique(cell)) != len(cell):
        raise DataError(f"simulation: like: {path} has several rows of a baseline at one time")
    ra0, dec0 = (float(x) for x in centres[0, 0])
    rotation = geometry.earth_rotations(times, ra0, dec0)
    uvw = np.zeros((len(times), len(pairs), 3))
    uvw[time_of, baseline_of] = main.getcol("UVW")
    layout = Layout(
        times, float(np.median(main.getcol("INTERVAL"))), ra0, dec0, positions,
        (pairs // len(names)).astype(np.int32), (pairs % len(names)).astype(np.int32),
        uvw, rotation,
    )
    flags = main.getcol("FLAG") | main.getcol("FLAG_ROW")[:, None, None]
    weights = _weights(main, flags.shape)
    main.close()
    return Template(layout, list(names), chan_freq[0], float(abs(chan_width[0]).mean()), time_of,
                    baseline_of, flags, weights)


def copy_metadata(source: str | Path, path: Path, n_chan: int, extra: list[str]) -> None:
    """Copy `source` to `path` with its subtables and all but the columns of visibilities.

    The tiled columns (DATA, FLAG, WEIGHT_SPECTRUM and `extra`) are new, uncompressed and empty.
    """
    from casacore.tables import table

    main = table(str(source), ack=False)
    keep = [c for c in COPIED_COLUMNS if c in main.colnames()]
    selection = main.select(",".join(keep))
    selection.copy(str(path), deep=True, valuecopy=True).close()
    selection.close()
    main.close()
    copied = table(str(path), readonly=False, ack=False)
    desc, managers = msio.tiled_columns(n_chan, extra)
    for number, name in enumerate(desc):
        copied.addcols({name: desc[name]}, {"*1": {**managers[f"*{number + 1}"], "SEQNR": 0}})
    copied.close()


def simulate_like(spec: SimulationSpec, output: Path, threads: int, tell):
    """Simulate over the metadata of `spec.like`; returns a run.Simulation of one set."""
    from ddfpipe.simulate import run

    template = read_template(spec.like)
    real = run.Realisation(spec, template.layout, run.make_sky(spec, template.layout))
    path = output / f"{spec.observation.name}_SB000.ms"
    if path.resolve() == Path(spec.like).resolve():
        raise DataError(f"simulation: like: {path} would overwrite itself; choose another output")
    tell(f"{path.name}: like {spec.like}, {len(real.sources)} sources")
    extra = list(run.COMPANIONS) if spec.companions else []
    copy_metadata(spec.like, run.fresh_path(path), len(template.freq), extra)
    gains = run.corruptions(spec, real, path, template.freq)
    metadata = {
        "FLAG": template.to_grid(template.flags, True),
        "WEIGHT_SPECTRUM": template.to_grid(template.weights, 0.0),
    }
    columns = run.columns_of(
        spec, real, 0, template.freq, template.width, gains, threads, metadata
    )
    msio.put_tiled(path, {name: template.to_rows(grid) for name, grid in columns.items()})
    msio.note_applied_beam(path, spec.beam, template.layout.ra0, template.layout.dec0)
    lists = run.write_lists(output, [path], 1)
    truth = run.write_truth(output, spec, real, template.stations,
                            [(path.name, template.freq, gains)])
    return run.Simulation((path,), *lists, truth)
