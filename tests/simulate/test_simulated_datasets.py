"""The datasets that come out: valid, reproducible, with their effects where the truth says."""

import json
import subprocess
import sysconfig
from pathlib import Path

import mne
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds
from nilearn.maskers import NiftiLabelsMasker
from scipy.signal import welch

from mcsp.atlas import load_atlas
from mcsp.errors import McspError
from mcsp.motion import MOTION
from mcsp.options.simulate import SimulatedDataset, SimulateOptions
from mcsp.simulate.participants import draw_participants, draw_traits, generator, group_sizes
from mcsp.simulate.signals import DT, SETTLE, alpha_envelopes, convolve_hrf
from mcsp.simulate.truth import describe
from mcsp.store import read_json
from tests.simulate.tiny_study import DATASET, OPTIONS, simulate

SMALL = DATASET.model_copy(update={"n_subjects": 3, "fmri_duration": 40.0, "eeg_duration": 10.0, "voxel_size": 12.0})


def runs(study):
    """participant -> its BOLD path, without the damaged one."""
    damaged = set(study.truth.loc[study.truth["defect"] == "truncated_bold", "uid"].str.removeprefix("sim/"))
    found = {}
    for label in study.participants.index:
        if label not in damaged:
            (found[label],) = (study.root / "derivatives" / "fmriprep" / label / "func").glob("*_desc-preproc_bold.nii.gz")
    return found


@pytest.fixture(scope="module")
def series(study):
    """participant -> (regional series (T, R) cleaned of motion, white matter and CSF by nilearn, repetition time)."""
    atlas = load_atlas(study.atlas)
    found = {}
    for label, path in runs(study).items():
        confounds, _ = load_confounds(str(path), strategy=["motion", "wm_csf"], motion="full", wm_csf="basic")
        t_r = float(nib.load(path).header.get_zooms()[3])
        masker = NiftiLabelsMasker(
            str(atlas.image),
            standardize="zscore_sample",
            detrend=True,
            t_r=t_r,
            low_pass=0.1,
            high_pass=0.01,
            resampling_target="data",
        )
        found[label] = masker.fit_transform(str(path), confounds=confounds), t_r
        assert found[label][0].shape[1] == 160
    return found


def eeg(study, label):
    path = study.root / label / "eeg" / f"{label}_task-rest_eeg.vhdr"
    return mne.io.read_raw_brainvision(path, preload=True, verbose="error")


