"""The tests that docs/bad-input.md names as proof are there."""

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
DOCUMENT = TESTS.parent / "docs" / "bad-input.md"


def named():
    """(trouble, file, names) of the last table's cells; no names stand for the whole file."""
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = text.split("| trouble there | here | tests |")[1].splitlines()[2:]
    for row in rows:
        trouble, _, cell = (part.strip() for part in row.strip("|").split(" | "))
        file = None
        for word in re.findall(r"`([^`]+)`", cell):
            if "/" in word:
                file = (TESTS / f"{word}.py").read_text(encoding="utf-8")
                yield trouble, file, None
            else:
                yield trouble, file, word


def test_every_row_names_tests_that_exist():
    rows = set()
    for trouble, text, name in named():
        rows.add(trouble)
        functions = re.findall(r"^def test_(\w+)\(", text, re.MULTILINE)
        assert functions, trouble
        if name is not None:
            pattern = ".*".join(re.escape(part) for part in name.split("…"))
            assert any(re.fullmatch(pattern, one) for one in functions), (trouble, name)
    assert len(rows) > 20
