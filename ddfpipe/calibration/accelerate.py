"""Anderson acceleration of fixed-point iterations (Anderson 1965, J. ACM 12, 547).

Gauss-Seidel sweeps over stations are slow along collective changes: the core moves as a body
against the remote stations, since short baselines hardly tell directions apart.  Combining the
last few sweeps so that the combined residual is least removes those modes in a handful of sweeps.
"""

from __future__ import annotations

import numpy as np

REGULAR = 1e-10
"""Relative ridge of the small least-squares problem."""


class Anderson:
    """Mixes the results of the sweeps x -> G(x) of a real state vector.

    scale: (n,) metric of the residual, the square root of the information on each component, so
    that bright directions count for what they are worth.  memory: sweeps that are combined.
    """

    def __init__(self, scale: np.ndarray, memory: int = 5) -> None:
        self.scale, self.memory = scale, memory
        self._before: list[np.ndarray] = []
        self._after: list[np.ndarray] = []

    def forget(self) -> None:
        """Drop the memory, after a step that turned out badly or a change of the map."""
        self._before, self._after = [], []

    def mix(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Next state (n,) from the latest sweep, which took `before` to `after`."""
        self._before = (self._before + [before])[-self.memory - 1:]
        self._after = (self._after + [after])[-self.memory - 1:]
        if len(self._before) == 1:
            return after
        images = np.array(self._after)
        residual = (images - np.array(self._before)) * self.scale
        change = residual[1:] - residual[:-1]
        gram = change @ change.T
        gram[np.diag_indices_from(gram)] *= 1 + REGULAR
        size = np.sqrt(np.maximum(np.diag(gram), 1e-300))
        try:
            gamma = np.linalg.solve(gram / np.outer(size, size), change @ residual[-1] / size)
        except np.linalg.LinAlgError:
            return after
        return after - (gamma / size) @ (images[1:] - images[:-1])
