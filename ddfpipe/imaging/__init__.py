"""Imaging algorithms: numpy in, numpy out."""
