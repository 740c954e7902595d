"""Fixtures shared by all tests."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets; the test is skipped, loudly, where there is none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"SKIPPED LOUDLY: real data are not beside this checkout ({folder})")
    return folder


@pytest.fixture(scope="session")
def unpack_ms(shared_data, tmp_path_factory):
    """Function that unpacks a measurement set of the real data and returns its path."""
    made: dict[str, Path] = {}

    def unpack(archive: str) -> Path:
        if archive not in made:
            folder = tmp_path_factory.mktemp("ms")
            with tarfile.open(shared_data / "lofar" / archive) as tar:
                tar.extraction_filter = lambda member, path: member  # Python 3.11.2 has none
                tar.extractall(folder)
            tables = sorted(p.parent for p in folder.glob("*/table.dat"))
            made[archive] = tables[0]
        return made[archive]

    return unpack
