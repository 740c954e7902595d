"""Pickle files of DDFacet (`.DicoModel`), opened without letting them run anything.

A pickle can name any callable and have it called, so an ordinary reader of a file from elsewhere
runs whatever its maker liked.  Here only what builds numbers, strings, containers and numpy arrays
is looked up; any other name ends the reading with an error.  Files written by Python 2 are read
too: their byte strings come out as text.
"""

from __future__ import annotations

import codecs
import collections
import io
import pickle
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ddfpipe.data.atomic import atomic_path
from ddfpipe.errors import SkyModelError

_PLAIN = {name: getattr(__import__("builtins"), name) for name in
          ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list",
           "range", "set", "slice", "str", "tuple")}
_PLAIN |= {"long": int, "unicode": str, "xrange": range}
_SCALARS = {kind.__name__: kind for kind in np.sctypeDict.values()
            if issubclass(kind, np.number | np.bool_ | np.flexible) and kind is not np.void}
_NUMPY = {"ndarray": np.ndarray, "dtype": np.dtype, "array": np.array, "bool_": np.bool_,
          "float_": np.float64, "string_": np.bytes_, "unicode_": np.str_} | _SCALARS


def _arrays() -> dict[tuple[str, str], Any]:
    """The functions by which numpy's own pickles are built, under all names they have had."""
    from numpy._core import multiarray, numeric

    found = {}
    for package in ("numpy.core", "numpy._core"):
        for name in ("_reconstruct", "scalar"):
            found[f"{package}.multiarray", name] = getattr(multiarray, name)
        found[f"{package}.numeric", "_frombuffer"] = numeric._frombuffer
    return found


def _known() -> dict[tuple[str, str], Any]:
    names = {(module, name): value for name, value in _PLAIN.items()
             for module in ("builtins", "__builtin__")}
    names |= {("numpy", name): value for name, value in _NUMPY.items()}
    names |= {("collections", "OrderedDict"): collections.OrderedDict,
              ("_codecs", "encode"): codecs.encode}
    return names | _arrays()


class _Reader(pickle.Unpickler):
    """An unpickler that knows the names of `_known` and nothing else."""

    allowed = _known()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is neither a number "
                                         "nor an array") from None


def read_pickle(path: str | Path) -> Any:
    """The object in a pickle file made of builtin types and numpy arrays.

    Raises SkyModelError when the file is missing, damaged, or asks for anything else; nothing of
    what it asks for has been called then.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        # latin1 maps every byte to one character, which arrays pickled by Python 2 rely on.
        return _Reader(io.BytesIO(raw), encoding="latin1").load()
    except FileNotFoundError as error:
        raise SkyModelError(f"{path}: there is no such file; give the .DicoModel of an image made "
                            "by DDFacet.") from error
    except OSError as error:
        raise SkyModelError(f"{path}: cannot be read ({error}).") from error
    except pickle.UnpicklingError as error:
        raise SkyModelError(f"{path}: refused or damaged: {error}; only files of numbers, text and "
                            "arrays, such as DDFacet's .DicoModel, are opened.") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise SkyModelError(f"{path}: not a readable pickle ({type(error).__name__}: {error}); "
                            "is it a .DicoModel?") from error


def _array(values: np.ndarray) -> tuple:
    return np.array, (values.tolist(), values.dtype.str)


class _Writer(pickle.Pickler):
    """Arrays by `numpy.array(list, type)`: the internal names of numpy change between versions."""

    dispatch_table = MappingProxyType({np.ndarray: _array})


def write_pickle(path: str | Path, value: Any) -> None:
    """Write builtin types and numpy arrays as protocol 2, which every Python 3 and numpy reads.

    The file appears complete or not at all.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        _Writer(stream, 2).dump(value)
