"""Written visibilities against independent sums over the written tables and truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ddfpipe.simulate import geometry
from ddfpipe.simulate.run import make_layout, simulate
from ddfpipe.simulate.sky import fluxes, lmn_of
from ddfpipe.simulate.truth import read_truth
from ddfpipe.units import ARCSEC, DEGREE, SPEED_OF_LIGHT

from .conftest import SMALL, column_keywords, plain, read, variant


def direct_sum(ms, truth, index, corrupted):
    """(row, chan, 2, 2) of the measurement model, smearing left out, from tables and truth."""
    freq = read(f"{ms}::SPECTRAL_WINDOW", "CHAN_FREQ")[0]
    uvw, times = read(ms, "UVW"), read(ms, "TIME")
    p, q = read(ms, "ANTENNA1"), read(ms, "ANTENNA2")
    t = np.searchsorted(truth.arrays["time"], times)
    gain = truth.direction_gains(index)
    jones = truth.station_jones(index).astype(complex)
    out = np.zeros((len(uvw), len(freq)), complex)
    flux = fluxes(truth.sources, freq)
    wave = freq / SPEED_OF_LIGHT
    for s, source in enumerate(truth.sources):
        l, m, n1 = truth.arrays["source_lmn"][s]
        phase = 2 * np.pi * (uvw @ [l, m, n1])[:, None] * wave
        east, north = math.sin(source.pa), math.cos(source.pa)
        along = (uvw[:, 0] * east + uvw[:, 1] * north)[:, None] * wave * source.major
        across = (uvw[:, 0] * north - uvw[:, 1] * east)[:, None] * wave * source.minor
        # A Gaussian's transform falls to exp(-x^2) at x = pi FWHM / (2 sqrt(ln 2)) of baseline.
        envelope = np.exp(-(math.pi**2) / (4 * math.log(2)) * (along**2 + across**2))
        term = flux[s] * envelope * np.exp(1j * phase)
        if corrupted:
            term = term * gain[t, p, s] * gain[t, q, s].conj()
        out += term
    out = out[..., None, None] * np.eye(2)
    if corrupted:
        out = jones[t, p] @ out @ jones[t, q].conj().swapaxes(-1, -2)
    return out


@pytest.fixture(scope="module")
def unsmeared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unsmeared")
    return simulate(variant(smearing=False), folder, threads=1), folder


@pytest.mark.parametrize("index", [0, 1])
def test_data_are_the_direct_sum(unsmeared, index):
    made, folder = unsmeared
    truth = read_truth(folder)
    ms = made.ms[index]
    noise = read(ms, "NOISE_DATA")
    for column, corrupted in (("DATA", True), ("CLEAN_DATA", False)):
        good = ~read(ms, "FLAG")
        found = read(ms, column) - noise
        wanted = direct_sum(ms, truth, index, corrupted).reshape(found.shape)
        scale = np.abs(wanted).max()
        assert good.mean() > 0.3
        assert np.abs(found - wanted)[good].max() < 1e-5 * scale
    assert np.abs(read(ms, "DATA") - read(ms, "CLEAN_DATA")).max() > 0.3 * scale


@pytest.mark.parametrize("beam", ["array_factor", "full"])
def test_beam_is_in_both_columns(beam, tmp_path):
    """V = J_p (sum_s coherency B_ps B_qs^H) J_q^H; the ionosphere is in B of DATA only."""
    spec = variant(beam=beam, smearing=False, noise={"sample_jy": 0.0, "rfi_jy": 0.0},
                   sky={"n_gaussian": 0, "extended_jy": 0.0},
                   observation={"blocks": 2, "slots": 1, "n_ms": 1})
    made = simulate(spec, tmp_path / "out", threads=1)
    truth = read_truth(tmp_path / "out")
    ms = made.ms[0]
    keywords = column_keywords(ms, "DATA")
    mode = {"array_factor": "ArrayFactor", "full": "Full"}[beam]
    assert keywords["LOFAR_APPLIED_BEAM_MODE"] == mode
    assert keywords["LOFAR_APPLIED_BEAM_DIR"]["m1"]["value"] == pytest.approx(50 * DEGREE)
    t = np.searchsorted(truth.arrays["time"], read(ms, "TIME"))
    p, q = read(ms, "ANTENNA1"), read(ms, "ANTENNA2")
    freq = truth.arrays["freq_0"]
    phase = 2 * np.pi * (read(ms, "UVW") @ truth.arrays["source_lmn"].T)[..., None]
    coherency = fluxes(truth.sources, freq) * np.exp(1j * phase * freq / SPEED_OF_LIGHT)
    jones = truth.station_jones(0)
    for column, gain in (("DATA", truth.direction_gains(0)),
                         ("CLEAN_DATA", truth.arrays["beam_0"])):
        if gain.ndim == 4:
            gain = gain[..., None, None] * np.eye(2)
        both = gain[t, p] @ gain[t, q].conj().swapaxes(-1, -2)
        wanted = np.einsum("rsc,rscij->rcij", coherency, both)
        if column == "DATA":
            wanted = jones[t, p] @ wanted @ jones[t, q].conj().swapaxes(-1, -2)
        found = read(ms, column)
        assert np.abs(found - wanted.reshape(found.shape)).max() < 1e-5 * np.abs(wanted).max()
    size = np.abs(truth.arrays["beam_0"]).max(axis=(0, 1, 3))
    assert size.min() < 0.97  # sources up to 1.5 degrees away


def test_smearing_is_the_mean_over_the_cell(model_file, tmp_path):
    """Brute force: the Earth's true orientation (casacore) inside each cell."""
    line = "far, POINT, 14:10:00.0, +52.15.00.0, 1.5, [0.0], true, 144e6"
    long = {"interval_s": 16.0, "slots": 2, "blocks": 2, "n_ms": 1}
    spec = plain(smearing=True, sky={"model": model_file(line)}, observation=long)
    made = simulate(spec, tmp_path / "out", threads=1)
    found = read(made.ms[0], "DATA")[..., 0]
    layout, _, _ = make_layout(spec)
    (source,) = read_truth(tmp_path / "out").sources
    lmn = lmn_of(source.ra, source.dec, layout.ra0, layout.dec0)
    freq = geometry.band(spec.observation)[0]
    nodes, weights = np.polynomial.legendre.leggauss(10)  # exact to 1e-9 for these phases
    mean = np.zeros((*layout.uvw.shape[:2], len(freq)), complex)
    for node, weight in zip(nodes, weights / 2):
        times = layout.times + node / 2 * layout.interval
        rotation = geometry.earth_rotations(times, layout.ra0, layout.dec0)
        uvw = geometry.baseline_uvw(rotation, layout.positions, layout.ant1, layout.ant2)
        tau = (uvw @ lmn) / SPEED_OF_LIGHT
        for other, share in zip(nodes, weights / 2):
            nu = freq + other / 2 * spec.observation.channel_khz * 1e3
            mean += 1.5 * weight * share * np.exp(2j * np.pi * tau[..., None] * nu)
    mean = mean.reshape(found.shape)
    assert np.abs(mean).min() < 1.2  # the case is one where smearing matters
    coarse = np.abs(found - mean).max()
    assert coarse < 5e-4
    finer = variant(spec, subsamples=4)
    again = read(simulate(finer, tmp_path / "fine", threads=1).ms[0], "DATA")[..., 0]
    assert np.abs(again - mean).max() < 0.3 * coarse


