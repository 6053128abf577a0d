"""The targets, one short function for each parser, by their names."""

from tests.fuzz.targets import annotated, images, training, weights

TARGETS = {target.name: target for module in (weights, training, images, annotated) for target in module.TARGETS}
