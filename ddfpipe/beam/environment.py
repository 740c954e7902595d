"""Makes everybeam find its coefficients and the measures tables.

Two things an installed everybeam wheel does not find by itself: the coefficients of its element
beams, which lie in `<prefix>/share/everybeam` while the wheel remembers the path of its build;
and casacore's tables of leap seconds and Earth rotation, which its own copy of casacore looks for
in places where wheels do not put them.  Both can be told through the environment.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

from ddfpipe.errors import ConfigError


def _coefficients() -> Path | None:
    """Folder that holds HamakerHBACoeff.h5, in the places where installers put data files."""
    prefixes = [sys.prefix, site.getuserbase() or sys.prefix, sys.base_prefix, "/usr/local", "/usr"]
    for prefix in prefixes:
        folder = Path(prefix) / "share" / "everybeam"
        if (folder / "HamakerHBACoeff.h5").is_file():
            return folder
    return None


def import_everybeam():
    """The everybeam module, able to work.  What the user's environment already says is kept.

    Must be called before anything else imports everybeam for the first time.  Raises ConfigError
    when everybeam or python-casacore are not installed.
    """
    try:
        # python-casacore points AIPSPATH and CASACORE_DATADIR to the tables it brings along;
        # everybeam's casacore reads them when its first conversion needs a table.
        import casacore  # noqa: F401

        folder = _coefficients()
        if folder is not None:
            os.environ.setdefault("EVERYBEAM_DATADIR", str(folder))
        import everybeam
    except ImportError as err:
        raise ConfigError(
            f"the beam needs a package that is not installed ({err}): pip install everybeam "
            "python-casacore, or switch the beam off"
        ) from err
    return everybeam
