"""The image as a Fourier sum over all visibilities, and what images of programs lack of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .setting import Work, directions


def fourier_sum(vis, uvw, freq, l, m) -> np.ndarray:
    """(point,) float64 mean over visibilities (row, chan) of Re V exp(-2 pi i nu/c (u l + ...))."""
    from numba import njit

    @njit
    def add(vis, uvw, freq, l, m, n1, out):
        step = freq[1] - freq[0] if freq.size > 1 else 0.0
        for r in range(uvw.shape[0]):
            for k in range(l.size):
                path = -2.0 * np.pi / 299792458.0 * (
                    uvw[r, 0] * l[k] + uvw[r, 1] * m[k] + uvw[r, 2] * n1[k])
                c, s = np.cos(path * freq[0]), np.sin(path * freq[0])
                x, y = np.cos(path * step), np.sin(path * step)
                for i in range(freq.size):
                    out[k] += vis[r, i].real * c - vis[r, i].imag * s
                    c, s = c * x - s * y, c * y + s * x

    out = np.zeros(l.size)
    add(vis, uvw, freq, l, m, np.sqrt(1 - l**2 - m**2) - 1, out)
    return out / vis.size


def visibilities(work: Work):
    """(uvw (row, 3), weighted Stokes I (row, chan), ant1, ant2, time, freq) of the set."""
    from casacore.tables import table

    with table(str(work.ms), ack=False) as t:
        data, uvw, weight = t.getcol("DATA"), t.getcol("UVW"), t.getcol("WEIGHT_SPECTRUM")
        ant1, ant2, when = t.getcol("ANTENNA1"), t.getcol("ANTENNA2"), t.getcol("TIME")
        if t.getcol("FLAG").any():
            raise RuntimeError("the truth knows no flags")
    with table(f"{work.ms}/SPECTRAL_WINDOW", ack=False) as t:
        freq = t.getcol("CHAN_FREQ")[0]
    weight = weight[..., 0].astype(float)
    vis = weight / weight.mean() * 0.5 * (data[..., 0] + data[..., 3])
    return uvw, vis, ant1, ant2, when, freq


def true_values(work: Work, l, m) -> np.ndarray:
    """Apparent flux of the dirty image at directions l, m, each through its facet's gains."""
    from ddfpipe.calibration.gains import interpolate_index
    from ddfpipe.data import solutions

    uvw, vis, ant1, ant2, when, freq = visibilities(work)
    if not work.gains:
        return fourier_sum(vis, uvw, freq, l, m)
    table = solutions.load_solution(work.field / "SOLSDIR", work.ms.name, "true")
    times, rows = np.unique(when, return_inverse=True)
    t, c = interpolate_index(table, times, freq)
    dl, dm = directions(work.setting)
    owner = np.argmin((l[:, None] - dl) ** 2 + (m[:, None] - dm) ** 2, axis=1)
    out = np.empty(l.size)
    for k in np.unique(owner):
        gain = table.gains[:, :, :, k, 0]
        block = t[rows][:, None], c[None, :]
        turned = np.conj(gain[(*block, ant1[:, None])]) * gain[(*block, ant2[:, None])] * vis
        some = owner == k
        out[some] = fourier_sum(turned, uvw, freq, l[some], m[some])
    return out


def sample_points(work: Work) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(l, m) rad of places to compare: at sources, along the edges of facets, and anywhere."""
    rng, s = np.random.default_rng(11), work.setting
    half = np.radians(s.degrees / 2)
    with np.load(work.field / "sky.npz") as sky:
        inside = (np.abs(sky["l"]) < half) & (np.abs(sky["m"]) < half)
        at = np.stack([sky["l"][inside], sky["m"][inside]])
    n, step, limit = s.points, 2 * half / s.facets, 0.99 * half
    edge = rng.uniform(-limit, limit, (2, n))
    # half of them near sources, where errors are largest
    edge[:, : n // 2] = at[:, rng.integers(0, at.shape[1], n // 2)]
    swap = rng.integers(0, 2, n)
    line = np.rint((edge[swap, np.arange(n)] + half) / step).clip(1, s.facets - 1) * step - half
    edge[swap, np.arange(n)] = line + rng.uniform(-2, 2, n) * np.radians(s.cell / 3600)
    return {"sources": tuple(at), "edges": tuple(edge.clip(-limit, limit)),
            "anywhere": tuple(rng.uniform(-limit, limit, (2, n)))}


def errors(work: Work, image: Path) -> dict[str, float]:
    """Largest errors of an image over the largest true value, by kind of place; see the top."""
    from astropy.io import fits

    with fits.open(image) as hdus:
        head, plane = hdus[0].header, np.squeeze(hdus[0].data).astype(float)
    scale = np.radians(head["CDELT1"]), np.radians(head["CDELT2"])
    pixels = {}
    for kind, (l, m) in sample_points(work).items():
        x = np.rint(l / scale[0] + head["CRPIX1"] - 1).astype(int)
        y = np.rint(m / scale[1] + head["CRPIX2"] - 1).astype(int)
        good = (x >= 0) & (y >= 0) & (x < plane.shape[1]) & (y < plane.shape[0])
        pixels[kind] = y[good], x[good]
    y, x = (np.concatenate([p[k] for p in pixels.values()]) for k in (0, 1))
    truth = true_values(work, (x - head["CRPIX1"] + 1) * scale[0],
                        (y - head["CRPIX2"] + 1) * scale[1])
    miss, out, at = np.abs(plane[y, x] - truth) / np.abs(truth).max(), {}, 0
    for kind, (rows, _) in pixels.items():
        out[kind] = float(miss[at:at + len(rows)].max())
        at += len(rows)
    out["rms"] = float(np.sqrt(np.mean(miss**2)))
    return out
