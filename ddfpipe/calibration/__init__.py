"""Gain solving: numpy in, numpy out."""
