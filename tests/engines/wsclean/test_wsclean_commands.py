"""Command lines of WSClean and DP3, word by word; what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ddfpipe.engines.base import ImageJob, SolveJob, VisSelection
from ddfpipe.engines.external.ours import is_ours
from ddfpipe.engines.wsclean import commands as c
from ddfpipe.engines.wsclean.engine import refusals
from ddfpipe.engines.wsclean.solver import even_slots
from ddfpipe.pipeline.engines import engine_of

SETS = [Path("/c/a.ms"), Path("/c/b.ms")]
PLAIN = c.Gridding("wsclean", "/s/img", 1024, 1.5, -0.5, 1, 4, 16.0, "/s")
FACETS = replace(PLAIN, channels=6, regions="/s/f.reg", solutions=("/s/0.h5", "/s/1.h5"),
                 tables=("amplitude000", "phase000"))
GRID = ("wsclean -name /s/img -size 1024 1024 -scale 1.5asec -pol I -use-wgridder "
        "-wgridder-accuracy 1e-4 -no-small-inversion -j 4 -abs-mem 16 -temp-dir /s")
SPLIT = ("-channels-out 6 -gap-channel-division -facet-regions /s/f.reg -apply-facet-solutions "
         "/s/0.h5,/s/1.h5 amplitude000,phase000")
SOLVE = ("msin.datacolumn=DATA msout={} steps=[ddecal] numthreads={} showprogress=false "
         "ddecal.mode={} ddecal.h5parm=/s/a.h5 ddecal.solint={} ddecal.nchan={} ddecal.maxiter=100 "
         "ddecal.tolerance=0.0001 ddecal.solveralgorithm=directioniterative "
         "ddecal.propagatesolutions=true ddecal.minvisratio=0")
READ = "-weight briggs -0.5 -data-column DATA -no-update-model-required"


@pytest.mark.parametrize("words, text", [
    (c.psf_command(PLAIN, SETS, "DATA"), f"{GRID} {READ} -make-psf-only /c/a.ms /c/b.ms"),
    (c.dirty_command(FACETS, SETS, "DATA"),
     f"{GRID} {SPLIT} {READ} -join-channels -niter 0 /c/a.ms /c/b.ms"),
    (c.clean_command(PLAIN, c.Cleaning(0.01, 3.0, 6), SETS, "DATA"),
     f"{GRID} {READ} -niter 1000000 -mgain 0.85 -nmiter 6 -threshold 0.01 -auto-threshold 3 "
     "-no-negative /c/a.ms /c/b.ms"),
    (c.clean_command(FACETS, c.Cleaning(0.01, 1.0, 6, "/s/m.fits", 2, True, (0.0, 8.0)), SETS,
                     "DATA"),
     f"{GRID} {SPLIT} {READ} -join-channels -niter 1000000 -mgain 0.85 -nmiter 6 -threshold 0.01 "
     "-auto-threshold 1 -multiscale -multiscale-scales 0,8 -fits-mask /s/m.fits "
     "-fit-spectral-pol 2 /c/a.ms /c/b.ms"),
    (c.predict_command(FACETS, SETS), f"{GRID} {SPLIT} -predict /c/a.ms /c/b.ms"),
    (c.solve_command(c.Solving("DP3.py", ("/c/a.ms", "/c/b.ms"), "/s/a.h5", "tecandphase", 8, 20,
                               4, sky="/s/m.skymodel", smearing=True, residual="/s/r.ms")),
     f"DP3.py msin=[/c/a.ms,/c/b.ms] {SOLVE.format('/s/r.ms', 4, 'tecandphase', 8, 20)} "
     "ddecal.sourcedb=/s/m.skymodel ddecal.correctfreqsmearing=true "
     "ddecal.subtract=true msout.overwrite=true"),
    (c.solve_command(c.Solving("DP3.py", ("/c/a.ms", "/c/b.ms"), "/s/a.h5", "scalar", 40, 20, 4,
                               sky="/s/m.skymodel", known="/s/k.h5", smooth=3e7)),
     f"DP3.py msin=[/c/a.ms,/c/b.ms] {SOLVE.format('', 4, 'scalar', 40, 20)} "
     "ddecal.smoothnessconstraint=3e+07 ddecal.sourcedb=/s/m.skymodel "
     "ddecal.correctfreqsmearing=false ddecal.applycal.parmdb=/s/k.h5 "
     "ddecal.applycal.steps=[size,turn] ddecal.applycal.size.correction=amplitude000 "
     "ddecal.applycal.turn.correction=phase000"),
    (c.solve_command(c.Solving("DP3.py", ("/c/a.ms",), "/s/a.h5", "fulljones", 1, 4, 1,
                               columns=("DD_PREDICT",))),
     f"DP3.py msin=/c/a.ms {SOLVE.format('', 1, 'fulljones', 1, 4)} "
     "ddecal.modeldatacolumns=[DD_PREDICT]"),
])
def test_commands_word_by_word(words, text):
    assert words == text.split()


@pytest.mark.parametrize("count, slots, found", [
    (4, 4, 4), (5, 4, 5), (7, 3, 4), (9, 4, 5), (3, 8, 3), (40, 8, 8),
])
def test_intervals_of_a_run_are_about_equally_long(count, slots, found):
    assert even_slots(count, slots) == found


@pytest.mark.parametrize("robust, words", [
    (None, ["natural"]), (-2.0, ["uniform"]), (0.25, ["briggs", "0.25"]),
])
def test_weights(robust, words):
    assert c.weight_words(robust) == ["-weight", *words]


@pytest.mark.parametrize("channel, channels, name", [
    (0, 1, "img-psf.fits"), (3, 6, "img-0003-psf.fits"), (None, 6, "img-MFS-psf.fits"),
])
def test_names_of_files(channel, channels, name):
    assert c.product("img", "psf", channel, channels) == Path(name)


def test_progress_is_that_of_major_iterations():
    parse = c.clean_progress(6)
    assert parse(" == Deconvolving (2) ==") == ("WSClean", 2, 6)
    assert parse("Gridding 2280 rows...") is None


VIS = VisSelection((Path("a.ms"),), "DATA")
IMAGE = ImageJob("x", VIS, 64, 1.0, 0.0, None, 1, 0.01)


@pytest.mark.parametrize("job, beam, word", [
    (IMAGE, "auto", "beam_model = none"), (IMAGE, "full", "without a beam"),
    (SolveJob("s", VIS, "DD", "m", robust=-0.5), "none", "robust = None"),
])
def test_what_cannot_be_done_is_refused_with_a_remedy(job, beam, word):
    (sentence,) = refusals(job, beam)
    assert word in sentence


@pytest.mark.parametrize("job, ours", [
    (IMAGE, False), (replace(IMAGE, stokes="QU"), True), (replace(IMAGE, cubes=("dirty",)), True),
    (SolveJob("s", VIS, "DD", "m"), False), (SolveJob("s", VIS, "phase", "m"), True),
])
def test_what_is_left_to_our_own_engine_is_not_refused_and_recorded_as_ours(job, ours):
    machine = SimpleNamespace(engine="wsclean", image_engine=None, solve_engine=None)
    config = SimpleNamespace(machine=machine)
    assert engine_of(config, job) == ("native" if ours else "wsclean")
    assert is_ours(job) == ours
    if ours:
        assert refusals(job, "auto") == []


def test_the_rest_is_not_refused():
    assert refusals(IMAGE, "none") == [] == refusals(SolveJob("s", VIS, "DD", "m"), "none")
