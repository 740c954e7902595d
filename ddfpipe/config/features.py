"""What this version cannot do yet, although the options for it are read and checked."""

from __future__ import annotations

from .model import Config


def unavailable(cfg: Config) -> list[str]:
    """A sentence for each thing that `cfg` asks for and that this version cannot do."""
    control, compression = cfg.control, cfg.compression
    asked = {
        "[control] bootstrap (flux scale from other surveys)": control.bootstrap,
        "[control] write_columns=SCALED_DATA (data on the bootstrapped flux scale)":
            "SCALED_DATA" in control.write_columns,
    }
    return [
        f"{what} is not available in this version; switch it off"
        for what, wanted in asked.items()
        if wanted
    ]
