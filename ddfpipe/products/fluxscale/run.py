"""From the image cube of an observation and a list of surveys to its flux-scale factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ddfpipe.data.atomic import atomic_path
from ddfpipe.data.images import read_image
from ddfpipe.data.scales import FactorTable, save_factors
from ddfpipe.errors import StageFailed
from ddfpipe.products.fluxscale.components import Deconvolution
from ddfpipe.products.fluxscale.fit import LEAST_SNR, Fit, fit_factors
from ddfpipe.products.fluxscale.matching import (
    REMEDY, Matched, Reference, field_catalogues, match_sources,
)
from ddfpipe.products.fluxscale.measure import channel_fluxes, find_reference_sources
from ddfpipe.products.fluxscale.spectra import (
    SourceSpectra, join, write_crossmatch, write_frequencies,
)
from ddfpipe.units import DEGREE

UNSURE = 0.1
"""Errors of factors above this are pointed out."""


def measure_scale(
    cube: Path, detection: Path, flux: Path, references: Sequence[Reference], observation: str,
    files: Mapping[str, Path], *, least: int, threads: int, monitor: Any,
    model: Path | None = None, psf: Path | None = None,
) -> FactorTable:
    """Find the factors of the planes of a cube, and write them and what they rest on.

    cube, flux: intrinsic restored cube and mean image; detection: the apparent mean image.
    model, psf: components of the mean image and its point spread function; without them fluxes in
    the planes are taken from peaks, which is right for sharp images only.
    files: where the products go: "catalogue", "crossmatch_1", "crossmatch_2", "frequencies",
    "results_1", "results_2" and "factors".  least: number of reference sources that are needed.
    The results are arrays (c, 3) of mean, 16th and 84th percentile of each plane's factor.

    Raises StageFailed when there are too few sources, or when no allowed factors fit.
    """
    grid = read_image(flux).grid
    table = find_reference_sources(
        detection, flux, threads=threads, output=files["catalogue"], monitor=monitor
    )
    ra, dec, total = (np.array(table[name], float) for name in ("RA", "DEC", "Total_flux"))
    ra, dec = ra * DEGREE, dec * DEGREE
    notes: list[str] = []
    centre = (grid.ra, grid.dec)
    surveys = field_catalogues(references, centre, notes=notes)
    matched = match_sources(ra, dec, total, centre, references, surveys, least)
    for line in (*notes, f"{observation}: sources {matched.text()}"):
        monitor.message(line)
    components = Deconvolution.read(model, psf, flux) if model and psf else None
    spectra = _spectra(cube, flux, matched, total, np.array(table["Maj"], float) * DEGREE,
                       least, monitor, components)
    _require(spectra.size, least, f"can be measured in the planes of {cube.name}")
    first, kept, second = fit_twice(spectra, least, files, monitor)
    factors = _table(observation, kept, second, spectra.size - kept.size)
    save_factors(files["factors"], factors)
    monitor.message(factors.text())
    return factors


def _spectra(cube: Path, flux: Path, matched: Matched, total: np.ndarray, size: np.ndarray,
             least: int, monitor: Any, components: Deconvolution | None) -> SourceSpectra:
    """Fluxes of the matched sources in surveys and planes.

    Planes without data, or too noisy for `least` of the sources, are left out.
    """
    frequency, values, errors = channel_fluxes(
        cube, flux, matched.surveys.ra, matched.surveys.dec, total[matched.index],
        size[matched.index], monitor.check, components,
    )
    with np.errstate(invalid="ignore"):
        seen = (errors > 0) & (values > LEAST_SNR * errors)
    used = seen.sum(axis=0) >= least
    if used.sum() < 2:
        raise StageFailed(f"{cube}: {least} reference sources are above {LEAST_SNR:g} sigma in "
                          f"{used.sum()} of its planes only; a flux scale needs several")
    for freq in frequency[~used]:
        monitor.message(f"WARNING: {cube.name}: the plane at {freq / 1e6:.1f} MHz is blank or too "
                        "noisy; its factor follows from its neighbours")
    spectra = join(matched.surveys, frequency[used], values[:, used], errors[:, used])
    whole = seen[:, used].mean(axis=1) >= 0.5
    return spectra.select(whole)


def fit_twice(spectra: SourceSpectra, least: int, files: Mapping[str, Path],
              monitor: Any) -> tuple[Fit, SourceSpectra, Fit]:
    """Robust fit, removal of sources that do not fit, final fit; writes what each found.

    Returns the first fit, the sources kept, and the final fit of these.
    Raises StageFailed if fewer than `least` sources are left.
    """
    write_crossmatch(files["crossmatch_1"], spectra)
    write_frequencies(files["frequencies"], spectra)

    def told(what: str):
        return lambda done, total: monitor.progress(what, min(done, total), total)

    first = fit_factors(spectra, check=monitor.check, progress=told("fitting the flux scale"))
    _save_rows(files["results_1"], first)
    kept = spectra.select(~first.improbable)
    _require(kept.size, least, "agree with power laws")
    second = fit_factors(kept, robust=False, start=first.factor, check=monitor.check,
                         progress=told("fitting the flux scale again"))
    write_crossmatch(files["crossmatch_2"], kept)
    _save_rows(files["results_2"], second)
    monitor.message(
        f"{kept.size} of {spectra.size} sources fit; scatter {second.scatter[0]:.1%} of the "
        f"catalogues and {second.scatter[1]:.1%} of the planes beyond the errors; {second.steps} "
        f"steps of {second.autocorrelation:.0f} autocorrelated"
    )
    return first, kept, second


def _require(count: int, least: int, what: str) -> None:
    if count < least:
        raise StageFailed(f"{count} reference sources {what}, {least} are needed ([bootstrap] "
                          f"min_sources). {REMEDY}")


def _save_rows(path: Path, fit: Fit) -> None:
    with atomic_path(path) as part, open(part, "wb") as stream:
        np.save(stream, fit.rows())


def _table(observation: str, spectra: SourceSpectra, fit: Fit, rejected: int) -> FactorTable:
    index, index_error = fit.mean_index()
    notes = [f"{rejected} sources left out" if rejected else ""]
    if not fit.converged:
        notes.append(f"the chain of {fit.steps} steps may be too short")
    if fit.error.max() > UNSURE:
        notes.append(f"errors of up to {fit.error.max():.0%}: more sources or better catalogues "
                     "are wanted")
    order = np.argsort(spectra.channels)
    columns = {
        name: tuple(float(v) for v in np.asarray(values)[order])
        for name, values in (("frequency", spectra.channels), ("factor", fit.factor),
                             ("error", fit.error), ("low", fit.low), ("high", fit.high))
    }
    return replace(
        FactorTable(observation, **columns), sources=spectra.size, spectral_index=index,
        spectral_index_error=index_error, note="; ".join(note for note in notes if note),
    )
