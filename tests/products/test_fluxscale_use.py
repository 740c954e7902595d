"""Factors at work: data as the native engine reads them, columns, script and picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddfpipe.data.scales import FactorTable, save_factors, unity
from ddfpipe.engines.base import ColumnsJob, Silent, VisSelection
from ddfpipe.engines.native.engine import NativeEngine
from ddfpipe.engines.native.visibilities import Scratch, open_data
from ddfpipe.errors import DataError
from ddfpipe.pipeline.fluxscale import scale_files, scaled_observations
from ddfpipe.products.fluxscale.plots import power_laws
from ddfpipe.products.fluxscale.run import fit_twice
from ddfpipe.products.fluxscale.spectra import write_crossmatch
from ddfpipe.simulate.run import simulate
from ddfpipe.simulate.spec import SimulationSpec, update
from fluxscale_fields import mock_spectra

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "plot_factors.py"


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Three small sets at 120, 140 and 160 MHz."""
    spec = update(SimulationSpec(), {
        "companions": False, "noise": {"sample_jy": 0.1},
        "observation": {"core_fields": 4, "remote_stations": 2, "n_ms": 3, "channels": 2,
                        "blocks": 1, "slots": 3, "first_mhz": 120.0, "last_mhz": 160.0,
                        "name": "L000007"},
        "sky": {"n_sources": 3, "n_bright": 1},
    })
    return simulate(spec, tmp_path_factory.mktemp("sets"), threads=1).ms


@pytest.fixture
def engine(tmp_path):
    return NativeEngine(workdir=tmp_path, cache_dir=tmp_path, solsdir=tmp_path / "SOLSDIR",
                        threads=1, memory_limit=1 << 30, beam_model="none")


def read(engine, sets, scale, **more):
    selection = VisSelection(tuple(sets), "DATA", scale=scale)
    with Scratch(engine.cache_dir / "scratch") as scratch:
        data = open_data(selection, cache_dir=engine.cache_dir, solsdir=engine.solsdir,
                         scratch=scratch, weights="spectrum", workdir=engine.workdir, **more)
        return [(np.array(s.vis), np.array(s.weight), np.array(s.reader(slice(0, 2))),
                 s.reader.key(), float(s.cache.freq.mean())) for s in data.sets]


def test_data_are_multiplied_and_weights_are_not(engine, sets, tmp_path):
    save_factors(tmp_path / "bootstrap_L000007_factors.json", FactorTable(
        "L000007", (130e6, 150e6), (0.8, 1.2), (0.0,) * 2, (0.0,) * 2, (0.0,) * 2))
    plain, scaled = read(engine, sets, None), read(engine, sets, "bootstrap")
    for one, two in zip(plain, scaled):
        factor = 0.8 + 0.02 * (one[4] / 1e6 - 130)
        np.testing.assert_allclose(two[0], factor * one[0], rtol=1e-5)
        np.testing.assert_allclose(two[2], factor * one[2], rtol=1e-5)
        np.testing.assert_array_equal(two[1], one[1])
        assert one[3] != two[3]
    again = read(engine, sets, "bootstrap")
    assert [one[3] for one in again] == [one[3] for one in scaled]
    save_factors(tmp_path / "bootstrap_L000007_factors.json", unity("L000007", [1.4e8], "none"))
    for one, two in zip(plain, read(engine, sets, "bootstrap")):
        np.testing.assert_array_equal(one[0], two[0])


def test_a_missing_table_is_named(engine, sets):
    with pytest.raises(DataError, match="other_L000007_factors.json.*run the bootstrap again"):
        read(engine, sets, "other")


def test_scaled_column(engine, sets, tmp_path):
    from casacore.tables import table

    save_factors(tmp_path / "bootstrap_L000007_factors.json", FactorTable(
        "L000007", (1e8, 2e8), (0.9, 0.9), (0.0,) * 2, (0.0,) * 2, (0.0,) * 2))
    job = ColumnsJob(tuple(sets[:1]), "DATA", ("SCALED_DATA",), scale="bootstrap")
    assert engine.export_columns(job, Silent()) > 0
    with table(str(sets[0]), ack=False) as main:
        np.testing.assert_allclose(main.getcol("SCALED_DATA"), 0.9 * main.getcol("DATA"),
                                   rtol=1e-5)


def test_script_prints_and_draws(tmp_path):
    spectra, true = mock_spectra(8, sources=15)
    files = scale_files(tmp_path, "L7")
    first, kept, second = fit_twice(spectra, 5, files, Silent())
    channels = tuple(map(float, spectra.channels))
    table = FactorTable(
        "L7", channels, *(tuple(map(float, v)) for v in
                          (second.factor, second.error, second.low, second.high)),
        sources=15, spectral_index=-0.75, spectral_index_error=0.05,
    )
    save_factors(files["factors"], table)
    assert scaled_observations(tmp_path) == ["L7"]

    def call(*words):
        return subprocess.run([sys.executable, str(SCRIPT), *words], cwd=tmp_path, text=True,
                              capture_output=True, timeout=600)

    result = call("1")
    assert result.returncode == 0, result.stderr
    assert f"{first.factor[0]:.4f}" in result.stdout and "mean spectral index" in result.stdout
    assert (tmp_path / "factors_L7_1.png").read_bytes().startswith(b"\x89PNG")
    result = call("2", "L7", "--output=x.png")
    assert f"{second.factor[0]:.4f}" in result.stdout and (tmp_path / "x.png").exists()
    refused = call("2", "L8")
    assert refused.returncode == 1
    assert "no factors of L8 lie here; there are those of L7" in refused.stderr
    assert call().returncode == call("2", "--nonsense").returncode == 1
    flux, level, index = power_laws(table, kept)
    np.testing.assert_allclose(flux[:, 3:], kept.flux[:, 3:] * second.factor)
    model = np.exp(level[:, None] + index[:, None] * np.log(kept.frequency / 140e6))
    assert np.nanstd(flux / model) < 0.1


def test_picture_of_what_was_not_scaled(tmp_path):
    from ddfpipe.products.fluxscale.plots import draw_scale

    files = scale_files(tmp_path, "L7")
    save_factors(files["factors"], unity("L7", [1.2e8, 1.6e8], "no catalogue covers the field"))
    write_crossmatch(files["crossmatch_1"], mock_spectra(1, sources=3)[0])
    assert draw_scale(files, tmp_path / "previews/x.png").exists()
