"""Compressed copies of the measurement sets at the end of a run, if they are asked for."""

from __future__ import annotations

from ddfpipe.engines.base import ColumnsJob
from ddfpipe.pipeline.builder import Builder, Data
from ddfpipe.pipeline.columns import CORRECTED, WEIGHT

STAGE = "archive_ms"


def archive_sets(b: Builder, data: Data, image: str) -> None:
    """Archives of the data that an image was made from, with the latest weights.

    Adds nothing unless [compression] compress_ms is on.
    """
    # Read past the notes of what a stage was made from: off, it belongs to no stage.
    if not b.settings.config.compression.compress_ms:
        return
    changed = data.di or data.pre_di or data.minus or data.scale
    columns = ((CORRECTED,) if changed else ()) + ((WEIGHT,) if data.weights_from else ())
    b.archives(STAGE, ColumnsJob(
        data.ms, data.column, columns, di=data.di, pre_di=data.pre_di, minus=data.minus,
        scale=data.scale, weights_from=data.weights_from, decorrelation=b.job(image).decorrelation,
    ))
