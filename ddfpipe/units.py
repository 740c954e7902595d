"""Constants and unit conversions.  Inside the package everything is SI and radians."""

import math

SPEED_OF_LIGHT = 299792458.0
EARTH_RATE = 7.292115e-5
"""m/s"""

DEGREE = math.pi / 180.0
ARCMIN = DEGREE / 60.0
ARCSEC = DEGREE / 3600.0
MHZ = 1e6
MINUTE = 60.0
KM = 1e3
DAY = 86400.0

FWHM_TO_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
"""A Gaussian's sigma is its full width at half maximum times this."""

TEC_PHASE = -8.44797245e9
"""Phase in radians of one TECU at frequency nu: TEC_PHASE / nu (nu in Hz)."""
