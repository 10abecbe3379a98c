"""The tiny simulated study, shared by the tests of this folder."""

import pytest

from tests.simulate.tiny_study import Simulated, simulate


@pytest.fixture(scope="session")
def study(tmp_path_factory, atlas_table) -> Simulated:
    """The tiny study; read-only."""
    return simulate(tmp_path_factory.mktemp("study"), atlas_table)
