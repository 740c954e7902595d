"""Imports point one way, and the numerical packages stay free of everything else.

    scripts -> cli -> pipeline -> {engines, products, report}
            -> {data, beam, imaging, calibration, simulate}
            -> {config, log} -> naming -> errors -> units

Imports inside functions count too: a lazy import in the wrong direction is a wrong arrow as well.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "ddfpipe"

LEVELS = (
    ("scripts",),
    ("cli",),
    ("pipeline",),
    ("engines", "products", "report"),
    ("data", "beam", "imaging", "calibration", "simulate"),
    ("config", "log"),
    ("naming",),
    ("errors",),
    ("units", ""),
)
"""Parts of the package from top to bottom; "" is ddfpipe itself (its version)."""
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}

SHARED_TYPES = {("data", "ddfpipe.calibration.gains")}
"""Dataclasses of plain arrays that another part of the same level may name: what a file format
stores is defined where it is computed."""

NUMERICAL = ("imaging", "calibration")
NUMERICAL_MAY_IMPORT = {"numpy", "scipy", "numba", "ducc0"}
NUMERICAL_PARTS = {"errors", "units"}

LAZY_PARTS = ("cli", "config", "pipeline")
HEAVY = {"casacore", "numba", "matplotlib", "astropy", "scipy", "ducc0", "everybeam", "h5py"}


def sources() -> list[Path]:
    scripts = sorted((ROOT / "scripts").glob("*.py"))
    return sorted((ROOT / PACKAGE).rglob("*.py")) + scripts


def module_name(path: Path) -> str:
    """Dotted name of a source file: "ddfpipe.data.ms", "scripts.pipeline"."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(name: str) -> str:
    """Part of the package that a module belongs to: "data" of "ddfpipe.data.ms"."""
    first, *rest = name.split(".")
    if first == "scripts":
        return "scripts"
    return rest[0] if rest else ""


def is_module(name: str) -> bool:
    base = ROOT.joinpath(*name.split("."))
    return base.is_dir() or base.with_suffix(".py").is_file()


def imported(node: ast.AST, importer: str, is_package: bool) -> list[str]:
    """Absolute names of the modules that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        parents = importer.split(".")
        keep = len(parents) - node.level + (1 if is_package else 0)
        base = ".".join(parents[:keep] + ([node.module] if node.module else []))
    names = [f"{base}.{alias.name}" for alias in node.names]
    # "from ddfpipe import units" names the module ddfpipe.units, "from ddfpipe.units import
    # KM" the module ddfpipe.units.
    return [name if name.startswith(PACKAGE) and is_module(name) else base for name in names]


def imports_of(
    source: str, importer: str, is_package: bool = False
) -> list[tuple[str, int, bool]]:
    """All imports of a source text as (module, line, whether it runs at import)."""
    found = []

    def visit(node: ast.AST, at_import: bool) -> None:
        for name in imported(node, importer, is_package):
            found.append((name, node.lineno, at_import))
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.iter_child_nodes(node):
            visit(child, at_import and not inside and not typing_only)

    visit(ast.parse(source), True)
    return found


def wrong_arrows(importer: str, imports: list[tuple[str, int, bool]]) -> list[str]:
    """Imports of `importer` that the layers forbid, as messages."""
    here = part_of(importer)
    wrong = []
    for name, line, _ in imports:
        root = name.split(".")[0]
        if root == PACKAGE:
            there = part_of(name)
            allowed = there == here or LEVEL[there] > LEVEL[here] or (here, name) in SHARED_TYPES
            if here in NUMERICAL:
                allowed = there == here or there in NUMERICAL_PARTS
        elif here in NUMERICAL:
            allowed = root in NUMERICAL_MAY_IMPORT or root in QUIET_STANDARD_LIBRARY
        else:
            allowed = True
        if not allowed:
            wrong.append(f"{importer}:{line} imports {name}")
    return wrong


QUIET_STANDARD_LIBRARY = set(sys.stdlib_module_names) - {"logging", "configparser", "subprocess"}


def read(path: Path) -> tuple[str, list[tuple[str, int, bool]]]:
    name = module_name(path)
    return name, imports_of(path.read_text(), name, path.name == "__init__.py")


def test_every_part_has_its_level():
    parts = {part_of(module_name(path)) for path in sources()}
    assert parts <= set(LEVEL), f"unknown: {sorted(parts - set(LEVEL))}"
    assert len(sources()) > 20


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_arrows(path):
    assert wrong_arrows(*read(path)) == []


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_what_starts_a_script_imports_heavy_packages_late(path):
    name, imports = read(path)
    if part_of(name) in (*LAZY_PARTS, "scripts"):
        early = {module.split(".")[0] for module, _, at_import in imports if at_import}
        assert not early & HEAVY


def test_simulator_shares_no_code_with_what_it_tests():
    for path in (ROOT / PACKAGE / "simulate").rglob("*.py"):
        name, imports = read(path)
        parts = {part_of(module) for module, _, _ in imports if module.startswith(PACKAGE)}
        assert not parts & set(NUMERICAL), name


@pytest.mark.parametrize("importer, source, expected", [
    ("ddfpipe.data.ms", "from ..engines import base", "ddfpipe.engines.base"),
    ("ddfpipe.data.ms", "def f():\n    import ddfpipe.pipeline", "ddfpipe.pipeline"),
    ("ddfpipe.data.ms", "from ..beam import station", "ddfpipe.beam"),
    ("ddfpipe.errors", "from .units import KM", None),
    ("ddfpipe.data.ms", "from ..calibration.gains import GainTable", None),
    ("ddfpipe.data.ms", "from ..calibration.als import solve", "ddfpipe.calibration"),
    ("ddfpipe.log", "from .config import Config", "ddfpipe.config"),
    ("ddfpipe.config.load", "from ..data import ms", "ddfpipe.data"),
    ("ddfpipe.imaging.grid", "import astropy.io.fits", "astropy.io.fits"),
    ("ddfpipe.imaging.grid", "import logging", "logging"),
    ("ddfpipe.imaging.grid", "from ..config import Config", "ddfpipe.config"),
    ("ddfpipe.simulate.predict", "from ddfpipe.imaging import x", "ddfpipe.imaging"),
    ("ddfpipe.cli", "from .pipeline import run", None),
    ("ddfpipe.calibration.als", "import numpy, numba\nfrom ..units import KM", None),
])
def test_the_walk_sees_wrong_arrows(importer, source, expected):
    wrong = wrong_arrows(importer, imports_of(source, importer))
    if expected is None:
        assert wrong == []
    else:
        assert len(wrong) == 1 and expected in wrong[0]


def test_the_walk_tells_early_from_late_imports():
    source = (
        "import a\ndef f():\n    import b\n"
        "class C:\n    import c\n    def g(self):\n        import d\n"
    )
    assert [(n, e) for n, _, e in imports_of(source, "x")] == [
        ("a", True), ("b", False), ("c", True), ("d", False),
    ]


def test_command_line_starts_light():
    names = ("numba", "casacore", "astropy", "matplotlib", "scipy", "numpy")
    code = f"import sys, ddfpipe.cli; print([n for n in {names!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.strip() == "[]", done.stderr
