"""The small size of the bench of the imaging pass: do the images agree?  Times are not judged."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from other_programs import found

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
import imaging_pass  # noqa: E402


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """What the bench measures of the programs that are here."""
    names = ["ddfpipe"] + [name for name in ("wsclean", "ddfacet") if found(name)]
    return imaging_pass.compare(tmp_path_factory.mktemp("pass"), imaging_pass.SMALL, names,
                                [False, True], rounds=1, threads=2, ddf=found("ddfacet"))


@pytest.mark.parametrize("which", ["no gains", "gains"])
def test_our_image_is_the_fourier_sum(figures, which):
    """At sources, edges of facets and anywhere, sources outside the image included."""
    error = figures[which]["ddfpipe"]["error"]
    assert max(error[place] for place in ("sources", "edges", "anywhere")) < 1e-3
    assert 0 < figures[which]["ddfpipe"]["cpu"] and figures[which]["ddfpipe"]["memory"] > 1e7


@pytest.mark.parametrize(
    "which, program", [("no gains", "wsclean"), ("gains", "wsclean"), ("no gains", "ddfacet")]
)
def test_other_programs_make_the_same_image(figures, which, program):
    """At the sources; everywhere without gains: pixels at a border may count to either facet."""
    if program not in figures[which]:
        pytest.skip(f"SKIPPED LOUDLY: no {program} here")
    error = figures[which][program]["error"]
    assert error["sources"] < 0.02
    assert which == "gains" or error["rms"] < 0.01


def test_table(figures):
    lines = imaging_pass.table_of(figures).splitlines()
    assert len(lines) == 2 + sum(len(programs) for programs in figures.values())
