"""The report: what its first page says of good, failed and missing results, its blocks, and its words on methods."""

import gzip
import re
import shlex
from base64 import b64decode
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from mcsp.figures.catalogue import ALL
from mcsp.figures.people import short_reason, sites
from mcsp.options.results import EEG_NETWORKS, ExplainOptions
from mcsp.report import blocks, citations, page, provenance
from mcsp.report.answer import answer, caveats, conclusion, missing
from mcsp.report.blocks import Section
from mcsp.report.methods import methods_text
from mcsp.report.results import Results
from mcsp.report.sections import by_site, controls, controls_text, origin, reasons, sweep_text
from mcsp.study import parse_study, read_yaml
from mcsp.workflow import study_of
from tests.report import made_up

METRICS = pd.DataFrame(
    {
        "method": ["mcsp", "linear FC", "phenotype"],
        "metric": "auroc",
        "value": [0.7, 0.9, 0.6],
        "low": 0.5,
        "high": 0.95,
        "n": 50,
        "n_case": 20,
    }
)


def comparisons(phenotype, linear):
    table = {"method": "mcsp", "rival": ["phenotype", "linear FC"], "metric": "auroc", "verdict": [phenotype, linear]}
    return pd.concat([pd.DataFrame({**table, "test": test}) for test in ("delong", "nadeau-bengio")])


@pytest.mark.parametrize(
    ("phenotype", "linear", "good", "words", "told_of_all"),
    [
        ("better", "better", True, ("Beats age, sex", "Better than the simple rival (linear FC: 0.90)"), "The model beats"),
        ("not told apart", "worse", False, ("Fails: does not beat", "Worse than the simple rival"), "The model does not beat"),
        ("worse", "not told apart", False, ("Fails: worse than age", "Not told apart from the simple"), "it does not beat a"),
    ],
)
def test_an_answer_says_how_it_stands(phenotype, linear, good, words, told_of_all):
    told = answer("asd", "ASD", METRICS, comparisons(phenotype, linear))
    assert told.good is good
    assert words[0] in told.against
    assert words[1] in told.rival
    assert (told.value, told.n, told.n_case) == (0.7, 50, 20)
    assert "in 70 of 100 pairs (95% interval: 50 to 95; guessing: 50)" in told.words[0]
    assert told_of_all in conclusion([told])
    assert [s.ours for s in told.strips] == [True, False, False]


def test_sensitivity_is_told_in_people():
    more = METRICS.iloc[[0, 0]].assign(metric=["sensitivity", "specificity"], value=[0.6, 0.8])
    told = answer("asd", "ASD", pd.concat([METRICS, more]), comparisons("better", "better"))
    assert "recognises 60 of 100 cases (50 to 95) and rightly clears 80 of 100 controls" in told.words[1]


def test_a_conclusion_counts_what_there_is():
    good = answer("a", "A", METRICS, comparisons("better", "worse"))
    bad = answer("b", "B", METRICS, comparisons("worse", "worse"))
    text = conclusion([good, bad, missing("c", "C")])
    assert text.startswith("In 1 of the 2 questions the model beats")
    assert "in none of the 2 questions it beats a simple linear model" in text
    assert text.endswith("Without a result: 1 of 3 questions.")
    assert conclusion([missing("c", "C")]) == "There is no result yet."


def test_caveats_follow_the_results():
    rest = {"datasets": {"a": {"kind": "roi"}}, "evaluate": {"confidence": 0.95}, "pretrain": {"scope": "inductive"}}
    study = {"splits": {"protocol": "kfold"}, **rest}
    good = answer("a", "A", METRICS, comparisons("better", "worse"))
    bad = answer("b", "B", METRICS, comparisons("worse", "worse"))
    untold = pd.DataFrame({"verdict": ["unproven"]})
    unproven = caveats(study, untold, [good])
    assert any("maps are unproven" in line for line in unproven)
    assert not any("failure" in line for line in unproven)
    assert any("intervals are wide" in line for line in unproven)
    judged = pd.DataFrame({"verdict": ["pass", "fail", "fail", "unproven"]})
    failed = caveats({"splits": {"protocol": "leave-one-site-out"}, **rest}, judged, [bad])
    assert any("1 of 3 checks" in line for line in failed)
    assert any("taken as a failure" in line for line in failed)
    assert not any("same sites" in line for line in failed)
    assert not any("look for a leak" in line for line in unproven)
    high = answer("c", "C", METRICS.assign(value=[0.84, 0.8, 0.6]), comparisons("better", "better"))
    (leak,) = (line for line in caveats(study, untold, [good, high]) if "C: 0.84" in line)
    assert "is rare where whole people are left out and nothing leaks: look for a leak" in leak
    simulated = {**study, "datasets": {"a": {"kind": "simulate"}}}
    assert not any("look for a leak" in line for line in caveats(simulated, untold, [high]))
    none = caveats(study, judged.assign(verdict="fail"), [good])
    assert any("there are no biomarkers to report" in line for line in none)
    seen = caveats({**study, "pretrain": {"scope": "transductive"}}, judged, [good])
    assert "Pre-training saw the test subjects' recordings" in seen[0]
    assert "No subject was predicted by a model that had seen it" in failed[0]


