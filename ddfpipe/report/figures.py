"""Result figures as text for the screen, the status table and the report page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_SCALES = ((1.0, "Jy"), (1e-3, "mJy"), (1e-6, "uJy"))


def figure_text(figures: Mapping[str, Any]) -> str:
    """One line: ``noise 85 uJy/beam, peak 1.2 Jy/beam, dynamic range 14000, ...``.

    Figures without a form of their own are shown as they are if they are single numbers or short
    texts.
    """
    return ", ".join(
        text for text in (_one(name, value) for name, value in figures.items()) if text
    )


def flux(value: float, suffix: str = "") -> str:
    """A flux density in Jy with three digits and a fitting unit."""
    if not math.isfinite(value):
        return "unknown"
    size = abs(value)
    scale, unit = next(((s, u) for s, u in _SCALES if size >= s), _SCALES[0 if size == 0 else -1])
    return f"{value / scale:.3g} {unit}{suffix}"


def _one(name: str, value: Any) -> str:
    if name in ("noise", "peak"):
        return f"{name} {flux(value, '/beam')}"
    if name == "model_flux":
        return f"model {flux(value)}"
    if name == "dynamic_range":
        return f"dynamic range {value:.0f}" if math.isfinite(value) else ""
    if name == "masked_fraction":
        return f"masked {100 * value:.2g} %"
    if name == "beam_arcsec":
        major, minor, angle = value
        return f"beam {major:.1f} x {minor:.1f} arcsec at {angle:.0f} deg"
    label = name.replace("_", " ")
    if isinstance(value, bool) or (isinstance(value, str) and len(value) <= 30):
        return f"{label} {value}"
    if isinstance(value, (int, float)):
        return f"{label} {value:.4g}" if isinstance(value, float) else f"{label} {value}"
    return ""
