"""Command lines of WSClean and DP3: plain functions from what is wanted to lists of words.

WSClean: Offringa et al. 2014, MNRAS 444, 606; multi-scale: Offringa & Smirnov 2017, MNRAS 471,
301.  DP3: van Diepen et al. 2018, ASCL 1804.003.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MAJOR_GAIN, MAJORS = 0.85, 6
"""Part of a peak that a major iteration of WSClean takes out, and iterations for each major cycle
of a recipe: 0.15^6 is 1e-5 of the peak, deeper than a recipe's cycle goes."""

MOST_COMPONENTS = 1_000_000
ACCURACY = "1e-4"
"""Of the gridder."""
UNIFORM_ROBUST = -2.0
"""Briggs' robustness from which weights are uniform."""
SOLVER_ITERATIONS, SOLVER_TOLERANCE = 100, 1e-4
"""ddecal's most iterations; it stops when a step is smaller than the tolerance."""

_ITERATION = re.compile(r"== Deconvolving \((\d+)\) ==")


@dataclass(frozen=True)
class Gridding:
    """How WSClean turns visibilities into images and back.

    prefix: what its files begin with.  robust: Briggs' number, None for natural weights.
    channels: sub-bands.  regions: facets; solutions: an h5parm a measurement set, or none.
    tables: tables of solutions to apply.  memory_gb: most memory.  scratch: folder of its own
    temporary files.
    """

    program: str
    prefix: str
    npix: int
    cell_arcsec: float
    robust: float | None
    channels: int
    threads: int
    memory_gb: float
    scratch: str
    regions: str | None = None
    solutions: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cleaning:
    """How deep WSClean cleans.

    threshold: Jy/beam, apparent; sigma: of the noise that is left after each major iteration, at
    which cleaning ends if that is more.  mask: FITS file.  terms: of the spectrum of components.
    scales: of the multi-scale clean in pixels, the first zero; fewer than two clean points alone.
    """

    threshold: float
    sigma: float
    majors: int
    mask: str | None = None
    terms: int = 2
    allow_negative: bool = False
    scales: tuple[float, ...] = ()


def product(prefix: str, kind: str, channel: int | None, channels: int) -> Path:
    """File of WSClean: kind "psf", "dirty", "image", "residual", "model" or one of them with "-pb"
    behind it.  channel: sub-band, None for the mean of all."""
    part = "" if channels == 1 else "-MFS" if channel is None else f"-{channel:04d}"
    return Path(f"{prefix}{part}-{kind}.fits")


def weight_words(robust: float | None) -> list[str]:
    """Weighting: natural, uniform or Briggs'."""
    if robust is None:
        return ["-weight", "natural"]
    if robust <= UNIFORM_ROBUST:
        return ["-weight", "uniform"]
    return ["-weight", "briggs", f"{robust:g}"]


def _grid_words(g: Gridding) -> list[str]:
    # Without -no-small-inversion visibilities of an image finer than it needs to be are predicted
    # from a coarser one, wrong by 1 to 2 % rms far from the middle.
    words = [
        g.program, "-name", g.prefix, "-size", str(g.npix), str(g.npix),
        "-scale", f"{g.cell_arcsec:.10g}asec", "-pol", "I", "-use-wgridder",
        "-wgridder-accuracy", ACCURACY, "-no-small-inversion", "-j", str(g.threads),
        "-abs-mem", f"{g.memory_gb:.3g}", "-temp-dir", g.scratch,
    ]
    if g.channels > 1:
        words += ["-channels-out", str(g.channels), "-gap-channel-division"]
    if g.regions is not None:
        words += ["-facet-regions", g.regions]
    if g.solutions:
        words += ["-apply-facet-solutions", ",".join(g.solutions), ",".join(g.tables)]
    return words


def _image_words(g: Gridding, column: str) -> list[str]:
    words = [*_grid_words(g), *weight_words(g.robust), "-data-column", column,
             "-no-update-model-required"]
    return words + (["-join-channels"] if g.channels > 1 else [])


def psf_command(g: Gridding, sets: list[Path], column: str) -> list[str]:
    """Make the PSFs alone."""
    return [*_image_words(g, column), "-make-psf-only", *map(str, sets)]