def test_methods_follow_the_study():
    phenotype = {"labels": {"dx": {"1": ["ASD"], "0": ["control"]}}}
    study = parse_study(
        {
            "study": "x",
            "datasets": {"a": {"kind": "bids", "path": "/nowhere", "phenotype": phenotype}},
            "tasks": {"asd": {"case": ["ASD"]}},
            "eeg": {"n_segments": 77},
            "pretrain": {"scope": "transductive", "epochs": 13},
        }
    ).model_dump(mode="json")
    both, mri = (pd.DataFrame({"has_fmri": [True], "has_eeg": [eeg]}) for eeg in (True, False))
    text = methods_text(study, both)
    for words in (
        "cut into 77 segments of 0.8 s", "for 13 epochs per fold (transductive", "24motion+wmcsf", "0.01-0.1 Hz",
        "the recordings of the test subjects", "above 0.5 mm were left out", "1 with fMRI and EEG",
    ):  # fmt: skip
        assert words in text
    text = methods_text(study, mri)
    assert "EEG was filtered" not in text
    assert "ComBat" not in text
    assert "raw only" not in text
    study["evaluate"]["harmonise"] = "combat"
    assert "harmonised over sites by ComBat" in methods_text(study, mri)
    study["fmri"] |= {"confounds": "none", "high_pass": None, "runs": "join"}
    study["pretrain"]["epochs"] = 0
    text = methods_text(study, mri)
    assert "low-pass filtered at 0.1 Hz" in text
    assert "usable runs of one task were joined" in text
    assert "was not pre-trained" in text
    for words in ("displacement above", "confounds of strategy", "None", "none confound"):
        assert words not in text
    study["datasets"]["a"]["kind"] = "roi"
    assert "Ready regional BOLD series" in methods_text(study, mri)


@pytest.mark.parametrize("method", get_args(get_args(ExplainOptions.model_fields["methods"].annotation)[0]))
def test_every_attribution_method_is_named_and_cited(method):
    both = pd.DataFrame({"has_fmri": [True], "has_eeg": [True]})
    alone, rest = made_up.study(explain={"methods": [method]}), made_up.study(explain={"methods": ["smoothgrad", method]})
    text = methods_text(alone, both)
    named = re.search(r"per fold by (.+?);", text)[1]
    assert named in methods_text(rest, both)
    assert named.lower().replace(" ", "_").startswith(method)
    assert citations.METHODS[method] in citations.bibtex(alone, {"fmri"})


def test_the_notch_is_where_the_methods_say():
    """Within 10 Hz above the band's edge, as `filter_raw` has it: 50 Hz at the default 45 Hz, and not 60 Hz."""
    import mne

    from mcsp.eeg.segments import filter_raw
    from mcsp.options.eeg import EegOptions

    t = np.arange(10_000) / 500
    for line, removed in ((50, True), (60, False)):
        raw = mne.io.RawArray(np.sin(2 * np.pi * line * t)[None] * 1e-5, mne.create_info(["Cz"], 500, "eeg"), verbose="error")
        called = []
        raw.notch_filter = lambda freq, called=called, **_: called.append(freq)
        filter_raw(raw, EegOptions(), line)
        assert bool(called) is removed


