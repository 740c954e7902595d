"""Factors from mock sources: right, with right errors, repeatable; refusals."""

from __future__ import annotations

import numpy as np
import pytest

from ddfpipe.data.scales import FactorTable, interpolate, load_factors, save_factors, unity
from ddfpipe.errors import DataError, StageFailed
from ddfpipe.products.fluxscale.fit import Posterior, fit_factors
from ddfpipe.products.fluxscale.run import fit_twice
from ddfpipe.products.fluxscale.spectra import read_crossmatch, write_crossmatch, write_frequencies
from fluxscale_fields import mock_spectra


class Silent:
    """A monitor that only counts."""

    def __init__(self):
        self.messages = []

    def check(self):
        pass

    def progress(self, what, done, total):
        assert 0 < done <= total

    def message(self, text):
        self.messages.append(text)


def product_files(folder):
    return {kind: folder / name for kind, name in {
        "crossmatch_1": "c1.fits", "crossmatch_2": "c2.fits", "frequencies": "f.txt",
        "results_1": "r1.npy", "results_2": "r2.npy"}.items()}


def test_errors_are_those_that_factors_have():
    """Eight fields with scatter and wrong matches; tests/bench/flux_scale.py has many more."""
    pulls, off = [], []
    for seed in range(8):
        spectra, true = mock_spectra(seed, outliers=3)
        first = fit_factors(spectra, times=5)
        kept = spectra.select(~first.improbable)
        fit = fit_factors(kept, robust=False, start=first.factor, times=5)
        pulls.append((fit.factor - true) / fit.error)
        off.append(fit.factor / true - 1)
        assert kept.size >= spectra.size - 4
        assert np.all((fit.low < fit.factor) & (fit.factor < fit.high))
    assert 0.6 < np.std(pulls) < 1.5 and abs(np.mean(pulls)) < 0.8
    assert np.abs(off).max() < 0.04 and np.std(off) < 0.015


def test_the_sources_parameters_are_integrated_out_exactly():
    """Against a direct integral over amplitude and index of one source."""
    spectra, _ = mock_spectra(3, sources=1)
    posterior = Posterior(spectra, robust=False)
    theta = np.append(np.linspace(-0.1, 0.1, 6), [0.05, 0.02])
    other = theta + np.r_[0.03, np.zeros(5), 0.01, 0.0]
    both = posterior(np.stack([theta, other]))

    def by_hand(theta):
        w = posterior.weights(theta[None, 6:])[0, 0]
        z = posterior.offsets(theta[None, :6])[0, 0]
        chi2, level, index, _, _ = (float(v[0, 0]) for v in posterior.power_laws(theta[None]))
        a = level + np.linspace(-0.3, 0.3, 801)[:, None, None]
        b = index + np.linspace(-0.6, 0.6, 801)[None, :, None]
        value = np.exp(-0.5 * (w * (z - a - b * posterior.x) ** 2).sum(-1) + 0.5 * chi2)
        norm = 0.5 * np.log(w[posterior.known[0]]).sum()
        prior = -0.5 * ((theta[6:] / 0.1) ** 2).sum()
        return np.log(value.sum()) - 0.5 * chi2 + norm + prior

    assert both[1] - both[0] == pytest.approx(by_hand(other) - by_hand(theta), abs=1e-3)


def test_the_same_sources_give_the_same_numbers():
    spectra, _ = mock_spectra(5, sources=12)
    one, two = fit_factors(spectra, times=3), fit_factors(spectra, times=3)
    np.testing.assert_array_equal(one.rows(), two.rows())
    assert one.autocorrelation == two.autocorrelation > 1


def test_wrong_matches_are_left_out_and_all_is_written(tmp_path):
    spectra, true = mock_spectra(8, sources=20, outliers=2)
    files, monitor = product_files(tmp_path), Silent()
    first, kept, second = fit_twice(spectra, 5, files, monitor)
    assert kept.size == 18 and second.converged
    assert np.abs(second.factor / true - 1).max() < 0.05
    assert read_crossmatch(files["crossmatch_1"]).size == 20
    np.testing.assert_allclose(read_crossmatch(files["crossmatch_2"]).flux, kept.flux)
    np.testing.assert_array_equal(np.load(files["results_1"]), first.rows())
    np.testing.assert_array_equal(np.load(files["results_2"])[:, 0], second.factor)
    lines = [line.split() for line in files["frequencies"].read_text().splitlines()]
    assert [float(line[0]) for line in lines] == pytest.approx(list(spectra.frequency))
    assert [line[1] for line in lines] == ["False"] * 3 + ["True"] * 6
    assert any("18 of 20 sources fit" in text for text in monitor.messages)
    with pytest.raises(StageFailed, match="18 reference sources agree.*19 are needed"):
        fit_twice(spectra, 19, files, monitor)


def test_data_that_are_not_in_jansky_are_refused():
    spectra, _ = mock_spectra(2, sources=10)
    flux = np.where(spectra.scaled, 1e-4, 1.0) * spectra.flux
    error = np.where(spectra.scaled, 1e-4, 1.0) * spectra.error
    raw = type(spectra)(spectra.ra, spectra.dec, spectra.names, spectra.frequency, spectra.scaled,
                        flux, error)
    with pytest.raises(StageFailed, match=r"at 122.0 MHz.*colname"):
        fit_factors(raw)


def test_a_stop_ends_a_fit():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_factors(mock_spectra(1, sources=8)[0], check=stop)


def test_tables_survive_the_disk(tmp_path):
    spectra, _ = mock_spectra(4, sources=7)
    write_crossmatch(tmp_path / "c.fits", spectra)
    write_frequencies(tmp_path / "f.txt", spectra)
    again = read_crossmatch(tmp_path / "c.fits")
    assert again.names == spectra.names
    for name in ("ra", "dec", "frequency", "scaled", "flux", "error"):
        np.testing.assert_allclose(getattr(again, name), getattr(spectra, name))
    with pytest.raises(DataError, match="none.fits.*run the bootstrap"):
        read_crossmatch(tmp_path / "none.fits")

    table = FactorTable("L1", (1e8, 2e8), (0.9, 1.1), (0.01, 0.02), (0.89, 1.08), (0.91, 1.12), 9)
    path, text = save_factors(tmp_path / "x.json", table)
    assert load_factors(path).factor == table.factor and "1.1000" in text.read_text()
    assert np.isnan(load_factors(path).spectral_index)
    for damage in ("", "[]", "{}", path.read_text().replace("0.9,", "")):
        path.write_text(damage)
        with pytest.raises(DataError, match="x.json"):
            load_factors(path)


def test_between_and_beyond_the_frequencies():
    x, y = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0])
    at = np.array([0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    np.testing.assert_allclose(interpolate(x, y, at), [-1, 1, 2, 3, 2.5, 2, 1])
    assert interpolate(x[:1], y[:1], 7.0) == 1.0
    nothing = unity("L1", [1e8, 2e8], "no catalogue")
    assert nothing.at(1.7e8) == 1.0 and not nothing.scaled and "no catalogue" in nothing.text()
