"""Transforms of the temporal stores: spatial and spectral domains."""
