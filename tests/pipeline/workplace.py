"""A working directory with lists and a fake engine, and ways to run in it."""

from __future__ import annotations

import hashlib
import resource
from dataclasses import replace
from pathlib import Path

from ddfpipe.config import Config
from ddfpipe.pipeline.run import Field, run
from ddfpipe.pipeline.signals import StopFlag
from fake_engine import FakeEngine, fake_ms

SMALL = ("L1_a.ms",)
FULL = ("L1_a.ms", "L1_b.ms")


def cpu_of_children() -> float:
    """CPU seconds of all processes that this one started and waited for: what a slow or busy
    machine does not change much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Workplace:
    """Runs the pipeline in `folder`.  `engine` is that of the latest run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine: FakeEngine | None = None
        for name in FULL:
            fake_ms(folder / "ms" / name)

    def field(self, full: bool = True, **options) -> Field:
        """A field; options are section__name=value."""
        return Field(
            configuration(full=full, **options), self.folder,
            tuple(self.folder / "ms" / name for name in SMALL),
            tuple(self.folder / "ms" / name for name in FULL) if full else (),
        )

    def run(self, *, stop: StopFlag | None = None, pictures: bool = False, trouble=None,
            pause: float = 0.0, full: bool = True, **options) -> list[str]:
        """Run; names of the jobs done.  Raises what the run raises; jobs are in `engine.jobs`."""

        def make_engine(field: Field) -> FakeEngine:
            self.engine = FakeEngine(field.workdir, field.solsdir, pause, trouble)
            return self.engine

        self.engine = None
        run(self.field(full, **options), stop or StopFlag(), make_engine,
            check=lambda field, decisions: None, pictures=pictures)
        return self.made

    @property
    def made(self) -> list[str]:
        """What the engine was asked for in the latest run, in order."""
        return [] if self.engine is None else [job_name(*item) for item in self.engine.jobs]

    def products(self) -> dict[str, str]:
        """Digest of every product (no logs, records, reports or caches)."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            if not path.is_file() or name.split("/")[0] in ("ddfpipe.state", "logs", "ms"):
                continue
            if name not in ("summary.txt", "report.html"):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


def configuration(full: bool = True, **options) -> Config:
    """Defaults, quiet, every variant off; options are section__name=value."""
    settings = {
        "data__mslist": "small.txt",
        "data__full_mslist": "full.txt" if full else None,
        "image__low_psf_arcsec": 20.0,
        "control__quiet": True,
        "solutions__ndir": 5,
        "solutions__NIterKF": (11, 12, 13, 14, 15, 16, 17),
        "solutions__normalize": ("BLBased", "Mean", "SumBLBased"),
        "solutions__apply_sols": ("P", "AP", "P", "AP", "P", "AP", "P"),
        "masking__thresholds": (15.0, 9.0, 7.0, 5.0),
    } | options
    config = Config()
    for key, value in settings.items():
        section, name = key.split("__")
        part = replace(getattr(config, section), **{name: value})
        config = replace(config, **{section: part})
    return config


def job_name(verb: str, job) -> str:
    """Name of a job as the tests speak of it."""
    if verb == "mask":
        return f"mask of {job.image}"
    if verb in ("mask_model", "start_model"):
        return job[2]
    if verb in ("export_columns", "archive"):
        return {"export_columns": "write_columns", "archive": "archive_ms"}[verb]
    if verb == "cluster":
        return str(job.output)
    return f"{job.name} {verb}" if verb == "smooth" else job.name


def tree_state(folder: Path) -> dict[str, tuple]:
    """Everything about every entry of a folder that a look must not change."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.lstat().st_mtime_ns,
                                        path.lstat().st_size)
        for path in sorted(folder.rglob("*"))
    } | {".": (folder.stat().st_mtime_ns,)}
