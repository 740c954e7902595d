"""Everything wrong with the input is found before a run, all of it at once."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from casacore import tables
from make_ms import RA, Spec, grid, snapshot, write_ms

from ddfpipe.data import mschecks, preflight as preflight_module, sizes
from ddfpipe.data.mschecks import group_observations
from ddfpipe.data.ms import read_metadata
from ddfpipe.data.mscolumn import column_outlook
from ddfpipe.data.preflight import preflight
from ddfpipe.errors import DataError, ResourceError

DOC = Path(__file__).resolve().parents[2] / "docs" / "bad-input.md"
STEP = 3 * 97656.25
ARCSEC = np.pi / 180 / 3600


def write_band(folder, n=4, **changes):
    """`n` neighbouring sets of one observation."""
    paths = []
    for k in range(n):
        path = folder / f"L1000_SB{k:03d}.ms"
        write_ms(path, Spec(freq0=120e6 + k * STEP, seed=k, **changes))
        paths.append(path)
    return paths


def edit(path, column, change):
    with tables.table(str(path), readonly=False, ack=False) as main:
        main.putcol(column, change(main.getcol(column)))


def codes(report, fatal=True):
    return {p.code for p in report.problems if p.fatal == fatal}


def test_a_good_band_passes_untouched(tmp_path):
    paths = write_band(tmp_path)
    before = [snapshot(p) for p in paths]
    report = preflight(paths[1:2], paths, "DATA", disk_needed={tmp_path / "cache/x": 1000},
                       memory_needed=("image", 1000))
    report.raise_if_errors()
    assert report.problems == ()
    assert len(report.facts) == 4 and len(report.observations) == 1
    first = report.text().splitlines()[0]
    assert first.startswith("observation L1000 (2017-04-27 08:53:24): 4 set(s), 120.0-121.1 MHz")
    assert first.endswith("5 stations")
    assert [snapshot(p) for p in paths] == before
    assert not (tmp_path / "cache").exists()


def test_all_unreadable_sets_are_named_together(tmp_path):
    paths = write_band(tmp_path)
    (paths[0] / "table.dat").write_bytes(b"xx")
    shutil.rmtree(paths[2] / "SPECTRAL_WINDOW")
    report = preflight(paths + [tmp_path / "gone.ms"], None, "DATA")
    with pytest.raises(DataError) as caught:
        report.raise_if_errors()
    text = str(caught.value)
    assert "3 problem(s)" in text
    for name in ("SB000.ms", "SB002.ms", "gone.ms"):
        assert name in text
    assert "SB001" not in text and caught.value.exit_code == 1


def test_a_missing_subtable_is_named_as_such(tmp_path):
    path = tmp_path / "a.ms"
    write_ms(path)
    shutil.rmtree(path / "SPECTRAL_WINDOW")
    [problem] = preflight([path], None, "DATA").errors
    assert problem.text.startswith(f"{path}: lacks its table SPECTRAL_WINDOW; copy or unpack")


def test_columns_to_be_written(tmp_path, monkeypatch):
    """A column that cannot be overwritten and a set that cannot be written are told at once."""
    paths = write_band(tmp_path)
    with tables.table(str(paths[0]), readonly=False, ack=False) as main:
        desc = tables.makearrcoldesc("IMAGING_WEIGHT", 0.0, ndim=1, shape=[2], valuetype="float")
        main.addcols(desc)
    columns = ("DD_PREDICT", "IMAGING_WEIGHT")
    info = read_metadata(paths[1])
    # 4 correlations of 8 bytes, and one weight of 4 bytes, a channel.
    assert column_outlook(paths[1], columns) == (info.n_rows * info.n_chan * 36, [])
    written = {path: columns for path in (*paths, tmp_path / "gone.ms")}
    report = preflight(paths, None, "DATA", written=written)
    [problem] = report.errors
    assert problem.code == "column-in-the-way" and str(paths[0]) in problem.text
    assert "IMAGING_WEIGHT exists and is of another shape" in problem.text
    allowed = preflight_module.os.access
    monkeypatch.setattr(preflight_module.os, "access", lambda path, mode: (
        Path(path) != paths[2] / "table.dat" and allowed(path, mode)))
    report = preflight(paths, None, "DATA", written={paths[2]: (), paths[3]: columns})
    [problem] = report.errors
    assert problem.code == "set-not-writable" and problem.text.startswith(str(paths[2]))
    with pytest.raises(ResourceError):
        report.raise_if_errors()


def test_truncated_data_file_is_found(tmp_path):
    path = tmp_path / "a.ms"
    write_ms(path, Spec(n_ant=8, n_time=40, n_chan=16))
    biggest = max(path.glob("table.f*"), key=lambda f: f.stat().st_size)
    with open(biggest, "r+b") as stream:
        stream.truncate(biggest.stat().st_size // 3)
    assert codes(preflight([path], None, "DATA")) == {"unreadable"}


def test_column_missing_zero_or_nan(tmp_path):
    paths = write_band(tmp_path, columns=("DATA", "CORRECTED_DATA"))
    edit(paths[0], "CORRECTED_DATA", lambda d: d * 0)
    edit(paths[1], "CORRECTED_DATA", lambda d: d * np.nan)
    edit(paths[2], "CORRECTED_DATA", lambda d: d * (np.arange(len(d)) > 50)[:, None, None])
    with tables.table(str(paths[3]), readonly=False, ack=False) as main:
        main.removecols("CORRECTED_DATA")
    report = preflight(paths, None, "CORRECTED_DATA")
    assert codes(report) == {"zero-column", "nan-column", "no-column"}
    assert "partly-zero" in codes(report, fatal=False)
    for problem in report.errors:
        assert "(DATA)" in problem.text and "colname" in problem.text
    assert not preflight(paths, None, "DATA").errors


def test_nothing_anywhere_gets_honest_advice(tmp_path):
    paths = write_band(tmp_path, 3)
    for path in paths:
        edit(path, "DATA", lambda d: d * 0)
    (problem,) = preflight(paths, None, "DATA").errors
    assert "no other column holds data" in problem.text
    assert all(p.name in problem.text for p in paths)


def test_flags_and_weights(tmp_path):
    paths = write_band(tmp_path, autos=False)
    edit(paths[0], "FLAG", lambda f: f | True)
    edit(paths[1], "FLAG", lambda f: f | (np.arange(len(f)) % 10 > 0)[:, None, None])
    edit(paths[2], "WEIGHT_SPECTRUM", lambda w: w * 0)
    edit(paths[3], "FLAG_ROW", lambda f: f | True)
    report = preflight(paths, None, "DATA")
    by_code = {p.code: p.text for p in report.problems}
    assert set(by_code) == {"all-flagged", "much-flagged", "zero-weights"}
    assert "SB000" in by_code["all-flagged"] and "SB003" in by_code["all-flagged"]
    assert "SB001" in by_code["much-flagged"] and "90%" in by_code["much-flagged"]
    assert "SB002" in by_code["zero-weights"]


def test_few_good_rows_between_the_samples_are_not_all_flagged(tmp_path, monkeypatch):
    monkeypatch.setattr(mschecks, "SAMPLES", 2)
    monkeypatch.setattr(mschecks, "SAMPLE_BYTES", 64)
    spec = Spec(n_ant=8, n_time=20)
    rows = grid(spec)
    rows["flag"][:] = True
    rows["flag"][len(rows["time"]) // 2 + 1] = False
    write_ms(tmp_path / "a.ms", spec, rows)
    report = preflight([tmp_path / "a.ms"], None, "DATA")
    assert not report.errors and codes(report, fatal=False) == {"much-flagged"}


def test_international_stations(tmp_path):
    names = ("CS001HBA0", "DE601HBA", "RS106HBA", "IE613HBA", "LV614HBA")
    write_ms(tmp_path / "a.ms", Spec(names=names))
    (problem,) = preflight([tmp_path / "a.ms"], None, "DATA").errors
    assert "DE601HBA, IE613HBA, LV614HBA" in problem.text
    assert "drop_international" in problem.text
    report = preflight([tmp_path / "a.ms"], None, "DATA", drop_international=True)
    assert not report.errors and codes(report, fatal=False) == {"international"}
    write_ms(tmp_path / "b.ms", Spec(names=names, telescope="MeerKAT"))
    assert not preflight([tmp_path / "b.ms"], None, "DATA").problems


@pytest.mark.parametrize("changes, code", [
    ({"width": 195312.5}, "coarse"), ({"interval": 16.0}, "coarse"),
    ({"width": 12207.0}, "fine"), ({"interval": 1.0}, "fine"), ({}, None)])
def test_averaging(tmp_path, changes, code):
    write_ms(tmp_path / "a.ms", Spec(**changes))
    report = preflight([tmp_path / "a.ms"], None, "DATA")
    assert codes(report, fatal=False) == ({code} if code else set()) and not report.errors


def test_sets_that_do_not_fit_together(tmp_path):
    paths = write_band(tmp_path, 7)
    for path in (paths[1], paths[3], paths[5]):
        shutil.rmtree(path)
    write_ms(paths[1], Spec(freq0=120e6 + STEP, n_chan=2))
    write_ms(paths[3], Spec(freq0=120e6 + 3 * STEP, centre=(RA, 0.6 + 2 * ARCSEC)))
    write_ms(paths[5], Spec(freq0=120e6 + 4 * STEP + 97656.25))
    report = preflight(paths, None, "DATA")
    by_code = {p.code: p.text for p in report.errors}
    assert set(by_code) == {"channels", "phase-centre", "duplicate"}
    assert "SB001.ms (2)" in by_code["channels"] and "SB000" not in by_code["channels"]
    assert "SB003.ms (2.0 arcsec" in by_code["phase-centre"]
    assert "SB004.ms" in by_code["duplicate"] and "SB005.ms" in by_code["duplicate"]


def test_centres_within_an_arcsecond_agree(tmp_path):
    for k, turns in enumerate((0.0, 2 * np.pi)):
        write_ms(tmp_path / f"L1_SB{k}.ms",
                 Spec(freq0=120e6 + k * STEP, centre=(RA + turns + k * 0.9 * ARCSEC, 0.6)))
    assert not preflight(sorted(tmp_path.iterdir()), None, "DATA").problems


def test_gaps_and_odd_members_are_warned_of(tmp_path):
    paths = write_band(tmp_path, 6)
    shutil.rmtree(paths.pop(3))
    shutil.rmtree(paths[4])
    write_ms(paths[4], Spec(freq0=120e6 + 5 * STEP, n_ant=4, interval=8.2))
    report = preflight(paths, None, "DATA")
    assert not report.errors
    assert codes(report, fatal=False) == {"gap", "stations", "intervals"}
    gap = next(p.text for p in report.warnings if p.code == "gap")
    assert "SB002" in gap and "SB004" in gap


def test_observations_by_time_and_names(tmp_path):
    for day in range(2):
        for k in range(2):
            write_ms(tmp_path / f"L{day}_SB{k}.ms",
                     Spec(start=5e9 + day * 86400, freq0=120e6 + k * STEP))
    paths = sorted(tmp_path.iterdir())
    groups = group_observations([read_metadata(p) for p in paths])
    assert [[i.name for i in g] for g in groups] == [["L0_SB0.ms", "L0_SB1.ms"],
                                                     ["L1_SB0.ms", "L1_SB1.ms"]]
    assert not preflight(paths, None, "DATA").problems
    paths[0].rename(tmp_path / "X_SB0.ms")
    assert codes(preflight(sorted(tmp_path.iterdir()), None, "DATA"), False) == {"names"}


def test_small_list_must_be_part_of_the_full_one(tmp_path, monkeypatch):
    paths = write_band(tmp_path, 3)
    monkeypatch.chdir(tmp_path)
    assert not preflight([Path(paths[0].name)], paths, "DATA").errors
    report = preflight(paths, paths[:2], "DATA")
    (problem,) = report.errors
    assert problem.code == "not-subset" and "SB002" in problem.text and "SB001" not in problem.text
    assert len(report.facts) == 3


def test_resources(tmp_path, monkeypatch):
    write_ms(tmp_path / "a.ms")
    work, cache = tmp_path / "work", tmp_path / "cache" / "deep"
    work.mkdir()
    usage = type("usage", (), {"free": 10e9})
    monkeypatch.setattr(sizes.shutil, "disk_usage", lambda p: usage)
    # each alone fits, both together do not
    report = preflight([tmp_path / "a.ms"], None, "DATA",
                       disk_needed={work: 6e9, cache: 6e9, tmp_path / "logs": 0},
                       memory_needed=("image_x", 5), memory_available=4)
    assert codes(report) == {"disk", "memory"}
    with pytest.raises(ResourceError, match="12 GB, 10 GB are free") as caught:
        report.raise_if_errors()
    assert "image_x will need some 5 bytes of memory, 4 bytes can be had" in str(caught.value)
    # the folder below which nothing is needed is not named, nor one that does not exist yet
    assert f"{work}, {tmp_path}: the run" in str(caught.value)
    monkeypatch.setattr(preflight_module.os, "access", lambda p, mode: Path(p) != work)
    report = preflight([tmp_path / "a.ms", tmp_path / "no.ms"], None, "DATA",
                       disk_needed={work: 1, cache: 1}, memory_needed=("image_x", 1))
    assert codes(report) == {"not-writable", "unreadable"}
    with pytest.raises(DataError):
        report.raise_if_errors()


def test_correlations(tmp_path):
    write_ms(tmp_path / "a.ms", Spec(corr=(10, 11)))
    assert codes(preflight([tmp_path / "a.ms"], None, "DATA")) == {"correlations"}


def test_real_data(unpack_ms):
    good = unpack_ms("tAWImager2_3C295.in_MS.tgz")
    assert not preflight([good], None, "CORRECTED_DATA").errors
    assert preflight([good], None, "CORRECTED_DATA").facts[0].sample.mean_abs > 50
    bda, dysco = unpack_ms("tNDPPP-bda.MS.tgz"), unpack_ms("A1775_LT10_010_4ch.ms.tgz")
    report = preflight([bda, dysco], None, "DATA")
    assert codes(report) == {"unreadable"} and codes(report, False) == {"coarse"}
    assert report.facts[1].flagged == pytest.approx(0.155, abs=0.001)
    (problem,) = preflight([dysco], None, "CORRECTED_DATA").errors
    assert problem.code == "no-column" and "(DATA)" in problem.text


def test_every_problem_is_documented():
    text = DOC.read_text()
    used = set()
    for module in (mschecks, preflight_module):
        used |= set(re.findall(r'(?:Problem|_check_odd)\(\s*(?:group, )?"([a-z-]+)"',
                               Path(module.__file__).read_text()))
    assert len(used) >= 20
    assert used == set(re.findall(r"^\| `([a-z-]+)` \|", text, flags=re.M))
