"""Tells people what a run does: log, screen, pictures and report page of every stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ddfpipe.log import StageLog
from ddfpipe.naming import REPORT, parse_image_product, parse_solution_file, preview_name
from ddfpipe.pipeline.stage import Recipe, Stage
from ddfpipe.pipeline.state import Record
from ddfpipe.report.figures import figure_text
from ddfpipe.report.monitor import RunMonitor
from ddfpipe.report.page import PageRow, write_page
from ddfpipe.report.progress import Progress, duration

SHOWN = ("app_restored", "app_residual", "dirty", "app_facet_restored")
"""Image products that get a picture; of an image that is restored, the first two."""
OWN_PICTURES = 12
"""So many of the pictures that are products themselves are shown on the page."""


class Narrator:
    """Audience of a run in `workdir`.  What fails here is told and never fails the run."""

    def __init__(self, recipe: Recipe, workdir: Path, logs: Path | None, monitor: RunMonitor,
                 progress: Progress, quiet: bool = False, pictures: bool = True) -> None:
        self.workdir = workdir
        self.logs = logs
        self.monitor = monitor
        self.progress = progress
        self.quiet = quiet
        self.pictures = pictures
        self._rows = {stage.name: PageRow(stage.name, stage.group) for stage in recipe.stages}
        self._width = max((len(stage.name) for stage in recipe.stages), default=0)
        self._log = StageLog(None, "")
        self._place = ""

    def begin(self, stage: Stage, number: int, total: int, why: str) -> None:
        """A stage starts."""
        self._log = StageLog(self.logs, stage.name)
        self.monitor.new_stage(self._log)
        self._log.line(f"{stage.name} ({why})")
        for name, value in stage.identity()["job"].items():
            self._log.line(f"    {name} = {value}")
        self._place = f"[{number:>{len(str(total))}}/{total}]"
        if not self.quiet:
            self.progress.text(f"{self._place} {stage.name} starts ({why})")
        self._rows[stage.name].state = "running"
        self._write_page()

    def skip(self, stage: Stage, number: int, total: int) -> None:
        """A stage was done before; a run that was killed then may owe its pictures."""
        from ddfpipe.pipeline.state import RunState

        record = RunState(self.workdir).read(stage.name)
        if record is not None:
            if self.pictures:
                self._draw(record, again=False)
            self._fill_row(stage, record)

    def finish(self, stage: Stage, record: Record) -> None:
        """A stage is done."""
        text = figure_text(record.figures)
        for name, value in record.figures.items():
            self._log.line(f"    {name} = {value}")
        if self.pictures:
            self._draw(record)
        self._log.line(
            f"done in {record.seconds:.1f} s, {record.cpu_seconds:.1f} CPU s, peak memory "
            f"{record.peak_memory_bytes / 1e9:.2f} GB"
        )
        self._close_log()
        spent = duration(record.seconds)
        self.progress.close()
        self.progress.text(f"{self._place} {stage.name:<{self._width}}  {spent:>12}  {text}")
        self._fill_row(stage, record)
        self._write_page()

    def fail(self, stage: Stage, error: BaseException, details: str) -> None:
        """A stage ended without a result."""
        self._log.line(details)
        self._log.line(f"ended: {error}")
        self._close_log()
        self.progress.close()
        self._rows[stage.name].state = "stopped" if type(error).__name__ == "StopRequested" \
            else "failed"
        self._rows[stage.name].note = str(error)
        self._write_page()

    def _close_log(self) -> None:
        self._log.close()
        if self._log.trouble is not None:
            self._warn(f"the log ends early: {self._log.trouble}")

    def _warn(self, text: str) -> None:
        self.progress.text(f"    warning: {text}")

    def _fill_row(self, stage: Stage, record: Record) -> None:
        row = self._rows[stage.name]
        row.state, row.finished, row.seconds = "done", record.finished, record.seconds
        row.figures = dict(record.figures)
        names = [picture_of(item.path) for item in record.outputs]
        names += [item.path for item in record.outputs if item.path.endswith(".png")][:OWN_PICTURES]
        row.pictures = tuple(name for name in names if (self.workdir / name).exists())

    def _draw(self, record: Record, again: bool = True) -> None:
        """Quick-look pictures of a stage's products; without `again` only those not there."""
        outputs = [item.path for item in record.outputs]
        wanted = [("draw_image", source, facets) for source, facets in image_sources(outputs)]
        solutions = [path for path in outputs if parse_solution_file(path)]
        # those between the first and the last measurement set would say little more
        wanted += [("draw_solutions", source, None)
                   for source in dict.fromkeys(solutions[:1] + solutions[-1:])]
        wanted += [("draw_cube", source, None) for source in cube_sources(outputs)]
        for draw, source, facets in wanted:
            target = self.workdir / picture_of(source)
            gone = not (self.workdir / source).exists()  # a compressed copy took its place
            # an empty one is what a power failure may leave
            there = target.exists() and target.stat().st_size > 0
            if not again and (gone or there):
                continue
            from ddfpipe.report import cubes, pictures

            module = cubes if draw == "draw_cube" else pictures
            beside = (self.workdir / facets,) if facets else ()
            self._try(getattr(module, draw), self.workdir / source, target, *beside)

    def _try(self, draw: Any, *arguments: Any) -> None:
        try:
            draw(*arguments)
        except Exception as error:  # a picture is not worth a run
            self._log.line(f"no picture of {arguments[0]}: {type(error).__name__}: {error}")
            self._warn(f"no picture of {Path(arguments[0]).name}: {error}")

    def _write_page(self) -> None:
        try:
            write_page(self.workdir / REPORT, self.workdir.absolute().name,
                       list(self._rows.values()))
        except OSError as error:
            self._warn(f"{REPORT} could not be written: {error}")


def picture_of(path: str) -> str:
    """Name of a product's picture; gains of all measurement sets have one file name otherwise."""
    solution = parse_solution_file(path)
    return preview_name(".".join(solution) if solution else path)


def image_sources(outputs: list[str]) -> list[tuple[str, str | None]]:
    """(image to draw, facets to draw on it) for the products of a stage."""
    products: dict[str, str] = {}
    for path in outputs:
        parsed = parse_image_product(path)
        if parsed is not None and parsed.cycle is None:
            products[parsed.kind] = path
    kinds = SHOWN[:2] if "app_restored" in products else SHOWN[2:]
    return [(products[kind], products.get("tessel")) for kind in kinds if kind in products]


def cube_sources(outputs: list[str]) -> list[str]:
    """The cube to draw of a stage's products: the first one, as the others are much like it."""
    found = []
    for path in outputs:
        parsed = parse_image_product(path)
        if parsed is not None and parsed.kind.startswith("cube_"):
            found.append(path)
    return found[:1]
