"""Prints a hash of what every compiled part of the imaging computes; run by test_compiled_bits."""

from __future__ import annotations

import hashlib

import numpy as np
from test_clean import PSF, psf_noise, run
from test_points import dirty_image, mask_of

from ddfpipe.imaging.averaging import average_to_facet, plan_averaging
from ddfpipe.imaging.clean import CleanOptions
from ddfpipe.imaging.components import predict_components
from ddfpipe.imaging.facets import regular_facets
from ddfpipe.imaging.gains import StationGains, corrupt
from ddfpipe.imaging.smearing import mean_smearing, smearing_factor, uvw_rate

N_TIME, N_ANT, N_CHAN, CELL = 12, 10, 8, 1.5e-5


def show(name: str, *arrays) -> None:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    print(name, digest.hexdigest()[:20], flush=True)


def main() -> None:
    rng = np.random.default_rng(1)
    ant1, ant2 = np.triu_indices(N_ANT, 1)
    angle = np.arange(N_TIME) * 8.0 / 86164 * 2 * np.pi
    place = rng.normal(0, 4000, (N_ANT, 3))
    turn = np.zeros((N_TIME, 3, 3))
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 2, 2] = np.cos(angle), np.sin(angle), 1
    turn[:, 1, 0], turn[:, 1, 1] = -np.sin(angle), np.cos(angle)
    uvw = np.einsum("bi,tij->tbj", place[ant2] - place[ant1], turn)
    freq, l, m = 130e6 + np.arange(N_CHAN) * 97656.25, *rng.uniform(-0.02, 0.02, (2, 300))
    rate = uvw_rate(uvw, 0.9)
    smear = dict(chan_width=97656.25, interval=8.0)
    vis = predict_components(l=l, m=m, flux=rng.uniform(0.1, 2, 300), uvw=uvw, freq=freq,
                             smear=(97656.25, 8.0, rate))
    show("prediction", vis)
    weight = rng.uniform(0.5, 1, vis.shape).astype(np.float32)
    show("smearing", smearing_factor(uvw=uvw, rate=rate, freq=freq, l=0.01, m=0.02, **smear),
         mean_smearing(uvw=uvw, rate=rate, freq=freq, weight=weight, l=l[:5], m=m[:5], **smear)[0])
    values = 1 + 0.1 * (rng.normal(size=(3, 2, N_ANT)) + 1j * rng.normal(size=(3, 2, N_ANT)))
    gains = StationGains(values.astype(np.complex64), np.repeat(np.arange(3), 4),
                         np.repeat(np.arange(2), 4), ant1, ant2)
    show("gains", corrupt(vis, gains))
    facet = regular_facets(npix=512, cell=CELL, max_size_rad=0.004).facets[1]
    plan = plan_averaging(uvw=uvw, rate=rate, freq=freq, facet=facet, cell=CELL, dec=0.002,
                          times=8.0 * np.arange(N_TIME), **smear)
    mean = average_to_facet(uvw=uvw, vis=vis, weight=weight, freq=freq, facet=facet, plan=plan,
                            gains=gains)
    show("averaging", mean.uvw, mean.vis, mean.weight, mean.norm)
    dirty = (dirty_image(PSF) + psf_noise(PSF, 1e-3, 5))[None]
    result = run(dirty, PSF[None, None], mask_of(), options=CleanOptions(n_terms=1))
    show("clean", result.model, dirty, result.points.y, result.points.x, result.points.flux)


if __name__ == "__main__":
    main()
