"""Figures: written whole, byte for byte the same, honest where there is nothing to show; their source is their data."""

import inspect
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from mcsp.atlas import REACH_MM, load_atlas
from mcsp.cli import app
from mcsp.figures import (
    architecture,
    calibration,
    characteristics,
    chord,
    cohort,
    cortex,
    curves,
    eeg_spectra,
    eeg_topography,
    embeddings,
    flow,
    fmri_map,
    retrieval,
    segments,
    selective,
    sites,
    style,
    surface,
    training,
)
from mcsp.figures.catalogue import ALL, KINDS, SEVERAL, groups, module_of
from mcsp.figures.people import groups as labelled
from mcsp.figures.style import OKABE_ITO
from mcsp.figures.verdict import best_method, standing
from mcsp.model.encoders import Architecture, Projector, make_encoder
from mcsp.options.results import FigureOptions
from mcsp.store import read_json, read_table, read_tsv, write_table
from mcsp.workflow import load_plan
from tests.figures import made_up

OPTIONS = FigureOptions(dpi=60, note="SIMULATED DATA: made up")
PROJECT = Path(__file__).resolve().parents[2]
SUFFIXES = (".svg", ".pdf", ".png", ".tsv", ".json", ".caption.txt")
COLUMN = ("segments",)  # figures of one column


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """All figures of the same files, drawn by two processes that differ in what differs between machines and days."""
    root = tmp_path_factory.mktemp("twice")
    (root / "files").mkdir()
    for side, zone in (("a", "UTC"), ("b", "Asia/Tokyo")):
        env = os.environ | {"PYTHONHASHSEED": str(ord(side)), "TZ": zone, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.figures.made_up", str(root / "files"), str(root / side)]
        subprocess.run(command, cwd=PROJECT, env=env, check=True)
    return root


@pytest.mark.parametrize("kind", ALL)
def test_the_same_data_give_the_same_bytes_and_all_files(kind, twice):
    for suffix in SUFFIXES:
        first, second = ((twice / side / f"{kind}{suffix}").read_bytes() for side in "ab")
        assert first == second, suffix
        assert first
    image = Image.open(twice / "a" / f"{kind}.png")
    assert "Software" not in image.info
    pixels = np.asarray(image.convert("RGB"))
    assert (pixels[[0, -1]] == 255).mean() > 0.9  # nothing runs over the upper or lower edge
    assert (pixels != 255).mean() > 0.01
    assert (pixels[:, -7:-1] < 200).any()  # the note, along the right edge
    width = OPTIONS.column_mm if kind in COLUMN else OPTIONS.width_mm
    assert image.width == pytest.approx(width / 25.4 * OPTIONS.dpi, abs=1)
    caption = (twice / "a" / f"{kind}.caption.txt").read_text()
    assert "SIMULATED DATA: made up." in caption
    if kind not in ("architecture", "performance", "sweep", "segments", "controls"):  # their n stand in the figure, by task
        assert re.search(r"\d+ (explained )?(test )?(subjects|found|folds)", caption)
    source = read_tsv(twice / "a" / f"{kind}.tsv")
    assert len(source)
    assert set(read_json(twice / "a" / f"{kind}.json")) == set(source)


def test_the_last_bits_of_a_layout_do_not_show(tmp_path):
    """Matplotlib's solver differs there, if rarely, from one process to the next."""
    files = {}
    for name, shift in (("a", 0.0), ("b", 1e-13)):
        figure, axes = style.new_figure(OPTIONS, 0.3)
        figure.set_layout_engine("none")
        axes.plot([0, 1], [0, 1])
        axes.set_position((0.2 + shift, 0.2, 0.6, 0.6))
        style.save(figure, tmp_path / name / "f", pd.DataFrame({"x": [1]}), {"x": "x"}, "One line.", OPTIONS)
        files[name] = (tmp_path / name / "f.svg").read_text()
    assert files["a"] == files["b"]
    assert (
        set(re.findall(r"url\(#([^)]+)\)", files["a"])) == set(re.findall(r'<clipPath id="([^"]+)"', files["a"])) == {"f-clip0"}
    )


@pytest.mark.parametrize("kind", ALL)
def test_a_pdf_has_its_fonts_in_it_and_no_date(kind, twice):
    text = (twice / "a" / f"{kind}.pdf").read_bytes()
    assert b"/FontFile2" in text
    assert b"/Type3" not in text
    assert b"Date" not in text


@pytest.mark.parametrize("kind", ALL)
def test_a_figure_takes_the_files_that_the_catalogue_says(kind):
    names = set(inspect.signature(import_module(module_of(kind)).run).parameters)
    assert names == {*ALL[kind].files, "out", "options", *(["task_name"] if ALL[kind].per_task else [])}


def test_a_group_reads_for_all_tasks_or_for_one(tmp_path):
    for kinds in groups().values():
        assert len({KINDS[kind].per_task for kind in kinds}) == 1
    plan = load_plan(PROJECT / "config/studies/demo.yaml", tmp_path)
    files = plan.figure_files(*ALL)
    assert {name for name, given in files.items() if isinstance(given, list)} == set(SEVERAL)
    assert {name for name, given in made_up.files(tmp_path).items() if isinstance(given, list)} == set(SEVERAL)


@pytest.fixture
def drawn(monkeypatch):
    """Draw a kind of made-up files at once, and give the figure as it was written."""
    kept = []
    monkeypatch.setattr(style, "FORMATS", {".png": {"Software": None}})
    monkeypatch.setattr(style.plt, "close", lambda figure: kept.append(figure))

    def draw(kind, given, out):
        made_up.draw(kind, given, out / kind, FigureOptions(dpi=50, note="SIMULATED DATA"))
        for figure in kept[:-1]:
            figure.clear()
        return kept[-1]

    return draw


def _cut(figure):
    """Texts that leave the figure."""
    figure.draw_without_rendering()
    renderer, page = figure.canvas.get_renderer(), figure.bbox
    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]  # what is off, or out of view, is not drawn
    ticks = {
        id(label) for axis in axes for tick in (*axis.majorTicks, *axis.minorTicks) for label in (tick.label1, tick.label2)
    }
    in_view = {
        id(label) for axis in axes if axis.axes.axison for tick in axis._update_ticks() for label in (tick.label1, tick.label2)
    }
    texts = [t for t in figure.findobj(style.Text) if t.get_visible() and t.get_text().strip() and id(t) not in ticks - in_view]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    return [text for text, box in boxes if min(box.x0, box.y0, page.x1 - box.x1, page.y1 - box.y1) < -2]


