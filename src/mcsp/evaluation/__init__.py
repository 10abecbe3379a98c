"""Folds, metrics, rivals, and the one look at the test subjects."""
