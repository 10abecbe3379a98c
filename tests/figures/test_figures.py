"""Figures: written whole, byte for byte the same, honest where there is nothing to show; their source is their data."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from mcsp.figures import (
    calibration,
    cohort,
    controls,
    curves,
    eeg_topography,
    embeddings,
    fmri_map,
    performance,
    selective,
    sweep,
    training,
)
from mcsp.figures.style import PALETTE
from mcsp.figures.verdict import best_method, standing
from mcsp.options.results import FigureOptions
from mcsp.store import read_json, read_table, read_tsv
from tests.figures import made_up

OPTIONS = FigureOptions(dpi=60, note="SIMULATED DATA: made up")


def draw(kind, folder, out):
    """One figure of made-up data."""
    common = {"out": out, "options": OPTIONS}
    if kind == "cohort":
        cohort.run(cohort=made_up.cohort(folder), exclusions=made_up.exclusions(folder), **common)
    elif kind == "training":
        training.run(histories=[made_up.history(folder), made_up.history(folder)], **common)
    elif kind == "performance":
        performance.run(metrics=[made_up.metrics(folder, task) for task in ("asd", "mdd")], **common)
    elif kind == "sweep":
        sweep.run(table=made_up.sweep(folder), retrieval=made_up.sweep_retrieval(folder), **common)
    elif kind == "curves":
        curves.run(predictions=made_up.predictions(folder), task_name="asd", **common)
    elif kind == "calibration":
        calibration.run(**made_up.calibration(folder), task_name="asd", **common)
    elif kind == "controls":
        controls.run(table=made_up.controls(folder), **common)
    elif kind == "selective":
        selective.run(**made_up.selective(folder), task_name="asd", **common)
    elif kind == "embeddings":
        embeddings.run(embeddings=made_up.embeddings(folder), cohort=made_up.cohort(folder), **common)
    elif kind == "fmri":
        files = {"maps": made_up.maps(folder), "verdicts": made_up.verdicts(folder), "atlas": made_up.atlas(folder)}
        fmri_map.run(**files, task_name="asd", **common)
    else:
        files = {"maps": made_up.maps(folder), "verdicts": made_up.verdicts(folder)}
        eeg_topography.run(**files, task_name="asd", **common)


KINDS = ["cohort", "training", "performance", "sweep", "curves", "calibration", "selective", "controls"]


@pytest.mark.parametrize("kind", [*KINDS, "embeddings", "fmri", "eeg"])
def test_the_same_data_give_the_same_bytes_and_all_files(kind, tmp_path):
    draw(kind, tmp_path, tmp_path / "a" / kind)
    draw(kind, tmp_path, tmp_path / "b" / kind)
    for suffix in (".svg", ".png", ".tsv", ".json", ".caption.txt"):
        first, second = ((tmp_path / side / f"{kind}{suffix}").read_bytes() for side in "ab")
        assert first == second, suffix
        assert first
    pixels = np.asarray(Image.open(tmp_path / "a" / f"{kind}.png").convert("RGB"))
    assert (pixels[[0, -1]] == 255).mean() > 0.9  # nothing runs over the upper or lower edge
    assert (pixels != 255).mean() > 0.01
    assert (pixels[:, -7:-1] < 200).any()  # the note, along the right edge
    assert "SIMULATED DATA: made up." in (tmp_path / "a" / f"{kind}.caption.txt").read_text()
    source = read_tsv(tmp_path / "a" / f"{kind}.tsv")
    assert len(source)
    assert set(read_json(tmp_path / "a" / f"{kind}.json")) == set(source)


def test_the_palette_is_told_apart_by_colour_blind_eyes():
    """Machado et al. 2009's matrices for the three kinds of colour-blindness, severity 1, on linear RGB."""
    kinds = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in PALETTE[:5]])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for matrix in kinds.values():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
        distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        assert distance[~np.eye(5, dtype=bool)].min() > 0.1


def test_curves_are_those_of_the_mean_probability(tmp_path):
    path = made_up.predictions(tmp_path)
    curves.run(predictions=path, task_name="asd", out=tmp_path / "curves", options=OPTIONS)
    rows = read_tsv(tmp_path / "curves.tsv")
    table = read_table(path).groupby(["method", "uid", "y"], as_index=False)["p"].mean()
    for method, own in table.groupby("method"):
        line = rows[(rows["panel"] == "ROC") & (rows["method"] == method)]
        assert np.trapezoid(line["y"], line["x"]) == pytest.approx(roc_auc_score(own["y"], own["p"]), abs=1e-4)
        bins = rows[(rows["panel"] == "calibration") & (rows["method"] == method)]
        assert bins["n"].sum() == 60
    cells = rows[rows["panel"] == "confusion"]
    assert cells["n"].sum() == 60
    ours = table[table["method"] == "mcsp"]
    hits = cells[(cells["x"] == 1) & (cells["y"] == 1)]["n"].item()
    assert hits == ((ours["y"] == 1) & (ours["p"] >= 0.5)).sum()