def test_source_north_east_has_the_phase_of_its_geometric_delay(model_file, tmp_path):
    """V_pq = S exp(+2 pi i nu/c (r_q - r_p).(s - s0)), with directions from casacore's measures."""
    from casacore.measures import measures

    line = "ne, POINT, 14:02:00.0, +50.20.00.0, 2.0, [0.0], true, 144e6"
    spec = plain(sky={"model": model_file(line)}, observation={"remote_stations": 0, "n_ms": 1})
    made = simulate(spec, tmp_path / "out", threads=1)
    l, m, _ = read_truth(tmp_path / "out").arrays["source_lmn"][0]
    assert l > 0 and m > 0
    assert l == pytest.approx(30 * 60 * ARCSEC * math.cos(50.333 * DEGREE), rel=1e-3)
    ms = made.ms[0]
    positions = read(f"{ms}::ANTENNA", "POSITION")
    time = float(read(ms, "TIME")[0])
    dm = measures()
    dm.do_frame(dm.position("ITRF", *(f"{x}m" for x in geometry.CORE)))
    dm.do_frame(dm.epoch("UTC", f"{time!r}s"))

    def itrf(ra, dec):
        there = dm.measure(dm.direction("J2000", f"{ra}deg", f"{dec}deg"), "ITRF")
        lon, lat = there["m0"]["value"], there["m1"]["value"]
        return np.array([math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon),
                         math.sin(lat)])

    first = read(ms, "TIME") == time
    baseline = positions[read(ms, "ANTENNA2")[first]] - positions[read(ms, "ANTENNA1")[first]]
    delay = baseline @ (itrf(210.5, 50 + 1 / 3) - itrf(210.0, 50.0)) / SPEED_OF_LIGHT
    freq = read(f"{ms}::SPECTRAL_WINDOW", "CHAN_FREQ")[0]
    wanted = 2.0 * np.exp(2j * np.pi * delay[:, None] * freq)
    found = read(ms, "DATA")[first][..., 0]
    assert np.abs(np.angle(wanted)).max() > 0.5
    assert np.abs(found - wanted).max() < 2e-3  # differential aberration is in `itrf` only