QUICK = [kind for kind in ALL if kind not in ("eeg-topography", "surface")]  # these two have no names to cut


@pytest.mark.parametrize("amount", ["crowded", "bare"])
def test_nothing_is_cut_with_very_much_or_very_little_to_show(amount, drawn, tmp_path):
    given = getattr(made_up, amount)(tmp_path)
    for kind in QUICK:
        figure = drawn(kind, given, tmp_path)
        assert not _cut(figure), kind
        assert figure.get_figheight() * 25.4 < 260, kind  # fits a page


def test_the_flow_adds_up(tmp_path):
    """Whatever stages leave out: who was found is in the cohort or in one box."""
    rng = np.random.default_rng(0)
    people = read_table(made_up.cohort(tmp_path, n=30))
    stages = ["ingest", "preprocess", "fmri", "fmri-run", "eeg", "connectivity-eeg", "spectra-fmri", "cohort"]
    who = [f"d/sub-{i}" for i in rng.integers(0, 60, 80)]
    lost = pd.DataFrame(
        {"uid": who, "dataset": "d", "stage": rng.choice(stages, 80), "reason": [f"why {i}: mm" for i in range(80)]}
    )
    rows = flow.boxes(people, lost, {"asd": pd.DataFrame({"n_case": [3], "n_control": [4]})})
    totals = rows[rows["part"] == "all"].set_index("box")["n"]
    outside = [name for name in totals.index if name not in ("Found", "Cohort", flow.STAY, "Task asd")]
    assert totals["Found"] == len(set(who) | set(people["uid"])) == totals["Cohort"] + totals[outside].sum()
    for name in ("Found", "Cohort", *outside):
        parts = rows[(rows["box"] == name) & (rows["part"] != "all")]
        assert parts["n"].sum() == totals[name]
    task = rows[rows["box"] == "Task asd"].set_index("part")["n"]
    assert task["cases"] + task["controls"] + task["not of this task"] == totals["Cohort"]


