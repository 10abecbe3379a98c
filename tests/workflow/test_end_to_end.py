"""The tiny simulated study, from its first rule to its last."""

import json
import os
import re
import shutil
import subprocess
import sys
from urllib.parse import urlsplit

import numpy as np
import pytest

from mcsp.figures.catalogue import KINDS
from mcsp.store import Store, read_table, read_tsv

# One worker runs the whole module: the study is made once.
pytestmark = pytest.mark.slow


def browse(address, folder):
    """(document after its scripts ran, lines of the browser's console, hosts that were asked for) of a page."""
    folder.mkdir(exist_ok=True)
    browser = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if not browser:
        pytest.skip("no chromium here: install it to have the report opened in a browser")
    log = folder / "net.json"
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-component-update", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr", f"--user-data-dir={folder}/profile", f"--log-net-log={log}",
            "--virtual-time-budget=10000", "--dump-dom", address,
        ],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    console = [
        line for line in done.stderr.splitlines() if "CONSOLE" in line and "should not be used in production" not in line
    ]
    urls = re.findall(r'"url":"(https?://[^"]+)"', log.read_text(errors="replace"))
    return done.stdout, console, {urlsplit(url).hostname for url in urls}


def open_quietly(page, folder):
    """Document of a page that writes nothing to the console and asks no host that an empty page does not ask too."""
    _, _, own = browse("data:text/html,empty", folder / "empty")
    document, console, hosts = browse(page.as_uri(), folder / "page")
    assert console == []
    assert hosts <= own, hosts - own
    return document


def test_snakemakes_report_is_one_self_contained_file(finished, tmp_path):
    path = finished.results / "report/workflow.html"
    html = path.read_text()
    assert len(html) > 500_000
    for name in ("performance.svg", "fmri-map-asd.svg", "eeg-topography-asd.svg", "metrics.tsv"):
        assert name in html
    document = open_quietly(path, tmp_path)
    for words in ("A tiny simulated study", "Biomarkers", "Performance", "Cohort", "Training"):
        assert words in document


def test_report_opens_in_a_browser_without_errors_or_network(finished, tmp_path):
    document = open_quietly(finished.results / "report.html", tmp_path)
    for words in (
        "SIMULATED DATA",
        "The question",
        "The answer",
        "AUROC [",
        "tiny.yaml",
        "Does each method find what is known",
    ):
        assert words in document
    assert "UNFINISHED" not in document
    stems = {p.stem for p in (finished.results / "figures").glob("*.svg")} - {"controls", "sweep"}
    assert set(re.findall(r'id="figure-([\w-]+)"', document)) == stems
    assert "age in years" in document  # the other tasks have a section of their own
    assert "The controls (permuted and random labels) did not run" in document
    assert "Research use only. Not a medical device" in document  # the model cards
    assert (finished.results / "report.html").stat().st_size < 15e6


def test_a_page_of_what_is_there_can_be_had_at_any_time(finished, tmp_path):
    half = tmp_path / "results/tiny"
    for name in ("cohort", "evaluate", "atlas", "status"):
        shutil.copytree(finished.results / name, half / name)
    command = [sys.executable, str(finished.root / "src/mcsp"), "show", "--unfinished", "config/studies/tiny.yaml"]
    done = subprocess.run(
        [*command, "--results", str(tmp_path / "results")], cwd=finished.root, capture_output=True, text=True, check=True
    )
    assert "unfinished.html" in done.stdout
    assert done.stdout.rstrip().endswith("--configfile config/studies/tiny.yaml --forcerun ingest_shard")
    text = (half / "report/unfinished.html").read_text()
    assert "ASD against controls: not explained" in text
    assert "ASD against controls: not evaluated" not in text


def test_a_second_run_does_nothing(finished):
    assert "Nothing to be done" in finished.snakemake()


@pytest.mark.parametrize(
    ("old", "new", "also"),
    [
        (
            "tasks:\n",
            "tasks:\n  second: {case: [ASD]}\n",
            {"finetune_fold": 2, "task_counts": 1, "rival_task": 4, "evaluate_task": 1, "explain_task": 1},
        ),
        (
            "finetune: {epochs: 3,",
            "finetune: {seeds: [0, 1], epochs: 3,",
            {"finetune_fold": 4, "evaluate_task": 1, "explain_task": 1, "evaluate_other": 1},
        ),
    ],
    ids=["task", "seed"],
)
def test_another_task_or_seed_trains_only_its_own_classifiers(finished, tmp_path, old, new, also):
    text = (finished.root / "config/studies/tiny.yaml").read_text()
    assert old in text
    (tmp_path / "more.yaml").write_text(text.replace(old, new))
    planned = finished.planned(study=str(tmp_path / "more.yaml"))
    assert also.items() <= planned.items()
    assert planned.get("rival_task") == also.get("rival_task")  # seeds are none of the rivals' business
    assert not {"simulate_dataset", "ingest_shard", "fmri_shard", "cohort", "splits", "pretrain_fold"} & set(planned)


