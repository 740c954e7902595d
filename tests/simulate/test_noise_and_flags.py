"""Noise, flags, companions and repeatability."""

from __future__ import annotations

import numpy as np

from ddfpipe.simulate.run import simulate
from ddfpipe.simulate.truth import read_truth

from .conftest import SMALL, read, variant


def test_noise_has_the_level_asked_for(small):
    made, folder = small
    factor = read_truth(folder).arrays["station_noise"]
    for ms in made.ms:
        noise = read(ms, "NOISE_DATA")
        p, q = read(ms, "ANTENNA1"), read(ms, "ANTENNA2")
        unit = noise / (0.2 * np.sqrt(factor[p] * factor[q]))[:, None, None]
        n = unit.size
        for part in (unit.real, unit.imag):
            assert abs(part.std() - 1) < 5 / np.sqrt(2 * n)
            assert abs(part.mean()) < 5 / np.sqrt(n)
        weighted = np.abs(noise) ** 2 * read(ms, "WEIGHT_SPECTRUM")
        per_baseline = weighted.reshape(-1, 21, 3, 4).mean(axis=(0, 2, 3))
        assert np.ptp(per_baseline) / per_baseline.mean() < 1.2
    assert np.ptp(factor) > 0.1
    first, second = (read(ms, "NOISE_DATA") for ms in made.ms)
    assert abs(np.mean(first * second.conj())) < 5 * 0.08 / np.sqrt(first.size)


def test_flags_are_those_asked_for(small):
    made, _ = small
    flags = [read(ms, "FLAG").reshape(6, 21, 3, 4) for ms in made.ms]
    for flag in flags:
        assert np.array_equal(flag.any(-1), flag.all(-1))
    slots = [np.flatnonzero(f.all(axis=(1, 2, 3))) for f in flags]
    assert len(slots[0]) == round(0.2 * 6) and np.array_equal(*slots)
    p, q = np.triu_indices(7, 1)
    dead = [
        [a for a in range(7) if f[:, (p == a) | (q == a)].all()] for f in flags
    ]
    assert len(dead[0]) == 1 and dead[0] == dead[1]
    kept = np.setdiff1d(np.arange(6), slots[0])
    alive = (p != dead[0][0]) & (q != dead[0][0])
    rest = np.stack([f[kept][:, alive, :, 0] for f in flags])
    sigma = np.sqrt(0.05 * 0.95 / rest.size)
    assert abs(rest.mean() - 0.05) < 4 * sigma
    assert not np.array_equal(rest[0], rest[1])


def test_flagged_samples_hold_interference(small, tmp_path):
    made, _ = small
    quiet = simulate(variant(noise={"rfi_jy": 0.0}), tmp_path / "quiet", threads=1)
    for ms, clean in zip(made.ms, quiet.ms):
        difference = np.abs(read(ms, "DATA") - read(clean, "DATA"))
        struck = difference > 1e-3
        np.testing.assert_allclose(difference[struck], 50.0, rtol=1e-4)
        assert struck.any() and read(ms, "FLAG")[struck].all()


def test_same_seed_same_bits_whatever_the_threads(small, tmp_path):
    made, _ = small
    again = simulate(SMALL, tmp_path / "again", threads=1)
    other = simulate(variant(seed=12), tmp_path / "other", threads=2)
    for ms, twin, stranger in zip(made.ms, again.ms, other.ms):
        for column in ("DATA", "NOISE_DATA", "CLEAN_DATA", "FLAG", "UVW", "WEIGHT_SPECTRUM"):
            np.testing.assert_array_equal(read(ms, column), read(twin, column))
        assert np.abs(read(ms, "DATA") - read(stranger, "DATA")).max() > 1


def test_companions_are_of_the_same_realisation(small, tmp_path):
    """Switching an ingredient off leaves the others as they were."""
    made, _ = small
    silent = simulate(variant(noise={"sample_jy": 0.0}), tmp_path / "silent", threads=2)
    perfect = simulate(
        variant(
            ionosphere={"diffractive_km": 0.0},
            errors={"amplitude_rms": 0.0, "phase_rms_rad": 0.0, "clock_rms_ns": 0.0,
                    "leakage_rms": 0.0},
        ),
        tmp_path / "perfect", threads=2,
    )
    for ms, quiet, ideal in zip(made.ms, silent.ms, perfect.ms):
        good = ~read(ms, "FLAG")
        np.testing.assert_array_equal(good, ~read(quiet, "FLAG"))
        noise = read(ms, "NOISE_DATA")
        np.testing.assert_allclose(
            (read(ms, "DATA") - noise)[good], read(quiet, "DATA")[good], atol=2e-6
        )
        assert np.abs(read(quiet, "NOISE_DATA")).max() == 0
        np.testing.assert_allclose(
            read(ms, "CLEAN_DATA")[good], read(ideal, "DATA")[good], atol=2e-6
        )


def test_every_set_has_a_flux_scale_of_its_own(small, tmp_path):
    made, _ = small
    scaled = simulate(variant(errors={"flux_scale_rms": 0.2}), tmp_path / "scaled", threads=2)
    factors = read_truth(tmp_path / "scaled").arrays["flux_scale"]
    assert np.ptp(factors) > 0.05 and np.all(np.abs(np.log(factors)) < 1.0)
    for ms, other, factor in zip(made.ms, scaled.ms, factors):
        np.testing.assert_allclose(read(other, "DATA"), factor * read(ms, "DATA"), rtol=1e-5)
        np.testing.assert_array_equal(read(other, "NOISE_DATA"), read(ms, "NOISE_DATA"))
