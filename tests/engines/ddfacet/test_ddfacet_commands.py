"""Command lines of DDFacet and killMS against the LoTSS pipeline's; their files; refusals."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from engine_fields import make_engine, make_field, sources_at

from ddfpipe.calibration.gains import GainTable
from ddfpipe.data.dicomodel import read_dicomodel
from ddfpipe.data.dicopickle import read_pickle
from ddfpipe.data.images import SkyGrid, read_image
from ddfpipe.data.killms import write_killms
from ddfpipe.data.model import PixelModel
from ddfpipe.engines.base import ImageJob, SolveJob, VisSelection
from ddfpipe.engines.ddfacet import commands as c
from ddfpipe.engines.ddfacet import inputs, outputs, shm, tools
from ddfpipe.engines.ddfacet.engine import DDFacetEngine, refusals
from ddfpipe.engines.ddfacet.imager import DDFacetImager, cycle_cleaning
from ddfpipe.engines.ddfacet.preview import preview
from ddfpipe.engines.ddfacet.solver import interval_weights, match_table, model_options
from ddfpipe.errors import ConfigError, ImagingError, ResourceError, SolveError
from ddfpipe.pipeline.engines import engine_of
from ddfpipe.pipeline.externalcosts import image_cost

LOTSS = c.Imaging("DDF.py", "/s/img", "/s/img.txt", 90e3, 20475, 1.5, -0.15, 2, 32, "/s/cache",
                  "/c/wisdom", solsdir="/s/gains")
"""The geometry of the LoTSS pipeline's images."""

THEIRS = {
    "Data-Sort": "1", "Cache-Weight": "reset", "Misc-ConserveMemory": "1", "Log-Memory": "1",
    "Debug-Pdb": "never", "Parallel-NCPU": "32", "Image-Cell": "1.5", "Weight-Robust": "-0.15",
    "Output-Also": "onNeds", "Freq-NBand": "2", "Freq-NDegridBand": "1", "Facets-NFacets": "11",
    "Facets-DiamMax": "1.5", "Facets-DiamMin": "0.1", "CF-wmax": "50000", "CF-Nw": "100",
    "Output-Mode": "Clean", "Deconv-MaxMinorIter": "1000000", "Deconv-CycleFactor": "0",
    "SSDClean-NEnlargeData": "0", "SSDClean-ConvFFTSwitch": "10000",
    "GAClean-MaxMinorIterInitHMP": "10000", "RIME-DecorrMode": "FT",
}
"""Options that the LoTSS pipeline gives to every image, and their values."""


def options(words: list[str]) -> dict[str, str]:
    """Options of a command line, of which none comes twice."""
    found = dict(word.removeprefix("--").split("=", 1) for word in words[1:])
    assert len(found) == len(words) - 1 and all(word.startswith("--") for word in words[1:])
    return found


@pytest.mark.parametrize("cleaning, special", [
    # image_dirin_SSD_init, image_dirin_SSD_m, image_full_ampphase_di_m of the matrix of its images
    (c.Cleaning(0, 0.05, 3.0, 10.0), {"Deconv-MaxMajorIter": "0", "Deconv-PeakFactor": "0.05",
                                      "Deconv-RMSFactor": "3", "Mask-SigTh": "10"}),
    (c.Cleaning(2, 0.001, 0.0, 15.0, "/s/mask.fits"),
     {"Deconv-MaxMajorIter": "2", "Deconv-PeakFactor": "0.001", "Deconv-RMSFactor": "0",
      "Mask-Auto": "1", "Mask-SigTh": "15", "Mask-External": "/s/mask.fits"}),
    (c.Cleaning(1, 0.001, 3.0, 5.0, "/s/mask.fits", True),
     {"Deconv-MaxMajorIter": "1", "GAClean-AllowNegativeInitHMP": "True", "Mask-SigTh": "5"}),
])
def test_images_have_the_options_of_the_lotss_pipeline(cleaning, special):
    found = options(c.image_command(LOTSS, cleaning, "DATA"))
    expected = THEIRS | special
    assert {name: found[name] for name in expected} == expected
    assert found["Data-ColName"] == "DATA" and found["Weight-ColName"] == "WEIGHT_SPECTRUM"
    assert not [name for name in found if name.startswith(("Beam", "DDES", "Predict"))]
    assert ("Mask-External" in found) == (cleaning.mask is not None)


