"""Any number of threads, any directory, with or without cache: the same images, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from engine_fields import Listener, make_engine, make_job, product, write_directions, write_mask

from ddfpipe.engines.native import visibilities
from ddfpipe.naming import image_product

NPIX, CELL = 360, 24.0
KINDS = (
    "dirty", "app_model", "int_model", "app_residual", "int_residual", "app_restored",
    "int_restored", "psf", "norm",
)


def run(folder, simulation, sources, threads=1, name="image", **changes):
    """Image with Voronoi facets; returns the listener."""
    folder.mkdir(parents=True, exist_ok=True)
    write_directions(folder, sources)
    mask = write_mask(folder, "discs.fits", NPIX, CELL, sources)
    settings = dict(
        robust=-0.25, uv_km=(0.2, 4.0), major_cycles=2, external_mask=mask,
        clusters="directions.npy", peak_factor=0.05,
    )
    listener = Listener()
    make_engine(folder, threads).image(
        make_job(name, simulation, NPIX, CELL, **{**settings, **changes}), listener
    )
    return listener


def differences(first, second, names=("image", "image")) -> list[str]:
    """Products whose pixels or model differ."""
    out = []
    for kind in KINDS:
        a, b = (product(f, n, kind).plane() for f, n in zip((first, second), names))
        if not np.array_equal(a, b, equal_nan=True):
            out.append(kind)
    models = [np.load(f / image_product(n, "model")) for f, n in zip((first, second), names)]
    out += [k for k in models[0] if not np.array_equal(models[0][k], models[1][k])]
    return out


@pytest.fixture(scope="module")
def reference(plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_thread")
    run(folder, *plain)
    return folder


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_and_directories_change_nothing(plain, reference, tmp_path, threads):
    run(tmp_path, *plain, threads=threads)
    assert differences(reference, tmp_path) == []


def test_large_images_lie_on_disk_and_are_the_same(plain, reference, tmp_path, monkeypatch):
    """What is large is a matter of a limit; nothing is left behind."""
    made = []

    def counted(path, *args):
        made.append(path)
        return allocate(path, *args)

    allocate = visibilities.allocate
    monkeypatch.setattr(visibilities, "IN_MEMORY", 0)
    monkeypatch.setattr(visibilities, "allocate", counted)
    run(tmp_path, *plain)
    images = [path for path in made if path.stem.startswith("image")]
    assert len(images) > 5 and not any(path.exists() for path in images)
    assert differences(reference, tmp_path) == []


def test_cache_changes_nothing(plain, reference):
    """The same job again in the same place takes its PSF from the cache."""
    before = {k: product(reference, "image", k).plane().copy() for k in KINDS}
    run(reference, *plain)
    for kind, image in before.items():
        assert np.array_equal(image, product(reference, "image", kind).plane(), equal_nan=True)


@pytest.mark.parametrize("what", ["residual", "dirty"])
def test_reuse_equals_gridding_anew(plain, tmp_path, what):
    """Going on from an image's model with what it left, and without any of it."""
    simulation, sources = plain
    cached, fresh = tmp_path / "cached", tmp_path / "fresh"
    start = "first" if what == "residual" else None
    for folder in (cached, fresh):
        run(folder, simulation, sources, name="first", major_cycles=1)
    make_engine(fresh).clear_cache(())
    heard = run(
        cached, simulation, sources, name="second", start_model=start, reuse="first",
        reuse_what=what,
    )
    assert any("taken over" in text for text in heard.messages)
    alone = run(fresh, simulation, sources, name="second", start_model=start)
    assert not any("taken over" in text for text in alone.messages)
    assert differences(cached, fresh, ("second", "second")) == []


def test_stale_cache_is_not_used(plain, tmp_path):
    """Other weights: neither residual nor PSF of the earlier image fit."""
    simulation, sources = plain
    run(tmp_path, simulation, sources, name="first", major_cycles=1)
    heard = run(
        tmp_path, simulation, sources, name="second", start_model="first", reuse="first",
        reuse_what="residual", robust=0.5,
    )
    assert not any("taken over" in text for text in heard.messages)
    other = tmp_path / "other"
    run(other, simulation, sources, name="first", major_cycles=1)
    make_engine(other).clear_cache(())
    run(other, simulation, sources, name="second", start_model="first", robust=0.5)
    assert differences(tmp_path, other, ("second", "second")) == []


def test_start_model_is_taken_out_first(plain, tmp_path):
    """The first residual of a job that starts from a model is that of the model's last cycle."""
    simulation, sources = plain
    run(tmp_path, simulation, sources, name="first", major_cycles=2)
    run(tmp_path, simulation, sources, name="second", start_model="first", major_cycles=0)
    first = product(tmp_path, "first", "app_residual").plane()
    second = product(tmp_path, "second", "dirty").plane()
    np.testing.assert_allclose(second, first, atol=1e-6)