def test_uvw_equal_those_of_the_telescope(unpack_ms):
    """Recomputed baselines against a real measurement set's, to 0.1 arcsec of rotation."""
    path = unpack_ms("lsmtool_test_midbands_PREDICTED_DATA.ms.tgz")
    centre = read(f"{path}::FIELD", "PHASE_DIR")[0, 0]
    times = np.unique(read(path, "TIME"))
    positions = read(f"{path}::ANTENNA", "POSITION")
    ant1, ant2 = read(path, "ANTENNA1"), read(path, "ANTENNA2")
    rotation = geometry.earth_rotations(times, *centre)
    for k, time in enumerate(times[:2]):
        rows = read(path, "TIME") == time
        uvw = geometry.baseline_uvw(rotation[k : k + 1], positions, ant1[rows], ant2[rows])[0]
        error = np.linalg.norm(uvw - read(path, "UVW")[rows], axis=1)
        assert np.all(error <= 0.1 * ARCSEC * np.linalg.norm(uvw, axis=1) + 1e-3)


def test_closure_phases_survive_station_errors(model_file, tmp_path):
    line = "one, POINT, 14:02:00.0, +50.20.00.0, 2.0, [-0.7], true, 144e6"
    errors = {"amplitude_rms": 0.2, "phase_rms_rad": 1.0, "clock_rms_ns": 5.0}
    spec = plain(sky={"model": model_file(line)}, errors=errors,
                 ionosphere={"diffractive_km": 5.0, "npix": 512})
    made = simulate(spec, tmp_path / "out", threads=1)
    n_ant = 7
    data = read(made.ms[1], "DATA")
    pair = {pq: k for k, pq in enumerate(zip(*np.triu_indices(n_ant, 1)))}
    for corr in (0, 3):
        vis = data[..., corr].reshape(-1, len(pair), 3).astype(complex)
        bispectrum = (vis[:, pair[0, 1]] * vis[:, pair[1, 6]] * vis[:, pair[0, 6]].conj())
        assert np.abs(np.angle(bispectrum)).max() < 1e-5
        assert np.abs(np.angle(vis[:, pair[0, 6]])).max() > 0.5
    assert np.abs(data[..., 1:3]).max() == 0


