"""What this version cannot do yet, although the options for it are read and checked."""

from __future__ import annotations

from .model import Config


def unavailable(cfg: Config) -> list[str]:
    """A sentence for each thing that `cfg` asks for and that this version cannot do."""
    control, compression = cfg.control, cfg.compression
    asked = {
        "[control] bootstrap (flux scale from other surveys)": control.bootstrap,
        "[control] polcubes (Stokes Q and U cubes)": control.polcubes,
        "[control] stokesv (Stokes V images)": control.stokesv,
        "[control] spectral_restored (images of single bands)": control.spectral_restored,
        "[control] msss_mode (one channel per frequency)": control.msss_mode,
        "[control] remove_columns (columns of earlier runs)": control.remove_columns,
        "[control] write_columns=SCALED_DATA (data on the bootstrapped flux scale)":
            "SCALED_DATA" in control.write_columns,
        "[offsets] method (astrometry)": cfg.offsets.method is not None,
        "[compression] compress_polcubes (fpack)": compression.compress_polcubes,
    }
    return [
        f"{what} is not available in this version; switch it off"
        for what, wanted in asked.items()
        if wanted
    ]
