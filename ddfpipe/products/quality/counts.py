"""Source counts of an image against published ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ddfpipe.products.quality.statistics import finite

if TYPE_CHECKING:
    from astropy.table import Table

SCALE_RANGE = (0.25, 4.0)
"""Factors of the flux scale that are considered."""


@dataclass(frozen=True)
class Published:
    """log10 of S^2.5 dN/dS (Jy^1.5 / sr) as a polynomial of log10(S / unit).

    unit: Jy; frequency: Hz; low, high: Jy, where the authors' fit holds.
    """

    name: str
    citation: str
    frequency: float
    unit: float
    coefficients: tuple[float, ...]
    low: float
    high: float

    def euclidean(self, flux: np.ndarray) -> np.ndarray:
        """S^2.5 dN/dS in Jy^1.5 / sr at `flux` Jy; outside of the range the ends' value."""
        logs = np.log10(np.clip(flux, self.low, self.high) / self.unit)
        return 10.0 ** np.polynomial.polynomial.polyval(logs, self.coefficients)

    def number(self, low: float, high: float) -> float:
        """Sources between two fluxes in Jy, for each sr."""
        edges = np.geomspace(low, high, 33)
        flux = np.sqrt(edges[:-1] * edges[1:])
        return float(np.sum(self.euclidean(flux) * flux ** -2.5 * np.diff(edges)))


PUBLISHED = {
    "mandal2021": Published(
        "mandal2021", "Mandal et al. 2021, A&A 648, A5, Table 4", 150e6, 1e-3,
        (1.655, -0.1150, 0.2272, 0.51788, -0.449661, 0.160265, -0.028541, 0.002041), 2e-4, 10.0),
    "franzen2019": Published(
        "franzen2019", "Franzen et al. 2019, PASA 36, e004", 154e6, 1.0,
        (3.52, 0.307, -0.388, -0.0404, 0.0351, 0.00600), 1e-3, 75.0),
}
"""Two telescopes, two pipelines: brought to one frequency they agree within 22 % from 1 mJy to
10 Jy, within 14 % above 0.1 Jy."""


def visible_area(rms: np.ndarray, pixel_sr: float, limits: np.ndarray) -> np.ndarray:
    """(n,) area in sr over which the noise `rms` (any shape, Jy/beam) is below `limits` (n,)."""
    values = np.sort(rms[np.isfinite(rms) & (rms > 0.0)].ravel())
    return np.searchsorted(values, limits, side="right") * pixel_sr


def count_figures(table: Table, rms: np.ndarray, pixel_sr: float, published: Published,
                  frequency: float, index: float, *, min_snr: float, n_bins: int,
                  fit: bool) -> dict:
    """Euclidean-normalised counts of a catalogue, and the flux scale that fits them best.

    rms: noise map, Jy/beam, over the area that was searched; pixel_sr: solid angle of its
    pixels; frequency: Hz of the image; index: spectral index that links it to that of the
    published counts.  Sources of which the peak is less than min_snr times their noise are left
    out, and each bin's area is that where its faintest source would be as many times above the
    noise.  Returns {area_deg2, bins: [{low_jy, high_jy, n, area_deg2, counts, error, expected}],
    slope, scale: {value, error, n}, citation}.
    """
    total = np.asarray(table["Total_flux"], float)
    snr = np.asarray(table["Peak_flux"], float) / np.asarray(table["Isl_rms"], float)
    to_published = (published.frequency / frequency) ** index
    used = (snr >= min_snr) & np.isfinite(total)
    flux = total[used] * to_published
    square_degree = (math.pi / 180.0) ** 2
    whole = float(visible_area(rms, pixel_sr, np.array([np.inf]))[0])
    result: dict = {"citation": published.citation, "area_deg2": whole / square_degree,
                    "sources": int(used.sum()), "min_snr": min_snr, "bins": [],
                    "frequency_mhz": published.frequency / 1e6, "scale": None, "slope": None}
    if used.sum() < 2:
        return result
    lowest = max(float(flux.min()), published.low)
    highest = min(max(float(flux.max()), 2.0 * lowest), published.high)
    edges = np.geomspace(lowest, highest * 1.0001, n_bins + 1)
    area = visible_area(rms * to_published, pixel_sr, edges[:-1] / min_snr)
    n = np.histogram(flux, edges)[0]
    expected = np.array([published.number(*pair) for pair in zip(edges[:-1], edges[1:])]) * area
    for k in range(n_bins):
        if area[k] > 0.0:
            middle, width = math.sqrt(edges[k] * edges[k + 1]), edges[k + 1] - edges[k]
            unit = middle ** 2.5 / width / area[k]
            result["bins"].append({
                "low_jy": float(edges[k]), "high_jy": float(edges[k + 1]), "n": int(n[k]),
                "area_deg2": float(area[k] / square_degree), "expected_n": float(expected[k]),
                "counts": float(n[k] * unit), "error": float(math.sqrt(max(n[k], 1)) * unit),
                "expected": float(published.euclidean(np.array([middle]))[0])})
    above = flux[flux >= lowest]
    result["slope"] = finite(above.size / np.log(above / lowest).sum()) if (
        above.size > 1 and np.log(above / lowest).sum() > 0) else None
    if fit:
        result["scale"] = fit_scale(n, edges, area, published)
    return result


def fit_scale(n: np.ndarray, edges: np.ndarray, area: np.ndarray, published: Published) -> dict:
    """Factor by which fluxes are too high, from counts n in bins: {value, error, n}.

    Greatest Poisson likelihood (Cash 1979, ApJ 228, 939) of the published counts with all fluxes
    multiplied by the factor; the error is where the log likelihood falls by 1/2.  It knows
    nothing of cosmic variance, which adds some per cent to 20 per cent for fields of a few to a
    tenth of a square degree.  Value None below 10 sources, or when no factor of SCALE_RANGE fits.
    """
    from scipy.optimize import brentq, minimize_scalar

    use = area > 0.0
    total = int(n[use].sum())
    if total < 10:
        return {"value": None, "error": None, "n": total}

    def likelihood(log_scale: float) -> float:
        scale = math.exp(log_scale)
        mean = np.array([published.number(low / scale, high / scale)
                         for low, high in zip(edges[:-1][use], edges[1:][use])]) * area[use]
        return float(np.sum(n[use] * np.log(mean) - mean))

    low, high = (math.log(v) for v in SCALE_RANGE)
    best = minimize_scalar(lambda v: -likelihood(v), bounds=(low, high), method="bounded",
                           options={"xatol": 1e-4})
    peak = float(best.x)
    if min(peak - low, high - peak) < 0.01:
        return {"value": None, "error": None, "n": total}
    floor = likelihood(peak) - 0.5
    sides = []
    for end in (low, high):
        if likelihood(end) < floor:
            sides.append(abs(brentq(lambda v: likelihood(v) - floor, *sorted((peak, end))) - peak))
    error = math.exp(peak) * float(np.mean(sides)) if sides else None
    return {"value": math.exp(peak), "error": error, "n": total}
