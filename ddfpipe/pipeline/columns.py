"""The last stage of a recipe, if it is asked for: columns in the measurement sets."""

from __future__ import annotations

from typing import Any

from ddfpipe.engines.base import ColumnsJob
from ddfpipe.errors import ConfigError
from ddfpipe.pipeline.builder import Builder, Data

STAGE = "write_columns"
SCALED, CORRECTED = "SCALED_DATA", "DATA_DI_CORRECTED"
PREDICTED, WEIGHT = "DD_PREDICT", "IMAGING_WEIGHT"


def check_columns(config: Any) -> None:
    """Raise ConfigError for columns that this configuration cannot come to."""
    asked = config.control.write_columns
    if CORRECTED in asked and config.control.skip_di:
        raise ConfigError(
            f"[control] write_columns asks for {CORRECTED}, but skip_di leaves out the "
            "direction-independent solutions that make it; drop one of the two"
        )
    if SCALED in asked and not config.control.bootstrap:
        raise ConfigError(
            f"[control] write_columns asks for {SCALED}, but the factors come from the bootstrap, "
            "which is off; switch [control] bootstrap on or drop the column"
        )
    if config.data.colname in asked:
        raise ConfigError(
            f"[control] write_columns asks for {config.data.colname}, the column that "
            "[data] colname reads; input data are never overwritten"
        )


def write_columns(b: Builder, data: Data, image: str) -> None:
    """Columns that go with an image: its data, its model through its gains, the latest weights.

    Adds nothing unless columns are asked for.
    """
    columns = tuple(b.settings.control.write_columns)
    if not columns:
        return
    last = b.job(image)
    uses: dict[str, Any] = {}
    if CORRECTED in columns or WEIGHT in columns:
        uses |= {"di": data.di, "pre_di": data.pre_di}
    if SCALED in columns:
        uses["pre_di"] = data.pre_di
    if CORRECTED in columns or SCALED in columns:
        uses |= {"minus": data.minus, "scale": data.scale}
    if PREDICTED in columns:
        uses |= {
            "model": image, "gains": last.gains, "clusters": last.clusters,
            "decorrelation": last.decorrelation,
        }
    if WEIGHT in columns:
        uses["weights_from"] = data.weights_from
    b.columns(STAGE, ColumnsJob(data.ms, data.column, columns, **uses))
