"""Command lines of DDFacet and killMS: plain functions from what is wanted to lists of words.

DDFacet: Tasse et al. 2018, A&A 611, A87.  killMS: Tasse 2014, arXiv:1410.8706; Smirnov & Tasse
2015, MNRAS 449, 2668.  The options are those of the LoTSS pipeline (Shimwell et al. 2019, A&A 622,
A1; Tasse et al. 2021, A&A 648, A1) where it says something; what differs is told at its place.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

MOST_COMPONENTS = 1_000_000
MOST_INIT_COMPONENTS = 10_000
"""Minor iterations of the deconvolution, and of the one by which an island is begun."""

FACET_DEG, MOST_FACETS = 0.76, 11
"""Side of a regular facet, and most of them along a side: 11 over 8.3 degrees."""

LARGEST_FACET_DEG, SMALLEST_FACET_DEG = 1.5, 0.1
W_MAX, W_PLANES = 50000, 100
"""Largest w in metres that is imaged, and planes up to it; fewer where the data reach less far, as
convolution functions grow with w: with all of them those of 9 facets of an image of 325 pixels
took 6 GB and two minutes."""

LEAST_PLANES = 8
ALL_KM = (0.0, 1000.0)
"""Baselines: the working copies hold no weight outside the range of the job."""

FACTORS, ONCE, LEAST_SIZE = (3, 5, 7), (11, 13), 65
"""Prime factors of DDFacet's image sizes; of the second ones at most one, once; its least size."""

LEAST_LM_STEPS = 7
"""Steps of CohJones in an interval at least: the default of killMS, which the LoTSS pipeline leaves
as it is, while its number of steps for KAFCA is 1."""

MANY_INTERVALS, LEAST_KF_STEPS = 50, 6
"""KAFCA does as many steps an interval as it is told where a set has so many intervals; at least so
many where it has fewer: with one it takes eight of them to find gains that do not even change."""

WORKER_DIED = re.compile(r"^Process Worker\S*:$")
"""What killMS prints when one of its processes dies; it then waits for that for ever (3.3.0)."""

_CYCLE = "Running major cycle"


@dataclass(frozen=True)
class Imaging:
    """What an image of DDFacet is made of.

    prefix: what its files begin with.  sets: text file of measurement sets.  npix: side, odd (see
    `fast_size`).  robust: Briggs' number, None for natural weights.  n_bands: sub-bands.
    solutions: names of gains below solsdir, applied by `mode` ("P" or "AP").  nodes: catalogue
    of directions that shape the facets when there are no gains.  model: DicoModel to begin with.
    w_max: largest |w| of the data in metres.  beam: where the station beam is evaluated, "facet" or
    "tessel", None without one.
    """

    program: str
    prefix: str
    sets: str
    w_max: float
    npix: int
    cell_arcsec: float
    robust: float | None
    n_bands: int
    threads: int
    cache: str
    wisdom: str
    solsdir: str | None = None
    solutions: tuple[str, ...] = ()
    mode: str = "AP"
    nodes: str | None = None
    model: str | None = None
    decorrelation: bool = True
    smooth_beam: bool = False
    beam: str | None = None


@dataclass(frozen=True)
class Cleaning:
    """How deep DDFacet cleans.  sigma: automatic mask, None for none; mask: FITS file of ours.

    peak_factor, rms_factor: a minor cycle ends at the larger of them times peak and noise.
    allow_negative: islands may begin with negative components.  opening: "dirty" or "residual"
    image that a run before has kept, of the same list of sets, with its PSFs; "" makes them anew.
    keep: this run keeps what the next can begin with.
    """

    majors: int
    peak_factor: float
    rms_factor: float
    sigma: float | None = None
    mask: str | None = None
    allow_negative: bool = False
    opening: str = ""
    keep: bool = False


def fast_size(npix: int) -> int:
    """The smallest image size of DDFacet that holds `npix` pixels: odd, of small factors.

    DDFacet takes another size than it is asked for unless that is one of these.
    """
    size = max(LEAST_SIZE, npix + 1 - npix % 2)
    while not _fast(size):
        size += 2
    return size


def _fast(size: int) -> bool:
    for factor in FACTORS:
        while size % factor == 0:
            size //= factor
    return size == 1 or size in ONCE


def facet_count(npix: int, cell_arcsec: float) -> int:
    """Regular facets along a side: as many as the LoTSS pipeline has on its images."""
    return min(MOST_FACETS, max(3, math.ceil(npix * cell_arcsec / 3600 / FACET_DEG)))


def w_planes(w_max: float, npix: int, cell_arcsec: float) -> tuple[float, int]:
    """(largest w in metres, planes) for data that reach up to `w_max`, and images of `npix` pixels.

    Between planes the phase at the edge of a facet, which grows with the square of its size, turns
    at most as far as in the LoTSS pipeline's largest facets.
    """
    limit = min(float(W_MAX), math.ceil(1.01 * w_max) + 1.0)
    size = min(1.0, npix * cell_arcsec / 3600 / LARGEST_FACET_DEG)
    return limit, max(LEAST_PLANES, math.ceil(W_PLANES * size**2 * limit / W_MAX))