def test_gains_models_and_directions_reach_ddfacet():
    """As `--DDESolutions-DDSols=[DDS3_full_smoothed,DDS3_full_slow_merged]` and so on."""
    both = replace(LOTSS, solutions=("a", "b"), mode="AP", nodes="/w/n.npy", model="/s/m.DicoModel")
    found = options(c.image_command(both, c.Cleaning(1, 0.001, 3.0, 5.0), "DATA"))
    assert found["DDESolutions-DDSols"] == "[a,b]" and found["DDESolutions-SolsDir"] == "/s/gains"
    assert found["DDESolutions-DDModeGrid"] == found["DDESolutions-DDModeDeGrid"] == "AP"
    assert found["Predict-InitDicoModel"] == "/s/m.DicoModel"
    assert "Facets-CatNodes" not in found  # facets come with the gains
    one = options(c.image_command(replace(both, solutions=("a",), mode="P"),
                                  c.Cleaning(1, 0.001, 3.0, 5.0), "DATA"))
    assert one["DDESolutions-DDSols"] == "a" and one["DDESolutions-DDModeGrid"] == "P"
    none = options(c.image_command(replace(both, solutions=()), c.Cleaning(1, 0.1, 3, 5), "DATA"))
    assert none["Facets-CatNodes"] == "/w/n.npy"
    beam = options(c.image_command(replace(LOTSS, beam="tessel", smooth_beam=True),
                                   c.Cleaning(0, 0.1, 3.0, 5.0), "DATA"))
    assert {k: v for k, v in beam.items() if k.startswith("Beam")} == {
        "Beam-Model": "LOFAR", "Beam-PhasedArrayMode": "A", "Beam-CenterNorm": "1",
        "Beam-NBand": "1", "Beam-At": "tessel", "Beam-Smooth": "1"}


def test_a_prediction_writes_a_column():
    found = options(c.predict_command(replace(LOTSS, model="/s/m.DicoModel"), "DATA", "DD_PREDICT"))
    assert found["Output-Mode"] == "Predict" and found["Predict-ColName"] == "DD_PREDICT"
    assert found["Data-Sort"] == "0"


SOLVE = c.Solving("kMS.py", "/c/a.ms", "DDS0", "/s/sols", "/s/cache", 1.0, 1, 8, 6)


