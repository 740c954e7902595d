"""Parts of the benchmark of the gain solver, `tests/bench/solving.py`."""
