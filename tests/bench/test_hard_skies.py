"""The hard skies of the bench are what they say, and its runs are configured as they ask."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hard_skies import dig_gaps, judged, preset, rate, run_config, toml_text  # noqa: E402
from known_phases import without_shift  # noqa: E402
from skies import SKIES, Extra, Gap, HardSky  # noqa: E402

from ddfpipe.simulate.run import simulate  # noqa: E402
from ddfpipe.simulate.spec import load_spec  # noqa: E402
from ddfpipe.simulate.stations import dutch_stations  # noqa: E402

TINY = {"observation.core_fields": 4, "observation.remote_stations": 3, "observation.blocks": 2,
        "observation.slots": 2, "observation.n_ms": 2, "sky.n_sources": 3, "sky.n_bright": 0}


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sky")
    first = dutch_stations(4, 3)[0].name
    sky = HardSky("", field=TINY, gaps=(Gap(first, sets=(1,)), Gap("RS", scans=(0,))))
    (folder / "field.toml").write_text(toml_text(preset(sky)))
    simulate(load_spec(folder / "field.toml"), folder)
    dig_gaps(sky, folder)
    return folder


@pytest.mark.parametrize("name", SKIES)
def test_specification_and_configuration_are_valid(name, tmp_path):
    from ddfpipe.config import load_config

    sky = SKIES[name]
    (tmp_path / "field.toml").write_text(toml_text(preset(sky)))
    spec = load_spec(tmp_path / "field.toml")
    for key, value in sky.field.items():
        section, _, option = key.rpartition(".")
        assert getattr(getattr(spec, section) if section else spec, option) == value
    (tmp_path / "run.cfg").write_text(run_config(sky, tmp_path))
    config = load_config([str(tmp_path / "run.cfg")], check=False)
    for key, value in sky.config.items():
        section, option = key.split(".")
        assert getattr(getattr(config, section), option) == value
    assert (config.image.clusterfile is not None) == bool(sky.directions)


def test_gaps_are_where_they_should_be(field):
    from casacore.tables import table

    for index in range(2):
        with table(str(field / f"L000005_SB00{index}.ms"), ack=False) as main:
            whole = main.getcol("FLAG").all(axis=(1, 2))
            ends = np.stack([main.getcol("ANTENNA1"), main.getcol("ANTENNA2")])
            scan = main.getcol("SCAN_NUMBER")
        remote = (ends >= 4).any(axis=0) & (scan == scan.min())
        assert whole[remote].all()
        first = (ends == 0).any(axis=0) & ~remote
        assert whole[first].all() if index else not whole[first].all()
        rest = ~remote & ~(ends == 0).any(axis=0)
        assert not whole[rest].all()


def test_truth_to_compare_with_lacks_what_lies_outside(field):
    from ddfpipe.simulate.truth import read_truth

    everything = read_truth(field)
    some = read_truth(judged(replace(SKIES["a-team"], outside=("s0001",)), field))
    assert [s.name for s in some.sources] == ["s0000", "s0002"]
    np.testing.assert_array_equal(some.arrays["tec"], everything.arrays["tec"][:, :, [0, 2]])
    kept = everything.direction_gains(1)[:, :, [0, 2]]
    np.testing.assert_array_equal(some.direction_gains(1), kept)


def test_rate_of_the_ionosphere_follows_the_wind(tmp_path, field):
    sky = HardSky("", field=TINY | {"ionosphere.wind_m_s": 0.0})
    (tmp_path / "field.toml").write_text(toml_text(preset(sky)))
    simulate(load_spec(tmp_path / "field.toml"), tmp_path)
    assert rate(field) > 1.5 * rate(tmp_path) > 0


def test_extended_sources_and_those_outside_exist():
    for sky in SKIES.values():
        names = {extra.name for extra in sky.extras}
        assert names.issuperset(sky.extended) and names.issuperset(sky.outside)
        assert all(isinstance(extra, Extra) and extra.flux > 0 for extra in sky.extras)


def test_phases_of_a_shifted_direction_are_compared_as_if_it_were_not():
    """Stations of 60 km turn by more than half a circle; one that was not solved is left out."""
    rng = np.random.default_rng(4)
    freq, shift = np.array([120e6, 160e6]), np.deg2rad(np.array([4.0, -3.0]) / 3600)
    place = np.append(rng.uniform(-1e3, 1e3, (14, 2)), rng.uniform(-6e4, 6e4, (6, 2)), axis=0)
    turn = np.linspace(0, 2, 30)[:, None]
    uv = np.stack([place[:, 0] * np.cos(turn), place[:, 1] * np.sin(1 + turn)], axis=-1)
    noise = rng.normal(0, 0.1, (2, 30, 20, 1))
    turns = 2 * np.pi * (uv @ shift)[None] * (freq / 299792458.0)[:, None, None]
    assert np.ptp(turns) > 2 * np.pi
    left, weight = np.angle(np.exp(1j * (turns[..., None] + noise + 1.0))), np.ones(noise.shape)
    left[:, 7, 19], weight[:, 7, 19] = 2.0, 0.0
    rest, found = without_shift(left, weight, uv, freq)
    np.testing.assert_allclose(found, [[4.0, -3.0]], atol=0.05)
    assert np.abs(rest - noise)[weight > 0].max() < 0.2
