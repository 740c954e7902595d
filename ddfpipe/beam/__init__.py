"""Station and array responses."""

from ddfpipe.beam.response import MODELS, Beam, LofarBeam, UnitBeam, make_beam

__all__ = ["MODELS", "Beam", "LofarBeam", "UnitBeam", "make_beam"]
