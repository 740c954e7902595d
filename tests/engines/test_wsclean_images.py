"""The native engine against WSClean on the same measurement sets."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from engine_fields import (
    Listener, fit_source, make_engine, make_field, make_job, product, sources_at, true_table,
    write_directions, write_mask,
)

from ddfpipe.data import solutions
from ddfpipe.data.images import read_image
from ddfpipe.data.regions import read_tessel
from ddfpipe.engines.base import GainChoice
from ddfpipe.naming import image_product

NPIX, CELL = 600, 20.0
OFFSETS = [(0.02, 0.02), (0.8, 0.7), (-0.9, 0.5), (0.4, -1.0), (-1.1, -1.0), (1.1, -0.2)]
FLUXES = [1.0, 2.0, 0.5, 1.5, 3.0, 0.8]


@pytest.fixture(scope="session")
def wsclean():
    """Function that runs WSClean; skips loudly where there is none."""
    program = shutil.which("wsclean")
    if program is None:
        pytest.skip("SKIPPED LOUDLY: wsclean is not installed (Debian package wsclean)")

    def run(name, paths, *options):
        command = [
            program, "-name", str(name), "-size", str(NPIX), str(NPIX), "-scale", f"{CELL}asec",
            "-weight", "natural", "-no-update-model-required", "-use-wgridder",
            "-wgridder-accuracy", "1e-5", "-no-small-inversion", "-pol", "I", "-j", "1",
            *options, *map(str, paths),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    return run


@pytest.fixture(scope="session")
def core_field(tmp_path_factory):
    """Core stations alone, through an ionosphere of phases: (Simulation, sources, folder)."""
    sources = sources_at(OFFSETS, FLUXES)
    folder = tmp_path_factory.mktemp("core_field")
    observation = dict(core_fields=30, remote_stations=0, blocks=12, slots=3, n_ms=1)
    made = make_field(
        folder, sources, observation=observation, smearing=False,
        ionosphere={"diffractive_km": 1.5, "npix": 512},
    )
    return made, sources, folder


def test_dirty_images_agree_everywhere(core_field, wsclean, tmp_path):
    """Natural weights, no gains, no beam; also fixes orientation, scale and normalisation."""
    simulation = core_field[0]
    wsclean(tmp_path / "theirs", simulation.ms, "-niter", "0", "-make-psf")
    job = make_job(
        "ours", simulation, NPIX, CELL, uv_km=(0, 1000), major_cycles=0, decorrelation=False,
        n_bands=1,
    )
    make_engine(tmp_path).image(job, Listener())
    theirs = read_image(tmp_path / "theirs-dirty.fits")
    ours = product(tmp_path, "ours", "dirty")
    assert ours.grid.same(theirs.grid)
    peak = np.abs(theirs.plane()).max()
    assert peak > 1
    assert np.abs(ours.plane() - theirs.plane()).max() < 1e-3 * peak
    psf, other = product(tmp_path, "ours", "psf").plane(), read_image(tmp_path / "theirs-psf.fits")
    inner = slice(NPIX // 2 - 100, NPIX // 2 + 100)
    assert np.abs(psf - other.plane())[inner, inner].max() < 3e-3


def write_facets(path, outlines) -> None:
    """Facets as WSClean reads them: polygons, matched to directions by their middle."""
    lines = ["# Region file format: DS9 version 4.1", "global color=green", "fk5"]
    for facet in outlines:
        corners = np.degrees(np.asarray(facet.polygon))
        text = ",".join(f"{ra % 360:.8f},{dec:.8f}" for ra, dec in corners)
        lines.append(f"polygon({text})")
    path.write_text("\n".join(lines) + "\n")


def test_fluxes_through_phase_solutions_agree(core_field, wsclean, tmp_path):
    """Facets and an h5parm of ours, read by WSClean: restored fluxes within 2 %."""
    simulation, sources, folder = core_field
    ms = simulation.ms[0]
    write_directions(tmp_path, sources)
    engine = make_engine(tmp_path)
    table = true_table(folder, ms, sources, False)
    solutions.save_solution(table, engine.solsdir, ms, "phases")
    common = dict(
        uv_km=(0, 1000), n_bands=1, decorrelation=False, auto_mask_sigma=None, rms_factor=0.0,
        peak_factor=0.05, clusters="directions.npy",
        external_mask=write_mask(tmp_path, "discs.fits", NPIX, CELL, sources),
    )
    choice = GainChoice(("phases",), "P")
    engine.image(make_job("ours", simulation, NPIX, CELL, gains=choice, **common), Listener())
    engine.image(
        make_job("without", simulation, NPIX, CELL, major_cycles=1, **common), Listener()
    )
    h5 = solutions.h5parm_path(engine.solsdir, ms, "phases")
    regions = tmp_path / "facets.reg"
    write_facets(regions, read_tessel(tmp_path / image_product("ours", "tessel")))
    wsclean(
        tmp_path / "theirs", simulation.ms, "-niter", "20000", "-mgain", "0.7", "-nmiter", "6",
        "-threshold", "0.004", "-fits-mask", str(tmp_path / "discs.fits"),
        "-facet-regions", str(regions), "-apply-facet-solutions",
        str(h5), "phase000",
    )
    ours = product(tmp_path, "ours", "int_restored")
    theirs = read_image(tmp_path / "theirs-image.fits")
    raw = product(tmp_path, "without", "int_restored")
    mine, other, without = (
        np.array([fit_source(image, s.ra, s.dec).flux for s in sources])
        for image in (ours, theirs, raw)
    )
    # the phases matter: without them flux is lost
    assert (without / FLUXES).mean() < 0.97
    assert np.abs(mine / FLUXES - 1).max() < 0.01
    assert np.abs(mine / other - 1).max() < 0.02
