"""Jobs and results: what a stage asks of an engine, and what it gets back.

Values and paths only.  An engine never invents a product name: the job carries it, and
`ddfpipe.naming` derives every file name from it.  Angles and lengths of jobs are in the units of
the configuration (arcsec, km, minutes), since an external engine passes them on unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ddfpipe.data.archive import Archived


@dataclass(frozen=True)
class VisSelection:
    """Which visibilities, seen through which corrections.

    `di` names the direction-independent solution set applied while reading (the column
    DATA_DI_CORRECTED of the classic pipeline); `uv_km` keeps lo <= |uv| <= hi.  Before these two,
    in this order: `pre_di` names station phases of an earlier calibration that are applied first,
    and `minus` the root of a model that is subtracted after them, as the beam alone shows it.
    `scale` is the root of the flux-scale tables (`ddfpipe.naming.factors_file`, one an
    observation) by whose factors the data are multiplied after that; weights stay as they are.
    `mhz` keeps the measurement sets whose mean channel frequency lies in lo <= f < hi.
    """

    ms: tuple[Path, ...]
    column: str
    di: str | None = None
    uv_km: tuple[float, float] = (0.0, 1000.0)
    pre_di: str | None = None
    minus: str | None = None
    scale: str | None = None
    mhz: tuple[float, float] | None = None


@dataclass(frozen=True)
class GainChoice:
    """Direction-dependent solution sets to apply, multiplied together.

    mode: "P" phases only, "AP" amplitudes and phases.
    normalize: None, "BLBased", "SumBLBased", "Mean", "MeanAbsAnt"; amplitudes are divided so
    that the mean named is one.
    """

    names: tuple[str, ...]
    mode: str
    normalize: str | None = None


@dataclass(frozen=True)
class ImageJob:
    """Make an image called `name` (a root: `<name>.app.restored.fits` and so on).

    weights: "unit" (flags only), "spectrum" (WEIGHT_SPECTRUM) or "imaging" (the weights of the
        latest solve, solution set `weights_from`).
    start_model: root of the image whose model opens the deconvolution.
    reuse: root of an image on the same grid and gains whose PSF is reused and whose `reuse_what`
        ("dirty" or "residual") opens the first major cycle.
    clusters: cluster catalogue that defines the facets (None: regular facets).
    restoring_beam: (major arcsec, minor arcsec, position angle deg), or None to fit one.
    rms_factor / peak_factor: a minor cycle ends at max(rms_factor * noise, peak_factor * first
        peak).
    allow_negative: the model may become negative.
    external_mask: FITS mask of where to clean; auto_mask_sigma adds pixels above that many sigma.
    n_bands: sub-bands of the spectral deconvolution.
    cubes: kinds of products ("dirty", "dirty_corr", "app_restored", "int_restored") also written
        as cubes over the bands of `band_mode`, at one restoring beam.
    band_mode: planes of the cubes: "equal" (`n_bands` equal parts of the frequency range),
        "frequency" (one a distinct mean frequency of a measurement set), "channel".
    stokes: "I", or several of I, Q, U, V (such as "QU"): dirty images of all of them, for which
        major_cycles is 0 and start_model None.
    header_mhz: frequency that the headers give; None is the mean of the data.
    """

    name: str
    vis: VisSelection
    npix: int
    cell_arcsec: float
    robust: float
    restoring_beam: tuple[float, float, float] | None
    major_cycles: int
    peak_factor: float
    rms_factor: float = 3.0
    weights: str = "unit"
    weights_from: str | None = None
    auto_mask_sigma: float | None = 10.0
    external_mask: Path | None = None
    clusters: Path | None = None
    gains: GainChoice | None = None
    start_model: str | None = None
    reuse: str | None = None
    reuse_what: str | None = None
    allow_negative: bool = False
    smooth_beam: bool = False
    decorrelation: bool = True
    n_bands: int = 2
    cubes: tuple[str, ...] = ()
    band_mode: str = "equal"
    stokes: str = "I"
    header_mhz: float | None = None


@dataclass(frozen=True)
class SolveJob:
    """Find gains.  One solution set `name` for every measurement set of `vis`.

    kind: "DD" (scalar gains in the directions of `clusters`, KAFCA-like), "DI" (one full Jones
        matrix, CohJones-like) or "phase" (one phase for each of a station's two hands).
    model: root of the image whose model predicts the visibilities; `model_gains` corrupt it (the
        DI solve of an already direction-dependent sky).  For "phase" it is the file of a list of
        components (makesourcedb text), seen through the beam.
    dt_min: interval in minutes; None chooses it (DI only) from the signal to noise of the model.
    n_chan_sols: frequency intervals a measurement set; None is one (DD) or automatic (DI).
    shorten: let the native engine take shorter intervals where bright sources turn within them.
    uv_down_weight: weight of data shorter than uv_km[0] instead of a cut.
    robust: Briggs weights for the solve; None is natural.
    pre_apply: DD solution sets that already corrupt the model.
    evolve_from: DD solution set that is the starting point and prior.
    update_weights: also estimate imaging weights from the residuals.
    tie_amplitudes: divide out the stations' mean amplitude, so that an incomplete model cannot
        change the flux scale of the data; False calibrates raw data to the model's Jy (DI only).
    """

    name: str
    vis: VisSelection
    kind: str
    model: str
    image_weights: str = "unit"
    clusters: Path | None = None
    model_gains: GainChoice | None = None
    dt_min: float | None = None
    n_chan_sols: int | None = None
    n_iter: int = 6
    cov_q: float = 0.1
    lambda_kf: float = 0.5
    uv_down_weight: float | None = None
    robust: float | None = None
    pre_apply: tuple[str, ...] = ()
    evolve_from: str | None = None
    update_weights: bool = True
    tie_amplitudes: bool = True
    decorrelation: bool = True
    shorten: bool = False


@dataclass(frozen=True)
class SmoothJob:
    """Merge solution set `name` over the measurement sets of each observation and smooth it.

    The result is called `<name>_smoothed` (smooth given) or `<name>_merged` (only merged).
    smooth: None or an interpolation mode such as "TEC,PolyAmp".
    sigma_clip: outlier clip in sigma while merging, None for none.
    tie: smooth what is merged over time and measurement sets as far as its noise asks for; for
    gains of slow causes, full Jones matrices included.
    """

    name: str
    ms: tuple[Path, ...]
    smooth: str | None
    sigma_clip: float | None = None
    tie: bool = False


@dataclass(frozen=True)
class MaskJob:
    """Threshold `image` at `sigma` times its local noise into `<image>.mask.fits`.

    box: size in pixels and step of the local noise estimate.
    external: masks OR-ed into the result.
    diffuse: also write MaskDiffuse.fits, Noise.fits, Noise.mean.fits (threshold `sigma`).
    """

    image: Path
    sigma: float
    external: tuple[Path, ...] = ()
    box: tuple[int, int] = (50, 2)
    diffuse: bool = False


@dataclass(frozen=True)
class ClusterJob:
    """Find at most `ndir` calibration directions in image `image` -> catalogue `output`."""

    image: str
    output: Path
    ndir: int
    avoid_mask: Path | None = None


@dataclass(frozen=True)
class ColumnsJob:
    """Write `columns` into measurement sets `ms`, made from their data column `column`.

    pre_di, minus, scale: what else is applied to the data; see `VisSelection`.

    columns: SCALED_DATA (the data times the factors of `scale`, before `di`), DATA_DI_CORRECTED
        (the same through solution set `di`), DD_PREDICT (the model of
        image `model` through `gains`, in the facets of `clusters`), IMAGING_WEIGHT (weights of
        the solve `weights_from`, zero where flagged or where `di` has no solution).  What none of
        the columns needs is None.
    """

    ms: tuple[Path, ...]
    column: str
    columns: tuple[str, ...]
    di: str | None = None
    model: str | None = None
    gains: GainChoice | None = None
    clusters: Path | None = None
    weights_from: str | None = None
    decorrelation: bool = True
    pre_di: str | None = None
    minus: str | None = None
    scale: str | None = None


@dataclass(frozen=True)
class SpectraJob:
    """Dynamic spectra of the residuals of image `model` towards single positions.

    positions: list of them, see `ddfpipe.data.targets.write_positions`.
    output: folder that the engine fills, see `ddfpipe.data.spectra`; a scratch folder, no product.
    model, gains, clusters: of the image whose model is subtracted; the gains of the facet that
        holds a position are taken out of its spectrum.
    weights, weights_from: as for `ImageJob`, without robust weighting.
    amplitudes: samples of stations whose gain amplitude lies outside this range are left out.
    """

    name: str
    vis: VisSelection
    positions: Path
    output: Path
    model: str
    gains: GainChoice | None = None
    clusters: Path | None = None
    weights: str = "unit"
    weights_from: str | None = None
    amplitudes: tuple[float, float] = (0.1, 1.5)
    decorrelation: bool = True


@dataclass(frozen=True)
class ImageResult:
    """Figures of a finished image.  Fluxes in Jy/beam of the apparent restored image."""

    name: str
    noise: float
    peak: float
    model_flux: float
    beam_arcsec: tuple[float, float, float]
    products: tuple[Path, ...] = ()
    details: dict = field(default_factory=dict)

    @property
    def dynamic_range(self) -> float:
        """Peak over noise."""
        return self.peak / self.noise if self.noise > 0 else float("nan")


@dataclass(frozen=True)
class SolveResult:
    """Figures of a finished solve."""

    name: str
    products: tuple[Path, ...]
    details: dict = field(default_factory=dict)


class Monitor(Protocol):
    """How a long computation tells where it is and learns that it must stop."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Report `done` of `total` steps of the loop called `what`."""

    def check(self) -> None:
        """Raise StopRequested at a point where stopping loses nothing."""

    def message(self, text: str) -> None:
        """A line for the stage's log (and the screen unless quiet)."""


class Silent(Monitor):
    """A monitor that says nothing and never stops, for an engine that is used without a run."""


class Engine(Protocol):
    """The verbs of an engine."""

    def image(self, job: ImageJob, monitor: Monitor) -> ImageResult: ...

    def solve(self, job: SolveJob, monitor: Monitor) -> SolveResult: ...

    def smooth(self, job: SmoothJob, monitor: Monitor) -> SolveResult: ...

    def mask(self, job: MaskJob, monitor: Monitor) -> Path: ...

    def mask_model(self, image: str, mask: Path, output: str, monitor: Monitor) -> Path:
        """Keep only the model of `image` under `mask`, as model root `output`."""

    def cluster(self, job: ClusterJob, monitor: Monitor) -> Path: ...

    def start_model(self, skymodel: Path, like: ImageJob, output: str, monitor: Monitor) -> Path:
        """A text sky model as model root `output` on the grid of `like`."""

    def export_columns(self, job: ColumnsJob, monitor: Monitor) -> int:
        """Write columns into measurement sets; how many rows were filled.

        The only verb that changes measurement sets, and it leaves all other columns alone.
        """

    def spectra(self, job: SpectraJob, monitor: Monitor) -> Path:
        """Dynamic spectra towards positions of a field, in Stokes I and V."""

    def archive(self, job: ColumnsJob, monitor: Monitor) -> "list[Archived]":
        """Compressed copies of the measurement sets in the working directory.

        Their DATA are what export_columns would write as DATA_DI_CORRECTED (the data column where
        nothing is applied to the data), their IMAGING_WEIGHT is that of the job.
        """

    def clear_cache(self, ms: tuple[Path, ...]) -> None:
        """Forget what is cached of some measurement sets, and every cached image."""
