"""Who takes part in a simulated dataset, and what each carries in both modalities."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pandas as pd

from mcsp.atlas import Atlas
from mcsp.errors import McspError
from mcsp.options.simulate import SimulatedDataset, SimulateOptions
from mcsp.simulate.signals import Traits

COLUMNS = {
    "participant_id": "Subject",
    "age": "Age in years (simulated)",
    "sex": "M or F (simulated)",
    "site": "Simulated scanner and amplifier",
    "diagnosis": "Simulated diagnosis; '+' joins comorbid ones",
    "family": "Siblings share it",
}
NEEDS = {"truncated_bold": "fmri", "short_eeg": "eeg", "nan_eeg": "eeg"}  # modality that a defect damages


def generator(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that depend on the seed and on names only, not on the order of work."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256("/".join(names).encode()).digest()[:8], "big")])


def group_sizes(groups: dict[str, float], n: int) -> list[int]:
    """Subjects per group in the stated shares: largest remainders, sum `n`."""
    shares = np.array(list(groups.values())) / sum(groups.values()) * n
    counts = np.floor(shares).astype(int)
    counts[np.argsort(counts - shares, kind="stable")[: n - counts.sum()]] += 1
    return counts.tolist()


def draw_participants(name: str, dataset: SimulatedDataset, seed: int) -> pd.DataFrame:
    """participants.tsv and, beside it, `defect` and `raw`: groups in the stated shares, balanced over sites; one in twenty
    has a sibling in the dataset; the last subjects get the damaged recordings, the first ones raw BOLD.

    Raises McspError when there are more damaged and raw recordings than subjects, or one of a modality that is not recorded.
    """
    rng = generator(seed, name, "participants")
    n = dataset.n_subjects
    order = rng.permutation(n)
    label = re.sub(r"[^A-Za-z0-9]", "", name)
    rows = pd.DataFrame({"participant_id": [f"sub-{label}{i + 1:03d}" for i in range(n)]})
    rows["age"] = np.round(rng.uniform(8, 45, n), 1)
    rows["diagnosis"] = np.repeat(list(dataset.groups), group_sizes(dataset.groups, n))[order]
    rows["site"] = np.array([dataset.sites[i % len(dataset.sites)].name for i in range(n)])[order]
    male = np.where(rows["diagnosis"].str.contains("ADHD|ASD"), 0.65, 0.45)
    rows["sex"] = np.where(rng.uniform(size=n) < male, "M", "F")
    rows["family"] = [f"{label}-family-{i + 1:03d}" for i in range(n)]
    for first in range(0, n - 1, 20):
        rows.loc[first + 1, "family"] = rows.loc[first, "family"]
    rows["defect"] = defects(dataset)
    rows["raw"] = np.arange(n) < dataset.raw_bold
    return rows[[*COLUMNS, "defect", "raw"]]


def defects(dataset: SimulatedDataset) -> list[str]:
    """Name of each subject's defect, '' for most."""
    wanted = [kind for kind, count in dataset.defects.model_dump().items() for _ in range(count)]
    for kind in wanted:
        if NEEDS[kind] not in dataset.modalities:
            raise McspError(f"defects.{kind}: the dataset has no {NEEDS[kind]}: set it to 0")
    if dataset.raw_bold and "fmri" not in dataset.modalities:
        raise McspError("raw_bold: the dataset has no fmri: set it to 0")
    if len(wanted) + dataset.raw_bold > dataset.n_subjects:
        raise McspError(
            f"defects and raw_bold: {len(wanted)} damaged and {dataset.raw_bold} raw recordings for {dataset.n_subjects} "
            "subjects: lower them"
        )
    return [""] * (dataset.n_subjects - len(wanted)) + wanted


def draw_traits(options: SimulateOptions, atlas: Atlas, uid: str, diagnosis: str) -> Traits:
    """A subject's traits, from the seed and its name alone: EEG and fMRI draw the same ones."""
    rng = generator(options.seed, uid, "traits")
    order = sorted(set(atlas.networks))
    coupling = rng.normal()
    strength = options.network_sd * rng.normal(size=len(order))
    jitter = 1 + options.subject_sd * rng.normal(size=len(options.effects))
    has = [effect.disorder in diagnosis.split("+") for effect in options.effects]
    sizes = [effect.size * scale * own for effect, scale, own in zip(options.effects, jitter, has)]
    for effect, size in zip(options.effects, sizes):
        if effect.kind == "network":
            strength[order.index(effect.network)] += size
    rhythms = np.exp(strength)
    return Traits(float(coupling), 0.9 * np.exp(0.25 * coupling) * rhythms, rhythms, np.array(sizes, float))
