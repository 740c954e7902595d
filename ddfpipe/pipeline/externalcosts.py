"""What images and solves by programs of others take of memory and disk, roughly.

Their time is not known.  Our own engine reads the data for them, and what they leave has its
formats, so caches and solutions are estimated as its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddfpipe.engines.base import ImageJob, SolveJob
from ddfpipe.pipeline.costs import BASE_MEMORY, FLOAT, Cost

if TYPE_CHECKING:
    from ddfpipe.data.setsize import SetSize

IMAGES, ARRAYS_A_BAND = 12, 12
"""Images that are left on disk: restored, model, residual, dirty (both scales), PSF and so on; and
arrays of each band in memory."""
COPY_COLUMNS = 4
"""Columns of visibilities in a working copy: data, model, residual, and a solve's output."""


def image_cost(job: ImageJob, keeps: bool) -> Cost:
    """Cost of an image without the data.

    keeps: whether the program keeps files of an image between its cycles, as DDFacet does: PSFs,
    the dirty image and the last residual, each with its norms (30 MB of an image of 525 pixels and
    two bands, where 18 are held in shared memory).
    """
    plane = FLOAT * float(job.npix) ** 2
    scratch = 0.0
    if keeps and job.major_cycles:
        from ddfpipe.engines.ddfacet.engine import shared_bytes

        scratch = 2.0 * shared_bytes(job)
    return Cost(memory_bytes=BASE_MEMORY + ARRAYS_A_BAND * job.n_bands * plane,
                product_bytes=IMAGES * plane, scratch_bytes=scratch)


def solve_cost(job: SolveJob, sets: list["SetSize"], n_dir: int, gains_bytes: float) -> Cost:
    """Cost of a solve without the data: solutions, and a column a direction in one copy at a time.

    gains_bytes: of the solutions.
    """
    columns = n_dir if job.kind == "DD" else 1
    more = [_copy(s, columns) - _copy(s, 0) for s in sets]
    return Cost(product_bytes=gains_bytes, scratch_bytes=float(max(more, default=0)))


def working_copy(size: "SetSize") -> float:
    """Bytes of the copy of a measurement set that the programs write into."""
    return float(_copy(size, COPY_COLUMNS))


def _copy(size: "SetSize", columns: int) -> int:
    from ddfpipe.engines.external.copies import copy_bytes

    return copy_bytes(size.n_time, size.n_bl, size.n_chan, columns)
