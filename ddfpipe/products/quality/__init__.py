"""How good an image is: catalogue, comparison with surveys, noise, counts, completeness."""
