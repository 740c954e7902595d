"""sourcefind.py: a catalogue of any image, without a configuration."""

from __future__ import annotations

from pathlib import Path

from ddfpipe.log import StageLog
from ddfpipe.naming import catalogue_product
from ddfpipe.pipeline.quality_stages import PRODUCTS
from ddfpipe.pipeline.signals import StopFlag
from ddfpipe.report.monitor import RunMonitor
from ddfpipe.report.progress import Progress


def find(intrinsic: str, app: str, prefix: str, *, simple: bool, threads: str | None,
         stop: StopFlag) -> str:
    """Make a catalogue in one (`simple`) or two passes; what was done, in words.

    The messages of the source finder go to logs/sourcefind.log.  Raises what
    `ddfpipe.products.quality.tiers.make_catalogue` raises.
    """
    from ddfpipe.config import cpu_count
    from ddfpipe.products.quality.tiers import Tiers, make_catalogue, write_catalogue
    from ddfpipe.products.sourcefinding import QUALITY

    monitor = RunMonitor(Progress(quiet=True), stop.check, quiet=True)
    log = StageLog(Path("logs"), "sourcefind")
    monitor.new_stage(log)
    products = {kind: Path(catalogue_product(prefix, kind)) for kind in PRODUCTS}
    tiers = Tiers(QUALITY, extended_beams=None) if simple else Tiers(QUALITY)
    try:
        table = make_catalogue(Path(app), Path(intrinsic), tiers, products,
                               threads=int(threads) if threads else cpu_count(), monitor=monitor)
    finally:
        log.close()
    target = Path(catalogue_product(prefix, "catalogue"))
    write_catalogue(table, target)
    second = int((table["Pass"] == 2).sum())
    told = f", {second} of them large ones of the second pass" if not simple else ""
    return f"{target}: {len(table)} sources{told}"
