"""Source catalogues of images, with PyBDSF (Mohan & Rafferty 2015, ASCL 1502.007).

Sources are detected on the apparent image, where the noise is even, and measured on the
beam-corrected one.  PyBDSF prints, logs beside the image, starts processes and cannot be told to
stop; so it runs as a process of its own (`bdsf_worker`) in a scratch folder, whose log goes to the
stage's log and which ends when the caller stops or dies.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddfpipe.data.atomic import atomic_path, remove, replace as put_in_place, temporary_name
from ddfpipe.errors import ImagingError, StageFailed

if TYPE_CHECKING:
    from astropy.table import Table

POLL_S = 0.3
"""How often the log is read and a stop is asked for."""
GRACE_S = 5.0
"""Time that PyBDSF has to end by itself before it is killed."""
EXPORTS = ("rms", "mean", "residual", "model", "mask", "gaussians", "regions")
"""What can be kept besides the catalogue; see `find_sources`."""

_DECORATION = re.compile(r"\x1b\[[0-9;]*m|^\w{3} \d\d-\d\d-\d{4} [\d:]{8}:: (INFO|USERINFO) *: ")
"""Colours, and the time that our own log has already."""


class NoSourcesFound(StageFailed):
    """PyBDSF ended well, but nothing is above the thresholds."""


@dataclass(frozen=True)
class FinderSettings:
    """How PyBDSF searches; the names are its own.

    thresh_isl, thresh_pix: an island reaches down to the first and holds a pixel above the second,
        both in units of the local noise.
    rms_box: (size, step) in pixels of the windows of the noise map, None lets PyBDSF choose;
        rms_box_bright: the same near sources of more than adaptive_thresh sigma (None: no smaller
        windows there).  rms_map: False takes one noise for the whole image, None lets PyBDSF
        decide.
    mean_map: "zero", "const", "map" or "default": the background.
    atrous_do, atrous_jmax: also search the residuals on wavelet scales, up to 2^jmax pixels.
    group_by_isl: all Gaussians of an island are one source; else those within group_tol are.
    flag_maxsize_fwhm: Gaussians longer than this times their distance from the boundary of their
        island are flagged.
    kappa_clip: clipping of the noise maps, None is PyBDSF's own choice.
    trim_box: (xmin, xmax, ymin, ymax), zero-based pixels to look at, None for all.
    spectral: measure every plane of a cube (columns Total_flux_chN, E_Total_flux_chN, Freq_chN).
    """

    thresh_isl: float = 3.0
    thresh_pix: float = 5.0
    rms_box: tuple[int, int] | None = None
    rms_box_bright: tuple[int, int] | None = None
    adaptive_thresh: float | None = None
    rms_map: bool | None = True
    mean_map: str = "zero"
    atrous_do: bool = False
    atrous_jmax: int = 0
    group_by_isl: bool = False
    group_tol: float = 1.0
    flag_maxsize_fwhm: float = 1.0
    kappa_clip: float | None = None
    trim_box: tuple[int, int, int, int] | None = None
    spectral: bool = False

    def options(self) -> dict[str, Any]:
        """Arguments of bdsf.process_image."""
        given = asdict(self)
        spectral, box = given.pop("spectral"), given.pop("rms_box_bright")
        options = {name: value for name, value in given.items() if value is not None}
        if box is not None and self.adaptive_thresh is not None:
            options.update(adaptive_rms_box=True, rms_box_bright=box)
        else:
            options.pop("adaptive_thresh", None)
        if not self.atrous_do:
            options.pop("atrous_jmax")
        if spectral:
            # Every plane counts alone: planes are neither averaged nor left out for their noise.
            # All are restored with one beam; by itself PyBDSF lets it grow with wavelength.
            options.update(spectralindex_do=True, specind_maxchan=1, flagchan_rms=False,
                           flagchan_snr=False, beam_sp_derive=False, incl_chan=True)
        return options


QUALITY = FinderSettings(
    thresh_isl=4.0, thresh_pix=5.0, rms_box=(160, 50), rms_box_bright=(60, 15),
    adaptive_thresh=150.0, atrous_do=True, atrous_jmax=4, group_tol=10.0, flag_maxsize_fwhm=0.5,
)
"""The catalogue of a finished field."""
OFFSETS = FinderSettings(
    thresh_isl=4.0, thresh_pix=5.0, rms_box=(150, 15), rms_box_bright=(60, 15),
    adaptive_thresh=150.0, group_tol=10.0, flag_maxsize_fwhm=0.5,
)
"""Compact sources for astrometry."""
BOOTSTRAP = FinderSettings(
    thresh_pix=5.0, rms_box=(80, 20), rms_box_bright=(35, 7), adaptive_thresh=80.0,
    atrous_do=True, atrous_jmax=2, kappa_clip=3.0, spectral=True,
)
"""Fluxes in every plane of a low-resolution cube."""
PRESETS = {"quality": QUALITY, "offsets": OFFSETS, "bootstrap": BOOTSTRAP}


def find_sources(
    detection: Path,
    flux: Path | None,
    settings: FinderSettings,
    *,
    threads: int,
    output: Path | None = None,
    monitor: Any = None,
    exports: Mapping[str, Path] | None = None,
    frequencies: Sequence[float] | None = None,
    say: Callable[[str], None] | None = None,
) -> Table:
    """Find the sources of an image.

    detection: image on which islands are found (apparent fluxes); flux: image on which they are
    measured (None: the same).  threads: processes of PyBDSF.  output: FITS catalogue to keep.
    exports: further files to keep, by kind: "rms", "mean", "residual", "model", "mask" (images
    of the detection image's noise, background, residual, Gaussians and islands), "gaussians" (FITS
    list of single Gaussians), "regions" (ds9).  frequencies: Hz of a cube's planes where the
    header cannot tell (unevenly spaced).  monitor: its check() ends the search; lines of PyBDSF's
    log go to `say`, by default to monitor.log.

    Returns a table with the columns of PyBDSF: RA, DEC, E_RA, E_DEC, Maj, Min, PA, DC_Maj ...
    (degrees), Total_flux, E_Total_flux (Jy), Peak_flux, Isl_rms ... (Jy/beam), S_Code (str).
    Raises NoSourcesFound, ImagingError for images that cannot be read, StageFailed when PyBDSF
    fails; StopRequested from the monitor.
    """
    from ddfpipe.data.images import read_image

    unknown = set(exports or ()) - set(EXPORTS)
    if unknown:
        raise ValueError(f"exports {sorted(unknown)}; known are {EXPORTS}")
    main = read_image(flux or detection)
    if not main.grid.same(read_image(detection).grid, tolerance=0.01):
        raise ImagingError(f"{detection} and {flux} do not have the same pixels; a detection image "
                           "must be the apparent version of the same image.")
    if main.beam is None:
        raise ImagingError(f"{main.path}: header without BMAJ and BMIN; sources cannot be found on "
                           "an image that is not restored.")
    # Where the results go, so that they only have to be renamed.
    beside = Path(output or next(iter((exports or {}).values()), detection)).absolute()
    home = beside.parent if os.access(beside.parent, os.W_OK) else Path.cwd()
    scratch = temporary_name(home / "sourcefinding")
    scratch.mkdir(parents=True)
    try:
        made = _search(scratch, detection, flux, settings, threads, exports, frequencies,
                       monitor, say)
        table = _read(made.get("sources"), main.path, settings)
        for kind, target in (exports or {}).items():
            if kind in made:
                put_in_place(made[kind], Path(target))
        if output is not None:
            with atomic_path(output) as part:
                table.write(part, format="fits")
    finally:
        remove(scratch)
    return table


def _search(scratch: Path, detection: Path, flux: Path | None, settings: FinderSettings,
            threads: int, exports: Mapping[str, Path] | None,
            frequencies: Sequence[float] | None, monitor: Any,
            say: Callable[[str], None] | None) -> dict[str, Path]:
    """Run the worker in `scratch`; files by kind."""
    options = settings.options()
    incl_chan = options.pop("incl_chan", False)
    options.update(filename=str(Path(flux or detection).absolute()), ncores=max(1, threads),
                   quiet=True, outdir=str(scratch))
    if flux is not None:
        options["detection_image"] = str(Path(detection).absolute())
    if frequencies is not None:
        options["frequency_sp"] = [float(value) for value in frequencies]
    names = {"sources": "sources.fits"}
    names.update({kind: f"{kind}.{'reg' if kind == 'regions' else 'fits'}"
                  for kind in exports or ()})
    job = {"options": options, "incl_chan": incl_chan, "products": names}
    (scratch / "job.json").write_text(json.dumps(job))
    tail = _run(scratch, monitor, say)
    result = scratch / "result.json"
    if not result.exists():
        raise StageFailed(f"PyBDSF failed on {options['filename']}: {tail}")
    told = json.loads(result.read_text())
    if told["error"]:
        raise StageFailed(f"PyBDSF failed on {options['filename']}: {told['error']}")
    return {kind: scratch / name for kind, name in names.items() if (scratch / name).exists()}


def _run(scratch: Path, monitor: Any, say: Callable[[str], None] | None) -> str:
    """Wait for the worker, passing its log on; its last words."""
    if say is None:
        log = getattr(monitor, "log", None)
        say = log.line if log is not None else lambda text: None
    command = [sys.executable, "-m", "ddfpipe.products.bdsf_worker", "job.json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                   "MPLBACKEND": "Agg"}
    printed, last = scratch / "printed.log", ""
    with open(printed, "w") as out:
        # The worker reads its input to the end in the background: when we die, it dies.
        process = subprocess.Popen(command, cwd=scratch, stdin=subprocess.PIPE, stdout=out,
                                   stderr=subprocess.STDOUT, env=environment,
                                   start_new_session=True)
    places: dict[Path, int] = {}
    try:
        while True:
            ended = process.poll() is not None
            for line in _new_lines(scratch, places, ended):
                say(f"PyBDSF: {line}")
                last = line
            if ended:
                return f"{last} (exit code {process.returncode})"
            if monitor is not None:
                monitor.check()
            time.sleep(POLL_S)
    finally:
        _end(process)


def _new_lines(scratch: Path, places: dict[Path, int], ended: bool) -> list[str]:
    """Whole lines that were added to the logs since the last call (the rest too at the end)."""
    found = []
    for path in (*sorted(scratch.glob("*.pybdsf.log")), scratch / "printed.log"):
        with open(path, "rb") as stream:
            stream.seek(places.get(path, 0))
            text = stream.read()
        if not ended:
            text = text[:text.rfind(b"\n") + 1]
        places[path] = places.get(path, 0) + len(text)
        found += [_DECORATION.sub("", line).strip(" =")
                  for line in text.decode("utf-8", "replace").splitlines()]
    return [line for line in found if line]


def _end(process: subprocess.Popen) -> None:
    """Make sure that no process of the worker is left."""
    process.stdin.close()
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(GRACE_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _read(path: Path | None, image: Path, settings: FinderSettings) -> Table:
    from astropy.table import Table

    if path is None:
        raise NoSourcesFound(
            f"{image}: no source above {settings.thresh_pix:g} sigma was found; is it a restored "
            "image, and not blank?"
        )
    table = Table.read(path, format="fits", hdu=1, character_as_bytes=False)
    table.meta = {"IMAGE": image.name}
    return table


def central_box(nx: int, ny: int, fraction: float) -> tuple[int, int, int, int] | None:
    """trim_box of the central `fraction` (0 to 1) of both sides; None for the whole image."""
    if fraction >= 1.0:
        return None
    half_x, half_y = max(1, int(nx * fraction / 2)), max(1, int(ny * fraction / 2))
    return nx // 2 - half_x, nx // 2 + half_x, ny // 2 - half_y, ny // 2 + half_y


def scaled_boxes(settings: FinderSettings, nx: int, ny: int) -> FinderSettings:
    """`settings` whose noise windows fit an image of nx x ny pixels.

    PyBDSF takes one noise for the whole image when a window is wider than a quarter of it.
    """
    most = max(8, min(nx, ny) // 4 - 1)

    def fit(box: tuple[int, int] | None) -> tuple[int, int] | None:
        if box is None or box[0] <= most:
            return box
        return most, max(1, round(box[1] * most / box[0]))

    return replace(settings, rms_box=fit(settings.rms_box),
                   rms_box_bright=fit(settings.rms_box_bright))