@pytest.mark.parametrize("solving, text", [
    # DDS0, DDS1 and DDS3_full_slow; DIS0: the DD and the DI form of the LoTSS pipeline's call
    (replace(SOLVE, base="/s/m", model="/s/m.DicoModel", nodes="/w/n.npy", cov_q=0.02,
             uv_km=(0.1, 1000.0)),
     "kMS.py --MSName=/c/a.ms --InCol=DATA --OutCol=DATA --OutSolsName=DDS0 --SolsDir=/s/sols "
     "--dt=1 --NChanSols=1 --NCPU=8 --Weighting=Natural --UpdateWeights=1 --DoBar=0 --DebugPdb=0 "
     "--UVMinMax=0.1,1000 --SolverType=KAFCA --PolMode=Scalar --BaseImageName=/s/m "
     "--DicoModel=/s/m.DicoModel --NodesFile=/w/n.npy --DDFCacheDir=/s/cache --NIterKF=6 "
     "--CovQ=0.02 --LambdaKF=0.5"),
    (replace(SOLVE, name="DDS1", base="/s/m", model="/s/m.DicoModel", nodes="/w/n.npy",
             evolve="DDS0_smoothed", robust=-0.5, down_weight=0.05, uv_km=(0.5, 1000.0)),
     "kMS.py --MSName=/c/a.ms --InCol=DATA --OutCol=DATA --OutSolsName=DDS1 --SolsDir=/s/sols "
     "--dt=1 --NChanSols=1 --NCPU=8 --Weighting=Briggs --UpdateWeights=1 --DoBar=0 --DebugPdb=0 "
     "--Robust=-0.5 --WTUV=0.05 --WeightUVMinMax=0.5,1000 --SolverType=KAFCA --PolMode=Scalar "
     "--BaseImageName=/s/m --DicoModel=/s/m.DicoModel --NodesFile=/w/n.npy --DDFCacheDir=/s/cache "
     "--NIterKF=6 --CovQ=0.1 --LambdaKF=0.5 --EvolutionSolFile=DDS0_smoothed"),
    (replace(SOLVE, name="slow", minutes=43.63, base="/s/m", model="/s/m.DicoModel",
             nodes="/w/n.npy", pre_apply=("DDS3_full_smoothed",), uv_km=(0.1, 1000.0)),
     "kMS.py --MSName=/c/a.ms --InCol=DATA --OutCol=DATA --OutSolsName=slow --SolsDir=/s/sols "
     "--dt=43.63 --NChanSols=1 --NCPU=8 --Weighting=Natural --UpdateWeights=1 --DoBar=0 "
     "--DebugPdb=0 --UVMinMax=0.1,1000 --SolverType=KAFCA --PolMode=Scalar --BaseImageName=/s/m "
     "--DicoModel=/s/m.DicoModel --NodesFile=/w/n.npy --DDFCacheDir=/s/cache --NIterKF=6 "
     "--CovQ=0.1 --LambdaKF=0.5 --BeamAt=tessel --PreApplySols=[DDS3_full_smoothed]"),
    (replace(SOLVE, name="DIS1", model_column="DD_PREDICT", update_weights=False, channels=4),
     "kMS.py --MSName=/c/a.ms --InCol=DATA --OutCol=DATA --OutSolsName=DIS1 --SolsDir=/s/sols "
     "--dt=1 --NChanSols=4 --NCPU=8 --Weighting=Natural --UpdateWeights=0 --DoBar=0 --DebugPdb=0 "
     "--UVMinMax=0,1000 --SolverType=CohJones --PolMode=IFull --SkyModelCol=DD_PREDICT "
     "--NIterLM=7 --NIterKF=6 --CovQ=0.1 --LambdaKF=0.5"),
])
def test_solves_word_by_word(solving, text):
    assert c.solve_command(solving) == text.split()


def test_a_beam_reaches_killms_as_well():
    found = options(c.solve_command(replace(SOLVE, base="m", model="m", nodes="n", beam="facet")))
    assert found["BeamModel"] == "LOFAR" and found["LOFARBeamMode"] == "A"
    assert found["BeamAt"] == "facet"


def test_a_filter_of_few_intervals_steps_more_often():
    """Gaps count for nothing: it learns from intervals that hold data."""
    night = np.arange(480) * 60.0
    assert c.filter_steps(1, night, 1.0) == 1
    scans = np.concatenate([start + np.arange(4) * 8.0 for start in (0, 7200, 14400)])
    assert c.filter_steps(1, scans, 0.5) == c.LEAST_KF_STEPS
    assert c.filter_steps(9, scans, 0.5) == 9


def test_weights_are_clipped_by_killms_own_program():
    assert c.clip_command("ClipCal.py", "/c/a.ms", "DATA") == [
        "ClipCal.py", "--MSName=/c/a.ms", "--ColName=DATA"]


@pytest.mark.parametrize("asked, made", [
    (2475, 2475), (2500, 2625), (20000, 20475), (512, 525), (320, 325), (64, 65),
])
def test_sizes_are_those_that_ddfacet_makes(asked, made):
    """2500 pixels became 2475 for those who asked for them."""
    assert c.fast_size(asked) == made and c.fast_size(made) == made >= asked and made % 2


def test_planes_in_w_follow_the_data():
    assert c.w_planes(90e3, 20475, 1.5) == (50000.0, 100)
    limit, planes = c.w_planes(1657.1, 20475, 1.5)
    assert 1657.1 < limit < 1700 and planes == 8
    # the phase between planes at the edge of a facet goes with the square of its size
    assert c.w_planes(90e3, 1800, 1.5) == (50000.0, 25)


