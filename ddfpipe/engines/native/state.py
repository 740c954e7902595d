"""What an image leaves in the cache for the next one: PSFs, norms and the last residual.

Nothing here is a product: a lost cache costs time, never a result.  Every array carries the key of
what it was made from, and is used only where the key agrees.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

FOLDER = "ddfpipe.images"

GRIDDING_FIELDS = (
    "vis", "npix", "cell_arcsec", "robust", "weights", "weights_from", "gains", "decorrelation",
    "n_bands", "smooth_beam",
)
"""Fields of an ImageJob that decide its PSF, norm and weights."""


def digest(*parts) -> str:
    """Hash of plain values, arrays and files (Path)."""
    h = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            h.update(part.read_bytes())
        elif isinstance(part, np.ndarray):
            h.update(np.ascontiguousarray(part).tobytes())
        else:
            h.update(json.dumps(part, sort_keys=True, default=str).encode())
    return h.hexdigest()


def gridding_key(job, extra: list, workdir: Path) -> str:
    """Key of everything that decides how a job's visibilities become an image."""
    values = asdict(job)
    chosen = {name: values[name] for name in GRIDDING_FIELDS}
    clusters = [workdir / job.clusters] if job.clusters else []
    return digest(chosen, *clusters, *extra)


@dataclass
class SavedImage:
    """Cached arrays of one image.

    gridding, model : keys of how it was gridded and of the model taken out of the residual
    """

    gridding: str
    model: str
    folder: Path

    def array(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy")

    def read(self, name: str, out: np.ndarray) -> None:
        """Copy an array into one of its shape."""
        out[...] = np.load(self.folder / f"{name}.npy", mmap_mode="r")


class ImageCache:
    """The cached images below one cache directory."""

    def __init__(self, cache_dir: Path):
        self.folder = Path(cache_dir) / FOLDER

    def load(self, name: str, what: str) -> SavedImage | None:
        """State `what` ("psf", "dirty" or "residual") of image `name`, or None."""
        folder = self.folder / name / what
        try:
            meta = json.loads((folder / "meta.json").read_text())
        except (OSError, ValueError):
            return None
        return SavedImage(meta["gridding"], meta["model"], folder)

    def save(self, name: str, what: str, *, gridding: str, model: str, **arrays) -> None:
        """Keep arrays; the folder appears whole or not at all."""
        folder = self.folder / name / what
        part = folder.with_name(what + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for key, value in arrays.items():
            np.save(part / f"{key}.npy", value)
        (part / "meta.json").write_text(json.dumps({"gridding": gridding, "model": model}))
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)

    def clear(self) -> None:
        """Remove every cached image."""
        shutil.rmtree(self.folder, ignore_errors=True)