def test_what_is_left_of_many_datasets_is_called_datasets(tmp_path):
    people = read_table(made_up.cohort(tmp_path, n=30)).assign(dataset=[f"d{i}" for i in range(30)])
    rows = flow.boxes(people, pd.DataFrame(columns=["uid", "dataset", "stage", "reason"]).astype(str), {})
    assert rows[rows["box"] == "Found"]["part"].iloc[-1] == "18 other datasets"


def test_a_subject_is_left_out_where_it_lost_its_last_recording():
    lines = [
        ("d/a", "fmri", "short: 20 s"),
        ("d/a", "eeg", "flat (3)"),
        ("d/a", "fmri-run", "cut"),
        ("d/b", "ingest", "no labels"),
    ]
    table = pd.DataFrame(lines, columns=["uid", "stage", "reason"]).assign(dataset="d")
    found = flow.left_out(table, kept={"d/c"}).set_index("uid")
    assert found["stage"].to_dict() == {"d/a": "eeg", "d/b": "ingest"}
    assert found["reason"].to_dict() == {"d/a": "flat", "d/b": "no labels"}


def test_characteristics_and_sites_count_everybody(tmp_path):
    people = read_table(made_up.cohort(tmp_path, n=60, labels=("control", "ASD", "ADHD", "MDD", "OCD", "PTSD", "ADHD;ASD", "")))
    rows = characteristics.table(people)
    n = rows[rows["characteristic"] == "Subjects"].set_index("group")["n"]
    assert n["all"] == n.drop("all").sum() == 60
    names = list(labelled(people).cat.categories)
    assert (names[0], *names[-2:]) == ("control", "other", "no label")
    table = sites.summary(people)
    for what in ("subjects", "sex"):
        assert table.loc[table["what"] == what, "n"].sum() == 60
    assert table.loc[table["what"] == "age", "n"].sum() == people["age"].notna().sum()
    one = people.assign(mean_fd=np.where(people["labels"] == "control", 1.0, 0.1) + 0.01 * np.arange(60) / 60)
    p = characteristics.table(one).drop_duplicates("characteristic").set_index("characteristic")["p"]
    assert p["Mean framewise displacement, mm"] < 0.01


def test_the_curve_is_that_of_the_ranks_and_the_test_asks_the_same_search(tmp_path):
    """The mean reciprocal rank that is tested is the one in the table of ranks, fused and of each domain."""
    given = {"embeddings": made_up.embeddings(tmp_path), "ranks": made_up.ranks(tmp_path)}
    table, found = (read_table(path) for path in given.values())
    for domain in ("spatial", "temporal", "spectral", "fused"):
        (cosines,) = retrieval.similarities(table[table["stage"] == "pretrained"], domain)
        own = found[(found["stage"] == "pretrained") & (found["domain"] == domain)]
        for query, side in (("fmri", cosines), ("eeg", cosines.T)):
            named = own[own["query"] == query].set_index("uid")["rank"].sort_index()
            assert named.tolist() == (1 + (side > np.diag(side)[:, None]).sum(axis=1)).tolist()
    retrieval.run(**given, out=tmp_path / "r", options=OPTIONS)
    rows = read_tsv(tmp_path / "r.tsv")
    assert rows["domain"].unique().tolist() == ["spatial", "temporal", "spectral", "fused"]
    first = rows[(rows["stage"] == "pretrained") & (rows["domain"] == "fused")].set_index("k")["recall"]
    assert first[5] == pytest.approx((own["rank"] <= 5).mean())
    assert first[20] == 1