def test_progress_is_that_of_major_cycles():
    parse = c.clean_progress(2, 3)
    assert parse("=== Running major cycle 0 ===") == ("DDFacet", 2, 3)
    assert parse("Gridding") is None


# ---------------------------------------------------------------------- files for the programs

GRID = SkyGrid(3.6, 0.9, 64, 64, 1e-5)


def test_a_model_and_a_mask_keep_their_pixels_on_ddfacets_grid(tmp_path):
    wide = inputs.wide_grid(GRID)
    assert wide.shape == (65, 65)
    freq = np.array([130e6, 160e6])
    model = PixelModel.from_points(GRID, freq, [0, 32, 63], [63, 32, 1],
                                   np.array([[1.0, 2.0, 3.0], [0.9, 2.0, 4.0]]))
    path = inputs.write_model(tmp_path / "m.DicoModel", model.on_grid(wide), 145e6,
                              {"Output": {"Name": "x"}})
    back = read_dicomodel(path, grid=wide, freq=freq).on_grid(GRID)
    assert np.array_equal(back.index, model.index)
    assert back.flux == pytest.approx(model.flux, rel=1e-5)
    assert read_pickle(path)["GD"] == {"Output": {"Name": "x"}}
    assert read_pickle(path)["RefFreq"].ravel() == 145e6  # DDFacet flattens it
    mask = np.zeros(GRID.shape, bool)
    mask[[0, 32, 63], [63, 32, 1]] = True
    written = inputs.write_mask(tmp_path / "mask.fits", mask, GRID, wide, 145e6)
    plane = read_image(written).plane()
    assert plane.sum() == 3 and np.array_equal(inputs.cut(plane, wide, GRID) > 0, mask)
    assert read_image(written).grid.same(wide)
    with pytest.raises(ImagingError, match="does not fit"):
        inputs.write_mask(tmp_path / "bad.fits", mask[1:], GRID, wide, 145e6)


@pytest.mark.parametrize("external", [False, True])
def test_a_source_that_hides_in_its_own_side_lobes_is_in_the_mask(tmp_path, external):
    """DDFacet's own mask leaves it out; masks grow from cycle to cycle."""
    y, x = np.mgrid[:400, :400]
    grid = SkyGrid(3.6, 0.9, 400, 400, 1e-5)
    image = np.random.default_rng(1).normal(0, 1, (400, 400))
    image += np.where(np.hypot(y - 250, x - 120) < 30, 5 * np.cos(x), 0)
    image += 50 * np.exp(-((y - 250) ** 2 + (x - 120) ** 2) / 18)
    job = ImageJob("x", IMAGE.vis, 400, 2.0, 0.0, None, 1, 0.01, auto_mask_sigma=10.0)
    imager = DDFacetImager(SimpleNamespace(native=SimpleNamespace(workdir=tmp_path, threads=1)),
                           job, None)
    imager.grid, imager.residual, imager.beam, imager.mask = grid, image, (7e-5, 7e-5, 0), None
    if external:
        imager.mask = np.zeros(grid.shape, bool)
        imager.mask[3, 4] = True
    imager._widen_mask()
    assert imager.mask[250, 120] and imager.mask[3, 4] == external and imager.mask.mean() < 0.01
    imager.residual = np.random.default_rng(2).normal(0, 1, image.shape)
    imager.residual[100, 100] = 20
    imager._widen_mask()
    assert imager.mask[250, 120] and imager.mask[100, 100]


def test_a_cycle_begins_with_what_the_one_before_has_kept():
    job = ImageJob("x", IMAGE.vis, 400, 2.0, 0.0, None, 2, 0.01)
    found = [options(c.image_command(LOTSS, cycle_cleaning(job, cycle, "/s/m.fits"), "DATA"))
             for cycle in (0, 1, 2)]
    assert [f["Deconv-MaxMajorIter"] for f in found] == ["0", "1", "1"]
    assert [f["Cache-PSF"] for f in found] == ["reset", "force", "force"]
    assert [f["Cache-Dirty"] for f in found] == ["reset", "forcedirty", "forceresidual"]
    assert [f["Cache-LastResidual"] for f in found] == ["0", "1", "0"]
    only = options(c.image_command(LOTSS, cycle_cleaning(replace(job, major_cycles=0), 0, None),
                                   "DATA"))
    assert only["Cache-PSF"] == only["Cache-Dirty"] == "off"