def _option(name: str, value) -> str:
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, float):
        value = f"{value:.10g}"
    if isinstance(value, (tuple, list)):
        value = "[" + ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value) + "]"
    return f"--{name}={value}"


def common_options(g: Imaging, column: str) -> dict[str, object]:
    """Options of every call of DDF.py, as name -> value."""
    limit, planes = w_planes(g.w_max, g.npix, g.cell_arcsec)
    weighting = {"Weight-Mode": "Natural"} if g.robust is None else {
        "Weight-Mode": "Briggs", "Weight-Robust": float(g.robust)}
    found = {
        "Data-MS": g.sets, "Data-ColName": column, "Data-Sort": 1,
        "Output-Name": g.prefix, "Output-Also": "onNeds",
        "Image-NPix": g.npix, "Image-Cell": float(g.cell_arcsec),
        "Weight-ColName": "WEIGHT_SPECTRUM", **weighting, "Selection-UVRangeKm": ALL_KM,
        "Facets-NFacets": facet_count(g.npix, g.cell_arcsec),
        "Facets-DiamMax": LARGEST_FACET_DEG, "Facets-DiamMin": SMALLEST_FACET_DEG,
        "CF-wmax": limit, "CF-Nw": planes, "Freq-NBand": g.n_bands, "Freq-NDegridBand": 1,
        "RIME-DecorrMode": "FT" if g.decorrelation else None,
        "Parallel-NCPU": g.threads, "Parallel-Affinity": "disable",
        "Cache-Dir": g.cache, "Cache-DirWisdomFFTW": g.wisdom, "Cache-Weight": "reset",
        "Cache-CF": 0, "Cache-PSF": "off", "Cache-Dirty": "off", "Cache-LastResidual": 0,
        "Misc-ConserveMemory": 1, "Misc-RandomSeed": 1, "Log-Memory": 1, "Log-Boring": 1,
        "Debug-Pdb": "never",
    }
    if g.solutions:
        found |= {
            "DDESolutions-DDSols": g.solutions[0] if len(g.solutions) == 1 else g.solutions,
            "DDESolutions-SolsDir": g.solsdir, "DDESolutions-GlobalNorm": "None",
            "DDESolutions-DDModeGrid": g.mode, "DDESolutions-DDModeDeGrid": g.mode,
        }
    elif g.nodes is not None:
        found["Facets-CatNodes"] = g.nodes
    if g.beam is not None:
        found |= {"Beam-Model": "LOFAR", "Beam-PhasedArrayMode": "A", "Beam-CenterNorm": 1,
                  "Beam-NBand": 1, "Beam-At": g.beam, "Beam-Smooth": g.smooth_beam}
    if g.model is not None:
        found["Predict-InitDicoModel"] = g.model
    return {name: value for name, value in found.items() if value is not None}


def _words(g: Imaging, options: dict[str, object]) -> list[str]:
    return [g.program, *(_option(name, value) for name, value in options.items())]


def image_command(g: Imaging, c: Cleaning, column: str) -> list[str]:
    """Image and deconvolve a column.

    Deconvolution SSD2 with islands begun by HMP; the LoTSS pipeline has SSD, its forerunner.
    """
    options = common_options(g, column) | {
        "Output-Mode": "Clean", "Deconv-Mode": "SSD2", "Deconv-MaxMajorIter": c.majors,
        "Deconv-MaxMinorIter": MOST_COMPONENTS, "Deconv-PeakFactor": float(c.peak_factor),
        "Deconv-RMSFactor": float(c.rms_factor), "Deconv-CycleFactor": 0,
        "SSD2-PolyFreqOrder": min(2, g.n_bands), "SSD2-InitType": ("HMP",),
        "SSDClean-NEnlargeData": 0, "SSDClean-ConvFFTSwitch": 10000,
        "GAClean-MaxMinorIterInitHMP": MOST_INIT_COMPONENTS,
        "GAClean-RMSFactorInitHMP": 1.0, "GAClean-AllowNegativeInitHMP": str(c.allow_negative),
    }
    if c.sigma is not None:
        options |= {"Mask-Auto": 1, "Mask-SigTh": float(c.sigma)}
    if c.mask is not None:
        options["Mask-External"] = c.mask
    return _words(g, options | _kept(c))


def _kept(c: Cleaning) -> dict[str, object]:
    """What of DDFacet's caches is read and written."""
    if c.opening:
        return {"Cache-PSF": "force", "Cache-Dirty": f"force{c.opening}",
                "Cache-LastResidual": c.keep}
    return {"Cache-PSF": "reset", "Cache-Dirty": "reset"} if c.keep else {}