def test_repeats_make_nobody_two_people(tmp_path):
    """The same recordings found at the same ranks in a second repeat: the same figure, as sure as before."""
    given = {"embeddings": made_up.embeddings(tmp_path), "ranks": made_up.ranks(tmp_path)}
    retrieval.run(**given, out=tmp_path / "once", options=OPTIONS)
    for path in given.values():
        table = read_table(path)
        write_table(pd.concat([table, table.assign(fold=table["fold"] + 5)], ignore_index=True), path)
    retrieval.run(**given, out=tmp_path / "twice", options=OPTIONS)
    pd.testing.assert_frame_equal(read_tsv(tmp_path / "twice.tsv"), read_tsv(tmp_path / "once.tsv"))
    captions = [(tmp_path / f"{name}.caption.txt").read_text() for name in ("once", "twice")]
    assert ["of the first repeat" in text for text in captions] == [False, True]
    assert np.isnan(retrieval.p_of([], np.random.default_rng(0)))


def test_planted_pairs_are_found_and_others_are_not():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 6))
    assert retrieval.p_of([x @ (x + 0.5 * rng.normal(size=(20, 6))).T], rng) < 0.01
    assert retrieval.p_of([x @ rng.normal(size=(20, 6)).T], rng) > 0.01


def test_the_drawn_shapes_are_those_of_the_model(tmp_path):
    sizes = read_json(made_up.config(tmp_path))["architecture"]
    for row in architecture.shapes(sizes).itertuples():
        shape = sizes["shapes"][f"{row.modality}/{row.domain}"]
        encoder = make_encoder(row.modality, row.domain, Architecture(**sizes)).eval()
        inner = []
        watched = encoder.enter if row.domain == "spatial" else encoder.body
        watched.register_forward_hook(lambda _, __, out, seen=inner: seen.append(tuple(out.shape[1:])))
        h, parts = encoder(torch.randn(2, *shape).abs(), torch.full((2,), 48))
        graphs = () if row.domain != "spatial" or row.modality == "eeg" else (1,)
        assert inner == [(*graphs, *map(int, row.tokens.split(" × ")))]
        assert h.shape[1] == row.h
        projector = Projector(sizes["width"], sizes["dim"], *((10, 3) if parts is not None else ()))
        assert projector(h, parts).shape[1] == row.z


def test_networks_share_what_their_edges_have(tmp_path):
    atlas, maps = load_atlas(made_up.atlas(tmp_path)), read_tsv(made_up.maps(tmp_path))
    edges = maps[(maps["kind"] == "edge") & (maps["method"] == "smoothgrad")]
    rows = chord.by_network(edges, atlas)
    assert rows["share"].sum() == pytest.approx(edges["mean"].sum())
    assert rows["edges"].sum() == len(edges) == 66
    assert np.allclose(chord.by_network(edges.assign(mean=0.5), atlas)["relative"], 1)
    planted = edges.assign(mean=np.where(edges["name"] == "roi1|roi0", 1.0, 0.0))
    assert chord.by_network(planted, atlas).set_index(["a", "b"])["share"]["default", "occipital"] == 1


def test_regions_lie_on_the_surface_where_the_atlas_has_them(atlas_table):
    atlas = load_atlas(atlas_table)
    brain = surface.Brain(atlas)
    mesh = surface.load_fsaverage("fsaverage5")["pial"].parts
    for side, sign in (("left", -1), ("right", 1)):
        region = brain.regions[side]
        seen = region >= 0
        assert seen.mean() > 0.5
        distance = np.linalg.norm(mesh[side].coordinates[seen] - atlas.coordinates[region[seen]], axis=1)
        assert np.quantile(distance, 0.95) < 20  # mm: cells reach 15, MNI305 is some mm off
        assert (sign * atlas.coordinates[np.unique(region[seen]), 0] > -REACH_MM).all()
    white = surface.load_fsaverage("fsaverage5")["white_matter"].parts["left"].coordinates
    alone = cortex.vertex_regions(mesh["left"].coordinates, white, made_up.without_image(atlas))
    both = (alone >= 0) & (brain.regions["left"] >= 0)
    assert (alone == brain.regions["left"])[both].mean() > 0.8