def test_the_psf_is_that_of_the_middle_facet():
    """Each facet shows its own, as bright as what is seen there."""
    y, x = np.mgrid[:101, :101]

    def lobe(y0, x0):
        return np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / 18)

    attenuation = np.where(x < 50, 0.25, 2.0)
    plane = attenuation * np.where(x < 50, lobe(20, 20), lobe(55, 70))
    psf = outputs.middle_psf(plane, attenuation)
    assert psf.shape == (61, 61) and psf[30, 30] == 1 == psf.max()
    assert psf[30, 33] == pytest.approx(np.exp(-0.5), rel=1e-5)
    with pytest.raises(ImagingError, match="holds none"):
        outputs.middle_psf(plane * 0, attenuation)


def test_killms_finds_the_options_it_needs_in_a_model():
    defaults = {name: {"Other": 1} for name in (
        "Output", "Image", "Data", "Parallel", "Facets", "CF", "RIME", "Freq", "Log", "Debug",
        "Deconv", "Beam")}
    found = model_options(defaults, "/s/m", 2541, 1.5, "/w/n.npy", 4, True, 90e3)
    assert found["Image"] == {"Other": 1, "NPix": 2541, "Cell": 1.5}
    assert found["CF"]["wmax"] == 50000 and found["Facets"]["CatNodes"] == "/w/n.npy"
    assert found["RIME"]["DecorrMode"] == "FT" and found["Beam"] == {"Other": 1}


# ---------------------------------------------------------------------- what killMS gives back


def solved(tmp_path, edges, directions=2):
    """(killMS's file, set) of 3 stations, 4 slots of 8 s of which 2 and 2 lie apart."""
    stations, freq = ["A", "B", "C"], np.array([140e6, 140.2e6])
    gains = np.ones((len(edges), 1, 3, directions, 1), complex)
    gains *= np.arange(1, len(edges) + 1)[:, None, None, None, None]
    table = GainTable(np.array(edges, float), np.array([[139.9e6, 140.3e6]]), gains, stations,
                      np.radians([[10.0, 50.0], [11.0, 50.0]])[:directions])
    path = tmp_path / "killMS.x.sols.npz"
    write_killms(table, path)
    cache = SimpleNamespace(
        ant_names=stations, n_ant=3, n_bl=3, ant_pos=np.zeros((3, 3)), freq=freq,
        chan_width=np.full(2, 2e5), time=np.array([4.0, 12.0, 3604.0, 3612.0]), interval=8.0,
        weight=np.full((4, 3, 2), 2.0, np.float32),
    )
    return path, SimpleNamespace(cache=cache)


def test_intervals_without_data_are_left_out(tmp_path):
    path, s = solved(tmp_path, [[0, 16], [16, 3600], [3600, 3616]])
    directions = np.radians([[10.0, 50.0], [11.0, 50.0]])
    table = match_table(path, s, directions, 2)
    assert table.gains.shape == (2, 1, 3, 2, 1)
    assert table.gains[:, 0, 0, 0, 0].real.tolist() == [1, 3]
    with pytest.raises(SolveError, match="2 directions, 3 and 1 were asked for"):
        match_table(path, s, directions[:1], 2)


def test_imaging_weights_become_factors_on_those_of_the_data(tmp_path):
    path, s = solved(tmp_path, [[0, 16], [3600, 3616]])
    table = match_table(path, s, np.radians([[10.0, 50.0], [11.0, 50.0]]), 2)
    found = np.full((4, 3, 2), 6.0)
    found[2:, 1], found[0, 0], s.cache.weight[1, 2] = 0.0, np.nan, 0.0
    weights = interval_weights(found, s, table)
    assert weights.factor.shape == (2, 1, 3)
    assert weights.factor[:, 0].tolist() == [[3, 3, 3], [3, 0, 3]]


