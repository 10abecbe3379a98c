"""`mcsp predict` and `mcsp embed`: one command from a BIDS dataset and a model to what the model makes of it."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from mcsp.errors import McspError
from mcsp.options.simulate import Defects
from mcsp.predict import bids
from mcsp.predict.bids import run, study_name, summary
from mcsp.predict.stage import COLUMNS
from mcsp.store import write_tsv
from tests.simulate.test_simulated_datasets import SMALL
from tests.simulate.tiny_study import simulate


@pytest.fixture(scope="module")
def dataset(atlas_table, tmp_path_factory):
    """A BIDS dataset without a word about its people."""
    two = SMALL.model_copy(update={"n_subjects": 2, "defects": Defects()})
    root = simulate(tmp_path_factory.mktemp("lab"), atlas_table, dataset=two).root
    for path in root.glob("participants.*"):
        path.unlink()
    return root


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Commands that would be run, in an empty working directory, and what they end with."""
    commands = []

    class Done:
        returncode = 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bids.subprocess, "run", lambda command, **_: commands.append(command) or Done)
    return commands, Done


def ask(dataset, model, **more):
    return run(**{"bids_dir": dataset, "model": model, "out": None, "cores": 3, "further": [], "answers": True} | more)


def test_the_study_file_asks_for_nothing_but_the_model(trained, dataset, asked):
    commands, _ = asked
    name = f"{dataset.name}-asd"
    assert str(ask(dataset, trained.classifiers)) == f"results/{name}/predict"
    text = (Path("config/studies") / f"{name}.yaml").read_text()
    values = yaml.safe_load(text)
    assert "FILL IN" not in text
    assert values["study"] == name
    assert values["predict"] == {"model": str(trained.classifiers)}
    assert values["datasets"][dataset.name]["path"] == str(dataset)
    assert "tasks" not in values
    (command,) = commands
    assert command[1:4] == ["-m", "snakemake", "predict"]
    assert command[command.index("--cores") + 1] == "3"
    assert command[-1] == f"config/studies/{name}.yaml"


def test_a_profile_says_where_jobs_run(trained, dataset, asked):
    ask(dataset, trained.classifiers, further=["--profile", "slurm"])
    (command,) = asked[0]
    assert "--cores" not in command
    assert command[command.index("--profile") + 1] == "slurm"


def test_a_study_file_that_was_mended_is_kept_and_another_is_not_overwritten(trained, dataset, asked, tmp_path):
    out = tmp_path / "mine.yaml"
    assert str(ask(dataset, trained.classifiers, out=out)) == "results/mine/predict"  # two datasets may have one name
    more = (
        f"fmri: {{max_mean_fd: 0.9}}\ndatasets: {{a: {{kind: bids, path: {dataset}}}, b: {{kind: bids, path: {tmp_path}}}}}\n"
    )
    out.write_text(f"study: mine\npredict: {{model: {trained.classifiers}/../asd}}\n{more}")
    ask(dataset, trained.classifiers, out=out)
    assert "max_mean_fd: 0.9" in out.read_text()
    with pytest.raises(McspError, match=r"mine\.yaml: is there already, for another model or other data: .* --out"):
        ask(dataset, trained.pretrained, out=out, answers=False)
    with pytest.raises(McspError, match=r"mine\.yaml: is there already, for another model or other data"):
        ask(Path(__file__).parent, trained.classifiers, out=out)
    out.write_text(out.read_text() + "eeg: {sfreq: 10}\n")
    with pytest.raises(McspError, match=r"mine\.yaml: eeg\.sfreq = 10, but the model was trained with 50\.0: leave it out"):
        ask(dataset, trained.classifiers, out=out)
    assert len(asked[0]) == 2


def test_encoders_answer_nothing_and_embed(trained, dataset, asked):
    with pytest.raises(McspError, match="encoders, which answer nothing: use `mcsp embed`"):
        ask(dataset, trained.pretrained)
    assert str(ask(dataset, trained.pretrained, answers=False)) == f"results/{dataset.name}-pretrain-fold-0/predict"
    ask(dataset, trained.classifiers, answers=False)
    assert len(asked[0]) == 2


def test_what_is_not_there_is_one_line_and_nothing_is_written(trained, dataset, asked, tmp_path):
    with pytest.raises(McspError, match="no model there"):
        ask(dataset, tmp_path)
    with pytest.raises(McspError, match=r"no directory sub-\* is there: give .*"):
        ask(dataset.parent, trained.classifiers)
    assert not (tmp_path / "config").exists()
    asked[1].returncode = 1
    with pytest.raises(McspError, match=r"the run stopped, see above: .* `mcsp status config/studies/.*-asd\.yaml`"):
        ask(dataset, trained.classifiers)


def test_names_tell_folds_and_tasks_apart(trained, tmp_path):
    names = {study_name(tmp_path / "my lab", model) for model in (trained.classifiers, trained.pretrained)}
    assert names == {"my-lab-asd", "my-lab-pretrain-fold-0"}


def test_the_end_tells_warnings_and_places(tmp_path):
    rows = pd.DataFrame({"uid": ["a/1", "a/2", "a/3"], "warnings": ["far", "far", None]}).reindex(columns=list(COLUMNS))
    write_tsv(rows, tmp_path / "predictions.tsv", COLUMNS)
    lines = summary(tmp_path, answers=True).splitlines()
    assert lines[:2] == ["3 subjects", "  warning (2 subjects): far"]
    assert lines[2:] == [f"predictions: {tmp_path}/predictions.tsv", f"embeddings: {tmp_path}/embeddings.parquet"]
    assert "predictions:" not in summary(tmp_path, answers=False)
    assert summary(tmp_path / "elsewhere", answers=True) == "nothing was written yet"


def test_the_workflow_plans_it(trained, dataset, tmp_path, monkeypatch, capfd):
    """A dry run of the real thing, elsewhere than in the checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    ask(dataset, trained.classifiers, further=["-n"])
    printed = capfd.readouterr().out
    assert "Applying" in printed
    assert "pretrain_fold" not in printed
