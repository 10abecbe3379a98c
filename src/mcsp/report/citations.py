"""What a paper on this study should cite, as BibTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mcsp import __version__

ALWAYS = ("wei2025mcsp", "molder2021snakemake", "paszke2019pytorch", "pedregosa2011sklearn", "delong1988", "nadeau2003",
          "holm1979", "guo2017calibration", "gal2016dropout", "kokhlikyan2020captum")  # fmt: skip
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


def keys(study: Mapping[str, Any], modalities: set[str]) -> list[str]:
    """Keys of the works behind what a study with these modalities did."""
    found, datasets = list(ALWAYS), study["datasets"].values()
    if any(d["kind"] != "roi" for d in datasets):
        found.append("gorgolewski2016bids")
    if "fmri" in modalities:
        found.append("abraham2014nilearn")
        found += [key for name, key in ATLASES.items() if name in str(study["atlas"]["name"]).lower()]
        found += {"embedded": ["avants2011ants"], "fmriprep": ["esteban2019fmriprep"]}.get(study["preprocess"], [])
    if "eeg" in modalities:
        found += ["gramfort2013mne", "hipp2012envelopes"]
    if study["evaluate"]["harmonise"] == "combat":
        found += ["johnson2007combat", "fortin2018combat"]
    return found + [METHODS[name] for name in study["explain"]["methods"]]


def bibtex(study: Mapping[str, Any], modalities: set[str]) -> str:
    """All entries, the software's first; those of datasets (option `cite`) last."""
    known = references()
    of_data = [text for d in study["datasets"].values() for text in d.get("cite", [])]
    own = [
        text.strip() if text.strip().startswith("@") else known.get(text, f"% no entry is known for {text}") for text in of_data
    ]
    entries = [SOFTWARE, *(known[key] for key in keys(study, modalities)), *own]
    return "\n\n".join(dict.fromkeys(entries))