# ---------------------------------------------------------------------- what is refused

VIS = VisSelection((Path("a.ms"),), "DATA")
IMAGE = ImageJob("x", VIS, 64, 1.0, 0.0, None, 1, 0.01)
ABLE = {"ddfacet": tools.Tool("ddfacet", Path("DDF.py"), "1", frozenset({"lofarbeam"}))}


@pytest.mark.parametrize("job, beam, able, text", [
    (IMAGE, "auto", None, "beam_model = none"),
    (IMAGE, "LOFAR", {"ddfacet": tools.Tool("ddfacet", Path("DDF.py"), "1")}, "stationresponse"),
    (IMAGE, "full", ABLE, "array factor alone"),
    (replace(IMAGE, auto_mask_sigma=None), "none", None, "needs a mask"),
])
def test_what_cannot_be_done_is_refused_with_a_remedy(job, beam, able, text):
    found = refusals(job, beam, able)
    assert len(found) == 1 and text in found[0]


@pytest.mark.parametrize("job, beam, able", [
    (IMAGE, "none", None), (IMAGE, "LOFAR", ABLE), (replace(IMAGE, external_mask=Path("m")),
                                                    "none", None),
    (SolveJob("x", VIS, "DD", "m", robust=-0.5, pre_apply=("a",), evolve_from="b"), "none", None),
    # what our own engine does
    (replace(IMAGE, stokes="QU"), "auto", None), (SolveJob("x", VIS, "phase", "m"), "auto", None),
])
def test_what_can_be_done_is_not(job, beam, able):
    assert refusals(job, beam, able) == []


def test_stages_of_a_mixed_run_belong_to_their_engines():
    machine = SimpleNamespace(engine="native", image_engine="wsclean", solve_engine="ddfacet")
    config = SimpleNamespace(machine=machine)
    assert engine_of(config, IMAGE) == "wsclean"
    assert engine_of(config, SolveJob("x", VIS, "DD", "m")) == "ddfacet"
    assert engine_of(config, SolveJob("x", VIS, "phase", "m")) == "native"


def test_room_for_what_ddfacet_keeps_between_cycles_is_asked_for():
    image = replace(IMAGE, npix=525, n_bands=2, major_cycles=2)
    assert 30e6 < image_cost(image, keeps=True).scratch_bytes < 60e6
    assert image_cost(replace(image, major_cycles=0), keeps=True).scratch_bytes == 0
    assert image_cost(image, keeps=False).scratch_bytes == 0


# ---------------------------------------------------------------------- programs, shared memory


def script(path: Path, line: str) -> Path:
    path.write_text(f"{line}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize("line, text", [
    ("#!/bin/sh", "not one of the scripts"), (f"#!{sys.executable}", "does not work"),
    ("#!/nowhere/bin/python3", "cannot be started"),
])
def test_programs_that_cannot_be_are_told_with_the_installer(tmp_path, line, text):
    place = script(tmp_path / "DDF.py", line)
    with pytest.raises(ConfigError, match=text) as told:
        tools.find_tools(str(place), solve=False)
    assert "install_ddfacet.sh" in str(told.value) and "[machine] ddfacet" in str(told.value)


def test_only_what_a_process_of_ours_left_goes_from_shared_memory(tmp_path):
    folder, notes = tmp_path / "shm", tmp_path / "notes"
    folder.mkdir()
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    left = shm.Leftovers(notes, folder)
    for pid in (gone.pid, os.getpid(), 10**7):
        (folder / f"ddf.{pid}").mkdir()
        for name in (f"sem.ddf.{pid}.Semaphore:sem_1", f"{pid}.SharedVis.W", f"shared_dict:{pid}"):
            (folder / name).touch()
    (folder / "of someone else").touch()
    left.started(gone.pid)
    left.started(os.getpid())
    left.sweep()
    kept = {path.name for path in folder.iterdir()}
    assert not [name for name in kept if str(gone.pid) in name]
    assert len([name for name in kept if str(os.getpid()) in name]) == 4  # it runs
    assert len([name for name in kept if "10000000" in name]) == 4  # not ours
    assert "of someone else" in kept and [p.name for p in notes.iterdir()] == [str(os.getpid())]
    left.ended(os.getpid())
    assert not [p for p in folder.iterdir() if str(os.getpid()) in p.name]


