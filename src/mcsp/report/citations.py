"""What a paper on this study should cite, as BibTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mcsp import __version__
from mcsp.options.results import EvaluateOptions

ALWAYS = ("wei2025mcsp", "delong1988", "nadeau2003", "holm1979", "guo2017calibration", "gal2016dropout",
          "nichols2002permutation", "benjamini1995fdr", "strumbelj2014shapley")  # fmt: skip
# Package -> what its authors ask to cite; None: nothing. The first ones are used by every study.
PACKAGES = {
    "snakemake": "molder2021snakemake", "torch": "paszke2019pytorch", "lightning": "falcon2019lightning",
    "captum": "kokhlikyan2020captum", "scikit-learn": "pedregosa2011sklearn", "numpy": "harris2020numpy",
    "scipy": "virtanen2020scipy", "pandas": "mckinney2010pandas", "pyarrow": None, "matplotlib": "hunter2007matplotlib",
}  # fmt: skip
FMRI_PACKAGES = {"nilearn": "abraham2014nilearn"}
EMBEDDED_PACKAGES = {"antspyx": "avants2011ants"}  # of the preprocessing that the package does itself
EEG_PACKAGES = {"mne": "gramfort2013mne", "mne-bids": "appelhoff2019mnebids"}
RIVALS = {
    "tangent": "varoquaux2010tangent", "tangent_svm": "varoquaux2010tangent", "random_forest": "breiman2001forests",
    "eegnet": "lawhern2018eegnet", "shallow_fbcspnet": "schirrmeister2017", "eeg_conformer": "song2023conformer",
}  # fmt: skip
ATLASES = {"schaefer": "schaefer2018", "dosenbach": "dosenbach2010"}
METHODS = {"integrated_gradients": "sundararajan2017ig", "smoothgrad": "smilkov2017smoothgrad",
           "input_x_gradient": "shrikumar2016gradient"}  # fmt: skip
SOFTWARE = (
    "@software{mcsp,\n  title = {mcsp: multi-modal cross-domain self-supervised pre-training for fMRI and EEG, from BIDS to "
    f"biomarkers}},\n  author = {{{{The mcsp developers}}}},\n  version = {{{__version__}}},\n  license = {{BSD-3-Clause}}\n}}"
)


@cache
def references() -> dict[str, str]:
    """key -> BibTeX entry of every work that the package knows."""
    entries = Path(__file__).with_name("references.bib").read_text(encoding="utf-8").strip().split("\n\n")
    return {re.match(r"@\w+\{([^,]+),", entry)[1]: entry for entry in entries}


def packages(study: Mapping[str, Any], modalities: set[str]) -> dict[str, str | None]:
    """Package -> key of its citation, of those that a study with these modalities uses."""
    found = dict(PACKAGES)
    if "fmri" in modalities:
        found |= FMRI_PACKAGES | (EMBEDDED_PACKAGES if study["preprocess"] == "embedded" else {})
    return found | (EEG_PACKAGES if "eeg" in modalities else {})


def keys(study: Mapping[str, Any], modalities: set[str]) -> list[str]:
    """Keys of the works behind what a study with these modalities did, each once."""
    found, datasets = list(ALWAYS), study["datasets"].values()
    if any(d["kind"] != "roi" for d in datasets):
        found.append("gorgolewski2016bids")
    found += [key for key in packages(study, modalities).values() if key]
    if study["pretrain"]["epochs"]:
        found.append("chen2020simclr")
    if "fmri" in modalities:
        found.append("power2012motion")
        found += [key for name, key in ATLASES.items() if name in str(study["atlas"]["name"]).lower()]
        found += ["esteban2019fmriprep"] if study["preprocess"] == "fmriprep" else []
    if "eeg" in modalities:
        found += ["perrin1989splines", "hipp2012envelopes"]
    if study["evaluate"]["harmonise"] == "combat":
        found += ["johnson2007combat", "fortin2018combat"]
    rivals = EvaluateOptions.model_validate(study["evaluate"]).rivals_of(modalities)
    able = EvaluateOptions(rivals="all").rivals_of(modalities)  # one that is named for what nobody has gives nothing
    found += [RIVALS[name] for name in rivals if name in RIVALS and name in able]
    return list(dict.fromkeys([*found, *(METHODS[name] for name in study["explain"]["methods"])]))


def bibtex(study: Mapping[str, Any], modalities: set[str]) -> str:
    """All entries, the software's first; those of datasets (option `cite`) last."""
    known = references()
    of_data = [text for d in study["datasets"].values() for text in d.get("cite", [])]
    own = [
        text.strip() if text.strip().startswith("@") else known.get(text, f"% no entry is known for {text}") for text in of_data
    ]
    entries = [SOFTWARE, *(known[key] for key in keys(study, modalities)), *own]
    return "\n\n".join(dict.fromkeys(entries))
