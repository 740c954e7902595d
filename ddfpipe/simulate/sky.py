"""Sources: random fields, makesourcedb text in and out, spectra and Gaussian shapes."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ddfpipe.errors import SkyModelError
from ddfpipe.simulate.spec import Sky
from ddfpipe.units import ARCSEC, DEGREE, FWHM_TO_SIGMA, MHZ, SPEED_OF_LIGHT


@dataclass(frozen=True)
class Source:
    """A source.

    ra, dec: rad, J2000.  flux: Jy at ref_freq (Hz).  spectral_index: a0, a1, ... of
    log10 S = log10 flux + a0 x + a1 x^2 + ..., x = log10(nu / ref_freq); or, when not
    `logarithmic`, of S = flux + a0 x + a1 x^2 + ..., x = nu / ref_freq - 1.
    major, minor: FWHM in rad (0: a point); pa: position angle of the major axis, rad, from north
    to east.  fraction: linearly polarised part of the flux; angle: its position angle at
    wavelength zero, rad, from north to east; rm: rotation measure, rad/m^2; circular: V / I.
    """

    name: str
    ra: float
    dec: float
    flux: float
    spectral_index: tuple[float, ...] = (0.0,)
    ref_freq: float = 144e6
    major: float = 0.0
    minor: float = 0.0
    pa: float = 0.0
    logarithmic: bool = True
    fraction: float = 0.0
    angle: float = 0.0
    rm: float = 0.0
    circular: float = 0.0

    @property
    def polarised(self) -> bool:
        """Whether Q, U or V differ from zero."""
        return self.fraction != 0.0 or self.circular != 0.0


def lmn_of(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float) -> np.ndarray:
    """Direction cosines (src, 3) about (ra0, dec0): l east, m north, and n - 1.

    n - 1 is formed without cancellation, so that it is exact near the centre.
    """
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    dra = ra - ra0
    l = np.cos(dec) * np.sin(dra)
    m = np.sin(dec) * math.cos(dec0) - np.cos(dec) * math.sin(dec0) * np.cos(dra)
    n1 = -2.0 * (
        np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * math.cos(dec0) * np.sin(dra / 2) ** 2
    )
    return np.stack([l, m, n1], axis=-1)


def radec_of(l: np.ndarray, m: np.ndarray, ra0: float, dec0: float):
    """Right ascension in [0, 2 pi) and declination (rad) of direction cosines."""
    n = np.sqrt(1.0 - np.square(l) - np.square(m))
    dec = np.arcsin(m * math.cos(dec0) + n * math.sin(dec0))
    ra = ra0 + np.arctan2(l, n * math.cos(dec0) - m * math.sin(dec0))
    return np.mod(ra, 2 * np.pi), dec


def fluxes(sources: list[Source], freq: np.ndarray) -> np.ndarray:
    """Flux densities (src, chan) in Jy at `freq` (Hz)."""
    out = np.empty((len(sources), len(freq)))
    for row, source in zip(out, sources):
        ratio = np.asarray(freq) / source.ref_freq
        x = np.log10(ratio) if source.logarithmic else ratio - 1.0
        terms = sum(a * x ** (k + 1) for k, a in enumerate(source.spectral_index))
        row[:] = source.flux * 10.0**terms if source.logarithmic else source.flux + terms
    return out


def stokes_shares(sources: list[Source], freq: np.ndarray) -> np.ndarray:
    """(3, src, chan): Q, U and V over I at `freq` (Hz).

    Q + iU turns by twice the angle + rm * wavelength^2 (Burn 1966, MNRAS 133, 67).
    """
    squared = (SPEED_OF_LIGHT / np.asarray(freq, float)) ** 2
    out = np.empty((3, len(sources), len(squared)))
    for k, source in enumerate(sources):
        turn = 2.0 * (source.angle + source.rm * squared)
        out[0, k], out[1, k] = source.fraction * np.cos(turn), source.fraction * np.sin(turn)
        out[2, k] = source.circular
    return out


def brightness_roots(sources: list[Source], freq: np.ndarray) -> np.ndarray | None:
    """(src, chan, 2, 2) R with R R^H the brightness matrix over I; None if nothing is polarised.

    In linear feeds the matrix is [[I + Q, U + iV], [U - iV, I - Q]] (Hamaker & Bregman 1996, A&AS
    117, 161), so that J R stands for the gains of a polarised source in J R (J R)^H.
    Raises SkyModelError for a source that is polarised by more than its flux.
    """
    if not any(source.polarised for source in sources):
        return None
    for source in sources:
        if math.hypot(source.fraction, source.circular) > 1.0 + 1e-12:
            raise SkyModelError(f"simulation: {source.name} is polarised by more than its flux")
    q, u, v = stokes_shares(sources, freq)
    matrix = np.stack([1 + q, u + 1j * v, u - 1j * v, 1 - q], axis=-1).reshape(*q.shape, 2, 2)
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]


def uv_shapes(sources: list[Source]) -> np.ndarray:
    """(src, 3): a, b, c of a source's visibility exp(-(a u^2 + 2 b u v + c v^2)), u, v in
    wavelengths; zero for points.  A Gaussian of standard deviation s transforms to
    exp(-2 pi^2 s^2 u^2); its major axis points to (sin pa, cos pa) in (u, v).
    """
    out = np.zeros((len(sources), 3))
    for row, source in zip(out, sources):
        major = 2 * (math.pi * source.major * FWHM_TO_SIGMA) ** 2
        minor = 2 * (math.pi * source.minor * FWHM_TO_SIGMA) ** 2
        s, c = math.sin(source.pa), math.cos(source.pa)
        row[:] = (
            major * s * s + minor * c * c,
            (major - minor) * s * c,
            major * c * c + minor * s * s,
        )
    return out


def _positions(sky: Sky, rng: np.random.Generator) -> np.ndarray:
    """Offsets (src, 2) in rad, uniform in the disc; the first n_bright keep their distance."""
    placed: list[np.ndarray] = []
    tries = 0
    while len(placed) < sky.n_sources:
        radius = sky.radius_deg * DEGREE * math.sqrt(rng.uniform())
        angle = rng.uniform(0, 2 * math.pi)
        spot = radius * np.array([math.sin(angle), math.cos(angle)])
        tries += 1
        if len(placed) < sky.n_bright and any(
            np.hypot(*(spot - other)) < sky.separation_deg * DEGREE for other in placed
        ):
            if tries > 10000:
                raise SkyModelError(
                    f"simulation: {sky.n_bright} bright sources {sky.separation_deg} deg apart do "
                    f"not fit in a radius of {sky.radius_deg} deg; lower sky.separation_deg"
                )
            continue
        placed.append(spot)
    return np.array(placed).reshape(-1, 2)


def random_field(sky: Sky, ra0: float, dec0: float, rng: np.random.Generator) -> list[Source]:
    """The random sources of `sky` about (ra0, dec0) in rad, brightest first."""
    spots = _positions(sky, rng)
    index = sky.spectral_index + sky.spectral_scatter * rng.standard_normal(sky.n_sources)
    half = sky.n_sources // 2 if sky.n_gaussian <= (sky.n_sources + 1) // 2 else 0
    extended = set(half + rng.permutation(sky.n_sources - half)[: sky.n_gaussian])
    out = []
    for k, (l, m) in enumerate(np.sin(spots)):
        ra, dec = radec_of(l, m, ra0, dec0)
        major = sky.gaussian_arcsec * ARCSEC * rng.uniform(0.3, 1.0)
        minor = major * rng.uniform(0.4, 1.0)
        pa = rng.uniform(0, math.pi)
        size = (major, minor, pa) if k in extended else (0.0, 0.0, 0.0)
        flux = sky.brightest_jy * (k + 1) ** (-1.0 / sky.count_slope)
        out.append(Source(f"s{k:04d}", float(ra), float(dec), flux, (float(index[k]),),
                          sky.reference_mhz * MHZ, *size))
    if sky.extended_jy > 0:
        # Off centre, where its treatment by facets, gains and smearing matters.
        radius = 0.45 * sky.radius_deg * DEGREE
        angle = rng.uniform(0, 2 * math.pi)
        ra, dec = radec_of(radius * math.sin(angle), radius * math.cos(angle), ra0, dec0)
        size = sky.extended_arcsec * ARCSEC
        out.append(Source("extended", float(ra), float(dec), sky.extended_jy,
                          (sky.spectral_index,), sky.reference_mhz * MHZ,
                          size, 0.6 * size, rng.uniform(0, math.pi)))
    return out


def _sexagesimal(value: float, separators: str, digits: int) -> str:
    """Text of `value` (hours or degrees, not negative) in base 60, rounded without 60s."""
    unit = 10**digits
    total = round(value * 3600 * unit)
    minutes, rest = divmod(total, 60 * unit)
    whole, minutes = divmod(minutes, 60)
    seconds = f"{rest // unit:02d}.{rest % unit:0{digits}d}"
    return f"{whole:02d}{separators[0]}{minutes:02d}{separators[1]}{seconds}"


def write_skymodel(sources: list[Source], path: Path) -> None:
    """Write makesourcedb text (as read by DP3 and LSMTool), without patches.

    Columns of polarisation are there only where a source is polarised; the angle is in rad.
    """
    form = ("FORMAT = Name, Type, Ra, Dec, I, SpectralIndex, LogarithmicSI, "
            "ReferenceFrequency='144000000.0', MajorAxis, MinorAxis, Orientation")
    polarised = any(source.polarised for source in sources)
    if polarised:
        form += ", V, PolarizedFraction, PolarizationAngle, RotationMeasure"
    lines = [form, ""]
    for s in sources:
        ra = _sexagesimal((s.ra % (2 * math.pi)) / DEGREE / 15.0, "::", 6)
        dec = ("-" if s.dec < 0 else "+") + _sexagesimal(abs(s.dec) / DEGREE, "..", 5)
        kind = "GAUSSIAN" if s.major > 0 else "POINT"
        index = ", ".join(repr(float(a)) for a in s.spectral_index)
        size = f"{s.major / ARCSEC:.6f}, {s.minor / ARCSEC:.6f}, {s.pa / DEGREE:.6f}"
        law = "true" if s.logarithmic else "false"
        more = f", {s.circular * s.flux!r}, {s.fraction!r}, {s.angle!r}, {s.rm!r}"
        lines.append(
            f"{s.name}, {kind}, {ra}, {dec}, {s.flux!r}, [{index}], {law}, {s.ref_freq!r}, {size}"
            + (more if polarised else "")
        )
    path.write_text("\n".join(lines) + "\n")


def _angle(text: str, hours: bool) -> float:
    """Radians of 'hh:mm:ss.s' (right ascension) or '+dd.mm.ss.s' (declination)."""
    match = re.fullmatch(r"\s*([+-]?)(\d+)[:.](\d+)[:.](\d+(?:\.\d*)?)\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not an angle like 12:34:56.7 or +12.34.56.7")
    sign, whole, minutes, seconds = match.groups()
    value = int(whole) + int(minutes) / 60 + float(seconds) / 3600
    return (-1 if sign == "-" else 1) * value * (15.0 if hours else 1.0) * DEGREE


def _split(line: str) -> list[str]:
    """Comma-separated fields of a line; lists in brackets stay together."""
    masked = re.sub(r"\[[^\]]*\]", lambda m: m.group().replace(",", ";"), line)
    return [part.strip() for part in next(csv.reader([masked], skipinitialspace=True))]


def _source(values: dict[str, str]) -> Source:
    """A Source of a line's values by lower-case column name; ValueError when unusable."""
    kind = values.get("type", "POINT").upper()
    if kind not in ("POINT", "GAUSSIAN"):
        raise ValueError(f"source type {kind} is not supported, only POINT and GAUSSIAN")
    terms = values.get("spectralindex", "").strip("[]").split(";")
    size = (0.0, 0.0, 0.0)
    if kind == "GAUSSIAN":
        size = (
            float(values["majoraxis"]) * ARCSEC,
            float(values["minoraxis"]) * ARCSEC,
            float(values.get("orientation") or 0) * DEGREE,
        )
    flux, circular = float(values["i"]), float(values.get("v") or 0)
    turned = (float(values.get(name) or 0) for name in
              ("polarizedfraction", "polarizationangle", "rotationmeasure"))
    return Source(
        values["name"], _angle(values["ra"], True), _angle(values["dec"], False),
        flux, tuple(float(t) for t in terms if t.strip()) or (0.0,),
        float(values.get("referencefrequency") or 144e6), *size,
        values.get("logarithmicsi", "true").lower() != "false", *turned,
        circular / flux if circular else 0.0,
    )


def read_skymodel(path: Path) -> list[Source]:
    """Read makesourcedb text; SkyModelError names the line that cannot be used."""
    if not path.is_file():
        raise SkyModelError(f"simulation: sky.model {path} does not exist")
    columns: list[str] = []
    defaults: dict[str, str] = {}
    out = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.strip()
        if text.lstrip("# ").lower().startswith(("format", "(")) and not columns:
            spec = re.sub(r"^[#( ]*|\)?\s*=\s*format\s*$|format\s*=", "", text, flags=re.I)
            for part in _split(spec):
                name, _, default = part.partition("=")
                columns.append(name.strip().lower())
                defaults[columns[-1]] = default.strip(" '\"")
        elif text and not text.startswith("#"):
            fields = _split(text)
            values = {**defaults, **{c: f for c, f in zip(columns, fields) if f}}
            if not values.get("name"):
                continue  # the line of a patch
            try:
                out.append(_source(values))
            except (ValueError, KeyError) as err:
                raise SkyModelError(f"simulation: {path} line {number}: {err}") from err
    if not out:
        raise SkyModelError(f"simulation: {path} holds no sources")
    return out