def test_too_little_shared_memory_is_refused(tmp_path):
    shm.require_shared_memory(1, tmp_path)
    with pytest.raises(ResourceError, match="remount,size"):
        shm.require_shared_memory(1 << 60, tmp_path)
    with pytest.raises(ResourceError, match="there is no"):
        shm.require_shared_memory(1, tmp_path / "none")


def test_directions_of_any_kind_become_what_programs_read(tmp_path):
    text, old = tmp_path / "nodes.txt", tmp_path / "nodes.npy"
    text.write_text("# ra dec\n210.0, 50.0\n210.5 49.5 0.3\n")
    np.save(old, np.array([(0.1, 0.2)], [("dec", "f8"), ("ra", "f8")]))
    places = [np.radians([[210.0, 50.0], [210.5, 49.5]]), [[0.2, 0.1]]]
    for path, place in zip((text, old), places, strict=True):
        made = np.load(inputs.write_nodes(tmp_path, path))
        assert made.dtype.names == ("Name", "ra", "dec", "SumI", "Cluster", "l", "m")
        assert np.stack([made["ra"], made["dec"]], axis=1) == pytest.approx(np.array(place))


# ---------------------------------------------------------------------- told before a run


def test_a_dry_run_tells_the_commands_and_touches_nothing(tmp_path):
    simulation = make_field(tmp_path / "data", sources_at([(0.0, 0.0)], [1.0]), observation=dict(
        core_fields=3, remote_stations=0, blocks=1, slots=2))
    native = make_engine(tmp_path / "work")
    told = {name: tools.Tool(name, tmp_path / program, "1")
            for name, program in (("ddfacet", "DDF.py"), ("killms", "kMS.py"))}
    engine, vis = DDFacetEngine(native, told), VisSelection(tuple(simulation.ms), "DATA")
    images = preview(engine, ImageJob("x", vis, 512, 6.0, -0.5, None, 2, 0.01, start_model="y",
                                      clusters=Path("n.npy")))
    before, first, second = [options(shlex.split(line)) for line in images]
    assert before["Image-NPix"] == "525" and before["Freq-NBand"] == "2"
    assert before["CF-wmax"] == "<largest w of the data>" and before["Image-Cell"] == "6"
    for told in (before, first):
        assert told["Predict-InitDicoModel"].endswith("ddfpipe.scratch.x/start.DicoModel")
    assert second["Predict-InitDicoModel"] == f"{first['Output-Name']}.DicoModel"
    assert second["Mask-External"].endswith("ddfpipe.scratch.x/mask.fits")
    assert "Mask-External" not in before and before["Data-MS"] == second["Data-MS"]
    assert before["Facets-CatNodes"].endswith("ddfpipe.scratch.x/directions.npy")
    dd = preview(engine, SolveJob("s", vis, "DD", "m", clusters=Path("n.npy"), dt_min=1.0))
    assert [shlex.split(line)[0].rsplit("/", 1)[1] for line in dd] == ["kMS.py", "ClipCal.py"] * 2
    assert options(shlex.split(dd[0]))["DicoModel"].endswith("ddfpipe.scratch.s/model.DicoModel")
    assert options(shlex.split(dd[0]))["MSName"] == options(shlex.split(dd[1]))["MSName"]
    di = preview(engine, SolveJob("s", vis, "DI", "m", update_weights=False))
    assert len(di) == 3 and "--Output-Mode=Predict" in di[0]
    assert options(shlex.split(di[1]))["dt"] == "<from signal and noise>"
    assert preview(engine, replace(IMAGE, stokes="QU")) == []
    assert not list(native.workdir.iterdir())
