"""Interactive brains: what is packed for the page is what nilearn drew."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from mcsp.atlas import Atlas
from mcsp.report import brain

PLACES = np.array([[-40.0, -70, 10], [40, -70, 10], [0, -60, 30], [np.nan] * 3])


def atlas(coordinates):
    names = [f"r{i}" for i in range(len(coordinates))]
    return Atlas(names, ["n"] * len(names), np.arange(len(names)), coordinates, np.arange(1, len(names) + 1), None)


def unpacked(page):
    """Colours of the vertices, as the page's script has them."""
    found = re.search(r'"vertexcolor_both": \(\(colours, at\) => at\.map\(i => colours\[i\]\)\)\((\[.*?\]), (\[.*?\])\)', page)
    colours, at = map(json.loads, found.groups())
    return [colours[i] for i in at]


def test_packed_colours_are_those_that_nilearn_wrote():
    names = ["#aa0000", "rgb(1, 2, 3)", "#aa0000", "#00bb00"]
    page = f'var info = {{"vertexcolor_both": {json.dumps(names)}, "cmin": 0}};'
    assert unpacked(brain.packed(page)) == names
    assert brain.packed(page).endswith(', "cmin": 0};')


def test_the_cortex_shows_each_region_where_it_lies_and_its_meshes_once():
    parts = brain.shared_parts()
    regions = atlas(PLACES)
    at = brain.vertices_of(regions)
    view = brain.surface_view(pd.Series([0.7, 0.3, 0.0, 0.0], regions.names), regions, at, "t", "c", parts)
    assert view.page.count("@@shared-") == 4  # three scripts, one mesh
    assert len(view.page) < 120_000
    colours = np.array(unpacked(view.page))
    assert len(colours) == len(at) == len(brain.inflated().coordinates)
    own = [set(colours[at == row]) for row in range(3)]
    assert all(len(found) == 1 for found in own)
    assert len(set.union(*own)) == 3
    assert set(colours[at < 0]).isdisjoint(set.union(*own))  # though the third has no relevance at all
    assert {len({colour[1:3], colour[3:5], colour[5:]}) for colour in set(colours[at < 0])} == {1}  # greys
    assert (brain.inflated().coordinates[at == 0, 0] < 0).all()  # the left one on the left
    assert (brain.inflated().coordinates[at == 1, 0] > 0).all()


@pytest.mark.parametrize("places", [np.full((3, 3), np.nan), np.array([[0.0, 0, -200]] * 3)])
def test_regions_that_lie_nowhere_on_the_cortex_give_no_view(places):
    regions = atlas(places)
    shares, at = pd.Series([0.5, 0.3, 0.2], regions.names), brain.vertices_of(regions)
    assert brain.surface_view(shares, regions, at, "t", "c", brain.shared_parts()) is None
