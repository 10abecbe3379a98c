"""Simulated BIDS datasets with planted truth."""
