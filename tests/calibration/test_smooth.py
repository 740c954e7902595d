"""Merging over frequency, clipping, TEC and polynomial amplitudes."""

from dataclasses import replace

import numpy as np
import pytest

from ddfpipe.calibration.constraints import clip_amplitudes, merge
from ddfpipe.calibration.gains import GainTable, reference_to
from ddfpipe.calibration.smooth import fit_tec, smooth_table
from ddfpipe.errors import SolveError
from ddfpipe.units import TEC_PHASE

N_TIME, N_ANT, N_DIR = 40, 5, 2


def tec_table(n_chan=12, noise=0.1, constant=0.4, seed=0, flagged=0.05):
    """(noisy table, true gains): TEC walks, one constant a station and direction, a band slope."""
    rng = np.random.default_rng(seed)
    freqs, times = np.linspace(121e6, 167e6, n_chan), 60.0 * np.arange(N_TIME)
    tec = np.cumsum(0.01 * rng.normal(size=(N_TIME, N_ANT, N_DIR)), axis=0)
    tec += 0.1 * rng.normal(size=(N_ANT, N_DIR))
    phase = TEC_PHASE / freqs[:, None, None] * tec[:, None]
    phase = phase + constant * rng.normal(size=(N_ANT, N_DIR))
    slope = 0.1 * np.linspace(-1, 1, n_chan)[:, None, None] * np.sin(times / 2000)[:, None, None,
                                                                                     None]
    truth = np.exp(slope + 1j * phase)[..., None]
    jitter = rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)
    gains = truth * np.exp(noise * jitter)
    flag = rng.random(truth.shape) < flagged
    flag[:, :, 2] = False
    gains[flag] = 7.0
    table = GainTable(np.stack([times, times + 60], 1), np.stack([freqs - 1e6, freqs + 1e6], 1),
                      gains, [f"S{i}" for i in range(N_ANT)], np.zeros((N_DIR, 2)),
                      error=np.full(truth.shape, noise), flag=flag)
    return table, truth


def errors(table, smoothed, truth):
    """Phase and log-amplitude errors relative to station 2, unflagged."""
    clean = reference_to(replace(table, gains=truth, flag=np.zeros(truth.shape, bool)), "S2")
    good = ~smoothed.flag
    ratio = smoothed.gains / clean.gains
    return np.angle(ratio)[good], np.log(np.abs(ratio))[good]


@pytest.mark.parametrize("n_chan,noise,constant", [(12, 0.1, 0.4), (24, 0.3, 0.0), (6, 0.05, 0.4)])
def test_smoothing_beats_noise_without_wraps(n_chan, noise, constant):
    table, truth = tec_table(n_chan, noise, constant)
    smoothed = smooth_table(table)
    phase, amplitude = errors(table, smoothed, truth)
    assert np.abs(phase).max() < 5 * noise
    assert np.sqrt((phase**2).mean()) < 0.6 * np.sqrt(2) * noise
    assert np.sqrt((amplitude**2).mean()) < 0.6 * noise
    assert not smoothed.flag.any() and smoothed.meta["SmoothMode"] == "TEC,PolyAmp"


def test_single_channel_keeps_phases():
    table, truth = tec_table(1, flagged=0.0)
    smoothed = smooth_table(table)
    np.testing.assert_allclose(np.angle(smoothed.gains), np.angle(reference_to(table, "S0").gains),
                               atol=1e-6)
    assert np.log(np.abs(smoothed.gains)).std() < 0.6 * np.log(np.abs(table.gains)).std()


def test_phases_that_are_no_tec_are_kept():
    table, truth = tec_table(12, 0.05, flagged=0.0)
    freqs = np.linspace(-1, 1, 12)
    table.gains[:, :, 1] *= np.exp(4j * freqs**2)[:, None, None]
    smoothed = smooth_table(table, "TEC")
    reference = reference_to(table, table.ant_names[0])
    np.testing.assert_allclose(smoothed.gains[:, :, 1], reference.gains[:, :, 1], rtol=1e-9)
    assert np.abs(smoothed.gains[:, :, 3] - reference.gains[:, :, 3]).max() > 0.01


def test_smoothing_modes_and_refusals():
    table, _ = tec_table()
    only = smooth_table(table, "PolyAmp")
    np.testing.assert_allclose(np.angle(only.gains), np.angle(reference_to(table, "S2").gains),
                               atol=1e-6)
    with pytest.raises(SolveError, match="TECX"):
        smooth_table(table, "TECX")
    full = GainTable(table.time_edges, table.freq_edges, np.repeat(table.gains, 4, axis=-1),
                     table.ant_names, table.directions)
    with pytest.raises(SolveError, match="full-Jones"):
        smooth_table(full)


def test_fit_tec_finds_tec_and_constant():
    freqs = np.linspace(121e6, 167e6, 10)
    tec = 0.3 + 0.02 * np.sin(np.arange(30) / 5)
    phasor = np.exp(1j * (TEC_PHASE / freqs * tec[:, None] + 1.0))
    weight = np.full(phasor.shape, 100.0)
    weight[7] = 0
    found, constant = fit_tec(phasor, weight, freqs, True)
    np.testing.assert_allclose(np.delete(found, 7), np.delete(tec, 7), atol=1e-4)
    assert abs(constant - 1.0) < 1e-2 and abs(found[7] - tec[7]) < 0.01


def test_merge_joins_frequencies_and_flags_what_lacks():
    table, _ = tec_table(6)
    low = replace(table, freq_edges=table.freq_edges[:3], gains=table.gains[:, :3],
                  error=table.error[:, :3], flag=table.flag[:, :3])
    high = replace(table, freq_edges=table.freq_edges[3:], gains=table.gains[:, 3:],
                   error=table.error[:, 3:], flag=table.flag[:, 3:])
    whole = merge([high, low])
    np.testing.assert_array_equal(whole.gains, table.gains)
    np.testing.assert_array_equal(whole.freq_edges, table.freq_edges)
    short = replace(high, time_edges=high.time_edges[:-5] + 3.0, gains=high.gains[:-5, :, :4],
                    error=high.error[:-5, :, :4], flag=high.flag[:-5, :, :4],
                    ant_names=high.ant_names[:4])
    joined = merge([low, short])
    np.testing.assert_array_equal(joined.gains[:-5, 3:, :4], table.gains[:-5, 3:, :4])
    assert joined.flag[-4:, 3:].all() and joined.flag[:, 3:, 4].all()
    assert not joined.flag[:, :3, 2].any()
    other = replace(high, directions=high.directions + 0.1)
    with pytest.raises(SolveError, match="directions"):
        merge([low, other])
    with pytest.raises(SolveError, match="no solutions"):
        merge([])


def test_outliers_are_clipped_and_phases_stay():
    table, _ = tec_table(2, 0.05, flagged=0.0)
    table.gains[10, 0, 1, 0] *= 30
    clipped = clip_amplitudes(table, 5.0)
    np.testing.assert_allclose(np.angle(clipped.gains), np.angle(table.gains), atol=1e-9)
    assert np.abs(clipped.gains[10, 0, 1, 0, 0]) < 1.5
    changed = np.abs(clipped.gains - table.gains) > 1e-9
    assert changed[10, 0, 1, 0, 0] and changed.mean() < 0.02
    assert np.abs(merge([table], sigma_clip=5.0).gains[10, 0, 1, 0, 0]) < 1.5
