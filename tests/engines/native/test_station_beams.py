"""Beams of stations anywhere in a field, by nodes and, in wide fields, place by place."""

from types import SimpleNamespace

import numpy as np

from ddfpipe.engines.native.stationbeams import MOST_NODES, StationBeams
from ddfpipe.imaging.sky import lm_to_radec
from ddfpipe.units import DEGREE

CENTRE = (1.0, 0.8)


class SlantedBeam:
    """A Gaussian beam for each station that drifts with time; counts the places it is asked for."""

    def __init__(self):
        self.places = 0

    def response(self, *, times, freqs, ra, dec):
        self.places += len(ra)
        x = np.angle(np.exp(1j * (ra - CENTRE[0]))) * np.cos(dec)
        y = dec - CENTRE[1]
        width = np.array([4.0, 3.0, 2.5])[:, None] * DEGREE
        drift = 0.2 * DEGREE * (np.asarray(times) / 3600.0)[:, None, None, None]
        shape = np.exp(-((x - drift) ** 2 + y**2) / (2 * width**2) * np.ones((len(freqs), 1, 1)))
        return (shape * np.exp(1j * y)).astype(np.complex64)


def cache():
    return SimpleNamespace(
        path="x.ms", time=np.linspace(0.0, 3600.0, 13), freq=np.array([140.0e6, 140.1e6]),
        phase_centre=CENTRE, ant1=np.array([0, 0, 1]), ant2=np.array([1, 2, 2]),
    )


def test_wide_fields_are_looked_at_place_by_place():
    """The same ratios as from nodes, from as many evaluations as there are places."""
    facet = SimpleNamespace(l0=2.0 * DEGREE, m0=-1.0 * DEGREE)
    near, wide = SlantedBeam(), SlantedBeam()
    one, set_ = StationBeams([near], [cache()], 10 * DEGREE), cache()
    other = StationBeams([wide], [cache()], 28 * DEGREE)
    assert other.axis.size**2 > MOST_NODES >= one.axis.size**2
    for l, m in ((2.2, -1.3), (1.7, -0.8), (2.2, -1.3)):
        for part in (slice(0, 6), slice(6, 13)):
            found = [beams.ratio(set_, part, facet, l * DEGREE, m * DEGREE).gain
                     for beams in (one, other)]
            np.testing.assert_allclose(*found, rtol=2e-4)
    assert near.places == one.axis.size**2
    assert wide.places == 3  # two places and the centre of the facet


def test_ratios_are_those_of_the_beam():
    beam, field = SlantedBeam(), cache()
    facet = SimpleNamespace(l0=5.0 * DEGREE, m0=6.0 * DEGREE)
    beams = StationBeams([beam], [field], 28 * DEGREE)
    l, m = 5.4 * DEGREE, 5.7 * DEGREE
    found = beams.ratio(field, slice(0, 1), facet, l, m).gain[0, 0]
    ra, dec = lm_to_radec(np.array([l, facet.l0]), np.array([m, facet.m0]), *CENTRE)
    true = beam.response(times=field.time[:1], freqs=field.freq[:1], ra=ra, dec=dec)[0, 0]
    np.testing.assert_allclose(found, true[:, 0] / true[:, 1], rtol=1e-5)
