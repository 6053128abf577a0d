"""Image classification on the zoo's backbones."""
