"""Bad input, through the script and the real engine: clear errors, exit codes, nothing lost."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from casacore import tables

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "end_to_end"))

from native_runs import TINY_FIELD, TINY_RUN, Run, simulate, tree_state, write_config  # noqa: E402

ROOM_AT_FIRST = """\
import runpy, shutil, sys
shutil.disk_usage = lambda path: shutil._ntuple_diskusage(10**15, 0, 10**15)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script to which every disk looks empty: the room goes after the checks."""
UNTIL = "--control-exitafter=external_mask"
FIRST, SECOND = "L000009_SB000.ms", "L000009_SB003.ms"


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A simulated field, and a run over its small list that has done two stages."""
    folder = tmp_path_factory.mktemp("begun")
    field = simulate(folder, TINY_FIELD)
    run = Run(folder / "run", write_config(folder / "run.cfg", field, TINY_RUN, full=False))
    code, text = run(UNTIL)
    assert code == 2 and run.records() == 2, text
    return folder


@pytest.fixture
def place(begun, tmp_path):
    """A copy of both in which a test may break what it likes."""
    shutil.copytree(begun / "field", tmp_path / "field")
    shutil.copytree(begun / "run", tmp_path / "run")
    config = write_config(tmp_path / "run.cfg", tmp_path / "field", TINY_RUN, full=False)
    run = Run(tmp_path / "run", config)
    run.field = tmp_path / "field"
    return run


def refused(run, *words, code=1, tell=()):
    """The run ends with `code`, tells all of `tell`, and neither data nor products change."""
    before = run.products(), tree_state(run.field)
    ended, text = run(*words, timeout=600)
    assert ended == code, text
    assert "Traceback" not in text and "fault of the program" not in text
    for word in tell:
        assert word in text, (word, text)
    assert (run.products(), tree_state(run.field)) == before
    return text


def edit(ms, column, change):
    """Apply `change` to a column of a table."""
    with tables.table(str(ms), readonly=False, ack=False) as table:
        table.putcol(column, change(table.getcol(column)))


def remove_set(field):
    shutil.rmtree(field / FIRST)


def break_table(field):
    (field / FIRST / "table.dat").write_bytes(b"not a table")


