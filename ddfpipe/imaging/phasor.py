"""Fast single-precision phasors for the compiled kernels.

A phase is kept in turns, in double precision, until its whole turns are gone; cosine and sine of
the rest follow from polynomials of the half angle.  The polynomials are least-squares fits at
Chebyshev nodes of |turns| <= 1/2; the result is good to 4.5e-7.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.core.options import DefaultOptions

# Everything but "no NaN" and "no infinity": flagged data may hold NaN and are selected away.
FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}

BORROW = {"cache": True, "nogil": True, "fastmath": FASTMATH}
"""Options of kernels that only read and fill arrays of their callers.  Numba counts references to
every array at every call, with atomic operations: a tenth of the time of a pass.  Not here, where
the version of Numba lets one say so."""
if hasattr(DefaultOptions, "_nrt"):
    BORROW["_nrt"] = False

_S0, _S1, _S2, _S3, _S4 = (np.float32(a) for a in (
    3.14159258, -5.16770687, 2.55003119, -0.59804419, 0.07721839))
_C0, _C1, _C2, _C3, _C4, _C5 = (np.float32(a) for a in (
    1.0, -4.93480214, 4.05870916, -1.335212, 0.23493731, -0.02439632))
_TWO = np.float32(2)
_ONE = np.float32(1)
_TINY = np.float32(1e-3)
_PI = np.float32(np.pi)


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def reduce_turns(turns):
    """Fraction in [-1/2, 1/2] of a phase in turns (float64), as float32."""
    return np.float32(turns - np.floor(turns + 0.5))


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def half_sincos(r):
    """(cos, sin) of pi r for |r| <= 1/2, float32."""
    q = r * r
    s = r * (_S0 + q * (_S1 + q * (_S2 + q * (_S3 + q * _S4))))
    c = _C0 + q * (_C1 + q * (_C2 + q * (_C3 + q * (_C4 + q * _C5))))
    return c, s


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def sincos_turns(r):
    """(cos, sin) of 2 pi r for |r| <= 1/2, float32."""
    c, s = half_sincos(r)
    return c * c - s * s, _TWO * s * c


@njit(cache=True, nogil=True, fastmath=FASTMATH, inline="always")
def sinc(x):
    """sin(pi x)/(pi x) of a float64 x, as float32."""
    whole = np.floor(x + 0.5)
    c, s = half_sincos(np.float32(x - whole))
    odd = np.float32(whole - 2.0 * np.floor(0.5 * whole))
    y = np.float32(x) * _PI
    small = abs(y) < _TINY
    y = _ONE if small else y
    return _ONE if small else s * (_ONE - _TWO * odd) / y