@pytest.mark.parametrize("part", [".", "derivatives/fmriprep", "derivatives/truth"])
def test_the_validator_accepts_it(study, part):
    program = Path(sysconfig.get_path("scripts")) / "bids-validator-deno"
    done = subprocess.run([program, str(study.root / part), "--format", "json"], capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    errors = [issue for issue in report["issues"]["issues"] if issue["severity"] == "error"]
    # the truth holds tables only: the validator asks for subjects' folders and data beside its sidecar
    assert [e for e in errors if not (part.endswith("truth") and e["code"] == "SIDECAR_WITHOUT_DATAFILE")] == []


def test_it_says_that_it_is_simulated(study):
    for folder in (".", "derivatives/fmriprep", "derivatives/truth"):
        assert "simulated data" in read_json(study.root / folder / "dataset_description.json")["Name"].lower()
    assert "No person was recorded" in (study.root / "README").read_text()


def test_groups_sites_and_families(study):
    people = study.participants
    assert people["diagnosis"].value_counts().to_dict() == {"control": 6, "ASD": 3, "ADHD+ASD": 3}
    assert people["site"].value_counts().to_dict() == {"north": 6, "south": 6}
    assert pd.crosstab(people["diagnosis"], people["site"]).min().min() >= 1
    assert people["family"].nunique() == 11
    assert set(people["sex"]) <= {"M", "F"}
    assert people["age"].between(8, 45).all()


def test_group_sizes_follow_the_shares():
    assert group_sizes({"a": 0.5, "b": 0.3, "c": 0.2}, 10) == [5, 3, 2]
    assert sum(group_sizes({"a": 1, "b": 1, "c": 1}, 10)) == 10
    assert group_sizes({"a": 0.95, "b": 0.05}, 20) == [19, 1]


def test_sites_differ_in_repetition_and_sampling_rate(study):
    sites = {site.name: site for site in DATASET.sites}
    for label, path in runs(study).items():
        site = sites[study.participants.loc[label, "site"]]
        image = nib.load(path)
        assert image.header.get_zooms()[3] == pytest.approx(site.t_r)
        assert image.shape[3] == int(DATASET.fmri_duration / site.t_r)
        assert read_json(path.with_name(path.name.replace(".nii.gz", ".json")))["RepetitionTime"] == site.t_r
        sidecar = read_json(study.root / label / "eeg" / f"{label}_task-rest_eeg.json")
        assert (sidecar["SamplingFrequency"], sidecar["PowerLineFrequency"]) == (site.sfreq, site.line_freq)
        raw = eeg(study, label)
        assert raw.info["sfreq"] == site.sfreq
        freqs, power = welch(raw.get_data(verbose="error")[1], site.sfreq, nperseg=int(2 * site.sfreq))
        high = freqs > 35
        assert freqs[high][np.argmax(power[high])] == site.line_freq


def test_bold_is_zero_outside_the_brain_and_stored_small(study):
    path = next(iter(runs(study).values()))
    image = nib.load(path)
    mask = nib.load(str(path).replace("preproc_bold", "brain_mask")).get_fdata() > 0
    assert image.get_data_dtype() == np.int16
    values = image.get_fdata()
    assert (values[~mask] == 0).all()
    assert (values[mask] > 0).all()
    assert values[mask].max() < 3000


def test_confounds_are_fmripreps(study):
    for label, path in runs(study).items():
        table = pd.read_csv(path.parent / f"{label}_task-rest_desc-confounds_timeseries.tsv", sep="\t", na_values=["n/a"])
        motion = table[list(MOTION)].to_numpy()
        change = np.abs(np.diff(motion, axis=0))
        power = change[:, :3].sum(axis=1) + 50 * change[:, 3:].sum(axis=1)  # Power et al. 2012
        assert np.isnan(table["framewise_displacement"][0])
        np.testing.assert_allclose(table["framewise_displacement"][1:], power, rtol=1e-5)
        np.testing.assert_allclose(table["rot_z_derivative1_power2"][1:], np.diff(table["rot_z"]) ** 2, rtol=1e-4, atol=1e-12)
        image = nib.load(path)
        inside = image.get_fdata()[nib.load(str(path).replace("preproc_bold", "brain_mask")).get_fdata() > 0]
        np.testing.assert_allclose(table["global_signal"], inside.mean(axis=0), rtol=1e-3)
        np.testing.assert_allclose(table["dvars"][1:], np.sqrt((np.diff(inside, axis=1) ** 2).mean(axis=0)), rtol=2e-2)


def test_nuisance_leaks_into_bold(study):
    """Without denoising, white matter explains regional series; that is what confound regression is for."""
    atlas = load_atlas(study.atlas)
    shares = []
    for path in list(runs(study).values())[:3]:
        raw = NiftiLabelsMasker(str(atlas.image), detrend=True, standardize="zscore_sample").fit_transform(str(path))
        table = pd.read_csv(str(path).split("_space-")[0] + "_desc-confounds_timeseries.tsv", sep="\t")
        model = table[["csf", "white_matter"]].to_numpy()
        model = (model - model.mean(axis=0)) / model.std(axis=0)
        fit = model @ np.linalg.lstsq(model, raw, rcond=None)[0]
        shares.append(fit.var() / raw.var())
    assert np.mean(shares) > 0.1


def effect_of(study, kind):
    return next(e for e in read_json(study.root / "derivatives" / "truth" / "truth.json")["effects"] if e["kind"] == kind)


def test_the_planted_edges_are_stronger_in_cases(study, series):
    effect = effect_of(study, "edge")
    atlas = load_atlas(study.atlas)
    networks = np.array(atlas.networks)
    i, j = np.array(effect["edges"]).T
    assert set(zip(networks[i], networks[j])) <= {("default", "occipital"), ("occipital", "default")}
    assert len(i) == 34 * 22
    fc = {label: np.corrcoef(x.T) for label, (x, _) in series.items()}
    case = [label for label in fc if "ASD" in study.participants.loc[label, "diagnosis"].split("+")]
    control = [label for label in fc if study.participants.loc[label, "diagnosis"] == "control"]
    planted = [np.mean([fc[label][i, j].mean() for label in group]) for group in (case, control)]
    assert planted[0] > planted[1] + 0.2
    others = np.isin(networks, ["sensorimotor", "cingulo-opercular", "fronto-parietal"])
    rest = [np.mean([fc[label][np.ix_(others, others)].mean() for label in group]) for group in (case, control)]
    assert abs(rest[0] - rest[1]) < 0.12


def test_the_planted_amplitude_is_larger_in_cases(study, series):
    effect = effect_of(study, "amplitude")
    share = {}
    for label, (x, t_r) in series.items():
        freqs = np.fft.rfftfreq(len(x), t_r)
        power = (np.abs(np.fft.rfft(x[:, effect["rois"]], axis=0)) ** 2).sum(axis=1)
        inside = (freqs >= effect["freqs"][0]) & (freqs <= effect["freqs"][1])
        share[label] = power[inside].sum() / power.sum()
    has = study.participants["diagnosis"].str.contains("ADHD")
    assert min(v for k, v in share.items() if has[k]) > np.median([v for k, v in share.items() if not has[k]])
    assert np.mean([v for k, v in share.items() if has[k]]) > np.mean([v for k, v in share.items() if not has[k]]) + 0.1


def test_the_planted_band_is_stronger_at_its_electrode(study):
    effect = effect_of(study, "band")
    assert max(effect["channels"], key=effect["channels"].get) == "P4"
    assert sum(effect["channels"].values()) == pytest.approx(1, abs=1e-2)
    ratio = {}
    for label in study.participants.index:
        raw = eeg(study, label)
        x = np.nan_to_num(raw.get_data(picks=["P4", "P3"], verbose="error"))
        freqs, power = welch(x, raw.info["sfreq"], nperseg=int(raw.info["sfreq"]))
        ratio[label] = np.divide(*power[:, (freqs > 14) & (freqs < 29)].sum(axis=1))
    has = study.participants["diagnosis"].str.contains("ASD")
    assert min(v for k, v in ratio.items() if has[k]) > max(v for k, v in ratio.items() if not has[k])


def test_alpha_power_lowers_bold(study, series):
    """The slow alpha power that shapes a subject's EEG is anticorrelated with its cortical BOLD after a lag."""
    atlas = load_atlas(study.atlas)
    order = sorted(set(atlas.networks))
    drawn = []
    for label, (x, t_r) in series.items():
        n = int((max(DATASET.fmri_duration, DATASET.eeg_duration) + SETTLE) / DT) + 2
        alpha = alpha_envelopes(generator(OPTIONS.seed, f"sim/{label}", "slow"), len(order), n)
        driven = convolve_hrf(alpha, DT)[:, round(SETTLE / DT) :]
        times = np.arange(len(x)) * t_r
        for network in ("default", "occipital"):
            one = np.interp(times, np.arange(driven.shape[1]) * DT, driven[order.index(network)])
            drawn.append(np.corrcoef(one, x[:, np.array(atlas.networks) == network].mean(axis=1))[0, 1])
        raw = eeg(study, label)
        if raw.times[-1] > 30 and np.isfinite(raw.get_data(verbose="error")).all():
            band = raw.filter(8, 13, verbose="error").apply_hilbert(envelope=True).get_data(picks=["O1", "O2"], verbose="error")
            seen = np.interp(np.arange(0, 39, DT), raw.times, band.mean(axis=0))
            seen = np.convolve(seen, np.ones(8) / 8, "same")
            begins = round(SETTLE / DT)
            drawn_alpha = alpha[order.index("occipital"), begins : begins + len(seen)]
            assert np.corrcoef(seen, drawn_alpha)[0, 1] > 0.3, label
    assert np.mean(drawn) < -0.2


def test_a_trait_links_the_modalities(study, series):
    """Within-network FC and alpha power both follow the subject's trait."""
    atlas = load_atlas(study.atlas)
    networks = np.array(atlas.networks)
    same = (networks[:, None] == networks[None]) & ~np.eye(len(networks), dtype=bool)
    trait = study.truth.set_index(study.truth["uid"].str.removeprefix("sim/"))["coupling"]
    fc = pd.Series({label: np.corrcoef(x.T)[same].mean() for label, (x, _) in series.items()})
    alpha = {}
    for label in trait.index:
        raw = eeg(study, label)
        freqs, power = welch(raw.get_data(picks=["O1", "O2"], verbose="error"), raw.info["sfreq"], nperseg=400)
        alpha[label] = np.log(power[:, (freqs > 8) & (freqs < 13)].sum() / power[:, (freqs > 1) & (freqs < 7)].sum())
    assert fc.corr(trait[fc.index], method="spearman") > 0.5
    assert pd.Series(alpha).corr(trait, method="spearman") > 0.7


def test_defects_are_there_and_in_the_truth(study):
    defects = study.truth.set_index(study.truth["uid"].str.removeprefix("sim/"))["defect"].dropna()
    assert sorted(defects) == ["nan_eeg", "short_eeg", "truncated_bold"]
    assert set(defects.index) == set(study.participants.index[-3:])
    label = {kind: name for name, kind in defects.items()}
    path = next((study.root / "derivatives" / "fmriprep" / label["truncated_bold"] / "func").glob("*preproc_bold.nii.gz"))
    with pytest.raises(EOFError):
        nib.load(path).get_fdata()
    assert eeg(study, label["short_eeg"]).times[-1] < 21
    missing = np.isnan(eeg(study, label["nan_eeg"]).get_data(verbose="error")).any(axis=1)
    assert missing.sum() == 1


def test_truth_sizes_follow_the_diagnosis(study):
    for row in study.truth.itertuples():
        has = row.diagnosis.split("+")
        for size, effect in zip((row.effect_0, row.effect_1, row.effect_2), OPTIONS.effects):
            assert (size != 0) == (effect.disorder in has)
            if size:
                assert abs(size / effect.size - 1) < 5 * OPTIONS.subject_sd


def test_same_seed_same_bytes_whatever_the_threads(tmp_path, atlas_table):
    first = simulate(tmp_path / "a", atlas_table, dataset=SMALL)
    second = simulate(tmp_path / "b", atlas_table, dataset=SMALL, threads=2)
    other = simulate(tmp_path / "c", atlas_table, dataset=SMALL, options=OPTIONS.model_copy(update={"seed": 4}))
    assert first.manifest.read_bytes() == second.manifest.read_bytes()
    tables = [pd.read_csv(s.manifest, sep="\t").set_index("path") for s in (first, other)]
    signals = [path for path in tables[0].index if path.endswith((".eeg", "bold.nii.gz", "timeseries.tsv"))]
    assert len(signals) == 9
    assert (tables[0].loc[signals, "sha256"] != tables[1].loc[signals, "sha256"]).all()


def test_a_subject_does_not_depend_on_the_others(tmp_path, atlas_table):
    """Traits come from the seed and the name: a larger dataset leaves them as they are."""
    atlas = load_atlas(atlas_table)
    one, again = (draw_traits(OPTIONS, atlas, "sim/sub-1", "ASD") for _ in range(2))
    np.testing.assert_array_equal(one.networks, again.networks)
    assert one.coupling != draw_traits(OPTIONS, atlas, "sim/sub-2", "ASD").coupling


def test_a_network_s_strength_is_one_trait_of_both_modalities(atlas_table):
    """The same factor, of the stated spread, on its coupling in BOLD and on its sources' rhythms in EEG."""
    atlas = load_atlas(atlas_table)
    people = [draw_traits(OPTIONS, atlas, f"sim/sub-{i}", "control") for i in range(300)]
    for one in people[:5]:
        np.testing.assert_allclose(one.networks, 0.9 * np.exp(0.25 * one.coupling) * one.rhythms)
    spread = np.log([one.rhythms for one in people])
    assert abs(spread.std() / OPTIONS.network_sd - 1) < 0.07  # four relative SDs of 1800 draws
    assert abs(np.corrcoef(spread.T)[np.triu_indices(spread.shape[1], 1)]).max() < 0.25


def test_a_disorder_of_a_network_changes_its_strength_alone_and_in_both_modalities(atlas_table):
    atlas = load_atlas(atlas_table)
    order, options = sorted(set(atlas.networks)), {"seed": 3, "subject_sd": 0.0}
    effect = {"kind": "network", "disorder": "MDD", "network": "default", "size": 0.5}
    with_it, without = (SimulateOptions.model_validate({**options, "effects": own}) for own in ([effect], []))
    sick, same = (draw_traits(each, atlas, "sim/sub-1", "MDD") for each in (with_it, without))
    for change in (np.log(sick.rhythms / same.rhythms), np.log(sick.networks / same.networks)):
        np.testing.assert_allclose(change, [0.5 * (name == "default") for name in order], atol=1e-12)
    healthy = draw_traits(with_it, atlas, "sim/sub-1", "control")
    np.testing.assert_array_equal(healthy.rhythms, same.rhythms)
    truth = describe(with_it.effects[0], atlas, 19)
    assert {atlas.networks[i] for i in truth["rois"]} == {"default"}
    assert len(truth["edges"]) == 34 * 33 / 2
    assert sum(truth["channels"].values()) == pytest.approx(1, abs=2e-3)
    assert truth["channels"]["Pz"] > 2 * truth["channels"]["T7"]  # midline parietal and frontal cortex, not temporal


def test_one_modality_only_and_old_dataset_replaced(tmp_path, atlas_table):
    plain = SMALL.model_copy(
        update={"modalities": ["eeg"], "defects": DATASET.defects.model_copy(update={"truncated_bold": 0})}
    )
    (tmp_path / "sim").mkdir()
    (tmp_path / "sim" / "old").write_text("left over")
    study = simulate(tmp_path, atlas_table, dataset=plain)
    listed = list(pd.read_csv(study.manifest, sep="\t")["path"])
    assert not [path for path in listed if "fmriprep" in path or path.endswith(".nii.gz") or path == "old"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.json", "m.tsv", "sim"]


@pytest.mark.parametrize(
    ("effect", "message"),
    [
        (
            {"kind": "edge", "disorder": "x", "networks": ["default", "nowhere"], "size": 1},
            "no network nowhere.*it has cerebellum, ",
        ),
        ({"kind": "edge", "disorder": "x", "networks": ["default", "default"], "size": 1}, "to itself"),
        ({"kind": "amplitude", "disorder": "x", "network": "Vis", "size": 1}, "no network Vis"),
        ({"kind": "network", "disorder": "x", "network": "Vis", "size": 1}, "no network Vis"),
        ({"kind": "band", "disorder": "x", "band": "beta", "position": "Q9", "size": 1}, "Q9 is no electrode"),
    ],
)
def test_effects_that_do_not_fit(tmp_path, atlas_table, effect, message):
    options = SimulateOptions.model_validate({"effects": [effect]})
    with pytest.raises(McspError, match=message) as caught:
        simulate(tmp_path, atlas_table, dataset=SMALL, options=options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modalities": ["eeg"]}, r"defects.truncated_bold: the dataset has no fmri"),
        ({"n_subjects": 2}, "3 damaged and 0 raw recordings for 2 subjects"),
    ],
)
def test_defects_that_can_not_be(tmp_path, atlas_table, change, message):
    with pytest.raises(McspError, match=message):
        simulate(tmp_path, atlas_table, dataset=SMALL.model_copy(update=change))


def test_an_atlas_without_an_image_is_refused(tmp_path, atlas_table):
    alone = tmp_path / "atlas.tsv"
    alone.write_bytes(atlas_table.read_bytes())
    with pytest.raises(McspError, match="no label image"):
        simulate(tmp_path / "out", alone, dataset=SMALL)


def test_the_name_makes_a_valid_label():
    dataset = SimulatedDataset.model_validate(
        {"kind": "simulate", "n_subjects": 3, "modalities": ["eeg"], "sites": [{"name": "a"}]}
    )
    assert draw_participants("sim-both", dataset, 0)["participant_id"].tolist() == [
        "sub-simboth001",
        "sub-simboth002",
        "sub-simboth003",
    ]
