"""Band images, polarisation cubes and Stokes V of a small field, by the script from end to end."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from astropy.io import fits
from native_runs import FINAL, TINY_FIELD, TINY_RUN, Run, simulate, write_config

from ddfpipe.data.images import read_image
from ddfpipe.products.compression import fpack_program
from ddfpipe.simulate.sky import Source, write_skymodel
from ddfpipe.units import DEGREE, SPEED_OF_LIGHT

CENTRE = (210.0, 50.0)
RM = 18.0
SECTIONS = TINY_RUN | {
    "image": TINY_RUN["image"] | {
        "imsize": 256, "low_psf_arcsec": 60.0, "low_cell": 15.0, "vlow_imsize": 64,
        "centralfreqs": "[125.0, 145.0, 165.0]",
    },
    # a solve for full Jones matrices would take the mean polarisation of so few sources for leakage
    "control": {"skip_di": True, "polcubes": True, "stokesv": True, "spectral_restored": True,
                "msss_mode": True},
    "solutions": TINY_RUN["solutions"] | {"ndir": 2, "NIterKF": "[2, 2, 2, 2, 2, 2, 2]"},
    "masking": {"thresholds": "[7.0, 6.0, 5.0, 5.0]"},
    "compression": {"compress_polcubes": True, "delete_compressed": True},
}


def sources() -> list[Source]:
    """Calibrators with a steep spectrum, one of them linearly and one circularly polarised."""
    offsets = [(0.0, 0.04), (0.14, 0.07), (-0.14, 0.08), (0.04, -0.15), (-0.08, -0.07)]
    out = []
    for k, (east, north) in enumerate(offsets):
        dec = (CENTRE[1] + north) * DEGREE
        ra = CENTRE[0] * DEGREE + east * DEGREE / np.cos(dec)
        out.append(Source(f"s{k}", float(ra), float(dec), 4.0 - 0.5 * k, (-0.8,)))
    out[0] = dataclasses.replace(out[0], fraction=0.3, angle=0.5, rm=RM)
    out[1] = dataclasses.replace(out[1], circular=0.1)
    return out


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(Run that has ended, its sources)."""
    folder = tmp_path_factory.mktemp("end_products")
    write_skymodel(sources(), folder / "sky.txt")
    data = simulate(
        folder, TINY_FIELD, "--set", f"sky.model={folder / 'sky.txt'}",
        "--set", "observation.channels=3", "--set", "observation.n_ms=4",
        "--set", "observation.blocks=8", "--set", "observation.slots=2",
        "--set", "observation.remote_stations=4",
        "--set", "errors.amplitude_rms=0", "--set", "errors.phase_rms_rad=0",
        "--set", "errors.clock_rms_ns=0",
        "--set", f"observation.ra_deg={CENTRE[0]}", "--set", f"observation.dec_deg={CENTRE[1]}",
    )
    run = Run(folder / "run", write_config(folder / "run.cfg", data, SECTIONS))
    code, text = run(timeout=600)
    assert code == 0, text
    return run, sources()


def values_at(path, source, hdu=0):
    """(freq, values (band, stokes)) of a cube, compressed or not, at a source's pixel."""
    with fits.open(path) as hdus:
        header, data = hdus[hdu].header, hdus[hdu].data
        freq = np.array(hdus["FREQUENCIES"].data["FREQ"])
    from ddfpipe.data.images import grid_of_header

    y, x = (int(np.rint(v)) for v in grid_of_header(header).pixel_of(source.ra, source.dec))
    return freq, np.array(data[:, :, y, x], float)


def test_the_cube_of_the_disk_gives_the_rotation_measure(finished):
    run, sky = finished
    path = run.folder / "image_full_low_QU.cube.dirty.corr.fits.fz"
    assert path.exists() and not path.with_suffix("").exists()
    freq, values = values_at(path, sky[0], hdu=1)
    assert values.shape == (12, 2)
    squared = (SPEED_OF_LIGHT / freq) ** 2
    rms = np.arange(-60, 60, 0.01)
    p = (values[:, 0] + 1j * values[:, 1]) / (freq / 144e6) ** -0.8
    spectrum = np.abs(np.exp(-2j * np.outer(rms, squared - squared.mean())) @ p) / len(freq)
    width = 2 * np.sqrt(3) / np.ptp(squared)
    assert abs(rms[spectrum.argmax()] - RM) < 0.1 * width
    assert spectrum.max() == pytest.approx(0.3 * sky[0].flux, rel=0.15)


def test_stokes_v_is_that_of_the_circular_source(finished):
    run, sky = finished
    image = read_image(run.folder / "image_full_high_stokesV_L000009.dirty.corr.fits")
    assert image.data.shape[:2] == (1, 2)
    plane = image.plane(0, 1)
    y, x = (int(np.rint(v)) for v in image.grid.pixel_of(sky[1].ra, sky[1].dec))
    box = plane[y - 2:y + 3, x - 2:x + 3]
    assert box.max() == pytest.approx(0.1 * sky[1].flux, rel=0.25)
    brightest = np.unravel_index(np.nanargmax(np.abs(plane)), plane.shape)
    assert brightest == pytest.approx((y, x), abs=3)


def test_band_images_follow_the_spectrum(finished):
    run, sky = finished
    for number, centre in enumerate((125.0, 145.0, 165.0)):
        image = read_image(run.folder / f"{FINAL}_Band{number}.int.restored.fits")
        header = image.header
        assert header["CRVAL4"] == header["RESTFRQ"] == centre * 1e6
        assert abs(header["MEANFREQ"] - centre * 1e6) < 12e6
        for source in sky[2:]:
            y, x = (int(np.rint(v)) for v in image.grid.pixel_of(source.ra, source.dec))
            peak = np.nanmax(image.plane()[y - 3:y + 4, x - 3:x + 4])
            true = source.flux * (header["MEANFREQ"] / 144e6) ** -0.8
            assert peak == pytest.approx(true, rel=0.12), (number, source.name)


def test_msss_cube_has_a_plane_for_each_measurement_set(finished):
    run, _ = finished
    image = read_image(run.folder / "image_full_ampphase_m.cube.int.restored.fits")
    assert image.freq.size == 4 and np.all(np.diff(image.freq) > 0)


def test_a_second_run_does_nothing(finished):
    run, _ = finished
    before = run.products()
    code, text = run()
    assert code == 0 and "are done already" in text
    assert run.products() == before


def test_a_lost_copy_is_made_again(finished):
    run, _ = finished
    path = run.folder / "image_full_vlow_QU.cube.dirty.fits.fz"
    path.unlink()
    code, text = run("plan")
    assert code == 0 and "image_full_vlow_QU" in text
    code, text = run()
    assert code == 0 and path.exists(), text


def test_an_empty_band_ends_the_run_before_it_begins(finished):
    run, _ = finished
    code, text = run("--image-centralfreqs=[125.0,145.0,300.0]")
    assert code == 1 and "no measurement set is nearest to 300 MHz" in text


def test_which_program_compressed(finished):
    run, _ = finished
    log = (run.folder / "logs" / "image_full_low_QU_fpack.log").read_text()
    assert f"program = {'fpack' if fpack_program() else 'astropy'}" in log
