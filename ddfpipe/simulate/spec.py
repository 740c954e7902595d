"""What is to be simulated: frozen dataclasses, one a section, read from a TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddfpipe.errors import ConfigError

PRESET_FOLDER = Path(__file__).parent / "presets"
BEAMS = ("none", "array_factor", "full")


@dataclass(frozen=True)
class Observation:
    """Where, when and with what is observed.

    ra_deg, dec_deg: phase centre and station pointing, J2000.
    date: the observation is centred on the transit of the phase centre nearest to noon UTC of
        this day (YYYY-MM-DD).
    hours: from the first to the end of the last block.
    blocks, slots: number of scans, evenly spread, and of integrations in each.
    interval_s: integration time.
    n_ms, channels: measurement sets and channels in each.
    first_mhz, last_mhz: lowest channel's centre of the first and of the last set.
    channel_khz: channel width.
    core_fields, remote_stations: how many of the 48 core ear fields and 14 remote stations.
    autocorrelations: also write the rows of a station with itself.
    name: what the measurement sets are called, `<name>_SB000.ms` and so on.
    small_list: how many of the sets, evenly spread, mslist.txt names.
    """

    ra_deg: float = 210.0
    dec_deg: float = 50.0
    date: str = "2018-03-05"
    hours: float = 6.0
    blocks: int = 6
    slots: int = 10
    interval_s: float = 8.0
    n_ms: int = 4
    channels: int = 4
    first_mhz: float = 121.0
    last_mhz: float = 166.0
    channel_khz: float = 97.65625
    core_fields: int = 48
    remote_stations: int = 14
    autocorrelations: bool = False
    name: str = "L000001"
    small_list: int = 4


@dataclass(frozen=True)
class Sky:
    """The sources: a random field, or the list `model`.

    model: makesourcedb text (POINT and GAUSSIAN); everything else here is then unused.
    n_sources, radius_deg: number of sources, uniform in area within this radius.
    brightest_jy, count_slope: the k-th brightest has brightest_jy * k^(-1/count_slope) at
        reference_mhz, so that the integral counts are N(>S) ~ S^-count_slope.
    n_bright, separation_deg: the n_bright brightest keep at least this distance from each other.
    n_gaussian, gaussian_arcsec: how many of the sources are Gaussians, and the largest major axis
        (FWHM).  They are taken from the faint half of the list.
    extended_jy, extended_arcsec: one more Gaussian of that flux and FWHM; 0 for none.
    spectral_index, spectral_scatter: mean and standard deviation of the spectral indices.
    """

    model: str = ""
    n_sources: int = 40
    radius_deg: float = 1.2
    brightest_jy: float = 2.0
    count_slope: float = 1.0
    n_bright: int = 8
    separation_deg: float = 0.5
    n_gaussian: int = 0
    gaussian_arcsec: float = 20.0
    extended_jy: float = 0.0
    extended_arcsec: float = 120.0
    spectral_index: float = -0.75
    spectral_scatter: float = 0.1
    reference_mhz: float = 144.0


@dataclass(frozen=True)
class Ionosphere:
    """A thin screen of Kolmogorov turbulence carried by the wind.

    diffractive_km: baseline over which the phase differs by 1 rad rms at 150 MHz (Mevius et al.
        2016: 3 to 30 km over LOFAR); 0 for no ionosphere.
    height_km, wind_m_s, wind_pa_deg: height, speed, and where it blows to (from north to east).
    outer_km: outer scale; pixel_km, npix: grid of the periodic screen.
    centre_removed: fraction of each station's TEC towards the phase centre that an earlier
        direction-independent calibration has taken out of all directions (0: raw data).
    """

    diffractive_km: float = 0.0
    height_km: float = 300.0
    wind_m_s: float = 100.0
    wind_pa_deg: float = 60.0
    outer_km: float = 300.0
    pixel_km: float = 0.5
    npix: int = 2048
    centre_removed: float = 0.0


@dataclass(frozen=True)
class StationErrors:
    """Direction-independent full-Jones errors of the stations.

    amplitude_rms, phase_rms_rad: of each hand, varying over timescale_min.
    clock_rms_ns: delay of each station, constant.
    leakage_rms: complex off-diagonal terms, constant.
    flux_scale_rms: natural logarithm of the factor that all visibilities of a measurement set are
        multiplied with, noise included; of its own for every set.
    """

    amplitude_rms: float = 0.0
    phase_rms_rad: float = 0.0
    clock_rms_ns: float = 0.0
    leakage_rms: float = 0.0
    flux_scale_rms: float = 0.0
    timescale_min: float = 60.0


@dataclass(frozen=True)
class Noise:
    """Noise and flags.

    sample_jy: standard deviation of the real (and of the imaginary) part of one correlation.
    station_spread: the noise of station p scales with exp(station_spread * normal deviate);
        WEIGHT_SPECTRUM is its inverse variance, up to a factor as in real data.
    flag_random, flag_slots: fraction of samples, and of whole time slots, that are flagged.
    flag_stations: number of stations flagged throughout.
    rfi_jy: amplitude of what the flagged random samples hold besides the sky.
    """

    sample_jy: float = 0.0
    station_spread: float = 0.0
    flag_random: float = 0.0
    flag_slots: float = 0.0
    flag_stations: int = 0
    rfi_jy: float = 0.0


@dataclass(frozen=True)
class SimulationSpec:
    """All of a simulation.  The same spec gives the same visibilities, bit for bit.

    beam: "none", "array_factor" (scalar) or "full" (2 x 2 Jones matrices with the element beam,
        normalised at the phase centre), evaluated by everybeam per source, time and channel.
    smearing: integrate each cell of time and channel (False: its centre only).
    subsamples: parts of an integration, each integrated with its own constant fringe rate.
    companions: also write NOISE_DATA and CLEAN_DATA.
    like: path of a measurement set whose metadata are copied; `observation` is then unused but
        for the name.
    """

    seed: int = 1
    beam: str = "none"
    smearing: bool = True
    subsamples: int = 1
    companions: bool = True
    like: str = ""
    observation: Observation = field(default_factory=Observation)
    sky: Sky = field(default_factory=Sky)
    ionosphere: Ionosphere = field(default_factory=Ionosphere)
    errors: StationErrors = field(default_factory=StationErrors)
    noise: Noise = field(default_factory=Noise)


def _typed(section: str, spec_field: dataclasses.Field, value: Any) -> Any:
    """`value` as the type of `spec_field` (whose default gives it), or ConfigError."""
    wanted = type(spec_field.default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted:
        raise ConfigError(
            f"simulation option {section}{spec_field.name}: {value!r} is not of type "
            f"{wanted.__name__}; give it like its default, {spec_field.default!r}"
        )
    return value


def update(spec: Any, values: dict[str, Any], section: str = "") -> Any:
    """A copy of the dataclass `spec` with the (nested) `values`; ConfigError on wrong ones."""
    fields = {f.name: f for f in dataclasses.fields(spec)}
    changes = {}
    for name, value in values.items():
        if name not in fields:
            raise ConfigError(
                f"simulation option {section}{name} is unknown; those of this section are "
                + ", ".join(fields)
            )
        current = getattr(spec, name)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, dict):
                raise ConfigError(f"simulation option {section}{name} is a section: give a table")
            changes[name] = update(current, value, f"{section}{name}.")
        else:
            changes[name] = _typed(section, fields[name], value)
    return dataclasses.replace(spec, **changes)


def check(spec: SimulationSpec) -> None:
    """Raise ConfigError when values make no sense together."""
    obs = spec.observation
    rules = [
        (spec.beam in BEAMS, f"beam must be one of {', '.join(BEAMS)}"),
        (spec.subsamples >= 1, "subsamples must be at least 1"),
        (0 <= obs.core_fields <= 48, "observation.core_fields must be 0 to 48"),
        (0 <= obs.remote_stations <= 14, "observation.remote_stations must be 0 to 14"),
        (obs.core_fields + obs.remote_stations >= 2, "at least two stations are needed"),
        (min(obs.n_ms, obs.channels, obs.blocks, obs.slots) >= 1,
         "observation.n_ms, channels, blocks and slots must be at least 1"),
        (obs.interval_s > 0 and obs.channel_khz > 0, "intervals and channels must have a width"),
        (obs.hours * 3600 >= obs.blocks * obs.slots * obs.interval_s * 0.999 or obs.blocks == 1,
         "observation.hours is too short for blocks * slots * interval_s"),
        (1 <= obs.small_list, "observation.small_list must be at least 1"),
        (spec.ionosphere.npix >= 64, "ionosphere.npix must be at least 64"),
        (spec.sky.n_sources >= 0 and spec.sky.n_gaussian <= spec.sky.n_sources,
         "sky.n_gaussian must not exceed sky.n_sources"),
        (0 <= spec.noise.flag_random < 1 and 0 <= spec.noise.flag_slots < 1,
         "noise.flag_random and flag_slots are fractions below 1"),
    ]
    for fine, message in rules:
        if not fine:
            raise ConfigError(f"simulation: {message}")


def load_spec(path: str | Path, overrides: dict[str, Any] | None = None) -> SimulationSpec:
    """Read a TOML file, or the preset of that name ("example", "known-answer").

    `overrides` is a nested dict applied last.  Relative paths in the file are relative to it.
    Raises ConfigError for a missing file, a syntax error, an unknown option or a wrong value.
    """
    preset = PRESET_FOLDER / f"{path}.toml"
    file = preset if preset.is_file() else Path(path)
    if not file.is_file():
        known = ", ".join(sorted(p.stem for p in PRESET_FOLDER.glob("*.toml")))
        raise ConfigError(f"simulation: {path} is neither a file nor a preset ({known})")
    try:
        values = tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"simulation: {file} is not valid TOML: {err}") from err
    spec = update(SimulationSpec(), values)
    if spec.sky.model and not Path(spec.sky.model).is_absolute():
        model = str((file.parent / spec.sky.model).resolve())
        spec = update(spec, {"sky": {"model": model}})
    spec = update(spec, overrides or {})
    check(spec)
    return spec