def dirty_command(g: Gridding, sets: list[Path], column: str) -> list[str]:
    """Make dirty images of a column."""
    return [*_image_words(g, column), "-niter", "0", *map(str, sets)]


def clean_command(g: Gridding, c: Cleaning, sets: list[Path], column: str) -> list[str]:
    """Deconvolve a column."""
    words = [
        *_image_words(g, column), "-niter", str(MOST_COMPONENTS), "-mgain", f"{MAJOR_GAIN:g}",
        "-nmiter", str(c.majors), "-threshold", f"{c.threshold:.6g}",
        "-auto-threshold", f"{c.sigma:g}",
    ]
    if len(c.scales) > 1:
        words += ["-multiscale", "-multiscale-scales", ",".join(f"{v:.3g}" for v in c.scales)]
    if c.mask is not None:
        words += ["-fits-mask", c.mask]
    if g.channels > 1:
        words += ["-fit-spectral-pol", str(min(c.terms, g.channels))]
    if not c.allow_negative:
        words.append("-no-negative")
    return [*words, *map(str, sets)]


def predict_command(g: Gridding, sets: list[Path]) -> list[str]:
    """Write the visibilities of the model images `prefix`-...model(-pb).fits into MODEL_DATA."""
    return [*_grid_words(g), "-predict", *map(str, sets)]


def clean_progress(majors: int):
    """Parser of WSClean's output: major iterations."""

    def parse(line: str) -> tuple[str, int, int] | None:
        match = _ITERATION.search(line)
        return None if match is None else ("WSClean", min(int(match[1]), majors), majors)

    return parse


@dataclass(frozen=True)
class Solving:
    """How DP3 finds gains.

    sets: measurement sets, joined in frequency.  mode: "scalar", "scalarphase", "tecandphase" or
    "fulljones".  slots, channels: of a solution interval (0 channels: all).
    sky: text sky model with a patch a direction; or columns: columns of visibilities, one a
    direction.  known: h5parm of gains that corrupt the text model, towards the same directions.
    residual: measurement set to write the residuals to.  smooth: Hz over which gains are kept
    smooth, the distance at which DP3 cuts its kernel of a third of that off; 0 for free ones.
    """

    program: str
    sets: tuple[str, ...]
    h5parm: str
    mode: str
    slots: int
    channels: int
    threads: int
    sky: str | None = None
    columns: tuple[str, ...] = ()
    known: str | None = None
    residual: str | None = None
    smearing: bool = False
    smooth: float = 0.0


def solve_command(s: Solving) -> list[str]:
    """DP3's ddecal on measurement sets that differ in frequency alone."""
    words = [
        s.program, f"msin={s.sets[0] if len(s.sets) == 1 else _list(s.sets)}",
        "msin.datacolumn=DATA", f"msout={s.residual or ''}", "steps=[ddecal]",
        f"numthreads={s.threads}", "showprogress=false", f"ddecal.mode={s.mode}",
        f"ddecal.h5parm={s.h5parm}", f"ddecal.solint={s.slots}", f"ddecal.nchan={s.channels}",
        f"ddecal.maxiter={SOLVER_ITERATIONS}", f"ddecal.tolerance={SOLVER_TOLERANCE:g}",
        "ddecal.solveralgorithm=directioniterative", "ddecal.propagatesolutions=true",
        "ddecal.minvisratio=0",
    ]
    if s.smooth:
        words.append(f"ddecal.smoothnessconstraint={s.smooth:g}")
    if s.sky is not None:
        words += [f"ddecal.sourcedb={s.sky}", f"ddecal.correctfreqsmearing={_bool(s.smearing)}"]
    else:
        words.append(f"ddecal.modeldatacolumns={_list(s.columns)}")
    if s.known is not None:
        words += [
            f"ddecal.applycal.parmdb={s.known}", "ddecal.applycal.steps=[size,turn]",
            "ddecal.applycal.size.correction=amplitude000",
            "ddecal.applycal.turn.correction=phase000",
        ]
    if s.residual is not None:
        words += ["ddecal.subtract=true", "msout.overwrite=true"]
    return words


def _list(words: tuple[str, ...]) -> str:
    return f"[{','.join(words)}]"


def _bool(value: bool) -> str:
    return "true" if value else "false"
