"""Measurement sets, lists and truth as others will read them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddfpipe.errors import DataError
from ddfpipe.simulate.run import simulate
from ddfpipe.simulate.truth import read_truth

from .conftest import SMALL, plain, read, variant

ROOT = Path(__file__).resolve().parents[2]


def test_measurement_set_has_what_readers_need(small):
    from casacore.tables import table

    made, folder = small
    assert [p.name for p in made.ms] == ["L000009_SB000.ms", "L000009_SB001.ms"]
    for ms, mhz in zip(made.ms, (121.0, 166.0)):
        main = table(str(ms), ack=False)
        assert main.nrows() == 6 * 21
        assert main.getcolkeyword("TIME", "MEASINFO")["Ref"] == "UTC"
        assert main.getcell("DATA", 0).shape == (3, 4)
        assert main.getcell("WEIGHT_SPECTRUM", 0).dtype == np.float32
        assert np.all(np.diff(main.getcol("TIME")) >= 0)
        assert set(main.getcol("SCAN_NUMBER")) == {0, 1}
        main.close()
        freq = read(f"{ms}::SPECTRAL_WINDOW", "CHAN_FREQ")[0]
        np.testing.assert_allclose(freq, mhz * 1e6 + 97656.25 * np.arange(3))
        assert read(f"{ms}::OBSERVATION", "TELESCOPE_NAME") == ["LOFAR"]
        assert list(read(f"{ms}::POLARIZATION", "CORR_TYPE")[0]) == [9, 10, 11, 12]
        positions = read(f"{ms}::ANTENNA", "POSITION")
        rows = read(ms, "TIME") == read(ms, "TIME")[0]
        length = np.linalg.norm(read(ms, "UVW")[rows], axis=1)
        p, q = read(ms, "ANTENNA1")[rows], read(ms, "ANTENNA2")[rows]
        np.testing.assert_allclose(length, np.linalg.norm(positions[q] - positions[p], axis=1))
    assert made.mslist.read_text() == "L000009_SB000.ms\n"
    assert made.big_mslist.read_text().split() == ["L000009_SB000.ms", "L000009_SB001.ms"]


def test_truth_beside_the_data(small):
    made, folder = small
    truth = read_truth(folder)
    assert truth.index("L000009_SB001.ms") == 1
    with pytest.raises(DataError, match="L000009_SB007"):
        truth.index("L000009_SB007.ms")
    assert len(truth.sources) == 7 and truth.spec["seed"] == 11
    radec = truth.arrays["source_radec"]
    from_text = np.array([[s.ra, s.dec] for s in truth.sources])
    np.testing.assert_allclose(from_text, radec, atol=5e-11)
    assert truth.spec == json.loads((folder / "truth.json").read_text())
    with pytest.raises(DataError, match="truth.npz"):
        read_truth(folder / "nowhere")


def test_all_dutch_stations_like_the_real_ones(unpack_ms):
    from ddfpipe.simulate.stations import dutch_stations

    stations = {s.name: s for s in dutch_stations()}
    assert len(stations) == 62
    path = unpack_ms("lsmtool_test_midbands_PREDICTED_DATA.ms.tgz")
    names = read(f"{path}::ANTENNA", "NAME")
    assert sorted(names) == sorted(stations)
    fields = f"{path}::LOFAR_ANTENNA_FIELD"
    positions, axes = read(fields, "POSITION"), read(fields, "COORDINATE_AXES")
    tiles, elements = read(fields, "TILE_ELEMENT_OFFSET"), read(fields, "ELEMENT_OFFSET")
    for k, name in enumerate(names):
        station = stations[name]
        assert np.linalg.norm(station.position - positions[k]) < 1.0  # ETRS moves in ITRF
        np.testing.assert_allclose(station.axes, axes[k], atol=2e-3)
        found = station.tile[np.lexsort(np.round(station.tile, 1).T)]
        wanted = tiles[k][np.lexsort(np.round(tiles[k], 1).T)]
        distance = np.linalg.norm(station.tile[:, None] - tiles[k][None], axis=-1)
        assert distance.min(axis=1).max() < 0.02, (name, found, wanted)
        apart = np.linalg.norm(station.elements[:, None] - elements[k][None], axis=-1)
        assert apart.min(axis=1).max() < 0.1


def test_real_metadata_are_copied(unpack_ms, tmp_path):
    source = unpack_ms("lsmtool_test_midbands_PREDICTED_DATA.ms.tgz")
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(source.rglob("table.*"))}
    data_before = read(source, "DATA")
    spec = variant(like=str(source), sky={"n_sources": 3, "extended_jy": 0.0, "n_gaussian": 0})
    made = simulate(spec, tmp_path / "out", threads=2)
    (ms,) = made.ms
    for column in ("UVW", "FLAG", "WEIGHT_SPECTRUM", "TIME", "ANTENNA1", "ANTENNA2", "EXPOSURE"):
        np.testing.assert_array_equal(read(ms, column), read(source, column))
    assert read(f"{ms}::ANTENNA", "NAME") == read(f"{source}::ANTENNA", "NAME")
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in before}
    np.testing.assert_array_equal(read(source, "DATA"), data_before)
    truth = read_truth(tmp_path / "out")
    good = ~read(ms, "FLAG")[:, 0, 0]
    signal = (read(ms, "CLEAN_DATA") - read(ms, "NOISE_DATA"))[good, 0, 0]
    freq = read(f"{ms}::SPECTRAL_WINDOW", "CHAN_FREQ")[0]
    from ddfpipe.simulate.sky import fluxes
    from ddfpipe.units import SPEED_OF_LIGHT

    short = np.linalg.norm(read(ms, "UVW")[good], axis=1) < 3e3
    assert short.sum() > 100
    phase = 2 * np.pi * freq[0] / SPEED_OF_LIGHT * read(ms, "UVW")[good] @ truth.arrays[
        "source_lmn"].T
    wanted = np.exp(1j * phase) @ fluxes(truth.sources, freq)[:, 0]
    assert np.abs(signal - wanted)[short].max() < 0.02 * np.abs(wanted).max()  # smearing
    assert np.abs(read(ms, "DATA")[good, 0, 0] - signal).max() > 0.5


def test_like_refuses_what_it_cannot_copy(unpack_ms, tmp_path):
    with pytest.raises(DataError, match="not a readable"):
        simulate(variant(like=str(tmp_path / "no.ms")), tmp_path / "out")
    several = unpack_ms("tNDPPP-bda.MS.tgz")
    with pytest.raises(DataError, match="one spectral window"):
        simulate(variant(like=str(several)), tmp_path / "out")


def test_nothing_but_measurement_sets_is_replaced(tmp_path):
    spec = plain(observation={"n_ms": 1})
    simulate(spec, tmp_path, threads=1)
    simulate(spec, tmp_path, threads=1)
    other = tmp_path / "b" / "L000009_SB000.ms"
    other.mkdir(parents=True)
    (other / "precious.txt").write_text("keep")
    with pytest.raises(DataError, match="not a measurement set"):
        simulate(spec, tmp_path / "b", threads=1)
    assert (other / "precious.txt").read_text() == "keep"


def run_script(*arguments, cwd=None):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "simulate.py"), *arguments],
        capture_output=True, text=True, env=environment, cwd=cwd,
    )


def test_script_simulates(tmp_path):
    config = tmp_path / "tiny.toml"
    config.write_text(
        "seed = 3\n[observation]\ncore_fields = 2\nremote_stations = 1\nn_ms = 2\nblocks = 1\n"
        "slots = 2\n[sky]\nn_sources = 2\nn_bright = 1\n"
    )
    done = run_script("--config", str(config), "--output", str(tmp_path / "out"),
                      "--set", "sky.brightest_jy=4", "--set", "observation.name=L7")
    assert done.returncode == 0, done.stderr
    assert "2 measurement sets" in done.stdout
    truth = read_truth(tmp_path / "out")
    assert truth.sources[0].flux == 4.0
    assert (tmp_path / "out" / "L7_SB001.ms" / "table.dat").is_file()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--config", "nowhere.toml"], "neither a file nor a preset"),
        (["--set", "sky.sources=3"], "sky.sources is unknown"),
        (["--set", "sky.n_sources=many"], "is not of type int"),
        (["--set", "beam=gaussian"], "beam must be one of"),
        (["--set", "beam"], "section.option=value"),
    ],
)
def test_script_says_what_is_wrong(tmp_path, arguments, said):
    done = run_script("--output", str(tmp_path / "out"), *arguments)
    assert done.returncode == 1
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_presets_are_valid_and_small_set_matches():
    from ddfpipe.simulate.spec import load_spec

    known = load_spec("known-answer")
    assert known.observation.core_fields + known.observation.remote_stations == 62
    assert known.sky.n_bright >= 8 and known.sky.n_sources == 120 and known.sky.extended_jy > 0
    assert known.beam == "array_factor" and known.smearing
    assert load_spec("example").observation.remote_stations == 14
    assert SMALL.observation.n_ms == 2
