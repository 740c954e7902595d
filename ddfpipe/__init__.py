"""Wide-field, direction-dependent calibration and imaging of LOFAR data."""

__version__ = "0.1.0"
