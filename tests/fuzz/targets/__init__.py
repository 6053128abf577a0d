"""The targets by name. Each has a short function that calls a parser."""

from tests.fuzz.targets import annotated, exported, images, predictions, training, weights

TARGETS = {target.name: target for module in (weights, training, images, annotated, exported, predictions) for target in module.TARGETS}
