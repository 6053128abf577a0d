"""Readers of data sets, one a format: each gives an `ImageSet`, a `DetectionSet` or a `SegmentationSet`."""
