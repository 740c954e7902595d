"""Our minor cycles of one major cycle, as the native engine runs them, in a process of its own.

    python -m deconvbench.minor_ours SETTINGS.json

SETTINGS: work (npz of the field), residual (npy), model (npz, may not exist), out, cost, job.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np


def picture_of(arrays, residual, model):
    from ddfpipe.engines.native.imager import Picture

    norm = arrays["norm"]
    return Picture(model.grid, model, residual, norm, norm, arrays["psf"], arrays["mask"] > 0)


def imager_of(job: dict, arrays, threads: int):
    """(Imager, operators) with what the minor cycles use of them."""
    from ddfpipe.engines.base import ImageJob, VisSelection
    from ddfpipe.engines.native.imager import Imager

    quiet = SimpleNamespace(check=lambda: None, message=lambda text: None)
    engine = SimpleNamespace(workdir=Path("."), threads=threads)
    imager = Imager(engine, ImageJob(vis=VisSelection((), "DATA"), restoring_beam=None, **job),
                    quiet)
    imager._middle = len(arrays["psf"]) // 2
    data = SimpleNamespace(band_freq=arrays["band_freq"], band_weight=arrays["band_weight"],
                           n_bands=len(arrays["band_freq"]))
    scratch = SimpleNamespace(image=lambda shape: np.zeros(shape, np.float32))
    return imager, SimpleNamespace(data=data, scratch=scratch)


def minor_cycles(job: dict, arrays, residual, model, threads: int = 1):
    """(model after the minor cycles, their CleanResult)."""
    imager, operators = imager_of(job, arrays, threads)
    picture = picture_of(arrays, residual, model)
    result = imager._minor_cycles(operators, picture, arrays["facet_map"])
    return picture.model, result


def warm_up(job: dict, arrays, grid) -> None:
    """The same on an image of a facet's corner, so that compiled code is loaded."""
    from dataclasses import replace

    from ddfpipe.data.model import PixelModel

    n = 96
    psf = arrays["psf"][:1]
    cut = slice(psf.shape[-1] // 2 - n // 2, psf.shape[-1] // 2 + n // 2)
    small = dict(arrays, psf=np.ascontiguousarray(psf[..., cut, cut]),
                 facet_map=np.zeros((n, n), np.int16), mask=np.ones((n, n), bool),
                 norm=np.ones((psf.shape[1], n, n), np.float32))
    residual = np.ascontiguousarray(small["psf"][0], np.float32)
    residual[:, n // 3] += 0.1
    few = replace(grid, ny=n, nx=n)
    minor_cycles(job, small, residual.copy(), PixelModel.empty(few, arrays["band_freq"]))


def main() -> None:
    s = json.loads(Path(sys.argv[1]).read_text())
    from ddfpipe.data.images import SkyGrid
    from ddfpipe.data.model import PixelModel, load_model, save_model

    grid = SkyGrid(*s["grid"])
    with np.load(s["work"]) as file:
        arrays = {name: file[name] for name in file.files if name not in ("whole_psf", "residual")}
    residual = np.load(s["residual"])
    model = PixelModel.empty(grid, arrays["band_freq"])
    if s["model"]:
        model = load_model(Path(s["model"]))
    warm_up(s["job"], arrays, grid)
    start = time.process_time()
    model, result = minor_cycles(s["job"], arrays, residual, model, s["threads"])
    cost = {"cpu": time.process_time() - start, "start": start, "rounds": result.n_rounds,
            "components": result.n_components, "reason": result.stop_reason}
    save_model(Path(s["out"]), model)
    Path(s["cost"]).write_text(json.dumps(cost))


if __name__ == "__main__":
    main()
