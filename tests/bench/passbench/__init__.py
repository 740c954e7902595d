"""Parts of the benchmark of the imaging pass, `tests/bench/imaging_pass.py`."""
