"""A methods paragraph, written from the study file."""

from __future__ import annotations

import pandas as pd

FOLDS = {
    "kfold": "stratified by dataset, site and label, ",
    "leave-one-site-out": "whole sites together, ",
    "leave-one-dataset-out": "whole datasets together, ",
    "file": "as fixed beforehand by a table, ",
}


def methods_text(study: dict, people: pd.DataFrame) -> str:
    """What a paper's methods section would say of this run."""
    sentences = []
    if people["has_fmri"].any():
        f = study["fmri"]
        if study["preprocess"] == "fmriprep":
            version, spaces = study["fmriprep"]["version"], ", ".join(study["fmriprep"]["output_spaces"])
            sentences.append(f"BOLD that was raw only was preprocessed by fMRIPrep {version} (output spaces {spaces}).")
        if study["preprocess"] == "embedded":
            sentences.append(
                "BOLD that was raw only was corrected for slice timing where known and for head motion, registered to the T1w "
                "and, with it, to MNI152NLin2009aSym (ANTs: affine and SyN), and resampled once, to "
                f"{study['embedded']['voxel_size']:g} mm; no distortion correction was made."
            )
        band = (
            f"{f['high_pass'] or 0:g}-{f['low_pass'] or 'Nyquist'} Hz"
            if f["high_pass"] or f["low_pass"]
            else "no further filter"
        )
        sentences.append(
            f"BOLD series were averaged within the {study['atlas']['name']} parcellation, cleaned with the "
            f"{f['confounds']} confound strategy "
            f"and a band-pass of {band}, scrubbed above {f['fd_threshold']} mm of framewise displacement, resampled "
            "to a repetition time of "
            f"{f['t_r']:g} s, cropped or padded to {f['n_frames']} frames, and z-scored"
            f"{'; runs of one task were joined' if f['runs'] == 'join' else ''}. Connectivity is Fisher-z correlation."
        )
    if people["has_eeg"].any():
        e = study["eeg"]
        sentences.append(
            f"EEG was filtered at {e['high_pass']:g}-{e['low_pass']:g} Hz with a notch at line frequencies inside "
            "that band, bad channels were interpolated, and "
            f"recordings re-referenced to the average, resampled to {e['sfreq']:g} Hz, mapped to "
            f"{len(e['ch_names'])} channels of {e['montage']}, and "
            f"cut into {e['n_segments']} segments of {e['segment_samples'] / e['sfreq']:g} s. Connectivity is "
            "orthogonalised envelope correlation."
        )
    p, m, s = study["pretrain"], study["pretrain"]["model"], study["splits"]
    again = f"{s['repeats']} times with other folds, " if s["repeats"] > 1 else ""
    weights = ", ".join(f"{name.upper()} {weight:g}" for name, weight in p["loss"].items() if "temperature" not in name)
    sentences.append(
        f"Subjects were split into {s['n_folds']} fold(s) ({s['protocol']}, seed {s['seed']}), "
        f"{FOLDS[s['protocol']]}{again}"
        "relatives together; "
        f"{s['val_share']:.0%} of each training part chose models. MCSP (width {m['width']}, {len(m['modalities'])} "
        "modalities, "
        f"{len(m['domains'])} domains) was pre-trained without labels for {p['epochs']} epochs per fold "
        f"({p['scope']}; loss weights {weights}; "
        f"temperature {p['loss']['temperature']:g}), then fine-tuned per task with early stopping on validation subjects "
        f"({len(study['finetune']['seeds'])} seed(s))."
    )
    e = study["evaluate"]
    if e["harmonise"] == "combat":
        sentences.append(
            "The linear model was also fitted to features harmonised over sites by ComBat (empirical Bayes; age and sex kept), "
            "fitted on training subjects of each fold; subjects of sites without training subjects were left as they were."
        )
    sentences.append(
        f"Metrics are at subject level over the pooled test subjects; intervals are {e['confidence']:.0%} bootstrap "
        "intervals over subjects "
        f"({e['n_bootstrap']} samples); methods are compared by DeLong's test and paired permutation "
        f"({e['n_permutations']}), and over folds by Nadeau and Bengio's corrected t test, all Holm-corrected. Logits were "
        "scaled by a temperature per fold, fitted on validation subjects; uncertainty is that of "
        f"{e['n_dropout']} passes with dropout. "
        f"Attributions: {', '.join(x.replace('_', ' ') for x in study['explain']['methods'])}, baseline: the "
        "training subjects' mean input."
    )
    return " ".join(sentences)
