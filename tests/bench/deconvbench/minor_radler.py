"""Radler on one residual image, run by a Python that has its wheel and numpy.

    python minor_radler.py SETTINGS.json

SETTINGS: algorithm, residual and model (npy, (band, y, x), model may be empty text), psf (npy of
the same shape), mask (FITS), freq (band, 2) Hz, weight (band,), beam rad, cell rad, threshold Jy,
scales, threads, cycle, out, cost.
"""

import json
import sys
import time

import numpy as np
import radler


def settings_of(s):
    out = radler.Settings()
    ny, nx = s["shape"]
    out.trimmed_image_height, out.trimmed_image_width = ny, nx
    out.pixel_scale.x = out.pixel_scale.y = s["cell"]
    out.algorithm_type = getattr(radler.AlgorithmType, s["algorithm"])
    out.fits_mask = s["mask"]
    out.absolute_threshold = s["threshold"]
    out.minor_iteration_count = 1_000_000
    out.major_iteration_count = 10
    out.major_loop_gain = 1.0
    out.thread_count = s["threads"]
    out.channels_out = len(s["weight"])
    out.multiscale.max_scales = s["scales"]
    out.spectral_fitting.mode = radler.SpectralFittingMode.polynomial
    out.spectral_fitting.terms = 2
    return out


def main():
    with open(sys.argv[1]) as file:
        s = json.load(file)
    residual = np.ascontiguousarray(np.load(s["residual"]), np.float32)
    psf = np.ascontiguousarray(np.load(s["psf"]), np.float32)
    model = np.load(s["model"]).astype(np.float32) if s["model"] else np.zeros_like(residual)
    start = time.process_time()
    engine = radler.Radler(settings_of(s), psf, residual, model, s["beam"], len(s["weight"]),
                           np.array(s["freq"], np.float64), np.array(s["weight"], np.float64))
    engine.perform(s["cycle"])
    cost = {"cpu": time.process_time() - start, "start": start,
            "components": engine.iteration_number}
    np.save(s["out"], model)
    with open(s["cost"], "w") as file:
        json.dump(cost, file)


if __name__ == "__main__":
    main()