def test_planted_power_is_found_in_its_region_and_band(tmp_path):
    stores = made_up.spectra(tmp_path)
    y = read_table(made_up.predictions(tmp_path)).drop_duplicates("uid").set_index("uid")["y"]
    found, channels, freqs = eeg_spectra.read_spectra(stores, set(y.index))
    rows = eeg_spectra.table_of(found, y, channels, freqs)
    bands = rows[rows["what"] == "band"].set_index(["region", "band"])
    assert bands.index[bands["p_holm"] < 0.05].tolist() == [("occipital", "alpha")]
    assert bands["value"]["occipital", "alpha"] > 2
    curve = rows[(rows["region"] == "occipital") & (rows["hz"] == 10)].set_index("group")["value"]
    assert curve["case"] / curve["control"] == pytest.approx(2, rel=0.1)
    assert [eeg_spectra.region_of(name) for name in ("Fp1", "FCz", "T7", "P4", "POz", "E7")] == [
        "frontal", "central", "temporal", "parietal", "occipital", "other",
    ]  # fmt: skip


def test_segment_lengths_are_in_seconds_and_in_order(tmp_path):
    rows = segments.lengths(read_tsv(made_up.sweep(tmp_path)), read_json(made_up.config(tmp_path)))
    own = rows[rows["task"] == "asd"]
    assert own["samples"].tolist() == [40, 50]
    assert own["seconds"].tolist() == [0.8, 1.0]
    assert own["whole"].tolist() == [True, False]


def test_labels_colours_sizes_and_titles_are_tuned_without_the_study(tmp_path):
    files = [f"--file=metrics={made_up.metrics(tmp_path, task)}" for task in ("asd", "mdd")]
    (tmp_path / "mine.yaml").write_text('labels: {asd: Autism, mcsp: MCSP}\npalette: ["#112233", "#445566"]\n')
    more = [
        "--style",
        str(tmp_path / "mine.yaml"),
        "--title",
        "Of asd",
        "--width-mm",
        "120",
        "--dpi",
        "40",
        "--out",
        str(tmp_path),
    ]
    done = CliRunner().invoke(app, ["figure", "performance", *files, *more])
    assert done.exit_code == 0, done.output
    assert Image.open(tmp_path / "performance.png").width == pytest.approx(120 / 25.4 * 40, abs=1)
    assert "#112233" in (tmp_path / "performance.svg").read_text()
    assert not set(OKABE_ITO[:2]) & set(re.findall(r"#[0-9a-f]{6}", (tmp_path / "performance.svg").read_text().upper()))
    figure, axes = style.new_figure(OPTIONS, 0.3)
    axes.set_yticks([0, 1], ["mcsp", "mcsp-like linear"])
    axes.set_title("asd: n = 3, basdy")
    style.rename(figure, {"asd": "Autism", "mcsp": "MCSP", "linear": "a|b"})
    figure.canvas.draw()
    assert axes.get_title() == "Autism: n = 3, basdy"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["MCSP", "MCSP-like a|b"]
    assert style.short("d: University Hospital of Somewhere 12", 20) == "d: Universi…where 12"


def test_a_figure_without_its_files_says_what_to_do(tmp_path):
    for command, words in {
        ("performance",): "give --file metrics=PATH, or --study",
        ("nonsense",): "no figure is named nonsense",
        ("curves", "--task", "asd", "--file", "predictions=nowhere"): "`snakemake figure_curves` with this study makes it",
        ("curves", "--file", "what"): "give KEY=PATH",
    }.items():
        done = CliRunner().invoke(
            app, ["figure", *command, "--out", str(tmp_path), *(["--task", "asd"] if "curves" in command else [])]
        )
        assert done.exit_code != 0
        assert words in str(done.exception) + done.output