def test_every_figure_has_vector_bitmap_source_and_caption(finished):
    stems = {p.stem for p in (finished.results / "figures").glob("*.svg")}
    assert stems == {f"{kind}-asd" if about.per_task else kind for kind, about in KINDS.items()}
    for stem in stems:
        for suffix in (".pdf", ".png", ".tsv", ".json", ".caption.txt"):
            assert (finished.results / f"figures/{stem}{suffix}").stat().st_size > 0


def test_one_figure_is_drawn_again_from_what_is_there(finished):
    """The same bytes as the workflow's, and nothing of the workflow's is touched."""
    command = [sys.executable, "-m", "mcsp", "figure", "retrieval", "chord", "--study", "config/studies/tiny.yaml"]
    done = subprocess.run(command, cwd=finished.root, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": "src"})
    assert done.returncode == 0, done.stderr
    for name in ("retrieval", "chord-asd"):
        for suffix in (".svg", ".pdf", ".png"):
            own, whole = (finished.results / folder / f"{name}{suffix}" for folder in ("figures/tuned", "figures"))
            assert own.read_bytes() == whole.read_bytes()
    assert finished.planned() == {}


def test_a_number_is_predicted_and_held_against_simple_rivals(finished):
    table = read_tsv(finished.results / "other/age/metrics.tsv")
    assert set(table["method"]) == {"mcsp", "knows nothing", "phenotype", "linear FC + band power"}
    assert set(table["n"]) == {32}
    assert (finished.results / "other/age/confusion.tsv").is_file()
    assert not (finished.results / "explain/age").exists()


def test_no_two_simulated_subjects_have_one_recording(finished):
    table = read_tsv(finished.results / "cohort/duplicates.tsv")
    assert set(table["modality"]) <= {"fmri", "eeg"}
    assert (table["state"] == "different").all()


def test_damaged_recordings_are_excluded_with_their_reason(finished):
    exclusions = read_tsv(finished.results / "cohort/exclusions.tsv")
    assert set(exclusions["stage"]) == {"fmri", "eeg"}
    assert exclusions["reason"].str.len().min() > 10
    assert (exclusions["state"] == "excluded").all()
    truncated = exclusions[exclusions["reason"].str.contains("cut off or damaged")].iloc[0]
    cohort = read_table(finished.results / "cohort/subjects.parquet").set_index("uid")
    row = cohort.loc[truncated["uid"]]
    assert not row["has_fmri"]
    assert row["has_eeg"]  # a bad run costs the run, not the subject


def test_stores_hold_the_cohort(finished):
    cohort = read_table(finished.results / "cohort/subjects.parquet")
    for modality, shape in (("fmri", (160, 60)), ("eeg", (40, 19, 200))):
        stores = [Store(p) for p in sorted((finished.results / "store").glob(f"*/{modality}/temporal/*.arrow"))]
        assert {store.shape for store in stores} == {shape}
        assert sorted(u for s in stores for u in s.uids) == sorted(cohort[cohort[f"has_{modality}"]]["uid"])


def test_predictions_cover_every_subject_once_per_method_from_its_test_fold(finished):
    splits = read_tsv(finished.results / "splits/splits.tsv")
    fold_of = splits[splits["part"] == "test"].set_index("uid")["fold"]
    predictions = read_table(finished.results / "evaluate/asd/predictions.parquet")
    assert {"mcsp", "phenotype"} <= set(predictions["method"])
    assert predictions["p"].between(0, 1).all()
    assert (predictions["uid"].map(fold_of) == predictions["fold"]).all()
    assert not predictions.duplicated(["method", "seed", "uid"]).any()


def test_a_new_rival_leaves_the_others_as_they_are(finished):
    planned = finished.planned("evaluate", "--config", "evaluate={rivals: [phenotype, linear, svm, random_forest]}")
    assert planned == {"rival_task": 1, "evaluate_task": 1, "statistics_task": 1, "evaluate": 1}
    planned = finished.planned("evaluate", "--config", "evaluate={n_bootstrap: 50}")
    assert planned == {"evaluate_task": 1, "statistics_task": 1, "evaluate_other": 1, "evaluate": 1}


def test_harmonised_rivals_name_their_sites(finished):
    sites = read_tsv(finished.results / "evaluate/asd/harmonisation.tsv")
    assert set(sites["modality"]) == {"fmri", "eeg"}
    assert set(sites["state"]) <= {"fitted", "too few", "only site", "unseen"}
    methods = set(read_tsv(finished.results / "evaluate/asd/metrics.tsv")["method"])
    assert {"linear FC + band power", "linear FC + band power, ComBat"} <= methods


def test_pretraining_was_inductive_and_says_so(finished):
    for fold in (0, 1):
        record = json.loads((finished.results / f"pretrain/fold-{fold}/config.json").read_text())
        assert "inductive" in json.dumps(record)


def test_status_tells_what_is_done(finished):
    command = [sys.executable, str(finished.root / "src/mcsp"), "status", "config/studies/tiny.yaml"]
    done = subprocess.run(command, cwd=finished.root, capture_output=True, text=True, check=True)
    assert "asd" in done.stdout
    assert "excluded" in done.stdout


def test_every_job_left_a_log_and_a_benchmark(finished):
    logs = {p.relative_to(finished.results / "logs").with_suffix("") for p in finished.results.glob("logs/*/*.log")}
    benchmarks = {
        p.relative_to(finished.results / "benchmarks").with_suffix("") for p in finished.results.glob("benchmarks/*/*.tsv")
    }
    assert logs == benchmarks
    assert len(logs) > 30


def test_a_sweep_ends_in_one_table_and_one_figure(finished):
    """The variants' own stages run, and nothing of the study's."""
    planned = finished.planned("sweep")
    assert not {"pretrain_fold", "finetune_fold", "evaluate_task", "eeg_shard", "splits"} & set(planned)
    assert planned["sweep_pretrain_fold"] == 4  # two variants, two folds
    assert planned["sweep_eeg_shard"] == 2  # of one of them
    finished.snakemake("sweep")
    table = read_tsv(finished.results / "sweep" / "sweep.tsv")
    assert table["variant"].astype(str).tolist() == ["as it is", "none", "100"]
    assert table["auroc"].between(0, 1).all()
    assert table["n"].nunique() == 1
    store = finished.results / "sweep" / "segment-100" / "store" / "duo"
    assert Store(next(store.glob("eeg/temporal/*.arrow"))).shape == (80, 19, 100)
    assert (finished.results / "figures" / "sweep.svg").is_file()
    fused = read_tsv(finished.results / "sweep" / "fusion.tsv")
    assert set(fused["single"]) == {
        "linear FC",
        "linear band power",
        "linear FC, ComBat",
        "linear band power, ComBat",
        "SVM FC",
        "SVM band power",
    }  # no variant of one modality is in this sweep
    assert finished.planned("sweep") == {}


def test_statistics_and_tables_are_there(finished):
    folder = finished.results / "evaluate/asd"
    for name in ("temperatures", "calibration", "reliability", "uncertainty", "selective", "subgroups", "gaps", "pairs"):
        assert len(read_tsv(folder / f"{name}.tsv")), name
    heat = read_tsv(folder / "temperatures.tsv")
    splits = read_tsv(finished.results / "splits/splits.tsv")
    assert heat["n_val"].tolist() == splits[splits["part"] == "val"].groupby("fold").size().tolist()
    comparisons = read_tsv(folder / "comparisons.tsv")
    assert {"delong", "permutation", "nadeau-bengio"} <= set(comparisons["test"])
    for name in ("performance", "comparisons", "cohort", "subgroups", "calibration"):
        text = (finished.results / f"tables/{name}.tex").read_text()
        assert "SIMULATED DATA" in text
        assert text.count("bottomrule") == 1


def test_controls_end_in_the_report(finished):
    """Fine-tuning and rivals run again, on labels that say nothing; the study's own encoders are used."""
    planned = finished.planned("controls")
    assert planned["control_finetune_fold"] == 2 * 2 * 2  # two controls, two draws, two folds
    assert planned["control_predict"] == 4
    assert not {"pretrain_fold", "finetune_fold", "evaluate_task", "splits"} & set(planned)
    finished.snakemake("controls")
    table = read_tsv(finished.results / "controls/controls.tsv")
    assert set(table["control"]) == {"permuted labels", "random label"}
    assert {"mcsp", "phenotype"} <= set(table["method"])
    assert (table["n_runs"] == 4).all()
    assert (finished.results / "figures/controls.svg").is_file()
    again = finished.planned()
    assert set(again) == {"all", "page", "report", "tables"}  # these show the sweep too, which ran before
    finished.snakemake("page")
    page = (finished.results / "report.html").read_text()
    assert "did not run" not in page
    assert "must land at an AUROC of 0.5" in page
    assert "figure-controls" in page
    assert "One thing at a time was changed" in page
    assert "figure-sweep" in page
    assert (finished.results / "tables/ablations.tex").is_file()


def test_model_cards_say_what_the_data_was(finished):
    card = (finished.results / "finetune/asd/model_card.md").read_text()
    splits = json.loads((finished.results / "splits/splits.json").read_text())["Splits"]
    for words in (
        "SIMULATED data (duo, mri)",
        splits["sha256"],
        "not for diagnosis",
        "simulated data: no restriction",
        "auroc",
    ):
        assert words in card
    assert "Model card" in (finished.results / "pretrain/model_card.md").read_text()
    assert "nan" not in card


def test_series_alone_are_answered_as_the_stores_are(finished):
    from mcsp import MCSP
    from mcsp.training.data import Subjects

    model = MCSP.from_pretrained(finished.results / "pretrain/fold-0")
    cohort = read_table(finished.results / "cohort/subjects.parquet")
    cohort = cohort[cohort["has_fmri"] & cohort["has_eeg"]].reset_index(drop=True)
    subjects = Subjects(finished.results / "store", cohort, list(cohort["uid"])[:4], model.keys)
    batch = subjects.collate(range(4))
    stored = model.embed(batch)
    gaps = {
        uid
        for store in map(Store, finished.results.glob("store/*/fmri/temporal/*.arrow"))
        for i, uid in enumerate(store.uids)
        if store.frames(i) is not None
    }
    assert gaps & set(subjects.uids[:4])
    fmri = {
        domain: batch.x["fmri", domain] for domain in ("temporal", "spectral")
    }  # series don't tell where frames were left out
    alone = model.embed(fmri=fmri, eeg=batch.x["eeg", "temporal"].numpy(), n_valid=batch.n_valid["fmri"])
    for key, values in stored.items():
        assert (alone[key] - values).abs().max() < 1e-4, key


NEW = """
study: new
datasets:
  again: {kind: bids, path: results/tiny/bids/duo, n_shards: 1}
  fresh:
    kind: simulate
    n_shards: 1
    n_subjects: 4
    modalities: [fmri, eeg]
    groups: {control: 0.5, ASD: 0.5}
    fmri_duration: 140
    voxel_size: 10
    sites: [{name: Z, t_r: 1.0, sfreq: 500}]
simulate: {seed: 7}
predict: {model: results/tiny/finetune/asd}
"""


def test_a_trained_model_is_applied_to_new_data(finished, tmp_path):
    """Unlabelled data through the same stages; the training study's own recordings are recognised under another name."""
    (tmp_path / "new.yaml").write_text(NEW)
    finished.snakemake(study=str(tmp_path / "new.yaml"))
    out = finished.root / "results/new"
    found = read_tsv(out / "predict/predictions.tsv").set_index("dataset")
    assert found["p"].between(0, 1).all()
    again, fresh = found.loc["again"], found.loc["fresh"]
    assert (again["n_seen"] >= 1).all()
    assert (fresh["n_seen"] == 0).all()
    assert again["warnings"].str.contains("in the training data of").all()
    assert fresh["warnings"].str.contains("repetition time 1 s, in training 2 to 2.5 s").all()
    assert fresh["warnings"].str.contains("sampling rate 500 Hz").all()
    assert (found["n_models"] == 2).all()
    embeddings = read_table(out / "predict/embeddings.parquet")
    assert set(embeddings["model"]) == {"fold-0_seed-0", "fold-1_seed-0"}
    assert Store(next(out.glob("store/again/fmri/temporal/*.arrow"))).shape == (160, 60)  # the model's options
    assert not (out / "pretrain").exists()
    assert "Nothing to be done" in finished.snakemake(study=str(tmp_path / "new.yaml"))

    (tmp_path / "other.yaml").write_text(NEW + "fmri: {n_frames: 50}\n")
    text = finished.snakemake("-n", study=str(tmp_path / "other.yaml"), check=False)
    assert "other.yaml: fmri.n_frames = 50, but the model was trained with 60: leave it out" in text

    command = [sys.executable, "src/mcsp", "predict", "results/new/bids/fresh", "--model", "results/tiny/finetune/asd"]
    done = subprocess.run(command, cwd=finished.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(
        "predictions: results/fresh-asd/predict/predictions.tsv\nembeddings: results/fresh-asd/predict/embeddings.parquet\n"
    )
    alone = read_tsv(finished.root / "results/fresh-asd/predict/predictions.tsv").set_index("uid")
    np.testing.assert_allclose(alone["p"], fresh.set_index("uid")["p"].loc[alone.index], rtol=1e-6)
    assert alone["warnings"].str.contains("repetition time 1 s").all()
