"""The simulated fields of `three_engines.py`, and how the pipeline is told to work on them.

"scans" is seen in short scans over six hours, "hour" is smaller and seen for one hour without gaps,
"long" has seven times the data of "scans" and images that see all baselines, "tiny" is that of the
tests in `tests/end_to_end`, which takes DDFacet ten minutes of CPU.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from checkout import ROOT
from known_answer import write_sky

sys.path.append(str(ROOT / "tests/end_to_end"))
from native_runs import TINY_FIELD, TINY_RUN, peaks_over_truth  # noqa: E402

__all__ = ["FIELDS", "chosen", "peaks_over_truth", "simulated"]

FIELDS = ("scans", "hour", "long", "tiny")
FIELD = """\
seed = 20261121
beam = "none"
[observation]
ra_deg = 210.0
dec_deg = 50.0
hours = 6.0
blocks = 8
slots = 5
interval_s = 8.0
n_ms = 6
channels = 2
core_fields = 14
remote_stations = 10
name = "L000005"
small_list = 3
[sky]
n_sources = 20
radius_deg = 0.48
brightest_jy = 3.0
count_slope = 1.0
n_bright = 6
separation_deg = 0.3
[ionosphere]
diffractive_km = 15.0
wind_m_s = 30.0
centre_removed = 0.9
[errors]
amplitude_rms = 0.03
phase_rms_rad = 0.2
clock_rms_ns = 0.05
leakage_rms = 0.01
[noise]
sample_jy = 0.5
station_spread = 0.1
flag_random = 0.03
flag_slots = 0.02
"""
HOUR = {
    "hours": 1.0, "blocks": 1, "slots": 360, "interval_s": 10.0, "n_ms": 3, "core_fields": 12,
    "remote_stations": 8, "small_list": 2, "n_sources": 12, "radius_deg": 0.26, "n_bright": 5,
    "separation_deg": 0.15, "diffractive_km": 8.0, "sample_jy": 0.45,
}
"""What the field "hour" has otherwise: 20 stations, 3 sets, one scan."""

HOUR_CONFIG = {"imsize": 520, "ndir": 4, "dt_very_slow": 12.0}
"""What its configuration has otherwise."""

LONG = {
    "slots": 8, "channels": 4, "core_fields": 20, "remote_stations": 14, "n_sources": 24,
    "radius_deg": 0.3, "n_bright": 7, "separation_deg": 0.15, "diffractive_km": 10.0,
}
"""What the field "long" has otherwise: 34 stations, 64 times of 6 sets with 4 channels."""

LONG_CONFIG = {
    "imsize": 1620, "cellsize": 1.5, "uvmax": 1000, "psf_arcsec": 6, "final_psf_arcsec": 6,
    "ndir": 7,
}
"""What its configuration has otherwise: images of all baselines."""

CONFIG = """\
[data]
mslist = {field}/mslist.txt
full_mslist = {field}/big-mslist.txt
colname = DATA
[image]
beam_model = none
imsize = 864
cellsize = 4.5
uvmin = 0.1
uvmax = 30
psf_arcsec = 18
final_psf_arcsec = 18
[solutions]
ndir = 6
uvmin = 0.1
dt_di = 0.5
dt_very_slow = 43.63
normalize = ['None', 'None', 'None']
NIterKF = [6, 6, 6, 6, 6, 6, 6]
[masking]
thresholds = [10, 5, 5, 5]
[control]
clearcache = False
clearcache_end = False
"""


def changed(text: str, changes: dict) -> str:
    """A text of lines "name = value" with other values."""
    for name, value in changes.items():
        text, found = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
        if found != 1:
            raise ValueError(f"{found} lines set {name}")
    return text


def chosen(name: str, seed: int | None = None) -> tuple[str, str]:
    """(specification, configuration) of a field; {field} stands for where it lies.

    seed: of other sources, ionosphere, errors and noise of the same kind.
    """
    spec, config = described(name)
    return (spec if seed is None else changed(spec, {"seed": seed})), config


def described(name: str) -> tuple[str, str]:
    """The same with the seed that the field has by itself."""
    if name == "tiny":
        spec = TINY_FIELD.replace('beam = "array_factor"', 'beam = "none"')
        parts = TINY_RUN | {"image": TINY_RUN["image"] | {"beam_model": "none"}}
        parts["data"] = TINY_RUN["data"] | {"mslist": "{field}/mslist.txt",
                                            "full_mslist": "{field}/big-mslist.txt"}
        return spec, "".join(f"[{part}]\n" + "".join(f"{k} = {v}\n" for k, v in options.items())
                             for part, options in parts.items())
    spec, config = {"hour": (HOUR, HOUR_CONFIG), "long": (LONG, LONG_CONFIG)}.get(name, ({}, {}))
    return changed(FIELD, spec), changed(CONFIG, config)


def simulated(folder: Path, spec: str, faint: bool) -> Path:
    """The measurement sets of a specification, simulated unless they are there.

    faint: with sources below every mask
    """
    field = folder / "field"
    if not (field / "big-mslist.txt").exists():
        field.mkdir(parents=True, exist_ok=True)
        preset, words = folder / "field.toml", []
        preset.write_text(spec)
        if faint:
            write_sky(str(preset), folder / "sky.skymodel")
            words = ["--set", f"sky.model={folder / 'sky.skymodel'}"]
        command = [sys.executable, ROOT / "scripts/simulate.py", "--config", preset, "--output",
                   field, *words]
        subprocess.run(command, check=True)
    return field
