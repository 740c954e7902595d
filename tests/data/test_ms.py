"""Facts of measurement sets, and lists of them."""

import math
import shutil

import numpy as np
import pytest
from casacore import tables
from make_ms import START, Spec, grid, positions, snapshot, write_ms

from ddfpipe.data.ms import flagged_fraction, read_list, read_metadata, time_slots
from ddfpipe.errors import DataError


def test_facts_of_a_made_set(tmp_path):
    path = tmp_path / "L123456_SB000_uv.ms"
    write_ms(path, Spec(n_ant=5, n_time=4, n_chan=3, columns=("DATA", "CORRECTED_DATA")))
    info = read_metadata(path)
    assert (info.name, info.observation) == (path.name, "L123456")
    assert (info.n_rows, info.n_time, info.n_chan) == (60, 4, 3)
    assert info.times == pytest.approx(START + 8 * (np.arange(4) + 0.5), abs=1e-6)
    assert info.interval == 8
    assert info.freqs == pytest.approx(120e6 + 97656.25 * np.arange(3))
    assert info.freq_range == pytest.approx((120e6 - 48828.125, 120e6 + 2.5 * 97656.25))
    assert info.phase_centre == pytest.approx((3.2, 0.6))
    assert info.correlations == ("XX", "XY", "YX", "YY")
    assert info.data_columns == ("DATA", "CORRECTED_DATA")
    assert info.ant_pos == pytest.approx(positions(5))
    assert info.stations_used.all() and info.flagged_fraction == 0


def test_reading_changes_nothing_not_even_a_lock_file(tmp_path):
    write_ms(tmp_path / "made.ms")
    path = tmp_path / "a.ms"
    # A copy has its row numbers in table.dat; a table just written keeps them in its lock file.
    with tables.table(str(tmp_path / "made.ms"), ack=False) as main:
        main.copy(str(path), deep=True).close()
    (path / "table.lock").unlink()
    before = snapshot(path)
    read_metadata(path).flagged_fraction
    assert snapshot(path) == before


def test_flagged_fraction_counts_cross_correlations_and_flag_row(tmp_path):
    rows = grid(Spec())
    autos = rows["ant1"] == rows["ant2"]
    rows["flag"][autos] = True
    rows["flag"][np.flatnonzero(~autos)[:10]] = True
    path = tmp_path / "a.ms"
    write_ms(path, rows=rows)
    assert flagged_fraction(path) == pytest.approx(0.25)
    with tables.table(str(path), readonly=False, ack=False) as main:
        main.putcol("FLAG_ROW", np.ones(main.nrows(), bool))
    assert flagged_fraction(path) == 1.0


def test_jitter_of_times_does_not_split_slots():
    times = np.array([0.0, 0.001, 8.0, 8.0, 16.002, 40.0]) + START
    assert time_slots(np.unique(times), 8.0) - START == pytest.approx(
        [0.0005, 8.0, 16.002, 40.0], abs=1e-6)


@pytest.mark.parametrize("spec, words", [
    (Spec(n_field=2), "2 fields"),
    (Spec(n_spw=2), "2 spectral windows"),
])
def test_irregular_layouts_are_refused(tmp_path, spec, words):
    path = tmp_path / "a.ms"
    write_ms(path, spec)
    with pytest.raises(DataError, match=f"a.ms.*{words}.*split it"):
        read_metadata(path)


def test_varying_interval_is_refused_but_a_short_last_slot_is_not(tmp_path):
    path = tmp_path / "a.ms"
    write_ms(path)
    with tables.table(str(path), readonly=False, ack=False) as main:
        interval = main.getcol("INTERVAL")
        interval[-15:] = 4.0
        main.putcol("INTERVAL", interval)
    assert read_metadata(path).interval == 8
    with tables.table(str(path), readonly=False, ack=False) as main:
        interval[20] = 16.0
        main.putcol("INTERVAL", interval)
    with pytest.raises(DataError, match="INTERVAL differs"):
        read_metadata(path)


def test_missing_corrupt_and_foreign_paths(tmp_path):
    with pytest.raises(DataError, match="none.ms: does not exist"):
        read_metadata(tmp_path / "none.ms")
    (tmp_path / "empty.ms").mkdir()
    with pytest.raises(DataError, match="empty.ms: cannot be read"):
        read_metadata(tmp_path / "empty.ms")
    path = tmp_path / "a.ms"
    write_ms(path)
    shutil.rmtree(path / "ANTENNA")
    with pytest.raises(DataError, match="a.ms: lacks its table ANTENNA; copy or unpack it anew"):
        read_metadata(path)
    write_ms(tmp_path / "b.ms")
    (tmp_path / "b.ms" / "table.dat").write_bytes(b"\0" * 50)
    with pytest.raises(DataError, match="b.ms: cannot be read, it is corrupt"):
        read_metadata(tmp_path / "b.ms")


def test_list_of_measurement_sets(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "lists").mkdir()
    for where in ("here/a.ms", "lists/a.ms", "lists/b.ms"):
        (tmp_path / where).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    listfile = tmp_path / "lists" / "mslist.txt"
    listfile.write_text("# all\n\na.ms\r\n  b.ms  # second\n/abs/odd#name.ms\nnone.ms\n")
    paths = read_list(listfile)
    assert [str(p) for p in paths] == ["a.ms", str(tmp_path / "lists/b.ms"), "/abs/odd#name.ms",
                                       "none.ms"]
    listfile.write_text("a.ms\n./a.ms\nb.ms\n")
    with pytest.raises(DataError, match="more than once: a.ms"):
        read_list(listfile)
    listfile.write_text("# nothing\n")
    with pytest.raises(DataError, match="names no measurement set"):
        read_list(listfile)
    listfile.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a readable text file"):
        read_list(listfile)
    with pytest.raises(DataError, match="no such list.*make_mslists.py"):
        read_list(tmp_path / "none.txt")


def test_real_sets(unpack_ms):
    generic = read_metadata(unpack_ms("tNDPPP-generic.MS.tgz"))
    assert (generic.n_time, generic.n_chan, len(generic.ant_names)) == (6, 8, 8)
    assert generic.observation == "tNDPPP-generic" and generic.target == "3C48"
    assert generic.flagged_fraction == pytest.approx(0.31, abs=0.005)
    dysco = read_metadata(unpack_ms("A1775_LT10_010_4ch.ms.tgz"))
    assert set(dysco.dysco_columns) == {"DATA", "WEIGHT_SPECTRUM"}
    assert math.degrees(dysco.phase_centre[0]) == pytest.approx(205.465, abs=1e-3)
    assert math.degrees(dysco.phase_centre[1]) == pytest.approx(26.3573, abs=1e-3)
    assert dysco.flagged_fraction == pytest.approx(0.155, abs=0.001)
    assert dysco.applied_beam["DATA"].mode == "Full" and dysco.has_antenna_field
    assert np.degrees(dysco.applied_beam["DATA"].ra) % 360 == pytest.approx(205.465, abs=1e-3)
    midband = read_metadata(unpack_ms("lsmtool_test_midbands_PREDICTED_DATA.ms.tgz"))
    assert midband.freqs == pytest.approx([137.84e6], rel=1e-4)
    assert len(midband.ant_names) == 62 and midband.interval == pytest.approx(8.01, abs=0.01)


def test_real_baseline_dependent_average_is_refused(unpack_ms):
    with pytest.raises(DataError, match="averaged by baseline.*not supported"):
        read_metadata(unpack_ms("tNDPPP-bda.MS.tgz"))
