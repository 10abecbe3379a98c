"""A methods paragraph, written from the study file. Each clause says what the code does with these options, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mcsp.figures.people import sides

FOLDS = {
    "kfold": "stratified by dataset, site and label, ",
    "leave-one-site-out": "whole sites together, ",
    "leave-one-dataset-out": "whole datasets together, ",
    "file": "as fixed beforehand by a table, ",
}
RIVALS = {
    "phenotype": "logistic regression on age, sex, site and mean framewise displacement",
    "linear": "ridge logistic regression on connectivity and band power",
    "svm": "a linear support vector machine on the same",
    "tangent": "ridge logistic regression on covariances in tangent space",
    "tangent_svm": "a linear support vector machine on covariances in tangent space",
    "random_forest": "a random forest",
    "gradient_boosting": "gradient boosting",
    "mi_binned": "ridge logistic regression after screening by mutual information (bins)",
    "mi_kde": "ridge logistic regression after screening by mutual information (kernel densities)",
    "mlp": "a multilayer perceptron on connectivity and band power",
    "fc_transformer": "a transformer on connectivity",
    "eegnet": "EEGNet",
    "shallow_fbcspnet": "ShallowFBCSPNet",
    "eeg_conformer": "EEG Conformer",
    "biot": "BIOT",
}


def listed(names: list[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def band(low: float | None, high: float | None) -> str:
    """The clause on a temporal filter; '' without one."""
    if low and high:
        return f"band-pass filtered at {low:g}-{high:g} Hz"
    return f"high-pass filtered at {low:g} Hz" if low else f"low-pass filtered at {high:g} Hz" if high else ""


def people_text(people: pd.DataFrame) -> str:
    """Who is in the study."""
    parts = [f"{n} with {name}" for name, n in sides(people) if n]
    return f"After exclusions, {len(people)} subjects were studied: {listed(parts)}." if parts else ""


def raw_text(study: Mapping[str, Any]) -> str:
    """How raw BOLD was preprocessed; '' where none is."""
    if study["preprocess"] == "fmriprep":
        spaces = ", ".join(study["fmriprep"]["output_spaces"])
        return f"BOLD that was raw only was preprocessed by fMRIPrep {study['fmriprep']['version']} (output spaces {spaces})."
    if study["preprocess"] != "embedded":
        return ""
    options = study["embedded"]
    timing = "slice timing where known and for " if options["slice_timing"] else ""
    metric = "local cross-correlation" if options["registration"] == "full" else "mutual information"
    return (
        f"BOLD that was raw only was corrected for {timing}head motion, registered rigidly to the T1w and, with it, to "
        f"MNI152NLin2009aSym (ANTs: affine, then SyN by {metric}), and resampled once, to {options['voxel_size']:g} mm; no "
        "distortion correction was made."
    )


def fmri_text(study: Mapping[str, Any]) -> str:
    """From BOLD or ready series to what the models read."""
    f, kinds = study["fmri"], {d["kind"] for d in study["datasets"].values() if "fmri" in d["modalities"]}
    source = f"BOLD was averaged within the {study['atlas']['name']} parcellation"
    if kinds == {"roi"}:
        source = f"Ready regional BOLD series ({study['atlas']['name']}) were taken as they were published"
    elif "roi" in kinds:
        source += " (some datasets came as ready regional series)"
    steps = ["detrended"]
    if f["confounds"] != "none":
        steps.append(f"cleaned of the confounds of strategy {f['confounds']}")
    steps += [text for text in [band(f["high_pass"], f["low_pass"])] if text]
    scrubbed = ""
    if f["confounds"] != "none" and f["fd_threshold"] is not None:
        scrubbed = (
            f"Frames with a framewise displacement above {f['fd_threshold']:g} mm were left out (runs with a mean above "
            f"{f['max_mean_fd']:g} mm, or less than {f['min_scrubbed_share']:.0%} of frames left, altogether). "
        )
    joined = "; usable runs of one task were joined" if f["runs"] == "join" else "; of several runs the first usable was taken"
    return (
        f"{source}; series were {listed(steps)}. {scrubbed}Series were resampled to a repetition time of "
        f"{f['t_r']:g} s, cropped "
        f"or padded to {f['n_frames']} frames (at least {f['min_frames']}), and z-scored{joined}. Connectivity is the Fisher "
        "z-transformed correlation between regions."
    )


def eeg_text(study: Mapping[str, Any]) -> str:
    """From raw EEG to what the models read."""
    e = study["eeg"]
    short = "were left out" if e["short"] == "exclude" else "were cut into evenly spread, overlapping segments"
    bands = ", ".join(f"{name} {low:g}-{high:g} Hz" for name, (low, high) in study["connectivity"]["bands"].items())
    return (
        f"EEG was filtered at {e['high_pass']:g}-{e['low_pass']:g} Hz, with a notch at the mains frequency where the band's "
        "upper edge comes within 10 Hz of it. Bad channels (flat or of deviant amplitude) were interpolated by "
        "spherical splines "
        f"(recordings with more than {e['max_bad_share']:.0%} of them were left out), signals re-referenced to the average, "
        f"resampled to {e['sfreq']:g} Hz and mapped to {len(e['ch_names'])} channels of {e['montage']}. Recordings were "
        f"cut into {e['n_segments']} segments of {e['segment_samples'] / e['sfreq']:g} s, the first ones without "
        "a peak-to-peak "
        f"amplitude above {e['peak_to_peak'] * 1e6:g} uV (recordings with too few {short}), and divided by their "
        "median absolute "
        "amplitude. "
        f"Connectivity is the orthogonalised envelope correlation in each band ({bands})."
    )


def training_text(study: Mapping[str, Any]) -> str:
    """Folds, pre-training and fine-tuning."""
    p, m, s, f = study["pretrain"], study["pretrain"]["model"], study["splits"], study["finetune"]
    again = f"{s['repeats']} times with other folds, " if s["repeats"] > 1 else ""
    weights = ", ".join(f"{name.upper()} {weight:g}" for name, weight in p["loss"].items() if "temperature" not in name)
    share = "" if p["subject_share"] == 1 else f"{p['subject_share']:.0%} of "
    before = (
        f"was pre-trained without labels on {share}the training subjects"
        f"{' and the recordings of the test subjects' if p['scope'] == 'transductive' else ''} for {p['epochs']} "
        "epochs per fold "
        f"({p['scope']}; loss weights {weights}; temperature {p['loss']['temperature']:g})"
        if p["epochs"]
        else "was not pre-trained"
    )
    validation = f"; {s['val_share']:.0%} of each training part chose models" if s["protocol"] != "file" else ""
    seeds = len(f["seeds"])
    read = {"features": "features", "projections": "projections", "both": "features and projections"}[f["reads"]]
    return (
        f"Subjects were split into {s['n_folds']} folds ({s['protocol']}, seed {s['seed']}), {FOLDS[s['protocol']]}{again}"
        f"relatives together{validation}. MCSP (width {m['width']}, embeddings of {m['dim']} dimensions; "
        f"{listed([{'fmri': 'fMRI', 'eeg': 'EEG'}[name] for name in m['modalities']])}; {listed(m['domains'])} domain"
        f"{'s' * (len(m['domains']) != 1)}) {before}, then fine-tuned per task (class-balanced cross entropy, at most "
        f"{f['epochs']} epochs), starting from a linear model of the frozen {read}; the epoch with the lowest "
        "validation loss "
        f"was kept ({seeds} seed{'s' * (seeds != 1)} per fold; probabilities averaged over seeds)."
    )


def evaluation_text(study: Mapping[str, Any]) -> str:
    """Rivals, metrics, tests, uncertainty."""
    e = study["evaluate"]
    named = RIVALS if e["rivals"] == "all" else e["rivals"]
    text = f"Rivals on the same folds, fitted on training and validation subjects: {listed([RIVALS[name] for name in named])}"
    text += " (all that the modalities allow). " if e["rivals"] == "all" else ". "
    if e["harmonise"] == "combat":
        text += (
            "The linear model was also fitted to features harmonised over sites by ComBat (empirical Bayes; age and sex kept), "
            "fitted on training and validation subjects of each fold; subjects of sites with fewer than two of "
            "these were left as "
            "they were. "
        )
    return text + (
        f"Metrics are at subject level over the pooled test subjects; intervals are {e['confidence']:.0%} bootstrap intervals "
        f"over subjects ({e['n_bootstrap']} samples); methods are compared by DeLong's test (AUROC) and paired permutation "
        f"(balanced accuracy, {e['n_permutations']} permutations), and over folds by Nadeau and Bengio's corrected t test, "
        "Holm-corrected for the tests over subjects and over folds of each task. Logits were scaled by one "
        "temperature per fold, "
        "fitted on validation subjects where at least five of each class were there; uncertainty is that of "
        f"{e['n_dropout']} passes with dropout."
    )


def attribution_text(study: Mapping[str, Any]) -> str:
    """How models were explained."""
    x, mean = study["explain"], "the training subjects' mean input"
    names = {
        "integrated_gradients": f"integrated gradients ({x['n_steps']} steps from {mean})",
        "smoothgrad": f"SmoothGrad ({x['n_samples']} noisy copies, times the difference to {mean})",
        "input_x_gradient": f"input x gradient (the gradient times the difference to {mean})",
    }
    return (
        f"Frozen classifiers were explained on up to {x['max_subjects']} test subjects per fold by "
        f"{listed([names[name] for name in x['methods']])}; contributions over time were added with their signs, and absolute "
        "values summed to regions, networks, connections, channels and bands as shares of each subject's total."
    )


def methods_text(study: Mapping[str, Any], people: pd.DataFrame) -> str:
    """What a paper's methods section would say of this run."""
    texts = [people_text(people)]
    if people["has_fmri"].any():
        texts += [raw_text(study), fmri_text(study)]
    if people["has_eeg"].any():
        texts.append(eeg_text(study))
    return "\n\n".join(filter(None, [*texts, training_text(study), evaluation_text(study), attribution_text(study)]))