def test_a_wrong_style_names_its_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("labls: {a: b}")
    done = CliRunner().invoke(app, ["figure", "performance", "--style", str(tmp_path / "mine.yaml")])
    assert str(done.exception) == f"{tmp_path / 'mine.yaml'}: labls is not an option: did you mean labels?"


def test_the_palette_is_told_apart_by_colour_blind_eyes():
    """Machado et al. 2009's matrices for the three kinds of colour-blindness, severity 1, on linear RGB."""
    kinds = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in OKABE_ITO[:5]])
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
    maps, judged = made_up.maps(tmp_path, modalities=("eeg",)), made_up.trust(tmp_path)
    fmri_map.run(maps=maps, trust=judged, atlas=made_up.atlas(tmp_path), task_name="t", out=tmp_path / "fmri", **nothing)
    maps = made_up.maps(tmp_path, modalities=("fmri",))
    eeg_topography.run(maps=maps, trust=judged, task_name="t", out=tmp_path / "eeg", **nothing)
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
    assert set(read_tsv(tmp_path / "e.tsv")["modality"]) == {"EEG"}


def test_regions_without_coordinates_are_bars(tmp_path):
    files = {"maps": made_up.maps(tmp_path), "trust": made_up.trust(tmp_path)}
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
        files = {"maps": made_up.tsv(rows, tmp_path / f"{name}.tsv"), "trust": made_up.trust(tmp_path), "atlas": atlas}
        fmri_map.run(**files, task_name="t", out=tmp_path / name, options=OPTIONS)
        assert (tmp_path / f"{name}.svg").stat().st_size > 10_000


def test_the_method_that_stands_best_is_shown_and_failure_is_said(tmp_path):
    maps, judged = read_tsv(made_up.maps(tmp_path)), read_tsv(made_up.trust(tmp_path))
    assert best_method(maps, judged, "fmri") == "smoothgrad"
    assert best_method(maps, judged, "eeg") == "integrated_gradients"  # nothing is proven: the first
    assert best_method(maps[maps["modality"] == "eeg"], judged, "fmri") is None
    assert standing(judged, "smoothgrad", "fmri", "spatial", "roi") == "method passed here"
    assert standing(judged, "integrated_gradients", "fmri", "spatial", "roi") == "method FAILED here"
    assert standing(judged, "smoothgrad", "eeg", "spectral", "channel") == "unproven"
    assert standing(judged, "smoothgrad", "fmri", "temporal", "edge") == "unproven"


@pytest.mark.parametrize("kind", ["fmri-map", "surface", "chord", "eeg-topography", "eeg-spectra"])
def test_a_title_says_of_a_kind_what_the_table_of_trust_says(kind, drawn, tmp_path):
    """Where relevance is where it was planted, but rank or reset weights fail, trust.tsv says fail; so do titles."""
    given = made_up.files(tmp_path)
    table = read_tsv(given["trust"])
    for verdict, words in (("fail", "FAILED here"), ("pass", "passed here")):
        made_up.tsv(table.assign(verdict=verdict), given["trust"])
        figure = drawn(kind, given, tmp_path)
        texts = " ".join(text.get_text() for text in figure.findobj(style.Text))
        texts += (tmp_path / f"{kind}.caption.txt").read_text()
        others = {"FAILED here", "passed here", "unproven"} - {words}
        assert words in texts.replace("\n", " ")
        assert not any(other in texts for other in others)
    chosen = table["kind"].isin(["edge", "channel_band"])
    made_up.tsv(table.assign(verdict=np.where(chosen, "fail", "pass")), given["trust"])
    figure = drawn(kind, given, tmp_path)
    texts = " ".join(text.get_text() for text in figure.findobj(style.Text)).replace("\n", " ")
    texts += (tmp_path / f"{kind}.caption.txt").read_text()
    assert ("FAILED here" in texts) is (kind != "surface")
    assert ("passed here" in texts) is (kind not in ("chord", "eeg-spectra"))


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