def truncate_data(field):
    largest = max((field / FIRST).glob("table.f*"), key=lambda path: path.stat().st_size)
    with open(largest, "r+b") as stream:
        stream.truncate(largest.stat().st_size // 3)


def lose_subtable(field):
    shutil.rmtree(field / FIRST / "SPECTRAL_WINDOW")


def zero(field):
    edit(field / FIRST, "DATA", lambda data: data * 0)


def not_a_number(field):
    edit(field / FIRST, "DATA", lambda data: data * np.nan)


def flag_all(field):
    edit(field / FIRST, "FLAG", lambda flag: flag | True)


def weightless(field):
    edit(field / FIRST, "WEIGHT_SPECTRUM", lambda weight: weight * 0)


def point_elsewhere(field):
    edit(field / FIRST / "FIELD", "PHASE_DIR", lambda angle: angle + 0.01)


def international(field):
    def rename(names):
        return names[:-1] + ["DE601HBA"]

    for name in (FIRST, SECOND):
        edit(field / name / "ANTENNA", "NAME", rename)


def empty_list(field):
    (field / "mslist.txt").write_text("\n# nothing\n")


def twice(field):
    (field / "mslist.txt").write_text(f"{field / FIRST}\n{field / FIRST}\n")


@pytest.mark.parametrize("breakage, tell", [
    (remove_set, [FIRST, "does not exist; check the name in the list"]),
    (break_table, [FIRST, "cannot be read, it is corrupt or incomplete"]),
    (truncate_data, [FIRST, "cannot be read"]),
    (lose_subtable, [FIRST, "SPECTRAL_WINDOW"]),
    (zero, [FIRST, "column DATA is zero throughout"]),
    (not_a_number, [FIRST, "column DATA is NaN or empty throughout"]),
    (flag_all, [FIRST, "everything is flagged", "leave"]),
    (weightless, [FIRST, "all weights of unflagged data are zero", "WEIGHT_SPECTRUM"]),
    (point_elsewhere, ["phase centres differ", FIRST, "arcsec away"]),
    (international, [FIRST, SECOND, "international stations DE601HBA", "drop_international"]),
    (empty_list, ["mslist.txt: names no measurement set"]),
    (twice, ["mslist.txt: names more than once", FIRST]),
], ids=lambda item: getattr(item, "__name__", ""))
def test_bad_measurement_sets(place, breakage, tell):
    breakage(place.field)
    text = refused(place, tell=tell)
    if breakage is not point_elsewhere and breakage is not international:
        assert f"  - {SECOND}" not in text


def test_all_that_is_wrong_is_told_at_once(place):
    break_table(place.field)
    edit(place.field / SECOND, "FLAG", lambda flag: flag | True)
    refused(place, tell=["2 problem(s) with the input", FIRST, SECOND, "everything is flagged"])


def test_international_stations_can_be_dropped(place):
    international(place.field)
    code, text = place(UNTIL, "--data-drop_international=True")
    assert code == 2 and place.records() == 2, text


def test_wrong_column(place):
    refused(place, "--data-colname=CORRECTED_DATA",
            tell=["no data column CORRECTED_DATA", "colname", "DATA"])


def test_no_list(place):
    refused(place, "--data-mslist=nowhere.txt",
            tell=["nowhere.txt: no such list of measurement sets"])
    (place.folder / "binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    refused(place, "--data-mslist=binary.txt", tell=["binary.txt: is not a readable text file"])


def test_pure_noise(place):
    """Nothing to calibrate on: told as that, and what was made is kept."""
    rng = np.random.default_rng(3)
    for name in (FIRST, SECOND):
        edit(place.field / name, "DATA", lambda data: (
            rng.standard_normal(data.shape) + 1j * rng.standard_normal(data.shape)) * 0.1)
    code, text = place(timeout=600)
    assert code == 5, text
    assert "stage clusters" in text and "no source above 5 sigma" in text
    assert "clusterfile" in text and "Traceback" not in text
    assert place.records() == 7
    code, text = place("status")
    assert code == 0 and "failed" in text and "7 of" in text


def test_fewer_sources_than_directions(place):
    """The run goes on with the directions that there are."""
    code, text = place("--solutions-ndir=60", "--control-exitafter=clusters",
                       "--control-quiet=False")
    assert code == 2, text
    from ddfpipe.data.clusters import read_clusters

    found = read_clusters(place.folder / "image_dirin_SSD_m.npy.ClusterCat.npy").size
    assert 1 < found < 60
    assert f"in {found} directions" in text


OPTIONS = [
    # kind of option, word, what is told
    ("int", "--image-imsize=many", ["imsize", "many", "whole number"]),
    ("int", "--solutions-ndir=4.5", ["ndir", "4.5", "whole number"]),
    ("int range", "--solutions-ndir=0", ["ndir", "at least 1"]),
    ("float", "--image-cellsize=wide", ["cellsize", "wide", "number"]),
    ("float range", "--image-robust=9", ["robust", "9", "5"]),
    ("float nan", "--image-cellsize=nan", ["cellsize", "nan"]),
    ("bool", "--control-quiet=perhaps", ["quiet", "perhaps", "True"]),
    ("str choice", "--image-beam_model=square", ["beam_model", "square", "array_factor"]),
    ("list text", "--masking-thresholds=15", ["thresholds", "[15]"]),
    ("list short", "--masking-thresholds=[15]", ["thresholds", "has 1 entries, at least 3"]),
    ("list element", "--solutions-NIterKF=[1,1,1,'x',1,1,1]", ["NIterKF", "x"]),
    ("list choice", "--solutions-apply_sols=['P','A','P','P','P','P','P']", ["apply_sols", "AP"]),
    ("list of bool", "--image-apply_weights=[True,False,2]", ["apply_weights", "2"]),
    ("list open", "--masking-thresholds=[15,10", ["thresholds", "[15,10"]),
    ("unknown option", "--image-imsise=512", ["imsise", "imsize"]),
    ("unknown section", "--imaging-imsize=512", ["imaging"]),
    ("no value", "--image-imsize", ["imsize"]),
    ("file", "--inputmodel-skymodel=nowhere.sky", ["nowhere.sky", "does not exist"]),
    ("exitafter", "--control-exitafter=image_phas1", ["exitafter", "did you mean image_phase1"]),
    ("redofrom", "--control-redofrom=DDS9", ["redofrom", "there is no 'DDS9'"]),
    ("engine without its beam", "--machine-engine=ddfacet",
     ["ddfacet", "has no beam here", "beam_model = none"]),
    ("engine without beam", "--machine-engine=wsclean",
     ["wsclean", "without a beam"]),
    ("no factors", "--control-write_columns=['SCALED_DATA']",
     ["[control] write_columns", "switch [control] bootstrap on"]),
    ("catalogue", "--offsets-method=panstars", ["[offsets] method", "panstars", "pslocal"]),
]


@pytest.mark.parametrize("kind, word, tell", OPTIONS, ids=[item[0] for item in OPTIONS])
def test_bad_options(begun, kind, word, tell):
    run = Run(begun / "run", begun / "run.cfg")
    run.field = begun / "field"
    refused(run, word, tell=tell)


def test_incomplete_input_model(begun):
    run = Run(begun / "run", begun / "run.cfg")
    run.field = begun / "field"
    refused(run, "--inputmodel-basedicomodel=model", code=4, tell=["basemaskname", "clusterfile"])


@pytest.mark.parametrize("option", [
    "--control-cache_dir=file/cache", "--solutions-SolsDir=file/SOLSDIR", "--control-logging=file",
])
def test_directories_that_cannot_be(place, option):
    """A path below a regular file: unwritable for every user, root included."""
    (place.folder / "file").write_text("in the way\n")
    refused(place, option, tell=["file", "cannot be written"])


def test_archive_that_cannot_be(place):
    (place.folder / "file").write_text("in the way\n")
    refused(place, "--control-redofrom=start", "--control-archive_dir=file/old",
            tell=["file/old", "archive_dir"])
    assert place.records() == 2


def in_namespace(place, prepare):
    """Shell words that mount something for the script alone; skips where that is not allowed."""
    trial = subprocess.run(["unshare", "-rm", "bash", "-c", prepare], capture_output=True,
                           text=True)
    if trial.returncode:
        pytest.skip(f"SKIPPED LOUDLY: no mounts in a namespace here: {trial.stderr}")
    return ["unshare", "-rm", "bash", "-c", f'{prepare}; exec "$@"', "bash"]


def test_read_only_directory(place):
    wrapper = in_namespace(place, f"mount --bind {place.folder} {place.folder} && "
                           f"mount -o remount,ro,bind {place.folder} && cd {place.folder}")
    place.wrapper = wrapper
    shutil.rmtree(place.folder / "ddfpipe.state")
    refused(place, tell=[str(place.folder), "cannot be written"])


@pytest.mark.parametrize("kilobytes", [
    300,  # the visibility cache of the second set does not fit
    560,  # scratch arrays do not fit
    600, 2400,  # cached images do not fit
])
def test_cache_on_a_full_disk(place, tmp_path, kilobytes):
    """A real, small file system; all finished stages are kept, with more room it goes on."""
    small = tmp_path / "small"
    small.mkdir()
    place.wrapper = in_namespace(place, f"mount -t tmpfs -o size={kilobytes}k none {small}")
    place.python = [sys.executable, "-c", ROOM_AT_FIRST]
    until = f"--control-cache_dir={small}", "--control-exitafter=image_dirin_SSD"
    refused(place, *until, tell=["stage image_dirin_SSD", "the disk is full", "make room",
                                 "all finished stages are kept"])
    assert place.records() == 2
    place.wrapper, place.python = [], [sys.executable]
    code, text = place(*until)
    assert code == 2 and place.records() == 3, text


def test_product_beyond_the_limit_of_file_sizes(place):
    """RLIMIT_FSIZE stands for a full disk where nothing can be mounted: products, 1 MiB each."""
    code, text = place("--control-exitafter=image_dirin_SSD", shell="ulimit -f 900")
    assert code == 1 and "the disk is full" in text and "stage image_dirin_SSD" in text, text
    assert place.records() == 2 and "Traceback" not in text
    code, text = place("--control-exitafter=image_dirin_SSD")
    assert code == 2 and place.records() == 3, text