def test_controls_are_told_with_numbers_and_failures_come_first():
    assert "did not run" in controls_text(None)
    first = ("permuted labels", "asd", "mcsp", 0.51, 0.4, 0.6, "passed")
    rows = [first, ("random label", "x", "few", 0.6, 0.1, 0.9, "too few")]
    table = pd.DataFrame(rows, columns=["control", "task", "method", "auroc", "low", "high", "verdict"])
    assert controls_text(table).startswith("Methods that learn")
    assert "1 of 1 controls passed" in controls_text(table)
    leak = table.assign(auroc=0.93, low=0.9, high=0.96, verdict=["FAILED: above chance", "too few"])
    assert controls_text(leak).startswith("FAILED")
    assert "permuted labels, asd, mcsp: 0.93 [0.90, 0.96]" in controls_text(leak)


def test_controls_of_too_few_draws_say_so_and_are_not_green(tmp_path):
    row = ("permuted labels", "asd", "mcsp", 0.6, 0.1, 0.9, "too few")
    table = pd.DataFrame([row], columns=["control", "task", "method", "auroc", "low", "high", "verdict"])
    assert "too few draws" in controls_text(table)
    assert "nan" not in controls_text(table)
    (tmp_path / "controls").mkdir()
    for verdict, tone in (("too few", "note"), ("passed", "good"), ("FAILED: above chance", "warn")):
        made_up.made_up.tsv(table.assign(verdict=verdict), tmp_path / "controls/controls.tsv")
        assert controls(Results(made_up.study(), tmp_path, []))[0].tone == tone


def test_variants_are_told_where_a_test_says_so():
    rows = [
        ("loss", "without CM", "asd", -0.1, 0.01),
        ("loss", "without CD", "asd", -0.2, 0.2),
        ("whole", "as it is", "asd", 0, None),
    ]
    table = pd.DataFrame(rows, columns=["kind", "variant", "task", "difference", "p_holm"])
    text = sweep_text(table)
    assert "Of 2 comparisons" in text
    assert "loss: without CM (asd, -0.10). Nothing was chosen" in text
    assert "none, so no part of the model is shown to matter" in sweep_text(table.assign(p_holm=[0.5, 0.5, None]))


def test_an_interval_stands_behind_its_value_with_two_digits_of_its_width():
    rows = pd.DataFrame(
        {"metric": ["auroc", "brier"], "value": [0.7123, 0.21234], "low": [0.61, 0.2101], "high": [0.81, 0.2151]}
    )
    made = blocks.table("t", rows.assign(empty=np.nan), {"value": "what"})
    assert made.columns == [("metric", ""), ("value", "what [in brackets: its interval]")]
    assert [[c.text for c in row] for row in made.rows] == [
        ["AUROC", "0.71 [0.61, 0.81]"],
        ["brier", "0.2123 [0.2101, 0.2151]"],
    ]
    assert made.rows[0][1].value == 0.7123
    both = pd.DataFrame({"a": [1.0], "a_low": [0.5], "a_high": [1.5], "p_holm": [0.0002]})
    assert [c.text for c in blocks.table("t", both).rows[0]] == ["1.0 [0.5, 1.5]", "<0.001"]
    missing_end = pd.DataFrame({"value": [0.5, np.nan], "low": [np.nan, np.nan], "high": [0.6, np.nan]})
    assert [row[0].text for row in blocks.table("t", missing_end).rows] == ["0.500", ""]


def test_numbers_have_three_digits_that_say_something():
    shown = {999.7: "1000", 999.4: "999", 1234.5: "1234", 12.345: "12.3", 0.12345: "0.123", 0.00012: "1e-04", 0: "0"}
    assert {value: blocks.number(value) for value in shown} == shown


def test_source_data_can_be_saved_whole(tmp_path):
    path = tmp_path / "a" / "b.tsv"
    path.parent.mkdir()
    path.write_text("x\n1\n")
    saved = blocks.download(path)
    assert b64decode(saved.href.split(",")[1]) == path.read_bytes()
    path.write_text("x\n" + "1\n" * 50_000)
    saved = blocks.download(path)
    assert saved.name == "b.tsv.gz"
    assert gzip.decompress(b64decode(saved.href.split(",")[1])) == path.read_bytes()
    path.write_bytes(np.random.default_rng(0).bytes(blocks.EMBED_MOST + 1000))
    saved = blocks.download(path)
    assert saved.href == ""
    assert saved.place.endswith("a/b.tsv")


