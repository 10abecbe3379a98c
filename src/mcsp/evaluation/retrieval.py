"""Which EEG belongs to which fMRI: the whole model beside its variants, with intervals and paired tests over subjects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from mcsp.evaluation.comparisons import holm_of_known
from mcsp.evaluation.resampling import interval, resamples
from mcsp.options.results import EvaluateOptions

SHARES = {"top1": 1, "top5": 5}
BLOCK = 256  # draws of signs that are held at a time
COLUMNS = {
    "kind": "What is varied; whole: the study as it is",
    "variant": "To what",
    "domain": "Domain whose embeddings are compared; all: the model's domains side by side; fused: their mean directions",
    "scope": "inductive, or transductive: pre-training saw test subjects' recordings",
    "n": "Test subjects with both modalities, of all folds",
    "searched": "Subjects among whom each was searched, mean over folds",
    "chance_top1": "top1 expected by chance",
    "chance_top5": "top5 expected by chance",
    **{
        f"{name}{end}": f"{text}{what}"
        for name, what in (("top1", "whose own recording came first"), ("top5", "whose own recording was among five"))
        for end, text in (
            ("", "Share of searches, both ways, "), ("_low", "Lower end of the bootstrap interval over subjects of the share "),
            ("_high", "Upper end, of the share "),
        )
    },
    "difference": "top5 of the variant minus that of the whole, same domain, on the subjects that both search",
    "difference_low": "Lower end of its bootstrap interval over subjects",
    "difference_high": "Upper end",
    "p": "Two-sided p of the difference: signs of the subjects' differences are drawn at random",
    "p_holm": "Corrected for the variants, domain by domain (Holm)",
}  # fmt: skip


def hits(ranks: pd.DataFrame, shares: Mapping[str, int] = SHARES) -> pd.DataFrame:
    """Share of a subject's searches (two a repeat) that hit, top1 and top5 or as `shares` says, beside chance; index uid.

    `ranks`: of one domain.
    """
    table = {name: (ranks["rank"] <= k).astype(float) for name, k in shares.items()}
    table |= {f"chance_{name}": np.minimum(1, k / ranks["n"].astype(float)) for name, k in shares.items()}
    return pd.DataFrame({**table, "n": ranks["n"]}).groupby(ranks["uid"]).mean().sort_index()


def _mean_interval(values: np.ndarray, options: EvaluateOptions) -> tuple[float, float]:
    draws = [values[rows].mean() for rows in resamples(np.zeros(len(values)), options.n_bootstrap, options.seed)]
    return interval(draws, options.confidence)


def sign_p(differences: np.ndarray, n: int, seed: int) -> float:
    """Two-sided p of the mean of paired differences (N), by drawing their signs at random `n` times."""
    rng, least, reached = np.random.default_rng(seed), abs(differences.sum()) - 1e-9, 0
    for start in range(0, n, BLOCK):  # all at once, they would be larger than the study's tables
        signs = rng.choice([-1.0, 1.0], (min(BLOCK, n - start), len(differences)))
        reached += int((np.abs(signs @ differences) >= least).sum())
    return (reached + 1) / (n + 1)


def retrieval_row(own: pd.DataFrame, whole: pd.DataFrame | None, options: EvaluateOptions) -> dict[str, float]:
    """Shares of one variant and domain and, against the `whole` model, difference and p. Tables as `hits` gives them."""
    row: dict[str, float] = {"n": len(own), "searched": own["n"].mean()}
    row |= {f"chance_{name}": own[f"chance_{name}"].mean() for name in SHARES}
    for name in SHARES:
        low, high = _mean_interval(own[name].to_numpy(), options)
        row |= {name: own[name].mean(), f"{name}_low": low, f"{name}_high": high}
    row |= dict.fromkeys(("difference", "difference_low", "difference_high", "p", "p_holm"), float("nan"))
    both = [] if whole is None else own.index.intersection(whole.index)
    if len(both):
        difference = (own.loc[both, "top5"] - whole.loc[both, "top5"]).to_numpy()
        low, high = _mean_interval(difference, options)
        row |= {"difference": difference.mean(), "difference_low": low, "difference_high": high}
        row["p"] = sign_p(difference, options.n_permutations, options.seed)
    return row


def _by_domain(ranks: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    """Ranks of the pre-trained models, domain by domain."""
    return ranks[ranks["stage"] == "pretrained"].groupby("domain", sort=False)


def retrieval_rows(
    whole: pd.DataFrame, variants: Mapping[str, tuple[str, str, pd.DataFrame]], options: EvaluateOptions
) -> pd.DataFrame:
    """The whole model, then its variants (name -> kind, value, ranks), by domain.

    Ranks are those that `mcsp embed-folds` wrote, of pre-trained models.
    """
    found, reference = [], {domain: hits(part) for domain, part in _by_domain(whole)}
    for kind, value, ranks in [("whole", "as it is", whole), *variants.values()]:
        for domain, part in _by_domain(ranks):
            named = {"kind": kind, "variant": value, "domain": domain, "scope": ", ".join(sorted(set(part["scope"])))}
            against = None if kind == "whole" else reference.get(domain)
            found.append({**named, **retrieval_row(hits(part), against, options)})
    table = pd.DataFrame(found, columns=list(COLUMNS))
    for _, part in table.groupby("domain"):
        table.loc[part.index, "p_holm"] = holm_of_known(part["p"])
    return table
