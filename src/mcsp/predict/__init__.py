"""A trained model applied to new data."""