def test_every_kind_of_figure_is_on_the_page_once(tmp_path):
    names = [f"{name}-asd" if kind.per_task else name for name, kind in ALL.items()]
    r = made_up.results(tmp_path, figures=names)
    (tmp_path / "sweep").mkdir()
    rows = pd.DataFrame(
        [("loss", "without CM", "asd", -0.1, 0.01)], columns=["kind", "variant", "task", "difference", "p_holm"]
    )
    made_up.made_up.tsv(rows, tmp_path / "sweep/sweep.tsv")
    text = html(r)
    for name in names:
        assert text.count(f'<figure id="figure-{name}">') == 1, name


def test_a_figure_of_a_task_is_not_that_of_a_task_with_a_longer_name(tmp_path):
    r = made_up.results(tmp_path, made_up.study(tasks=("asd", "asd-2")), figures=("curves-asd", "curves-asd-2"))
    assert [[f.name for f in r.figures("performance", task)] for task in ("asd", "asd-2", None)] == [
        ["curves-asd"],
        ["curves-asd-2"],
        [],
    ]


def test_references_are_whole_and_chosen_by_what_was_done():
    known = citations.references()
    for key, entry in known.items():
        assert entry.count("{") == entry.count("}"), key
        assert re.search(r"title = \{.+\},\n", entry), key
        assert re.search(r"year = \{\d{4}\}", entry), key
    study = made_up.study()
    fmri, eeg = (citations.bibtex(study, {m}) for m in ("fmri", "eeg"))
    assert "abraham2014nilearn" in fmri
    assert "gramfort2013mne" not in fmri
    assert "gramfort2013mne" in eeg
    assert "combat" not in fmri
    study["evaluate"]["rivals"] = ["phenotype", "tangent"]
    assert "varoquaux2010tangent" in citations.bibtex(study, {"fmri"})
    assert "varoquaux2010tangent" not in citations.bibtex(study, {"eeg"})
    study["datasets"]["d-1"]["cite"] = ["dimartino2014abide", "@misc{own,\n  title = {Ours}\n}"]
    text = citations.bibtex(study, {"fmri"})
    assert "Molecular Psychiatry" in text
    assert text.endswith("title = {Ours}\n}")
    study["evaluate"]["rivals"] = "all"
    of_networks = {citations.RIVALS[name] for name in EEG_NETWORKS if name in citations.RIVALS}
    assert of_networks.isdisjoint(citations.keys(study, {"fmri"}))
    study["preprocess"] = "embedded"
    told = citations.keys(study, {"eeg"})
    assert of_networks < set(told)
    assert {"avants2011ants", "varoquaux2010tangent"}.isdisjoint(told)
    told = citations.keys(study, {"fmri", "eeg"})
    assert {"avants2011ants", "varoquaux2010tangent"} | of_networks <= set(told)
    assert len(told) == len(set(told))
    study["datasets"]["d-1"]["cite"] = ["nobody1999"]
    assert citations.bibtex(study, {"fmri"}).endswith("% no entry is known for nobody1999")


def test_every_package_has_a_version_a_licence_and_an_entry_to_copy():
    study = made_up.study() | {"preprocess": "embedded"}
    both = citations.packages(study, {"fmri", "eeg"})
    assert set(citations.packages(study, {"eeg"})) - set(citations.packages(study, {"fmri"})) == {"mne", "mne-bids"}
    table = provenance.versions(both).set_index("software")
    assert set(both) <= set(table.index)
    there = table[table["version"] != "in another environment"]
    assert len(there) > 10
    assert not there["licence"].isin(["", "not stated", "OSI Approved"]).any()
    assert table.loc["numpy", "licence"].startswith("BSD-3-Clause")
    text = citations.bibtex(study, {"fmri", "eeg"})
    assert all(f"{{{key}," in text for key in table["cite"].dropna())


def test_hashes_do_not_depend_on_where_the_data_lie(tmp_path):
    here, there = made_up.study(kind="bids"), made_up.study(kind="bids")
    there["datasets"]["d-1"]["path"] = "/elsewhere"
    there["source"] = "other.yaml"
    first = provenance.hashes(here, tmp_path)
    pd.testing.assert_frame_equal(first, provenance.hashes(there, tmp_path))
    there["splits"]["seed"] = 5
    assert not first.equals(provenance.hashes(there, tmp_path))


