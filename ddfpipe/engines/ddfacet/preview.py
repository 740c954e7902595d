"""The commands of DDFacet and killMS that a job will run, told before anything is read or written.

What only the data and the stages before decide stands in angle brackets.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ...data.ms import MSInfo, read_metadata
from ...data.viscache import cache_path
from ...units import MINUTE
from ..base import ImageJob, SolveJob
from ..external.copies import copy_path
from ..external.ours import is_ours
from ..external.view import PREDICT
from ..native.visibilities import assign_bands, in_band
from .commands import (
    W_MAX, Imaging, Solving, clip_command, fast_size, image_command, predict_command,
    solve_command,
)
from .imager import cycle_cleaning
from .inputs import NODES
from .solver import steps

FROM_DATA = {"--CF-wmax": "<largest w of the data>", "--CF-Nw": "<planes up to it>",
             "--Image-NPix": "<the model's>", "--Image-Cell": "<the model's>",
             "--Facets-NFacets": "<by size>"}


def preview(engine, job) -> list[str]:
    """Command lines of an `ImageJob` or `SolveJob`; none for a job that our own engine does.

    engine : DDFacetEngine.  Raises DataError when a measurement set cannot be read.
    """
    if is_ours(job) or not isinstance(job, (ImageJob, SolveJob)):
        return []
    words = _image(engine, job) if isinstance(job, ImageJob) else _solve(engine, job)
    return [shlex.join(command) for command in words]


def _infos(job) -> list[MSInfo]:
    found = [read_metadata(ms) for ms in job.vis.ms]
    near = [SimpleNamespace(freq=info.freqs, info=info) for info in found]
    return [one.info for one in in_band(near, job.vis.mhz)]


def _copy(native, job, info: MSInfo) -> str:
    path = cache_path(info.path, job.vis.column, native.cache_dir, native.drop_international)
    return str(copy_path(SimpleNamespace(path=path, name=info.name), native.cache_dir).absolute())


def _folder(native, job) -> Path:
    return (native.cache_dir / f"ddfpipe.scratch.{job.name}").absolute()


def _imaging(engine, job, prefix: str, **more) -> Imaging:
    native, folder = engine.native, _folder(engine.native, job)
    gains = job.gains if isinstance(job, ImageJob) else job.model_gains
    nodes = str(folder / NODES) if job.clusters else None
    values = dict(
        program=str(engine.tools["ddfacet"].path), prefix=str(folder / prefix),
        sets=str(folder / f"{prefix}.txt"), w_max=float(W_MAX), npix=fast_size(1), cell_arcsec=1.0,
        robust=0.0, n_bands=1, threads=native.threads, cache=str(folder / "cache"),
        wisdom=str(native.cache_dir.absolute() / "ddfpipe.wisdom"),
        solsdir=str(folder / "gains"), solutions=tuple(gains.names) if gains else (),
        mode=gains.mode if gains else "AP", nodes=nodes, decorrelation=job.decorrelation,
        beam=engine.beam,
    )
    return Imaging(**(values | more))


def _hidden(words: list[str], names: tuple[str, ...]) -> list[str]:
    """The command with what is not known yet in angle brackets."""
    return [f"{key}={FROM_DATA[key]}" if (key := word.split("=")[0]) in names else word
            for word in words]


def _image(engine, job: ImageJob) -> list[list[str]]:
    freqs = [info.freqs for info in _infos(job)]
    bands = 1 + max(int(band.max()) for band in assign_bands(freqs, job.n_bands))
    folder = _folder(engine.native, job)
    model = str(folder / "start.DicoModel") if job.start_model else None
    words = []
    for cycle in range(job.major_cycles + 1):
        imaging = _imaging(
            engine, job, f"img{cycle}", npix=fast_size(job.npix), cell_arcsec=job.cell_arcsec,
            robust=job.robust, n_bands=bands, smooth_beam=job.smooth_beam, model=model,
            sets=str(folder / "img.txt"),
        )
        mask = str(folder / "mask.fits") if cycle else None
        words.append(_hidden(image_command(imaging, cycle_cleaning(job, cycle, mask), "DATA"),
                             ("--CF-wmax", "--CF-Nw")))
        if cycle:
            model = f"{imaging.prefix}.DicoModel"
    return words


def _solve(engine, job: SolveJob) -> list[list[str]]:
    native, folder = engine.native, _folder(engine.native, job)
    killms, commands = engine.tools["killms"].path, []
    base, model = folder / "model", {"model_column": PREDICT}
    if job.kind == "DI":
        imaging = _imaging(engine, job, "predict", model=str(folder / "predict.DicoModel"))
        commands.append(_hidden(predict_command(imaging, "DATA", PREDICT), tuple(FROM_DATA)))
    else:
        model = {"base": str(base), "model": f"{base}.DicoModel",
                 "nodes": str(folder / NODES)}
    automatic = job.kind == "DI" and (job.dt_min is None or job.n_chan_sols is None)
    for info in _infos(job):
        slots = max(1, round((job.dt_min or 0) * MINUTE / info.interval))
        chans = int(np.ceil(info.n_chan / (job.n_chan_sols or 1)))
        ms, minutes = _copy(native, job, info), slots * info.interval / MINUTE
        words = solve_command(Solving(
            str(killms), ms, job.name, str(folder / "solutions"), str(folder / "cache"),
            minutes, -(-info.n_chan // chans), native.solve_threads,
            steps(job, info.times, minutes), uv_km=job.vis.uv_km,
            down_weight=job.uv_down_weight, cov_q=job.cov_q, lambda_kf=job.lambda_kf,
            robust=job.robust, update_weights=job.update_weights, pre_apply=job.pre_apply,
            evolve=job.evolve_from, beam=engine.beam, **model,
        ))
        if automatic:
            words = [f"--{name}=<from signal and noise>" if name in ("dt", "NChanSols") else word
                     for word in words for name in [word.removeprefix("--").split("=")[0]]]
        commands.append(words)
        if job.update_weights:
            commands.append(clip_command(str(killms.with_name("ClipCal.py")), ms, "DATA"))
    return commands
