"""An independent visibility simulator: direct Fourier sums, no code shared with imaging."""
