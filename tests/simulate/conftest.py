"""The tiny simulated study, shared by the tests of this folder."""

from pathlib import Path

import pytest

from mcsp.atlas import run as write_atlas
from mcsp.options.atlas import AtlasOptions
from tests.simulate.tiny_study import Simulated, simulate


@pytest.fixture(scope="session")
def atlas_table(tmp_path_factory) -> Path:
    """The built-in atlas on disk."""
    out = tmp_path_factory.mktemp("atlas") / "atlas.tsv"
    write_atlas(options=AtlasOptions(), out=out)
    return out


@pytest.fixture(scope="session")
def study(tmp_path_factory, atlas_table) -> Simulated:
    """The tiny study; read-only."""
    return simulate(tmp_path_factory.mktemp("study"), atlas_table)
