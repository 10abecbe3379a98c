"""Encoders, projectors, augmentations, losses. Knows nothing of files or of Snakemake."""