def test_where_there_is_nothing_a_figure_says_so(tmp_path):
    nothing = {"options": OPTIONS}
    embeddings.run(
        embeddings=made_up.embeddings(tmp_path, n=2), cohort=made_up.cohort(tmp_path), out=tmp_path / "embeddings", **nothing
    )
    training.run(histories=[made_up.history(tmp_path, epochs=0)], out=tmp_path / "training", **nothing)
    maps, judged = made_up.maps(tmp_path, modalities=("eeg",)), made_up.verdicts(tmp_path)
    fmri_map.run(maps=maps, verdicts=judged, atlas=made_up.atlas(tmp_path), task_name="t", out=tmp_path / "fmri", **nothing)
    maps = made_up.maps(tmp_path, modalities=("fmri",))
    eeg_topography.run(maps=maps, verdicts=judged, task_name="t", out=tmp_path / "eeg", **nothing)
    for name, words in {
        "embeddings": "too few test subjects",
        "training": "no pre-training",
        "fmri": "no fMRI in this study",
        "eeg": "no EEG in this study",
    }.items():
        assert words in (tmp_path / f"{name}.caption.txt").read_text()
        assert (tmp_path / f"{name}.svg").is_file()


def test_nothing_excluded_and_one_modality(tmp_path):
    cohort.run(
        cohort=made_up.cohort(tmp_path), exclusions=made_up.exclusions(tmp_path, ()), out=tmp_path / "c", options=OPTIONS
    )
    assert "0 exclusions" in (tmp_path / "c.caption.txt").read_text()
    source = made_up.embeddings(tmp_path, modalities=("eeg",))
    embeddings.run(embeddings=source, cohort=made_up.cohort(tmp_path), out=tmp_path / "e", options=OPTIONS)
    assert set(read_tsv(tmp_path / "e.tsv")["modality"]) == {"eeg"}


def test_regions_without_coordinates_are_bars(tmp_path):
    files = {"maps": made_up.maps(tmp_path), "verdicts": made_up.verdicts(tmp_path)}
    fmri_map.run(**files, atlas=made_up.atlas(tmp_path, known=False), task_name="t", out=tmp_path / "f", options=OPTIONS)
    assert (tmp_path / "f.svg").stat().st_size > 10_000


def test_edges_between_regions_of_which_few_have_coordinates(tmp_path):
    """Three regions with a place, none or some of the strongest edges between them: bars where no edge has two."""
    atlas = made_up.atlas(tmp_path)
    table = read_tsv(atlas)
    table.loc[3:, ["x", "y", "z"]] = np.nan
    made_up.tsv(table, atlas)
    maps = read_tsv(made_up.maps(tmp_path))
    inner = maps["name"].isin([f"roi{i}|roi{j}" for i in range(3) for j in range(i)])
    made_up.tsv(maps[~inner], tmp_path / "maps.tsv")
    far = maps[maps["kind"].ne("edge") | maps["name"].isin([f"roi{i}|roi{j}" for i in range(4, 12) for j in range(4, i)])]
    for name, rows in (("some", maps[~inner]), ("none", far)):
        files = {"maps": made_up.tsv(rows, tmp_path / f"{name}.tsv"), "verdicts": made_up.verdicts(tmp_path), "atlas": atlas}
        fmri_map.run(**files, task_name="t", out=tmp_path / name, options=OPTIONS)
        assert (tmp_path / f"{name}.svg").stat().st_size > 10_000


def test_the_method_that_stands_best_is_shown_and_failure_is_said(tmp_path):
    maps, judged = read_tsv(made_up.maps(tmp_path)), read_tsv(made_up.verdicts(tmp_path))
    assert best_method(maps, judged, "fmri") == "smoothgrad"
    assert best_method(maps, judged, "eeg") == "integrated_gradients"  # nothing is proven: the first
    assert standing(judged, "smoothgrad", "fmri", "spatial") == "finds the planted effect"
    assert standing(judged, "integrated_gradients", "fmri", "spatial") == "FAILS on the planted effect"
    assert standing(judged, "smoothgrad", "eeg", "spectral") == "unproven: no planted truth"
    half = pd.concat([judged, judged.assign(verdict="fail")])
    assert standing(half, "smoothgrad", "fmri", "spatial") == "finds the planted effect in 1 of 2 units"


def test_reliability_is_drawn_with_n_and_both_states(tmp_path):
    files = made_up.calibration(tmp_path)
    calibration.run(**files, task_name="asd", out=tmp_path / "c", options=OPTIONS)
    rows, points = read_tsv(tmp_path / "c.tsv"), read_tsv(files["reliability"])
    bins = rows[rows["panel"] == "reliability"]
    assert set(bins["state"]) == {"as it is", "temperature"}
    assert (bins.groupby("state")["n"].sum() == 60).all()
    assert set(bins["x"]) <= set(points["mean_p"])
    assert set(rows.loc[rows["panel"] == "error", "method"]) == set(made_up.METHODS)
    assert "60 test subjects (30 cases)" in (tmp_path / "c.caption.txt").read_text()


def test_the_area_under_the_drawn_curve_is_that_of_the_table(tmp_path):
    files = made_up.selective(tmp_path)
    selective.run(**files, task_name="asd", out=tmp_path / "s", options=OPTIONS)
    rows, table = read_tsv(tmp_path / "s.tsv"), read_tsv(files["selective"]).set_index(["method", "order"])
    areas = rows[rows["panel"] == "risk"].groupby("order")["y"].mean()
    for order in ("probability", "entropy", "mutual information"):
        assert areas[order] == pytest.approx(table.loc[("mcsp", order), "aurc"], abs=1e-4)
    assert areas["random"] == pytest.approx(table.loc[("mcsp", "entropy"), "random"], abs=1e-4)
    assert areas["oracle"] == pytest.approx(table.loc[("mcsp", "entropy"), "oracle"], abs=1e-4)
