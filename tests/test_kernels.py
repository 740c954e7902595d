"""Compiled functions that others call become part of their callers.

Left alone, each caller's compiled code holds a copy of what it calls under the same name, and all
callers of a process use the copy that was loaded first.  Copies are optimised along with their
surroundings, so their sums may be in another order, and the last bits of a result would depend on
what the process had done before: a run that was killed and taken up again would differ.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def compiled_functions() -> dict[tuple[str, str], tuple[ast.FunctionDef, str]]:
    """Functions with a decorator of Numba's, and its text, by module and name."""
    found = {}
    for path in sorted((ROOT / "ddfpipe").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                words = [ast.unparse(d) for d in node.decorator_list]
                found |= {(module, node.name): (node, w) for w in words if w.startswith("njit")}
    return found


def called_names(function: ast.FunctionDef) -> set[str]:
    """Names and attributes of names that a function calls."""
    targets = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {t.id for t in targets if isinstance(t, ast.Name)} \
        | {t.attr for t in targets if isinstance(t, ast.Attribute)}


def test_what_kernels_call_is_part_of_them():
    kernels = compiled_functions()
    called = set().union(*(called_names(node) for node, _ in kernels.values()))
    parts = {key: words for key, (_, words) in kernels.items() if key[1] in called}
    assert len(parts) > 50 and ("ddfpipe.calibration.linalg", "cholesky") in parts
    apart = [key for key, words in parts.items()
             if "forceinline=True" not in words and "inline='always'" not in words]
    assert not apart
