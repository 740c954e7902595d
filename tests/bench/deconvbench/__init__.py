"""Parts of the benchmark of the deconvolution, see `deconvolve.py`."""
