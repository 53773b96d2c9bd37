"""Measuring: event detectors, sync, adherence, codecs, against ground truth."""
