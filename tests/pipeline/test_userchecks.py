"""What the user brings is read before any work, and baselines that no data has are refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ddfpipe.data.images import SkyGrid, write_image
from ddfpipe.data.setsize import SetSize
from ddfpipe.pipeline.userchecks import problems
from ddfpipe.units import ARCSEC
from workplace import configuration

CENTRE = SimpleNamespace(phase_centre=(1.0, 0.5))
STATIONS = SetSize(np.array([[0.0, 0, 0], [3000, 4000, 0]]), np.zeros(1), 8.0, np.zeros(1))


def told(folder, **options):
    found = problems(configuration(**options), folder, [CENTRE], [STATIONS])
    return [problem.text for problem in found]


@pytest.mark.parametrize("option", [
    "image__clusterfile", "masking__tgss", "masking__region", "inputmodel__skymodel",
    "inputmodel__basemaskname", "control__redo_DI_model", "spectra__catalogue",
])
def test_files_that_cannot_be_understood_are_named_with_their_option(tmp_path, option):
    (tmp_path / "some.file").write_bytes(b"\x00\xff nothing of use")
    used = {"control__redo_DI": True, "spectra__do_dynspec": True}
    texts = told(tmp_path, **used, **{option: "some.file"})
    section, name = option.split("__")
    assert len(texts) == 1 and texts[0].startswith(f"[{section}] {name}: ")
    assert "some.file" in texts[0]


def test_what_is_not_used_is_not_looked_at(tmp_path):
    assert told(tmp_path, spectra__catalogue="none", control__redo_DI_model="none") == []


def test_the_mask_of_an_input_model_has_the_pixels_of_the_images(tmp_path):
    mask = tmp_path / "mask.fits"
    write_image(mask, np.ones((64, 64), np.float32), SkyGrid(1.0, 0.5, 64, 64, 3 * ARCSEC),
                freq=150e6)
    options = {"inputmodel__basemaskname": "mask.fits", "image__imsize": 64}
    assert told(tmp_path, image__cellsize=3.0, **options) == []
    text, = told(tmp_path, image__cellsize=4.0, **options)
    assert "64 x 64 pixels of 3 arcsec" in text and "64 of 4" in text
    grid = SkyGrid(1.0, 0.6, 64, 64, 3 * ARCSEC)
    write_image(mask, np.ones((64, 64), np.float32), grid, freq=150e6)
    assert "about the phase centre" in told(tmp_path, image__cellsize=3.0, **options)[0]


@pytest.mark.parametrize("options, words", [
    ({"image__uvmin": 5.1}, "[image] uvmin is 5.1 km, but the longest baseline of the data has 5"),
    ({"solutions__uvmin": 6.0}, "[solutions] uvmin is 6 km"),
    ({"solutions__uvmin_very_slow": 7.0, "solutions__do_very_slow": True},
     "[solutions] uvmin_very_slow is 7 km"),
])
def test_shortest_baselines_beyond_the_longest_are_refused(tmp_path, options, words):
    text, = told(tmp_path, **options)
    assert text.startswith(words)


def test_shortest_baselines_that_only_lose_weight_are_not(tmp_path):
    assert told(tmp_path, solutions__uvmin=6.0, solutions__wtuv=0.1) == []
