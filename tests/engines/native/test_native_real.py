"""Real LOFAR visibilities through the native engine."""

from __future__ import annotations

import numpy as np
import pytest
from engine_fields import Listener, make_engine, make_job, product

HEAD_TAIL = np.radians([205.45895, 26.37188])
"""Brightest peak of Abell 1775's head-tail, J2000."""


@pytest.mark.shared_data
def test_abell_1775_lies_where_it_should(unpack_ms, tmp_path):
    """Orientation, flags and the beam on data of a real correlator."""
    ms = unpack_ms("A1775_LT10_010_4ch.ms.tgz")
    engine = make_engine(tmp_path, beam_model="auto")
    job = make_job(
        "real", [ms], 600, 3.0, robust=-0.25, uv_km=(0.1, 60.0), major_cycles=2, n_bands=1,
        peak_factor=0.05, column="DATA",
    )
    result = engine.image(job, Listener())
    picture = product(tmp_path, "real", "app_restored")
    y, x = (round(float(np.ravel(v)[0])) for v in picture.grid.pixel_of(*HEAD_TAIL))
    plane = picture.plane()
    reach = int(np.ceil(3 * picture.beam[0] / picture.grid.cell))
    box = plane[y - reach : y + reach + 1, x - reach : x + reach + 1]
    dy, dx = np.array(np.unravel_index(box.argmax(), box.shape)) - reach
    assert np.hypot(dy, dx) * picture.grid.cell < picture.beam[0]
    assert box.max() > 8 * result.noise
    # turned by 180 degrees or mirrored at the equator, nothing is there
    for other in (plane[::-1, ::-1], plane[::-1]):
        part = other[y - reach : y + reach + 1, x - reach : x + reach + 1]
        assert part.max() < 0.2 * box.max()
    assert np.isfinite(product(tmp_path, "real", "norm").plane()).all()
