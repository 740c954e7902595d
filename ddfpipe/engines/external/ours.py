"""What our own engine does in a run whose images or gains are made by programs of others."""

from __future__ import annotations

from ..base import ImageJob, SolveJob


def is_ours(job) -> bool:
    """Whether a job of a run with programs of others is left to our own engine.

    These are images that are not cleaned in Stokes I alone (cubes over frequency; Q, U and V), and
    phases against a list of components seen through the beam.  Gains, models and masks have one
    format, so what is asked for fits the rest of the run.
    """
    if isinstance(job, ImageJob):
        return job.stokes != "I" or bool(job.cubes)
    return isinstance(job, SolveJob) and job.kind == "phase"
