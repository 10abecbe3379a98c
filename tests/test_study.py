"""The study file: wrong input is one line that names the field, the file and the remedy."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from mcsp.errors import McspError
from mcsp.study import check_paths, default_config, json_schema, load_study, parse_study, read_yaml
from mcsp.workflow import Plan, overlay

PROJECT = Path(__file__).resolve().parents[1]
GOOD = {
    "study": "x",
    "datasets": {"a": {"kind": "simulate", "n_subjects": 4, "modalities": ["fmri"], "sites": [{"name": "s"}]}},
    "tasks": {"asd": {"case": ["ASD"]}},
}


def problems(change):
    with pytest.raises(McspError) as caught:
        parse_study(overlay(GOOD, change), "x.yaml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"pretrain": {"los": {}}}, "x.yaml: pretrain.los is not an option: did you mean loss?"),
        ({"pretrian": {}}, "x.yaml: pretrian is not an option: did you mean pretrain?"),
        ({"datasets": {"a": {"n_subject": 3}}}, "x.yaml: datasets.a.n_subject is not an option: did you mean n_subjects?"),
        (
            {"pretrain": {"loss": {"temperature": -0.2}}},
            "pretrain.loss.temperature = -0.2 is not allowed: input should be greater than 0",
        ),
        ({"pretrain": {"epochs": "many"}}, 'x.yaml: pretrain.epochs = "many" is not allowed: input should be a valid integer'),
        ({"fmri": {"high_pass": 0.2}}, "high_pass (0.2 Hz) must be below low_pass (0.1 Hz)"),
        ({"eeg": {"high_pass": 30, "low_pass": 10}}, "high_pass (30.0 Hz) must be below low_pass (10.0 Hz)"),
        ({"eeg": {"ch_names": ["Fz", "Cz", "Pz", "Oz", "Cz"]}}, "eeg is not allowed: ch_names: Cz stands twice"),
        ({"eeg": {"high_pass": 45}}, "high_pass (45.0 Hz) must be below low_pass (45.0 Hz)"),
        ({"fmri": {"t_r": 6.0}}, "above the Nyquist frequency of t_r"),
        (
            {"atlas": {"name": "dosenbach169"}},
            "atlas is not allowed: name = dosenbach169 is not known: did you mean dosenbach160?",
        ),
        ({"atlas": {"name": "schaefer250"}}, "name = schaefer250 is not known: did you mean schaefer"),
        (
            {"atlas": {"name": "mine"}},
            "name = mine is not known: dosenbach160, schaefer100, schaefer200, schaefer300, schaefer400",
        ),
        ({"atlas": {"image": "x.nii.gz"}}, "image = x.nii.gz needs table: a TSV with columns index and name"),
        ({"atlas": {"kind": "series"}}, "kind = series needs table"),
        ({"atlas": {"table": "x.tsv"}}, "kind = volume: 'volume' needs image beside table"),
        ({"tasks": {"asd": {"case": ["AUTISM"]}}}, "no dataset gives the label(s) AUTISM (known: ADHD, ASD, MDD, control)"),
        ({"tasks": {"asd": {"control": ["ASD"]}}}, "ASD stands on both sides"),
        (
            {"evaluate": {"rivals": ["phenotype", "svmm"]}},
            'x.yaml: evaluate.rivals.1 = "svmm" is not allowed: did you mean svm? There are phenotype, linear, svm, tangent',
        ),
        ({"fmri": {"confounds": "24motion"}}, 'fmri.confounds = "24motion" is not allowed: did you mean 24motion+wmcsf? There'),
        ({"preprocess": "x"}, "preprocess = \"x\" is not allowed: input should be 'none', 'embedded' or 'fmriprep'"),
        ({"tasks": {"asd": {"case": "ASD"}}}, 'x.yaml: tasks.asd.case = "ASD" is not allowed: write a list: [ASD]'),
        ({"tasks": {"asd": {"case": [1]}}}, 'x.yaml: tasks.asd.case.0 = 1 is not allowed: write it in quotes: "1"'),
        ({"study": "a b"}, "use letters, digits and '-'"),
        ({"datasets": {"a;rm": GOOD["datasets"]["a"]}}, "use letters, digits and '-' in names"),
        (
            {"splits": {"n_folds": 1}},
            "splits.n_folds = 1 is not allowed: input should be greater than or equal to 2",
        ),
        ({"eeg": {"low_pass": float("inf")}}, "eeg.low_pass"),
    ],
)
def test_one_line_names_field_file_and_remedy(change, line):
    (found,) = problems(change)
    assert line in found
    assert found.startswith("x.yaml: ")


@pytest.mark.parametrize(
    ("space", "atlas", "line"),
    [
        ("fsLR", {}, "datasets.lab.space = fsLR needs atlas.image: a .dlabel.nii of the same grayordinates"),
        ("MNI152NLin2009cAsym", {"image": "a.dlabel.nii"}, "atlas.image = a.dlabel.nii needs a dataset with space: fsLR"),
    ],
)
def test_the_atlas_lies_where_the_recordings_lie(space, atlas, line):
    lab = {"kind": "bids", "path": "/lab", "space": space, "phenotype": {"labels": {"group": {"1": ["ASD"], "0": ["control"]}}}}
    study = {"study": "x", "datasets": {"lab": lab}, "tasks": {"asd": {"case": ["ASD"]}}}
    with pytest.raises(McspError, match=line):
        parse_study({**study, "atlas": atlas})
    with pytest.raises(McspError, match="simulated BOLD is a volume"):
        parse_study({**GOOD, "atlas": {"image": "a.dlabel.nii"}})
    both = parse_study({**study, "datasets": {"lab": {**lab, "space": "fsLR"}}, "atlas": {"image": "a.dlabel.nii"}})
    assert Plan(both).atlas["image"].name == "atlas.dlabel.nii"
    assert Plan(parse_study(GOOD)).atlas["image"].name == "atlas.nii.gz"


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        ("{1: [ASD]}", 'diagnosis.1 is not allowed as a name: write it in quotes: "1"'),
        ("{2020-01-31: [ASD]}", 'diagnosis."2020-01-31" is not allowed as a name: write it in quotes: "2020-01-31"'),
        (
            "{yes: [ASD]}",
            "diagnosis.true is not allowed as a name: YAML reads yes, no, on and off as true and false: write it in q",
        ),
        ("{ADHD: ASD}", 'diagnosis.ADHD = "ASD" is not allowed: write a list: [ASD]'),
    ],
)
def test_values_that_yaml_takes_for_something_else(labels, line):
    text = f"{{study: x, datasets: {{a: {{kind: bids, path: /a, phenotype: {{labels: {{diagnosis: {labels}}}}}}}}}}}"
    with pytest.raises(McspError) as caught:
        parse_study({**GOOD, **yaml.safe_load(text)}, "x.yaml")
    assert str(caught.value).startswith(f"x.yaml: datasets.a.phenotype.labels.{line}")


def test_all_problems_at_once():
    lines = problems({"pretrain": {"epochs": -1}, "eeg": {"sfrek": 1}})
    assert len(lines) == 2


def test_missing_field():
    with pytest.raises(McspError, match=r"x\.yaml: tasks is missing: give it a value"):
        parse_study({k: v for k, v in GOOD.items() if k != "tasks"}, "x.yaml")


def test_a_path_that_is_not_there(tmp_path):
    study = parse_study(
        {
            **GOOD,
            "datasets": {
                "b": {
                    "kind": "bids",
                    "path": str(tmp_path / "no"),
                    "phenotype": {"labels": {"dx": {"1": ["ASD"], "0": ["control"]}}},
                }
            },
        }
    )
    with pytest.raises(McspError, match=r"x\.yaml: datasets\.b\.path = .*no such file or directory: mend the path"):
        check_paths(study, "x.yaml")


@pytest.mark.parametrize(("text", "message"), [("a: [1", "not YAML"), ("- 1", "a study file is a mapping")])
def test_a_file_that_is_no_study(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(McspError, match=message):
        read_yaml(tmp_path / "x.yaml")


def test_defaults_and_schema_agree_with_the_models():
    assert (PROJECT / "config/config.yaml").read_text() == default_config(), "run `make schema`"
    assert json.loads((PROJECT / "config/study.schema.json").read_text()) == json_schema(), "run `make schema`"


@pytest.mark.parametrize("path", sorted((PROJECT / "config/studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_study_files_are_valid_and_fit_the_schema(path):
    values = overlay(read_yaml(PROJECT / "config/config.yaml"), read_yaml(path))
    parse_study(values, path.name)
    jsonschema.validate(values, json_schema())


def test_defaults_alone_change_nothing():
    assert parse_study(overlay(yaml.safe_load(default_config()), GOOD)) == parse_study(GOOD)


def test_demo_loads_from_its_file():
    assert load_study(PROJECT / "config/studies/demo.yaml").study == "demo"
