"""Sky models as text, the format of makesourcedb (BBS, DP3, LSMTool, WSClean).

    FORMAT = Name, Type, Patch, Ra, Dec, I, SpectralIndex, LogarithmicSI, ReferenceFrequency='144e6'
    , , dir00, 13:58:00.0, +54.30.00.0
    s0, POINT, dir00, 13:58:00.0, +54.30.00.0, 2.0, [-0.7], true, 144e6

also with the format as a comment, `# (Name, Type, ...) = format`.  Right ascension has colons (or
h, m, s), declination dots or colons; a number with at most one dot is degrees, also as
`212.8deg`.  Sizes are full widths at half maximum in arcsec, orientations degrees from north
through east.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ddfpipe.data.atomic import atomic_write_text
from ddfpipe.data.images import SkyGrid
from ddfpipe.data.model import PixelModel
from ddfpipe.errors import SkyModelError
from ddfpipe.units import ARCSEC, DEGREE, FWHM_TO_SIGMA

FAR = 15.0 * DEGREE
"""Sources farther than this from a direction do not belong to it."""

_FORMAT = re.compile(r"^\s*format\s*=\s*(.*)$|^\s*\(?\s*(.*?)\)?\s*=\s*format\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class TextSkyModel:
    """Sources of a text model; arrays (n,) unless said otherwise.

    name, patch: str; gaussian: bool; ra, dec: radians; stokes (4, n): Jy at `frequency` (Hz, 0 when
    unknown); terms (n, k): spectral coefficients; logarithmic: bool; major, minor: FWHM radians;
    orientation: radians; absolute: orientation counts from north at the source, else from the
    m axis of the image.  places: (ra, dec) in radians of the patches that have a line of their own.
    """

    name: tuple[str, ...]
    patch: tuple[str, ...]
    gaussian: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    stokes: np.ndarray
    frequency: np.ndarray
    terms: np.ndarray
    logarithmic: np.ndarray
    major: np.ndarray
    minor: np.ndarray
    orientation: np.ndarray
    absolute: np.ndarray
    places: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of sources."""
        return self.ra.size

    def flux(self, freq) -> np.ndarray:
        """(nfreq, n) Stokes I in Jy at frequencies in Hz.

        Logarithmic spectra: log10 S = log10 I + c0 x + c1 x^2 + ..., x = log10(nu / nu0); the
        others S = I + c0 y + c1 y^2 + ..., y = nu / nu0 - 1.  Sources without a reference
        frequency are flat.
        """
        freq = np.atleast_1d(np.asarray(freq, float))[:, None]
        ratio = np.where(self.frequency > 0.0, freq / np.maximum(self.frequency, 1.0), 1.0)
        x, y = np.log10(ratio), ratio - 1.0
        exponent, addition = np.zeros_like(x), np.zeros_like(y)
        for k, c in enumerate(self.terms.T, start=1):
            exponent += c * x ** k
            addition += c * y ** k
        main = self.stokes[0]
        return np.where(self.logarithmic, main * 10.0 ** exponent, main + addition)

    def angle_on(self, grid: SkyGrid) -> np.ndarray:
        """(n,) position angle on the plane of `grid`, radians from +m towards +l."""
        step = 1e-6
        l0, m0 = grid.lm_of(self.ra, self.dec)
        sign = np.where(self.dec > 0.0, -1.0, 1.0)
        l1, m1 = grid.lm_of(self.ra, self.dec + sign * step)
        north = np.arctan2(sign * (l1 - l0), sign * (m1 - m0))
        return self.orientation + np.where(self.absolute, north, 0.0)

    def to_pixels(self, grid: SkyGrid, freq) -> PixelModel:
        """Model on `grid` with bands at `freq` (Hz).

        A point stays where it is.  A Gaussian is sampled out to 4 sigma and scaled to its flux;
        narrower than a pixel it is a point.  Sources outside the grid are left out.
        """
        freq = np.atleast_1d(np.asarray(freq, float))
        flux = self.flux(freq)
        angle = self.angle_on(grid)
        y, x = grid.pixel_of(self.ra, self.dec)
        cube = np.zeros((freq.size, *grid.shape), np.float32)
        wide = self.gaussian & (self.major > grid.cell)
        for i in np.flatnonzero(grid.inside(y, x) & wide):
            sigma = np.array([self.major[i], self.minor[i]]) * FWHM_TO_SIGMA / grid.cell
            rows, cols, part = _gaussian(grid, y[i], x[i], sigma, angle[i])
            for band in range(freq.size):
                cube[band, rows, cols] += part * flux[band, i]
        points = PixelModel.from_points(grid, freq, y[~wide], x[~wide], flux[:, ~wide])
        return PixelModel.from_cube(cube, grid, freq).joined(points)


