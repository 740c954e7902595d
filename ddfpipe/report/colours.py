"""Colour maps of pictures: 33 colours from one end to the other, red, green, blue.

Samples of the maps that matplotlib calls by these names, which their authors gave away (CC0):
inferno and viridis of N. J. Smith and S. van der Walt, twilight of B. Bechtold.
"""

COLOURS = {
    "inferno": (
        "0000040403120b0724150b37210c4a2f0a5b3d09654a0c6b57106e64156e71196e7d1e6d8a226a972766"
        "a32c61b0315bbc3754c73e4cd24644db503be45a31eb6628f1731df68013f98e09fb9d07fcac11fbbc21"
        "f9cb35f5db4cf2ea69f3f68afcffa4"
    ),
    "twilight": (
        "e2d9e2d7d7ddc4ced4acc2cc95b5c781a6c37297c16887be6276ba5f64b55e51ad5d3da1592a8f511b77"
        "45135c3811452f14363a113a4a13425f174a741e4f872750983550a64550b25652bb6958c27c63c89073"
        "cca389d1b6a3d8c7bedfd4d6e2d9e2"
    ),
    "viridis": (
        "440154470d6048186a482374472d7b4537814240863e49893b528b375b8d33638d2f6b8e2c728e297a8e"
        "26828e23898e21918c1f988b1fa08822a78528ae8032b67a3fbc734ec36b5ec96270cf5784d44b98d83e"
        "addc30c2df23d8e219ece51bfde725"
    ),
}
