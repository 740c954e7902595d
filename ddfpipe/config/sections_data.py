"""Sections [machine], [data], [solutions] and [inputmodel]."""

from __future__ import annotations

from dataclasses import dataclass

from .machine import cpu_count
from .option import option

NORMALIZATIONS = ("BLBased", "SumBLBased", "Mean", "MeanAbs", "MeanAbsAnt")
ENGINES = ("native", "ddfacet", "wsclean")


@dataclass(frozen=True)
class Machine:
    """What the run may use of the machine."""

    NCPU_DDF: int = option(
        "int", cpu_count, "Threads for imaging and prediction.", low=1, auto="detected"
    )
    NCPU_killms: int = option(
        "int", cpu_count, "Threads for solving and smoothing gains.", low=1, auto="detected"
    )
    engine: str = option(
        "str", "native", "Program that images and solves.", choices=ENGINES, ours=True
    )
    image_engine: str | None = option(
        "str", None, "Program that images; None is engine.", choices=ENGINES, nullable=True,
        ours=True,
    )
    solve_engine: str | None = option(
        "str", None, "Program that solves; None is engine.", choices=ENGINES, nullable=True,
        ours=True,
    )
    wsclean: str = option(
        "str", "auto", "Path of WSClean for the engine wsclean; auto looks in PATH.", ours=True
    )
    dp3: str = option(
        "str", "auto", "Path of DP3 (or its virtual environment) for the engine wsclean; auto "
        "looks in PATH and where misc/install_lofar.sh puts it.", ours=True,
    )
    ddfacet: str = option(
        "str", "auto", "Path of DDF.py (or its virtual environment) for the engine ddfacet; auto "
        "looks in PATH and where misc/install_ddfacet.sh puts it.", ours=True,
    )
    killms: str = option(
        "str", "auto", "Path of kMS.py (or its virtual environment) for the engine ddfacet; auto "
        "looks as for DDFacet.", ours=True,
    )
    memory_limit_gb: float | None = option(
        "float", None, "Most memory to plan for; None takes what is available at the start.",
        unit="GB", above=0, nullable=True, ours=True,
    )


@dataclass(frozen=True)
class Data:
    """The measurement sets."""

    mslist: str | None = option(
        "str", None, "Text file naming the measurement sets of the first rounds, one per line "
        "(must be given).", nullable=True,
    )
    full_mslist: str | None = option(
        "str", None, "Text file naming all measurement sets; None ends the run, exit code 3, after "
        "the rounds on mslist.", nullable=True,
    )
    colname: str = option("str", "CORRECTED_DATA", "Column that holds the input visibilities.")
    drop_international: bool = option(
        "bool", False, "Leave out the baselines of international stations.", ours=True
    )


@dataclass(frozen=True)
class Solutions:
    """Gains: directions, intervals, weights, smoothing and how they are applied."""

    ndir: int = option("int", 45, "Calibration directions (facets) to ask for.", low=1)
    SolsDir: str = option("str", "SOLSDIR", "Folder of the solutions, one sub-folder per "
                          "measurement set.")
    NChanSols: int | None = option(
        "int", None, "Frequency intervals per measurement set in DDS0, DDS1 and DDS2_full; "
        "None is one.", low=1, nullable=True,
    )
    dt_slow: float = option(
        "float", 1.0, "Interval of DDS0, DDS1 and DDS2_full.", unit="min", above=0
    )
    do_very_slow: bool = option(
        "bool", True, "Add a solve with a very long interval after the last fast one."
    )
    sigma_clip: float | None = option(
        "float", 5.0, "Outliers clipped when very slow solutions are merged; None clips none.",
        unit="sigma", above=0, nullable=True,
    )
    dt_very_slow: float = option(
        "float", 43.63, "Interval of the very slow solve.", unit="min", above=0
    )
    dt_di: float | None = option(
        "float", None, "Interval of direction-independent solves; None chooses it from the "
        "signal to noise.", unit="min", above=0, nullable=True,
    )
    dt_fast: float = option(
        "float", 0.5, "Interval of DDS3_full, the last fast solve.", unit="min", above=0
    )
    dt_shorten: bool = option(
        "bool", True, "Halve dt_slow and dt_fast as often as baselines that take no part in the "
        "fits are then predicted better by a tenth, where bright sources turn within an interval; "
        "native engine only.", ours=True,
    )
    LambdaKF: float = option(
        "float", 0.5, "Weight of the evolution model in the Kalman filter.", low=0, high=1
    )
    NIterKF: tuple[int, ...] = option(
        "list", (1, 1, 1, 1, 6, 1, 6), "Filter iterations of DIS0, DDS0, DDS1, DIS1, DDS2_full, "
        "DIS2_full and DDS3_full.", element="int", low=1, min_length=7, max_length=7,
    )
    normalize: tuple[str | None, ...] = option(
        "list", ("BLBased", "BLBased", "SumBLBased"), "What has a mean amplitude of one: [0] small "
        "list and full-list prediction, [1] full-bandwidth and band images, [2] wide, low-"
        "resolution and polarisation images.", element="str", choices=NORMALIZATIONS,
        element_nullable=True, min_length=3, max_length=3,
    )
    uvmin: float | None = option(
        "float", None, "Shortest baseline in solves; None is zero.", unit="km", low=0, high=1000,
        nullable=True,
    )
    uvmin_very_slow: float = option(
        "float", 0.5, "Shortest baseline in the very slow solve.", unit="km", low=0, high=1000
    )
    wtuv: float | None = option(
        "float", None, "Weight of data shorter than uvmin; None leaves them out.", low=0,
        nullable=True,
    )
    robust: float | None = option(
        "float", None, "Briggs robustness of the weights in solves; None is natural weighting.",
        low=-5, high=5, nullable=True,
    )
    smoothing: bool = option(
        "bool", True, "Merge and smooth the solutions of every direction-dependent solve."
    )
    smoothingtype: str = option(
        "str", "TEC,PolyAmp", "What is fitted when smoothing: phases, then amplitudes."
    )
    apply_sols: tuple[str, ...] = option(
        "list", ("P", "AP", "AP", "AP", "AP", "AP", "AP"), "Phases (P) or also amplitudes (AP) in: "
        "[0] phase1, [1] ampphase1, [2] DI1 prediction, [3] ampphase1_di, [4] DDS2 prediction, "
        "[5] full_ampphase_di and _m, [6] all later products.", element="str",
        choices=("P", "AP"), min_length=7, max_length=7,
    )


@dataclass(frozen=True)
class InputModel:
    """A known sky to start from."""

    basedicomodel: str | None = option(
        "str", None, "Root name of an existing model image; skips everything before DDS2_full.",
        nullable=True,
    )
    basemaskname: str | None = option(
        "str", None, "Mask FITS file that goes with basedicomodel.", nullable=True
    )
    baseimagename: str | None = option(
        "str", None, "Root name of the image that goes with basedicomodel.", nullable=True
    )
    skymodel: str | None = option(
        "str", None, "List of components (makesourcedb text) that serves as the first sky model.",
        nullable=True, ours=True,
    )