def _gaussian(grid: SkyGrid, y: float, x: float, sigma: np.ndarray, angle: float):
    """Rows, columns and shares of an elliptical Gaussian; its part outside the grid is lost."""
    sigma = np.maximum(sigma, 0.5)
    reach = math.ceil(4.0 * sigma.max())
    rows, cols = np.mgrid[-reach:reach + 1, -reach:reach + 1] + np.array(
        [round(y), round(x)])[:, None, None]
    dy, dx = rows - y, cols - x
    along = dy * math.cos(angle) - dx * math.sin(angle)
    across = dy * math.sin(angle) + dx * math.cos(angle)
    part = np.exp(-0.5 * ((along / sigma[0]) ** 2 + (across / sigma[1]) ** 2))
    part /= part.sum()
    ok = (rows >= 0) & (rows < grid.ny) & (cols >= 0) & (cols < grid.nx)
    return rows[ok], cols[ok], part[ok]


def parse_ra(text: str) -> float:
    """Radians from `13:58:00.0`, `13h58m00.0`, `-10:06:01` (hours) or degrees; 0 to 2 pi.

    Degrees are plain or `212.8deg`; `3.71rad` are radians.
    """
    return _sexagesimal(text, r"[:hms]", 15.0) % (2.0 * math.pi)


def parse_dec(text: str) -> float:
    """Radians from `+54.30.00.0`, `54:30:00`, `54d30m00` or degrees as for `parse_ra`."""
    text = text.strip()
    if text.count(".") >= 2 and not re.search(r"[:dms]", text):
        parts = text.split(".", 3)
        text = ":".join(parts[:3]) + ("." + parts[3] if len(parts) > 3 else "")
    return _sexagesimal(text, r"[:dms]", 1.0)


def _sexagesimal(text: str, separators: str, scale: float) -> float:
    text = text.strip()
    plain = re.fullmatch(r"([+-]?[\d.]+(?:e[+-]?\d+)?)\s*(deg|rad)", text, re.IGNORECASE)
    if plain:
        return float(plain[1]) * (DEGREE if plain[2].lower() == "deg" else 1.0)
    parts = [part for part in re.split(separators, text.lstrip("+-")) if part.strip()]
    if not 1 <= len(parts) <= 3:
        raise ValueError(f"cannot read the angle {text!r}")
    values = [float(part) for part in parts]
    sign = -1.0 if text.startswith("-") else 1.0
    if len(values) == 1:
        return sign * values[0] * DEGREE
    if any(v < 0 for v in values) or any(v >= 60.0001 for v in values[1:]):
        raise ValueError(f"cannot read the angle {text!r}")
    return sign * sum(v / 60.0 ** k for k, v in enumerate(values)) * scale * DEGREE