def predict_command(g: Imaging, data: str, column: str) -> list[str]:
    """Write the visibilities of the model into a column; `data` is a column of the same shape.

    DDFacet 1.0 fails when it is to sort rows that it only predicts.
    """
    options = common_options(g, data) | {"Output-Mode": "Predict", "Predict-ColName": column,
                                         "Deconv-Mode": "SSD2", "Data-Sort": 0}
    return _words(g, options)


def clean_progress(cycle: int, majors: int):
    """Parser of DDFacet's output in the run of a major cycle of `majors`."""

    def parse(line: str) -> tuple[str, int, int] | None:
        return ("DDFacet", cycle, majors) if _CYCLE in line else None

    return parse


@dataclass(frozen=True)
class Solving:
    """How killMS finds gains of one measurement set.

    model: DicoModel and nodes: catalogue of directions ("DD"), or model_column ("DI").  base: what
    files that it makes of the model begin with.  minutes, channels: intervals in time, and how many
    of them in frequency.  uv_km: range of baselines; down_weight: weight of shorter ones, None cuts
    them.  robust: Briggs' number, None for natural weights.  pre_apply: gains that already corrupt
    the model; evolve: gains to begin with, by their names below solsdir.  beam: as for `Imaging`.
    """

    program: str
    ms: str
    name: str
    solsdir: str
    cache: str
    minutes: float
    channels: int
    threads: int
    iterations: int
    uv_km: tuple[float, float] = ALL_KM
    down_weight: float | None = None
    base: str = ""
    model: str | None = None
    nodes: str | None = None
    model_column: str | None = None
    cov_q: float = 0.1
    lambda_kf: float = 0.5
    robust: float | None = None
    pre_apply: tuple[str, ...] = ()
    evolve: str | None = None
    update_weights: bool = True
    beam: str | None = None


def filter_steps(asked: int, times, minutes: float) -> int:
    """Steps of KAFCA an interval; times: (n,) s, those of the data, ascending."""
    intervals = len({int((time - times[0]) // (60 * minutes)) for time in times})
    return asked if intervals >= MANY_INTERVALS else max(asked, LEAST_KF_STEPS)


def solve_command(s: Solving) -> list[str]:
    """kMS.py on one measurement set; it ignores parset files, so all is on its line.

    The gains are applied by whoever reads the data, so it corrects no column.
    """
    low, high = (f"{v:g}" for v in s.uv_km)
    options: dict[str, object] = {
        "MSName": s.ms, "InCol": "DATA", "OutCol": "DATA", "OutSolsName": s.name,
        "SolsDir": s.solsdir, "dt": float(s.minutes), "NChanSols": s.channels, "NCPU": s.threads,
        "Weighting": "Natural", "UpdateWeights": int(s.update_weights), "DoBar": 0, "DebugPdb": 0,
    }
    if s.robust is not None:
        options |= {"Weighting": "Briggs", "Robust": float(s.robust)}
    if s.down_weight is None:
        options["UVMinMax"] = f"{low},{high}"
    else:
        options |= {"WTUV": float(s.down_weight), "WeightUVMinMax": f"{low},{high}"}
    options |= _full_jones(s) if s.model_column is not None else _directions(s)
    if s.pre_apply:
        options["PreApplySols"] = s.pre_apply
    return [s.program, *(_option(name, value) for name, value in options.items())]


def _full_jones(s: Solving) -> dict[str, object]:
    # NIterLM is what CohJones heeds; the LoTSS pipeline leaves it at its default
    return {"SolverType": "CohJones", "PolMode": "IFull", "SkyModelCol": s.model_column,
            "NIterLM": max(LEAST_LM_STEPS, s.iterations), "NIterKF": s.iterations,
            "CovQ": float(s.cov_q), "LambdaKF": float(s.lambda_kf)}


def _directions(s: Solving) -> dict[str, object]:
    found: dict[str, object] = {
        "SolverType": "KAFCA", "PolMode": "Scalar", "BaseImageName": s.base, "DicoModel": s.model,
        "NodesFile": s.nodes, "DDFCacheDir": s.cache, "NIterKF": s.iterations,
        "CovQ": float(s.cov_q), "LambdaKF": float(s.lambda_kf),
    }
    if s.evolve is not None:
        found["EvolutionSolFile"] = s.evolve
    if s.beam is not None:
        found |= {"BeamModel": "LOFAR", "LOFARBeamMode": "A", "BeamAt": s.beam}
    elif s.pre_apply:
        # "facet", its default, takes the number of a facet for that of a direction
        found["BeamAt"] = "tessel"
    return found


def clip_command(program: str, ms: str, column: str) -> list[str]:
    """ClipCal.py: no weight for visibilities far above the usual."""
    return [program, f"--MSName={ms}", f"--ColName={column}"]