def test_gaussian_falls_off_with_baseline(model_file, tmp_path):
    """A Gaussian at the centre: real, log-amplitude -(pi FWHM b)^2 / (4 ln 2) along its axes."""
    line = "g, GAUSSIAN, 14:00:00.0, +50.00.00.0, 3.0, [0.0], true, 144e6, 30.0, 10.0, 25.0"
    made = simulate(plain(sky={"model": model_file(line)}), tmp_path / "out", threads=1)
    ms = made.ms[1]
    wave = read(f"{ms}::SPECTRAL_WINDOW", "CHAN_FREQ")[0, 1] / SPEED_OF_LIGHT
    uvw, vis = read(ms, "UVW") * wave, read(ms, "DATA")[:, 1, 0]
    angle = 25 * DEGREE
    along = uvw[:, 0] * math.sin(angle) + uvw[:, 1] * math.cos(angle)
    across = uvw[:, 0] * math.cos(angle) - uvw[:, 1] * math.sin(angle)
    power = ((30 * along) ** 2 + (10 * across) ** 2) * (math.pi * ARCSEC) ** 2 / (4 * math.log(2))
    assert power.max() > 2
    np.testing.assert_allclose(vis.real, 3 * np.exp(-power), atol=1e-5)
    assert np.abs(vis.imag).max() < 1e-6


def test_spectrum_is_logarithmic(model_file, tmp_path):
    line = "s, POINT, 14:00:00.0, +50.00.00.0, 2.0, [-0.8, 0.3], true, 150e6"
    made = simulate(plain(sky={"model": model_file(line)}), tmp_path / "out", threads=1)
    for ms in made.ms:
        x = np.log10(read(f"{ms}::SPECTRAL_WINDOW", "CHAN_FREQ")[0] / 150e6)
        wanted = 2.0 * 10 ** (-0.8 * x + 0.3 * x * x)
        np.testing.assert_allclose(read(ms, "DATA")[:, :, 3].real, [wanted] * 126, rtol=1e-6)


def test_spectrum_may_be_a_polynomial(model_file, tmp_path):
    line = "s, POINT, 14:00:00.0, +50.00.00.0, 2.0, [-1.5, 0.4], false, 150e6"
    made = simulate(plain(sky={"model": model_file(line)}), tmp_path / "out", threads=1)
    x = read(f"{made.ms[0]}::SPECTRAL_WINDOW", "CHAN_FREQ")[0] / 150e6 - 1
    wanted = 2.0 - 1.5 * x + 0.4 * x * x
    np.testing.assert_allclose(read(made.ms[0], "DATA")[:, :, 0].real, [wanted] * 126, rtol=1e-6)


def test_autocorrelations_hold_the_total_flux(model_file, tmp_path):
    line = "a, POINT, 14:03:00.0, +50.00.00.0, 2.5, [0.0], true, 150e6"
    spec = plain(sky={"model": model_file(line)}, observation={"autocorrelations": True})
    ms = simulate(spec, tmp_path / "out", threads=1).ms[0]
    auto = read(ms, "ANTENNA1") == read(ms, "ANTENNA2")
    assert auto.sum() == 7 * 6
    np.testing.assert_allclose(read(ms, "DATA")[auto][..., 0], 2.5, rtol=1e-6)


def test_uneven_channels_equal_single_ones():
    from ddfpipe.simulate.realisation import Realisation
    from ddfpipe.simulate.run import make_sky

    spec = variant(SMALL, observation={"slots": 1})
    layout, _, _ = make_layout(spec)
    real = Realisation(spec, layout, make_sky(spec, layout))
    freq = np.array([121e6, 130e6, 155e6])
    gain = real.ionosphere(freq)
    together = real.sky_visibilities(freq, 1e5, gain)
    for c in range(3):
        alone = real.sky_visibilities(freq[c : c + 1], 1e5, gain[..., c : c + 1])
        np.testing.assert_array_equal(together[:, :, c], alone[:, :, 0])
