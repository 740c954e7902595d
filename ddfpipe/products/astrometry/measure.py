"""From a source catalogue and a reference to the offsets of an image's facets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ddfpipe.data.images import SkyGrid
from ddfpipe.data.regions import FacetOutline
from ddfpipe.products.astrometry.facetmap import facet_of
from ddfpipe.products.astrometry.field import UNKNOWN, FieldFit, fit_field
from ddfpipe.products.astrometry.likelihood import Fit
from ddfpipe.products.astrometry.selection import Selection, select_sources
from ddfpipe.products.astrometry.separations import Separations, find_separations
from ddfpipe.products.astrometry.tables import BIN, FacetOffsets
from ddfpipe.units import ARCSEC

if TYPE_CHECKING:
    from astropy.table import Table


@dataclass(frozen=True)
class Measurement:
    """Everything that was found out: offsets, fits, the sources used and their separations.

    facet: (sources,) facet of every source of the catalogue, -1 for none.
    """

    offsets: FacetOffsets
    field: FieldFit
    selection: Selection
    facet: np.ndarray
    separations: Separations

    def figures(self) -> dict[str, Any]:
        """Figures for people: numbers of sources and facets, mean offset, scatter, errors."""
        clear = self.offsets.clear
        made: dict[str, Any] = {
            "sources": int(self.selection.kept.sum()), "facets": self.offsets.size,
            "clear_facets": int(clear.sum()),
        }
        if clear.any():
            size = np.hypot(self.offsets.east, self.offsets.north)[clear] / ARCSEC
            made |= {
                "median_RA_offset_arcsec": float(np.median(self.offsets.east[clear]) / ARCSEC),
                "median_DEC_offset_arcsec": float(np.median(self.offsets.north[clear]) / ARCSEC),
                "largest_offset_arcsec": float(size.max()),
                "median_error_arcsec":
                    float(np.median(self.offsets.total_error[clear]) / ARCSEC),
            }
        if self.field.width is not None:
            made["scatter_arcsec"] = float(self.field.width)
        return made


def measure_offsets(
    table: Table, beam: float, outlines: Sequence[FacetOutline], grid: SkyGrid,
    reference: tuple[np.ndarray, np.ndarray], method: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Measurement:
    """Offsets of all facets.

    table: PyBDSF's catalogue of the image; beam: its major axis, radians.  grid: of the image.
    reference: (ra, dec) of reference objects, radians.  method: "mcmc" or "chi2".
    Raises DataError for a table without the columns needed.
    """
    selection = select_sources(table, grid, beam)
    facet = facet_of(outlines, grid, selection.ra, selection.dec)
    used = np.where(selection.kept, facet, -1)
    separations = find_separations(selection.ra, selection.dec, selection.error, used, reference,
                                   grid)
    pairs = [separations.pairs(number) for number in range(len(outlines))]
    field = fit_field(pairs, method, progress)
    return Measurement(_offsets([p.sources for p in pairs], field), field, selection, facet,
                       separations)


def _offsets(sources: Sequence[int], field: FieldFit) -> FacetOffsets:
    """The table of facets of a fit."""
    peaks = [_peak(fit) for fit in field.fits]
    height, error = (np.array([p[k] for p in peaks]).repeat(2).reshape(-1, 2) for k in (0, 1))
    return FacetOffsets(
        np.asarray(sources, int), field.offset[:, 0] * ARCSEC, field.offset[:, 1] * ARCSEC,
        field.error[:, 0] * ARCSEC, field.error[:, 1] * ARCSEC, height, error, field.clear,
    )


def _peak(fit: Fit | None) -> tuple[float, float]:
    """Height and error of the peak in a histogram of separations along one axis."""
    if fit is None:
        return 0.0, UNKNOWN
    per_source = BIN / (np.sqrt(2.0 * np.pi) * max(fit.scatter, BIN / 2))
    return fit.matched * per_source, fit.matched_error * per_source