def test_the_command_names_the_study_file_where_it_is(tmp_path, monkeypatch):
    """Snakemake makes the paths of the command line absolute, and adds that of the defaults."""
    studies = Path(citations.__file__).resolve().parents[3] / "config/studies"
    monkeypatch.chdir(studies.parent.parent)
    r = made_up.results(tmp_path)

    def command(config, files):
        _, source = study_of(config, studies / "demo.yaml", files)
        told = Results({**r.study, "source": source}, r.root, r.stems)
        where = next(block for block in origin(told) if getattr(block, "title", "") == "Where this comes from")
        return next(value.text for what, value in where.rows if what.text == "command")

    file, defaults = studies / "validation.yaml", "config/config.yaml"
    study = read_yaml(file)
    for files in ([file, defaults], [defaults, "config/studies/validation.yaml"]):
        assert command(study, files) == "snakemake --configfile config/studies/validation.yaml"
    assert command({}, [defaults]) == "snakemake --configfile config/studies/demo.yaml"
    monkeypatch.chdir(tmp_path)
    assert Path(shlex.split(command(study, [file]))[-1]).samefile(file)


def test_every_citation_of_the_shipped_studies_is_known():
    root = Path(citations.__file__).resolve().parents[3] / "config/studies"
    keys = re.findall(r"cite: \[(.+)\]", "".join(path.read_text() for path in root.glob("*.yaml")))
    assert len(keys) > 8
    assert {key.strip() for text in keys for key in text.split(",")} <= set(citations.references())


def test_the_commit_is_that_of_the_checkout(tmp_path):
    assert provenance.commit(tmp_path) == "not from a git checkout"
    told = provenance.commit(Path(citations.__file__).parent)
    assert re.match(r"[0-9a-f]{40}( |$)", told) or told == "not from a git checkout"


def html(r):
    return page.render(r, page.make_sections(r))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The text of a made-up study's page."""
    return html(made_up.results(tmp_path_factory.mktemp("whole"), made_up.study(title=f"Bad {made_up.HOSTILE}")))