def read_skymodel(path: Path | str) -> TextSkyModel:
    """Read a text sky model; SkyModelError names file, line and what is wrong."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise SkyModelError(f"{path}: sky model cannot be read ({err}).") from err
    fields, defaults, sources, places = None, {}, [], {}
    for number, line in enumerate(lines, start=1):
        comment = line.lstrip().startswith("#")
        found = _FORMAT.match(line.lstrip(" #") if comment else line)
        if found:
            fields, defaults = _parse_format(found[1] or found[2])
            continue
        if comment or not line.strip():
            continue
        if fields is None:
            raise SkyModelError(f"{path}, line {number}: no FORMAT line before the first source.")
        try:
            record = _parse_line(line, fields, defaults)
            if "name" in record:
                sources.append(record)
            else:
                places |= record
        except ValueError as err:
            raise SkyModelError(f"{path}, line {number}: {err}.") from err
    if not sources:
        raise SkyModelError(f"{path}: no sources in this sky model.")
    return replace(_assemble(sources), places=places)


def _cells(text: str) -> list[str]:
    """Split at commas outside brackets and quotes."""
    cells, depth, quote, start = [], 0, "", 0
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[]":
            depth += 1 if char == "[" else -1
        elif char == "," and depth == 0:
            cells.append(text[start:i].strip())
            start = i + 1
    return [*cells, text[start:].strip()]


def _parse_format(text: str) -> tuple[list[str], dict[str, str]]:
    fields, defaults = [], {}
    for cell in _cells(text):
        name, _, default = cell.partition("=")
        fields.append(name.strip().lower())
        if default:
            defaults[fields[-1]] = default.strip().strip("'\"")
    return fields, defaults


def _parse_line(line: str, fields: list[str], defaults: dict[str, str]) -> dict:
    """One source, or for the line of a patch its place by its name (none if it tells none)."""
    cells = _cells(line)
    if len(cells) > len(fields) and any(cells[len(fields):]):
        raise ValueError(f"{len(cells)} values for {len(fields)} fields")
    values = dict(zip(fields, cells))
    row = {f: values.get(f, "").strip("'\"") or defaults.get(f, "") for f in fields}
    if not row.get("name"):  # LSMTool writes patches as `, , patch, ra, dec` whatever the format
        patch = [cell for cell in cells if cell]
        place = (parse_ra(patch[1]), parse_dec(patch[2])) if len(patch) >= 3 else (0.0, 0.0)
        return {patch[0]: place} if any(place) else {}  # zeros stand for a place not told
    kind = row.get("type", "").upper() or "POINT"
    if kind not in ("POINT", "GAUSSIAN"):
        raise ValueError(f"source type {kind!r}; POINT and GAUSSIAN are known")
    terms = [float(v) for v in row.get("spectralindex", "").strip("[] ").split(",") if v.strip()]

    def number(name: str) -> float:
        return float(row.get(name) or 0.0)

    return {
        "name": row.get("name", ""), "patch": row.get("patch", ""), "gaussian": kind == "GAUSSIAN",
        "ra": parse_ra(row.get("ra", "")), "dec": parse_dec(row.get("dec", "")),
        "stokes": [number(s) for s in "iquv"], "frequency": number("referencefrequency"),
        "terms": terms, "logarithmic": (row.get("logarithmicsi") or "true").lower() != "false",
        "major": number("majoraxis") * ARCSEC, "minor": number("minoraxis") * ARCSEC,
        "orientation": number("orientation") * DEGREE,
        "absolute": (row.get("orientationisabsolute") or "false").lower() == "true",
    }


def _assemble(sources: list[dict]) -> TextSkyModel:
    longest = max(len(s["terms"]) for s in sources)
    for s in sources:
        s["terms"] = s["terms"] + [0.0] * (longest - len(s["terms"]))
    column = {key: [s[key] for s in sources] for key in sources[0]}
    arrays = {k: np.array(v) for k, v in column.items() if k not in ("name", "patch")}
    arrays["stokes"] = arrays["stokes"].T
    arrays["terms"] = arrays["terms"].reshape(len(sources), longest)
    return TextSkyModel(name=tuple(column["name"]), patch=tuple(column["patch"]), **arrays)


def _format_angle(value: float, hours: bool) -> str:
    """`13:58:00.0000000` for hours, `+54.30.00.000000` for degrees."""
    digits = 7 if hours else 6
    unit = 10 ** digits
    total = round(abs(value) / DEGREE / (15.0 if hours else 1.0) * 3600 * unit)
    whole, rest = divmod(total, 60 * unit)
    first, minutes = divmod(whole, 60)
    seconds = f"{rest // unit:02d}.{rest % unit:0{digits}d}"
    if hours:
        return f"{first % 24:02d}:{minutes:02d}:{seconds}"
    return f"{'-' if value < 0 else '+'}{first:02d}.{minutes:02d}.{seconds}"


def _sexagesimal_place(ra: float, dec: float) -> list[str]:
    return [_format_angle(ra % (2 * math.pi), True), _format_angle(dec, False)]


def write_skymodel(path: Path | str, model: TextSkyModel) -> Path:
    """Write a text sky model that DP3, LSMTool and `read_skymodel` understand."""
    patches = any(model.patch)
    lines = ["FORMAT = Name, Type, " + ("Patch, " if patches else "") + "Ra, Dec, I, Q, U, V, "
             "ReferenceFrequency, SpectralIndex, LogarithmicSI, MajorAxis, MinorAxis, Orientation, "
             "OrientationIsAbsolute\n"]
    for patch in dict.fromkeys(model.patch if patches else ()):
        i = model.patch.index(patch)
        place = model.places.get(patch, (model.ra[i], model.dec[i]))
        lines.append(f", , {patch}, {', '.join(_sexagesimal_place(*place))}\n")
    for i in range(model.size):
        cells = [model.name[i], "GAUSSIAN" if model.gaussian[i] else "POINT"]
        cells += [model.patch[i]] if patches else []
        cells += _sexagesimal_place(model.ra[i], model.dec[i])
        cells += [f"{v:.9g}" for v in model.stokes[:, i]]
        terms = ", ".join(f"{t:.9g}" for t in model.terms[i])
        cells += [f"{model.frequency[i]:.12g}", f"[{terms}]",
                  "true" if model.logarithmic[i] else "false"]
        cells += [f"{model.major[i] / ARCSEC:.9g}", f"{model.minor[i] / ARCSEC:.9g}",
                  f"{model.orientation[i] / DEGREE:.9g}", "true" if model.absolute[i] else "false"]
        lines.append(", ".join(cells) + "\n")
    atomic_write_text(path, "".join(lines))
    return Path(path)


def with_patches(model: TextSkyModel, ra, dec, names) -> TextSkyModel:
    """Every source in the patch of the nearest of some directions (ra, dec radians; names).

    Names lose their brackets, which solvers put about the names of patches in solutions.  Raises
    SkyModelError when a source is more than FAR from all of them.
    """
    ra, dec = np.atleast_1d(np.asarray(ra, float)), np.atleast_1d(np.asarray(dec, float))
    names = [str(name).strip("[]") for name in names]

    def unit(a, d):
        return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)

    cosine = unit(model.ra, model.dec) @ unit(ra, dec).T
    lost = int(np.argmin(cosine.max(axis=1)))
    if cosine[lost].max() < math.cos(FAR):
        raise SkyModelError(f"source {model.name[lost]} is far from all {len(names)} directions of "
                            "the patches; these are of another field.")
    places = {name: (float(a), float(d)) for name, a, d in zip(names, ra, dec)}
    return replace(model, patch=tuple(names[k] for k in np.argmax(cosine, axis=1)), places=places)


def from_pixels(model: PixelModel, frequency: float) -> TextSkyModel:
    """Pixels as point sources.  Two bands of one sign give a spectral index, else a linear slope.

    With more than two bands the spectrum is described by the outermost ones.
    """
    ra, dec = model.grid.radec(*model.lm())
    main = model.at(frequency)[0].astype(float)
    low, high = model.flux[0].astype(float), model.flux[-1].astype(float)
    n = model.size
    power, slope = np.zeros(n, bool), np.zeros(n)
    if model.freq.size > 1:
        power = (low * high > 0.0) & (main * low > 0.0)
        slope[power] = np.log(high[power] / low[power]) / math.log(model.freq[-1] / model.freq[0])
        line = (high - low) / (model.freq[-1] - model.freq[0]) * frequency
        slope[~power] = line[~power]
    zero = np.zeros(n)
    return TextSkyModel(
        tuple(f"p{i}" for i in model.index), ("",) * n, np.zeros(n, bool), ra, dec,
        np.stack([main, zero, zero, zero]), np.full(n, float(frequency)), slope[:, None],
        power | (model.freq.size == 1), zero, zero, zero, np.zeros(n, bool),
    )
