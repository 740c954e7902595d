"""The whole recipe with everything that touches measurement sets: columns in, archives out, columns
removed again; and a directory that is moved in between."""

import os
import shutil

import numpy as np
import pytest
from casacore import tables
from native_runs import FINAL, TINY_FIELD, TINY_RUN, Run, simulate, write_config

from ddfpipe.data.archive import read_note
from ddfpipe.data.ms import read_metadata
from ddfpipe.data.solutions import load_solution
from ddfpipe.naming import archive_name

COLUMNS = ("DATA_DI_CORRECTED", "DD_PREDICT", "IMAGING_WEIGHT")
ALL = {"control": {"write_columns": f"[{', '.join(repr(c) for c in COLUMNS)}]",
                   "clearcache_end": "False"},
       "compression": {"compress_ms": "True"}}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(run, folder of the field, what was printed) after the whole recipe."""
    folder = tmp_path_factory.mktemp("columns")
    field = simulate(folder, TINY_FIELD, "--threads", "1")
    config = write_config(folder / "my.cfg", field, TINY_RUN | ALL)
    run = Run(folder / "run", config)
    code, text = run(timeout=600)
    assert code == 0, text
    return run, field, text


def read(path, *names):
    with tables.table(str(path), ack=False) as main:
        return [main.getcol(name) for name in names]


def sets_of(field):
    return [field / line for line in (field / "big-mslist.txt").read_text().split()]


@pytest.mark.slow
def test_the_whole_recipe_with_columns_and_archives(done):
    run, field, _ = done
    assert (run.folder / f"{FINAL}.app.restored.fits").is_file()
    for ms in sets_of(field):
        data, corrected, predicted, weight, flag, ant1, ant2 = read(
            ms, "DATA", *COLUMNS, "FLAG", "ANTENNA1", "ANTENNA2")
        table = load_solution(run.folder / "SOLSDIR", ms.name, "DIS2_full_merged")
        cross = ant1 != ant2
        good = cross[:, None] & ~flag.any(-1) & (weight > 0)
        assert good.mean() > 0.5 and np.isfinite(corrected[good]).all()
        assert table.n_corr == 4 and np.abs(corrected - data)[good].max() > 0
        # The model explains most of the data, and of the corrected ones more.
        power, rest, rest_of_raw = (
            np.mean(np.abs(x[good][:, [0, 3]]) ** 2)
            for x in (corrected, corrected - predicted, data - predicted))
        assert rest < 0.2 * power and rest < 0.9 * rest_of_raw

        archive = run.folder / archive_name(ms)
        assert read_metadata(archive).dysco_columns == ("DATA", "WEIGHT_SPECTRUM")
        kept, kept_weight, kept_flag = read(archive, "DATA", "IMAGING_WEIGHT", "FLAG")
        assert np.array_equal(kept_flag, flag) and np.array_equal(kept_weight, weight)
        usable = np.isfinite(kept)
        assert np.array_equal(usable, np.isfinite(corrected) & ~flag & cross[:, None, None])
        size = np.median(np.abs(corrected[usable]))
        assert np.median(np.abs(kept - corrected)[usable]) < 0.005 * size
        assert read_note(archive)["origin"]["corrections"]


@pytest.mark.slow
def test_a_second_start_has_nothing_to_do_also_elsewhere(done, tmp_path):
    run, field, _ = done
    code, text = run()
    assert code == 0 and "stages are done already" in text
    moved = Run(tmp_path / "moved", run.config)
    shutil.copytree(run.folder, moved.folder, symlinks=True)
    code, text = moved()
    assert code == 0 and "stages are done already" in text, text


@pytest.mark.slow
def test_an_interrupted_solve_is_taken_up_in_a_moved_directory(done, tmp_path):
    """The field moves too: neither place is part of what a solution was made from."""
    run, field, _ = done
    shutil.copytree(field, tmp_path / "field2")
    config = write_config(tmp_path / "my.cfg", tmp_path / "field2", TINY_RUN | ALL)
    moved = Run(tmp_path / "moved", config)
    shutil.copytree(run.folder, moved.folder, symlinks=True,
                    ignore=shutil.ignore_patterns("*.ddfvis", "ddfpipe.scratch*"))
    (moved.folder / "ddfpipe.state" / "DDS0.json").unlink()
    solutions = sorted(moved.folder.glob("SOLSDIR/*/killMS.DDS0.sols.npz"))
    before = [path.stat().st_mtime_ns for path in solutions]
    code, text = moved("--control-exitafter=DDS0", "--control-clearcache=False")
    assert code == 2, text
    assert len(solutions) == 2 and [path.stat().st_mtime_ns for path in solutions] == before


@pytest.mark.slow
def test_columns_are_removed_and_written_again(done):
    run, field, _ = done
    [before] = read(sets_of(field)[0], "DD_PREDICT")
    archives = {ms: os.stat(run.folder / archive_name(ms)).st_ino for ms in sets_of(field)}
    code, text = run("--control-remove_columns=True", "--control-write_columns=['DD_PREDICT']")
    assert code == 0, text
    assert "remove_columns" in text and "image_dirin_SSD_init" not in text
    for ms in sets_of(field):
        names = read_metadata(ms).columns
        assert "DD_PREDICT" in names and not {"DATA_DI_CORRECTED", "IMAGING_WEIGHT"} & set(names)
        assert os.stat(run.folder / archive_name(ms)).st_ino == archives[ms]
    assert np.array_equal(read(sets_of(field)[0], "DD_PREDICT")[0], before)
