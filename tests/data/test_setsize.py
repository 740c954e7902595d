"""The extent of a measurement set from a few of its rows."""

import numpy as np
import pytest
from make_ms import Spec, write_ms

from ddfpipe.data.ms import read_metadata
from ddfpipe.data.setsize import read_set_size
from ddfpipe.errors import DataError


@pytest.mark.parametrize("spec", [
    Spec(n_ant=7, n_time=9), Spec(n_ant=7, n_time=9, autos=False), Spec(n_ant=6, shuffle=True),
    Spec(n_ant=6, n_time=5, drop=(0, 3, 30)), Spec(descending=True), Spec(n_ant=2, n_time=1),
])
def test_extent_is_that_of_the_whole_table(tmp_path, spec):
    write_ms(tmp_path / "x.ms", spec)
    fast, whole = read_set_size(tmp_path / "x.ms"), read_metadata(tmp_path / "x.ms")
    assert fast.n_ant == int(whole.stations_used.sum())
    np.testing.assert_allclose(fast.times, whole.times, atol=0.1)
    np.testing.assert_allclose(fast.freqs, np.sort(whole.freqs))
    assert fast.interval == whole.interval and fast.n_chan == spec.n_chan
    assert len(fast.lengths) == fast.n_bl == spec.n_ant * (spec.n_ant - 1) // 2
    assert fast.visibilities == fast.n_time * fast.n_bl * fast.n_chan


def test_international_stations_are_left_out(tmp_path):
    names = ("CS001HBA0", "CS002HBA0", "RS106HBA", "DE601HBA", "SE607HBA")
    write_ms(tmp_path / "x.ms", Spec(names=names))
    assert read_set_size(tmp_path / "x.ms").n_ant == 5
    assert read_set_size(tmp_path / "x.ms", drop_international=True).n_ant == 3


def test_what_is_no_measurement_set(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_set_size(tmp_path / "x.ms")
    (tmp_path / "y.ms").mkdir()
    with pytest.raises(DataError):
        read_set_size(tmp_path / "y.ms")
