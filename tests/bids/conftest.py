"""Fixtures of the tests of ingestion."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.eeg_bids import write_eeg_bids


@pytest.fixture(scope="session")
def eeg_bids(tmp_path_factory, real_data) -> Path:
    """The real EEG recordings as a BIDS dataset."""
    return write_eeg_bids(real_data / "eeg", tmp_path_factory.mktemp("eeg") / "bids")
