"""What is redone after a change, a loss or a stop: no more than needed, and no less."""

import json
import os
import shutil

import pytest

from ddfpipe.errors import (
    ConfigError, DataError, ImagingError, NoFullList, ResourceError, StageFailed, StopRequested,
)
from ddfpipe.pipeline import selfcal
from ddfpipe.pipeline.run import show_plan
from ddfpipe.pipeline.state import RunState
from fake_engine import FakeEngine
from workplace import Workplace, tree_state


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A working directory with a finished run."""
    place = Workplace(tmp_path_factory.mktemp("finished"))
    place.run()
    place.reference = place.products()
    return place


@pytest.fixture
def done(finished, tmp_path):
    """A copy of the finished directory, times of change included."""
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder, symlinks=True)
    place = Workplace.__new__(Workplace)
    place.folder, place.engine, place.reference = folder, None, finished.reference
    return place



def test_all_products_have_their_names(finished):
    names = set(finished.reference)
    for root in ("image_full_ampphase_di_m.NS", "image_full_low_m"):
        for kind in ("app.restored", "int.restored", "int.model", "int.residual", "psf"):
            assert f"{root}.{kind}.fits" in names
    assert {
        "image_dirin_SSD_m.npy.ClusterCat.npy", "external_mask.fits", "MaskDiffuse.fits",
        "full-mask-low.fits", "full-mask-high.fits", "external_mask_ext-deep.fits",
        "image_dirin_SSD.residual01.fits.mask.fits",
        "image_full_ampphase_di_m.app.restored.fits.mask.fits",
        "SOLSDIR/L1_b.ms/killMS.DDS3_full_slow_merged.sols.npz",
        "SOLSDIR/L1_a.ms/killMS.DIS0.sols.npz", "DDS3_full_5000000000.00_smoothed.npz",
    } <= names
    assert "SOLSDIR/L1_b.ms/killMS.DIS0.sols.npz" not in names
    summary = (finished.folder / "summary.txt").read_text()
    assert "\nndir                 : 5\n" in summary and "numpy version" in summary


def test_nothing_is_done_twice(done):
    assert done.run() == []


def test_caches_are_cleared_when_the_manual_says(finished, done, tmp_path):
    everything = ("L1_a.ms", "L1_a.ms", "L1_b.ms")
    assert finished.engine.cleared == [everything, everything]
    options = {"image__low_robust": -0.4}
    done.run(**options, control__clearcache=False, control__clearcache_end=False)
    assert done.engine.cleared == []
    with pytest.raises(StopRequested):
        done.run(control__exitafter="image_full_low")
    assert done.engine.cleared == [everything]


def test_a_record_tells_what_was_done(done):
    record = RunState(done.folder).read("image_phase1")
    assert record.options["image.robust"] == -0.15
    assert record.ms.keys() == {"L1_a.ms"} and record.figures["noise"] == 1e-4
    assert record.inputs["DDS0_smoothed"] == RunState(done.folder).read("DDS0_smoothed").key
    assert {"image_phase1.app.restored.fits", "image_phase1.psf.fits"} <= {
        item.path for item in record.outputs}
    assert record.peak_memory_bytes > 1e6 and record.versions["numpy"][0].isdigit()


LATE = ["image_full_low", "mask of image_full_low.app.restored.fits", "image_full_low_im",
        "mask of image_full_low_im.app.restored.fits", "image_full_low_m"]
FINAL = "image_full_ampphase_di_m.NS"
"""Cleaned where the low resolution shows extended emission, and so made after it."""


@pytest.mark.parametrize("harm", ["missing", "truncated", "changed"])
def test_a_damaged_product_redoes_its_stage_and_no_other_if_it_comes_out_as_before(done, harm):
    path = done.folder / "image_full_low_im.int.residual.fits"
    if harm == "missing":
        path.unlink()
    elif harm == "truncated":
        os.truncate(path, 2880)
    else:
        data = bytearray(path.read_bytes())
        data[-100] ^= 1
        path.write_bytes(data)
    plan = show_plan(done.field())
    assert path.name in plan and "image_full_low_im is made again" in plan
    assert done.run() == ["image_full_low_im"]
    assert done.products() == done.reference


def test_a_damaged_solution_is_solved_anew(done):
    os.truncate(done.folder / "SOLSDIR/L1_b.ms/killMS.DDS3_full_slow.sols.npz", 10)
    assert done.run() == ["DDS3_full_slow"]
    assert done.products() == done.reference and done.run() == []


def test_an_option_redoes_the_stages_that_read_it(done):
    # FINAL reads the merged mask of the low resolution alone, which comes out as before.
    assert done.run(image__low_robust=-0.3) == LATE
    assert done.run(image__low_robust=-0.3) == []


def test_an_entry_of_a_list_redoes_the_stages_that_read_that_entry(done):
    made = done.run(solutions__apply_sols=("P", "AP", "P", "AP", "P", "AP", "AP"))
    assert made == [*LATE, "image_full_ampphase_di_m.NS"]


def test_options_that_no_result_depends_on_redo_nothing(done):
    assert done.run(control__nobar=True, control__logging="elsewhere", machine__NCPU_DDF=1,
                    machine__memory_limit_gb=1.0, control__clearcache=False) == []


def test_the_beam_model_redoes_all_that_touches_data(done):
    with pytest.raises(StopRequested):
        done.run(image__beam_model="none", control__exitafter="initial")
    assert done.made[0] == "image_dirin_SSD_init"


def test_another_folder_of_solutions_has_them_made_there(done):
    text = show_plan(done.field(solutions__SolsDir="S2"))
    assert "it makes S2/L1_a.ms/killMS.DIS0.sols.npz now" in text
    with pytest.raises(StopRequested):
        done.run(solutions__SolsDir="S2", control__exitafter="dirin_di")
    assert done.made[0] == "DIS0" and (done.folder / "S2/L1_a.ms/killMS.DIS0.sols.npz").exists()


def test_the_plan_says_what_changed(done):
    text = show_plan(done.field(image__low_robust=-0.3))
    assert "image.low_robust changed from -0.2 to -0.3" in text
    assert "image_full_low is made again" in text and "9 of 51 stages to do" in text


def test_changed_data_redo_what_reads_them(done):
    (done.folder / "ms/L1_b.ms/table.f0").write_bytes(b"other data")
    made = done.run()
    assert made[0] == "DDS2_full" and "image_phase1" not in made


def test_a_users_file_that_changed_redoes_what_reads_it(done):
    region = done.folder / "mine.reg"
    region.write_text('fk5\ncircle(57.3,45.8,30")\n')
    until = {"masking__region": "mine.reg", "control__exitafter": "image_dirin_SSD"}
    for expected in (["image_dirin_SSD"], []):
        with pytest.raises(StopRequested):
            done.run(**until)
        assert done.made == expected
    region.write_text('fk5\ncircle(57.3,45.8,60")\n')
    text = show_plan(done.field(masking__region="mine.reg"))
    assert "mine.reg has" in text or "mine.reg was changed" in text


def test_without_restart_all_is_done_again(done):
    with pytest.raises(StopRequested):
        done.run(control__restart=False, control__exitafter="image_dirin_SSD_m")
    assert done.made == ["image_dirin_SSD_init", "image_dirin_SSD",
                         "mask of image_dirin_SSD.residual01.fits",
                         "mask of image_dirin_SSD.app.restored.fits", "image_dirin_SSD_m"]


def test_a_broken_record_counts_as_none(done):
    (done.folder / "ddfpipe.state/image_full_low_m.json").write_text('{"format": 1, "sta')
    assert "its record cannot be read" in show_plan(done.field())
    assert done.run() == LATE[-1:]


def test_other_versions_redo_nothing_but_are_on_record(done):
    path = done.folder / "ddfpipe.state/image_full_low_m.json"
    record = json.loads(path.read_text())
    assert record["versions"]["ddfpipe"]
    record["versions"]["ddfpipe"] = "0.0.1"
    path.write_text(json.dumps(record))
    assert done.run() == []


def test_a_run_can_be_stopped_after_every_stage(finished, place):
    names = place.field().recipe.names()
    jobs = []
    for name in names[:-1]:
        with pytest.raises(StopRequested, match="exitafter"):
            place.run(control__exitafter=name)
        jobs += place.made
    jobs += place.run()
    assert jobs == finished.made
    assert place.products() == finished.reference


@pytest.mark.parametrize("name", selfcal.EXIT_POINTS)
def test_every_classic_exit_point(done, name):
    expected = {"bootstrap": ConfigError}.get(name, StopRequested)
    with pytest.raises(expected) as caught:
        done.run(control__exitafter=name)
    assert caught.value.exit_code == (1 if name == "bootstrap" else 2)


def test_names_that_do_not_exist_are_refused_at_once(done):
    with pytest.raises(ConfigError, match="did you mean fullampphase"):
        done.run(control__exitafter="fullampphas")
    with pytest.raises(ConfigError, match="redofrom: there is no 'dirn'; did you mean dirin"):
        done.run(control__redofrom="dirn")
    with pytest.raises(ConfigError, match="skip_di"):
        done.run(control__exitafter="dirin_di", control__skip_di=True)
    with pytest.raises(ConfigError, match="nothing to do"):
        done.run(control__exitafter="phase", control__redofrom="DDS2_full")


def test_redo_from_a_stage(done):
    assert "redofrom=image_full_low_im" in show_plan(
        done.field(control__redofrom="image_full_low_im"))
    before = (done.folder / "image_full_low_im.psf.fits").read_bytes()
    made = done.run(control__redofrom="image_full_low_im")
    assert made == [*LATE[2:], "image_full_ampphase_di_m.NS"]
    old = done.folder / "old"
    assert (old / "image_full_low_im.psf.fits").read_bytes() == before
    assert (old / "logs/image_full_low_im.log").exists() and (old / "summary.txt").exists()
    assert not (old / "image_full_low.psf.fits").exists()


def test_redo_from_dirin_and_start(done):
    with pytest.raises(StopRequested):
        done.run(control__redofrom="dirin", control__exitafter="cleanup")
    left = set(done.products())
    kept = {name for name in left if not name.startswith("old/")}
    assert {"image_dirin_SSD_m.app.restored.fits", "MaskDiffuse.fits", "Noise.fits",
            "image_dirin_SSD_init.dirty.fits", "image_dirin_SSD_m.npy.ClusterCat.npy"} <= kept
    assert not [n for n in kept if "_m_c" in n or "phase" in n or n.startswith("SOLSDIR")]
    assert "old/SOLSDIR/L1_b.ms/killMS.DDS3_full.sols.npz" in left
    assert "old/SOLSDIR/L1_b.ms/DDS3_full.h5" in left
    with pytest.raises(StopRequested):
        done.run(control__redofrom="start", control__exitafter="cleanup")
    assert not [n for n in done.products() if not n.startswith("old/")]


def test_without_full_list(place):
    with pytest.raises(NoFullList) as caught:
        place.run(full=False)
    assert caught.value.exit_code == 3
    assert place.made[-1] == "image_ampphase1_di"
    assert "ended after the small list" in (place.folder / "summary.txt").read_text()
    with pytest.raises(NoFullList):
        place.run(full=False)
    assert place.made == []
    with pytest.raises(StopRequested):
        place.run(control__exitafter="image_ampphase1_di_masked")
    assert place.made[0] == "mask of image_ampphase1_di.app.restored.fits"


def test_dry_looks_touch_nothing(done, tmp_path):
    before = tree_state(done.folder)
    show_plan(done.field(image__robust=0.5, control__redofrom="start"))
    assert tree_state(done.folder) == before
    empty = tmp_path / "empty"
    (empty / "ms").mkdir(parents=True)
    fresh = Workplace(empty)
    before = tree_state(empty)
    assert "51 of 51 stages to do" in show_plan(fresh.field())
    assert tree_state(empty) == before


@pytest.mark.parametrize("error, kind, words", [
    (OSError(28, "No space left on device"), ResourceError, "disk is full"),
    (MemoryError(), ResourceError, "not enough memory"),
    (ImagingError("no PSF"), ImagingError, "no PSF"),
    (DataError("bad column"), DataError, "bad column"),
    (ZeroDivisionError("division by zero"), StageFailed, "ZeroDivisionError"),
])
def test_a_failing_stage_is_named_and_nothing_else_is_lost(done, error, kind, words):
    (done.folder / "image_full_low_im.psf.fits").unlink()
    with pytest.raises(kind, match=f"stage image_full_low_im: .*{words}"):
        done.run(trouble={"image_full_low_im": error})
    log = (done.folder / "logs/image_full_low_im.log").read_text()
    assert "Traceback" in log and words in log
    assert done.run() == ["image_full_low_im"]
    assert done.products() == done.reference


@pytest.mark.parametrize("error", [ImagingError("no such region"), StopRequested("stop")])
def test_what_fails_before_it_changed_anything_loses_nothing(done, error):
    """A mistyped option tried on a finished run."""
    with pytest.raises(type(error)):
        done.run(trouble={"image_dirin_SSD_init": error}, image__robust=-0.3)
    assert "0 of 51 stages to do" in show_plan(done.field())
    assert done.run() == [] and done.products() == done.reference


def test_what_fails_half_way_is_done_again(done):
    """The first product is made anew, then the stage fails; with the old option again."""
    real = FakeEngine._fits
    made = []

    def fits(engine, name, rng):
        if "image_full_low_im" in name and len(made) == 2:
            raise ImagingError("half way")
        made.extend([name] if "image_full_low_im" in name else [])
        return real(engine, name, rng)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(ImagingError):
        patch.setattr(FakeEngine, "_fits", fits)
        done.run(image__low_robust=-0.4)
    assert len(made) == 2 and done.run()
    assert done.products() == done.reference


def test_a_full_disk_behind_another_error(done):
    failed = ImagingError("image.fits: cannot be written")
    failed.__cause__ = OSError(28, "No space left on device")
    (done.folder / "image_full_low_m.psf.fits").unlink()
    with pytest.raises(ResourceError, match="make room"):
        done.run(trouble={"image_full_low_m": failed})


@pytest.mark.parametrize("words", [
    "100 requested and 10 written", "Not enough free space to write 29491200 bytes",
])
def test_a_full_disk_told_in_words_only(done, words):
    (done.folder / "image_full_low_m.psf.fits").unlink()
    with pytest.raises(ResourceError, match="make room"):
        done.run(trouble={"image_full_low_m": OSError(words)})


def test_products_of_a_failed_stage_are_put_aside(place):
    def half():
        (place.folder / "image_dirin_SSD_init.dirty.fits").write_bytes(b"half")
        raise ImagingError("broke off")

    with pytest.raises(ImagingError):
        place.run(trouble={"image_dirin_SSD_init": half})
    assert not (place.folder / "image_dirin_SSD_init.dirty.fits").exists()
    aside = place.folder / "ddfpipe.state/_aside/image_dirin_SSD_init"
    assert (aside / "image_dirin_SSD_init.dirty.fits").read_bytes() == b"half"


def test_a_stage_must_make_what_it_promised(place):
    class Lazy:
        def clear_cache(self, ms):
            pass

        def image(self, job, monitor):
            from ddfpipe.engines.base import ImageResult

            return ImageResult(job.name, 1.0, 1.0, 1.0, (1.0, 1.0, 0.0))

    from ddfpipe.pipeline.run import run
    from ddfpipe.pipeline.signals import StopFlag

    with pytest.raises(StageFailed, match="did not make image_dirin_SSD_init.dirty.fits"):
        run(place.field(), StopFlag(), lambda field: Lazy(), check=lambda field, decisions: None)


def test_products_of_an_earlier_form_of_a_stage_go(done):
    from ddfpipe.naming import image_product

    extra = image_product("image_full_low_m", "residual", 7)
    path = done.folder / "ddfpipe.state/image_full_low_m.json"
    record = json.loads(path.read_text())
    (done.folder / extra).write_bytes(b"from a run with more cycles")
    record["outputs"].append({"path": extra, "size": 1, "mtime_ns": 0, "checksum": ""})
    path.write_text(json.dumps(record))
    assert done.run() == LATE[-1:]
    assert not (done.folder / extra).exists()
