"""Compressed copies of measurement sets, read back against their originals."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from casacore import tables
from make_ms import Spec, grid, snapshot, write_ms

from ddfpipe.data import archive as module
from ddfpipe.data.archive import NOTE, archive_ms, archive_size, read_note
from ddfpipe.data.ms import read_metadata
from ddfpipe.data.mscolumn import STATE
from ddfpipe.data.sizes import folder_bytes, size_text
from ddfpipe.data.viscache import open_cache
from ddfpipe.errors import DataError, ResourceError, StopRequested

SPEC = Spec(n_ant=8, n_time=12, n_chan=8, columns=("DATA", "CORRECTED_DATA"))


def columns(path, *names):
    with tables.table(str(path), ack=False) as main:
        return [main.getcol(name) for name in names]


def write(path, spec=SPEC, seed=4):
    """A set with some flags, a flagged outlier, and CORRECTED_DATA unlike DATA."""
    rows = grid(spec)
    rng = np.random.default_rng(seed)
    rows["flag"] = rng.random(rows["flag"].shape[:2])[..., None] < 0.1 * np.ones(len(spec.corr))
    rows["data"][rows["flag"]] *= 1e6
    write_ms(path, spec, rows)
    if "CORRECTED_DATA" in spec.columns:
        with tables.table(str(path), readonly=False, ack=False) as main:
            main.putcol("CORRECTED_DATA", 3 * main.getcol("DATA"))
    return rows


@pytest.mark.parametrize("corr", [(9, 10, 11, 12), (9, 12), (1,), (5, 6, 7, 8)])
def test_reads_back_within_the_quantisation(tmp_path, corr):
    ms, target = tmp_path / "a.ms", tmp_path / "a.ms.archive"
    write(ms, Spec(n_ant=8, n_time=12, n_chan=8, corr=corr))
    before = snapshot(ms)
    made = archive_ms(ms, target, "DATA")
    assert snapshot(ms) == before
    data, flag, weight, ant1, ant2, uvw, time = columns(
        ms, "DATA", "FLAG", "WEIGHT_SPECTRUM", "ANTENNA1", "ANTENNA2", "UVW", "TIME")
    got, flag2, weight2, uvw2, time2 = columns(
        target, "DATA", "FLAG", "WEIGHT_SPECTRUM", "UVW", "TIME")
    assert np.array_equal(flag, flag2) and np.array_equal(uvw, uvw2) and np.array_equal(time, time2)
    good = ~flag & (ant1 != ant2)[:, None, None]
    assert np.array_equal(np.isfinite(got), good)
    error = np.abs(got - data)[good]
    # 10 bits over +-2.5 sigma and beyond: a few thousandths of sigma in the middle.
    assert np.median(error) < 0.004 * np.median(np.abs(data[good]))
    assert error.max() < 0.1 * np.abs(data[good]).max()
    assert made.error == pytest.approx(np.median(error) / np.median(np.abs(data[good])), rel=0.05)
    mean = np.broadcast_to(weight.mean(2, keepdims=True), weight.shape)
    np.testing.assert_allclose(weight2, mean, atol=weight.max() / 4096)
    assert made.made and made.compressed and made.weight_error < 1e-3


def test_it_is_smaller_and_says_what_it_is(tmp_path):
    ms, target = tmp_path / "a.ms", tmp_path / "b.archive"
    write_ms(ms, Spec(n_ant=20, n_time=60, n_chan=20))
    made = archive_ms(ms, target, "DATA")
    info = read_metadata(ms)
    size = folder_bytes(target)
    assert abs(made.size - size) < 4096 and made.before == folder_bytes(ms)
    # 4 x 64 + 4 x 32 bits a sample become 4 x 20 + 12; flags, uvw and subtables stay.
    assert size < 0.4 * made.before
    assert size < archive_size(info) < 2 * size
    assert read_metadata(target).dysco_columns == ("DATA", "WEIGHT_SPECTRUM")
    note = read_note(target)
    assert note["origin"]["source"] == "a.ms" and note["origin"]["column"] == "DATA"
    assert (target / "ANTENNA").is_dir() and "ddfpipe.columns.json" not in note
    assert not list(tmp_path.glob(".*"))
    cache = open_cache(target, "DATA", tmp_path / "cache")
    assert cache.flagged_fraction == pytest.approx(0, abs=1e-6)


def test_column_keywords_and_other_columns(tmp_path):
    ms, target = tmp_path / "a.ms", tmp_path / "a.ms.archive"
    write(ms)
    with tables.table(str(ms), readonly=False, ack=False) as main:
        main.putcolkeyword("CORRECTED_DATA", "LOFAR_APPLIED_BEAM_MODE", "Full")
        desc = tables.makearrcoldesc("IMAGING_WEIGHT", 0.0, ndim=1, shape=[8], valuetype="float")
        main.addcols(desc)
        main.putcol("IMAGING_WEIGHT", np.full((main.nrows(), 8), 0.25, np.float32))
    archive_ms(ms, target, "CORRECTED_DATA")
    with tables.table(str(target), ack=False) as copy:
        assert copy.getcolkeyword("DATA", "LOFAR_APPLIED_BEAM_MODE") == "Full"
        assert "CORRECTED_DATA" not in copy.colnames()
        assert (copy.getcol("IMAGING_WEIGHT") == 0.25).all()
    data, = columns(ms, "CORRECTED_DATA")
    got, = columns(target, "DATA")
    good = np.isfinite(got)
    assert np.median(np.abs(got - data)[good]) < 0.004 * np.median(np.abs(data[good]))
    archive_ms(ms, tmp_path / "b", "DATA", skip_imaging_weights=True)
    assert "IMAGING_WEIGHT" not in read_metadata(tmp_path / "b").columns


def test_what_is_given_takes_the_place_of_the_columns(tmp_path):
    ms, target = tmp_path / "a.ms", tmp_path / "a.ms.archive"
    write(ms)

    def twice(main, info):
        return lambda start, count: 2 * main.getcol("DATA", start, count)

    def weights(main, info):
        return lambda start, count: np.full((count, info.n_chan), start + 1, np.float32)

    archive_ms(ms, target, "DATA", corrected=twice, corrections="x", imaging_weights=weights,
               weights_from="w")
    data, = columns(ms, "DATA")
    got, weight = columns(target, "DATA", "IMAGING_WEIGHT")
    good = np.isfinite(got)
    assert np.median(np.abs(got - 2 * data)[good]) < 0.01 * np.median(np.abs(data[good]))
    assert (weight == 1).all()
    assert read_note(target)["origin"]["corrections"] == "x"
    assert read_note(target)["origin"]["imaging_weights"] == "w"


@pytest.mark.parametrize("changes, compressed", [
    ({"shuffle": True}, True), ({"drop": (5, 17, 40)}, False), ({"n_time": 1}, False),
    ({"autos": False, "descending": True}, True), ({"drop": tuple(range(36))}, True),
])
def test_rows_that_dysco_cannot_store_end_nothing(tmp_path, changes, compressed):
    """In a process of its own: Dysco ends the process where it is given what it cannot store."""
    ms, target = tmp_path / "a.ms", tmp_path / "a.ms.archive"
    write_ms(ms, Spec(**{"n_ant": 8, "n_time": 6, "n_chan": 4} | changes))
    code = ("import sys; from ddfpipe.data.archive import archive_ms\n"
            "print(archive_ms(sys.argv[1], sys.argv[2], 'DATA').compressed)")
    done = subprocess.run([sys.executable, "-c", code, str(ms), str(target)], text=True,
                          capture_output=True, timeout=600)
    assert (done.returncode, done.stdout.strip()) == (0, str(compressed)), done.stderr
    names = ("TIME", "ANTENNA1", "ANTENNA2")

    def ordered(path):
        data, *keys = columns(path, "DATA", *names)
        order = np.lexsort(keys[::-1])
        return data[order], (keys[1] != keys[2])[order]

    (data, cross), (got, _) = ordered(ms), ordered(target)
    error = np.abs(got - data)[cross]
    assert np.median(error) < 0.01 and error.max() < 0.2 and (compressed or error.max() == 0)


def test_an_archive_is_kept_or_put_aside_never_lost(tmp_path):
    ms, target = tmp_path / "a.ms", tmp_path / "a.ms.archive"
    write(ms)
    archive_ms(ms, target, "DATA")
    first = snapshot(target)
    again = archive_ms(ms, target, "DATA")
    assert not again.made and again.error < 0.01 and again.before > 0
    assert not archive_ms(ms, target, "CORRECTED_DATA", preserve=True).made
    assert snapshot(target) == first
    other = archive_ms(ms, target, "CORRECTED_DATA")
    assert other.made and other.aside == tmp_path / "a.ms.archive.1"
    assert read_note(other.aside)["origin"]["column"] == "DATA"
    third = archive_ms(ms, target, "DATA")
    assert third.aside.name == "a.ms.archive.2"
    (target / NOTE).unlink()  # such as another program's
    assert archive_ms(ms, target, "DATA").aside.name == "a.ms.archive.3"
    with tables.table(str(ms), readonly=False, ack=False) as main:
        main.putcol("DATA", main.getcol("DATA") * 2)
    assert archive_ms(ms, target, "DATA").aside.name == "a.ms.archive.4"


def test_nothing_is_left_of_an_archive_that_failed(tmp_path, monkeypatch):
    ms, target = tmp_path / "a.ms", tmp_path / "a.ms.archive"
    write(ms)

    class Stop:
        def check(self):
            raise StopRequested("enough")

    with pytest.raises(StopRequested):
        archive_ms(ms, target, "DATA", monitor=Stop())
    assert [path.name for path in tmp_path.iterdir()] == ["a.ms"]
    with pytest.raises(DataError, match="no data column MODEL_DATA"):
        archive_ms(ms, target, "MODEL_DATA")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 5))
    with pytest.raises(ResourceError, match="a.ms.archive needs .* 5 bytes are free"):
        archive_ms(ms, target, "DATA")
    monkeypatch.undo()
    with pytest.raises(ResourceError, match="no such directory"):
        archive_ms(ms, tmp_path / "gone" / "a", "DATA")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ms"]


def test_an_archive_that_would_differ_is_refused(tmp_path):
    """Many unflagged outliers take the bits of all others."""
    ms, target = tmp_path / "a.ms", tmp_path / "a.ms.archive"
    rows = grid(SPEC)
    odd = np.random.default_rng(1).random(rows["data"].shape) < 0.3
    rows["data"][odd] *= 1e3
    write_ms(ms, SPEC, rows)
    with pytest.raises(DataError, match="would differ from the data by .* outliers"):
        archive_ms(ms, target, "DATA")
    assert not target.exists()


@pytest.mark.shared_data
@pytest.mark.parametrize("name, worst", [
    ("A1775_LT10_010_4ch.ms.tgz", 0.003), ("tAWImager2_3C295.in_MS.tgz", 0.002),
    ("tNDPPP-generic.MS.tgz", 0.002),
])
def test_real_sets(unpack_ms, tmp_path, name, worst):
    ms = unpack_ms(name)
    made = archive_ms(ms, tmp_path / "x.archive", "DATA")
    assert made.compressed and made.error < worst and made.weight_error < 1e-3
    before, after = columns(ms, "FLAG")[0], columns(tmp_path / "x.archive", "FLAG")[0]
    assert np.array_equal(before, after)
    assert json.loads((tmp_path / "x.archive" / NOTE).read_text())["compressed"] is True


@pytest.mark.parametrize("size, text", [
    (0, "0 bytes"), (812, "812 bytes"), (4194304, "4.19 MB"), (999_999, "1 MB"), (2.5e9, "2.5 GB"),
    (1.2e12, "1.2 TB"),
])
def test_sizes_as_text(size, text):
    assert size_text(size) == text


SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "archivems.py"


def call(folder, *words):
    done = subprocess.run([sys.executable, str(SCRIPT), *words], cwd=folder, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=600)
    return done.returncode, done.stdout, done.stderr


def test_script(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "here").mkdir()
    sets = [tmp_path / "data" / f"L1_{k}.ms" for k in "ab"]
    for ms in sets:
        write(ms)
    (tmp_path / "here" / "big-mslist.txt").write_text("\n".join(map(str, sets)) + "\n")
    code, out, err = call(tmp_path / "here", "-c", "CORRECTED_DATA")
    assert code == 0 and "L1_a.ms.archive: " in out and "of the median visibility" in out, err
    got, want = columns(tmp_path / "here/L1_b.ms.archive", "DATA"), columns(sets[1],
                                                                          "CORRECTED_DATA")
    good = np.isfinite(got[0])
    assert np.median(np.abs(got[0] - want[0])[good]) < 0.01 * np.median(np.abs(want[0][good]))
    code, out, _ = call(tmp_path / "here", "-c", "DATA", "--preserve")
    assert code == 0 and out.count("kept, it is there already") == 2
    code, out, _ = call(tmp_path / "here", "-c", "DATA")
    assert code == 0 and out.count("an earlier one is now L1_") == 2
    code, out, err = call(tmp_path / "here", "--inmsdir", "-m", "big-mslist.txt", "-c", "DATA",
                          "--skipimweights")
    assert code == 0 and (tmp_path / "data/L1_a.ms.archive").is_dir()
    code, _, err = call(tmp_path / "here")
    assert code == 5 and err.count("has no data column DATA_DI_CORRECTED") == 2


def test_a_column_that_was_not_written_to_its_end_is_not_archived(tmp_path):
    ms = tmp_path / "a.ms"
    write(ms)
    with tables.table(str(ms), readonly=False, ack=False) as main:
        main.putcolkeyword("CORRECTED_DATA", STATE, "incomplete")
    with pytest.raises(DataError, match="not written to its end"):
        archive_ms(ms, tmp_path / "a.archive", "CORRECTED_DATA")