def test_nothing_is_loaded_from_elsewhere(whole):
    """Outside scripts, every address is within the page or holds its data; libraries come as text."""
    outside = re.sub(r"<script.*?</script>", "", whole, flags=re.DOTALL)
    addresses = re.findall(r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']([^"']*)""", outside)
    assert len(addresses) > 20
    assert {a[:5] for a in addresses if not a.startswith("#")} == {"data:"}
    assert "@import" not in outside
    assert "url(" not in outside
    assert re.findall(r"<script[^>]* src=", whole) == []
    libraries = re.search(r'id="shared">(.*?)</script>', whole, re.DOTALL)[1]
    assert "plotly" in libraries


def test_hostile_text_stays_text(whole):
    assert "<img src=x" not in whole
    assert "&lt;img src=x" in whole


def test_what_is_there_is_shown(whole):
    for words in ("SIMULATED DATA", "The question", "SmoothGrad", "What passed", "made-up.yaml"):
        assert words in whole
    assert "UNFINISHED" not in whole
    assert "figure-curves-asd" in whole
    assert "Nothing passed" not in whole


ODD = {
    "transductive": (
        {"pretrain": {"scope": "transductive"}},
        {},
        ["TRANSDUCTIVE PRE-TRAINING", "Pre-training saw the test subjects"],
        ["No subject was predicted by a model that had seen it"],
    ),
    "nobody excluded": (
        {},
        {"left_out": 0},
        ["Nobody was left out.", "Nobody and no recording was left out."],
        ["left out, each"],
    ),
    "one modality": (
        {},
        {"modalities": ("eeg",), "told": ()},
        ["(EEG)", "120 with EEG only"],
        ["Ready regional", "fMRI and EEG:"],
    ),
    "no sites": ({}, {"sites": 0}, ["sites that are not known"], []),
    "20 sites": ({}, {"sites": 20}, ["20 sites", "site 19"], []),
    "real data": (
        {"kind": "bids"},
        {"sites": 12, "told": None},
        ["Unproven:", "maps are unproven"],
        ["SIMULATED", "What passed"],
    ),
    "nothing passed": (
        {},
        {"told": (("smoothgrad", "fmri", "spatial", "fail"),)},
        ["Nothing passed: no map of this task", "there are no biomarkers to report"],
        ["What passed", "Open the interactive brain"],
    ),
    "a task failed": (
        {"tasks": ("asd", "mdd")},
        {},
        [
            "UNFINISHED",
            "MDD against controls: not evaluated",
            "ASD against controls: the model beats",
            "Without a result: 1 of 2 questions",
            "MDD against controls: not explained",
        ],
        [],
    ),
    "nothing ran": ({}, {"done": ()}, ["UNFINISHED", "There is no result yet", "No model was trained yet"], ["What passed"]),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_studies_have_a_page_too(name, tmp_path):
    values, how, there, not_there = ODD[name]
    text = html(made_up.results(tmp_path, made_up.study(**values), **how))
    plain = re.sub(r'<script.*?</script>|"data:[^"]+|<style>.*?</style>|<pre.*?</pre>', "", text, flags=re.DOTALL)
    for words in there:
        assert words in plain, words
    for words in not_there:
        assert words not in plain, words
    assert re.search(r"\bnan\b|\bNone\b", plain) is None


def test_only_what_passed_is_trusted(tmp_path):
    r = made_up.results(tmp_path)
    text = html(r)
    for words in ("What passed", 'class="load"', "Which maps may be believed, and why"):
        assert words in text
    made_up.made_up.tsv(r.trust("asd").assign(verdict="fail", reason="relevance rank"), tmp_path / "explain/asd/trust.tsv")
    text = html(r)
    assert "Nothing passed: no map of this task" in text
    assert 'class="load"' not in text


def test_what_was_not_judged_is_not_read_as_a_result(tmp_path):
    """Verdicts alone are laxer than the table of trust: without it, nothing may be named."""
    r = made_up.results(tmp_path)
    for name in ("trust", "biomarkers"):
        (tmp_path / f"explain/asd/{name}.tsv").unlink()
    text = html(r)
    for words in ("UNFINISHED", "ASD against controls: maps not judged yet", "Not judged yet: no map", "was judged yet"):
        assert words in text
    for words in ("What passed", 'class="load"'):
        assert words not in text


def test_a_failed_job_is_told_of_a_study_with_all_its_tables(tmp_path):
    r = made_up.results(tmp_path)
    log = tmp_path / "logs/explain/asd_shapley.log"
    log.parent.mkdir(parents=True)
    log.write_text("error: the forest is not there\n")
    assert page.unfinished(r, page.answers_of(r)) == ["failed: explain asd_shapley: error: the forest is not there"]


def test_unknown_sites_are_no_sites(tmp_path):
    made_up.results(tmp_path, sites=2)
    r = Results(made_up.study(), tmp_path, [])
    assert "and 2 sites:" in page.cohort_text(r)
    r.people.loc[r.people["site"] == "site 1", "site"] = "unknown"
    assert "and 1 site:" in page.cohort_text(r)
    assert by_site(r.people)["site"].tolist() == ["site 0", "unknown"]
    assert set(sites(r.people)) == {"site 0", "unknown"}


def test_exclusions_are_grouped_as_figures_group_them():
    left = pd.DataFrame(
        {"stage": "fmri", "state": "excluded", "reason": [f"sub-{i}.nii: {i} s (cut)" for i in range(5)] + [None]}
    )
    assert reasons(left)["n"].tolist() == [5, 1]
    assert set(reasons(left)["reason"]) == {short_reason("sub-1.nii: 1 s (cut)"), "no reason"}


def test_our_methods_row_is_marked_whatever_it_saw(tmp_path):
    rows = pd.DataFrame({"method": ["mcsp (transductive)", "linear FC", "mcsp"], "auroc": 0.7})
    own = Section("a", "A", "Data", [blocks.table("t", rows), blocks.table("u", rows.rename(columns={"method": "software"}))])
    assert page.render(made_up.results(tmp_path), [own]).count('<tr class="ours">') == 2


def test_tables_of_other_stages_are_shown_when_they_are_there(tmp_path):
    r = made_up.results(tmp_path)
    made_up.made_up.tsv(pd.DataFrame({"name": ["precuneus"], "p": [0.01]}), tmp_path / "explain/asd/biomarkers.tsv")
    made_up.made_up.tsv(pd.DataFrame({"feature": ["alpha"], "shap": [0.3]}), tmp_path / "explain/asd/shapley.tsv")
    (tmp_path / "validation").mkdir()
    made_up.made_up.tsv(pd.DataFrame({"method": ["ig"], "verdict": ["pass"]}), tmp_path / "validation/verdicts.tsv")
    made_up.made_up.tsv(pd.DataFrame({"method": ["ig"]}), tmp_path / "validation/decoys.tsv")
    text = html(r)
    for words in ("precuneus", "Shapley", "Verdicts of the validation", "Validation: Decoys"):
        assert words in text
