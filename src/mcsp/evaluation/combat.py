"""ComBat: sites' additive and multiplicative effects on features, estimated by empirical Bayes on training subjects.

Johnson, Li and Rabinovic 2007 (Biostatistics 8:118), parametric priors, with covariates whose effect is kept; for
neuroimaging Fortin et al. 2017, 2018 (NeuroImage 161:149, 167:104). Feature f of subject j at site i is taken to be

    x_ijf = alpha_f + c_ij beta_f + sigma_f (gamma_if + delta_if e_ijf),   sum over i of n_i gamma_if = 0

and becomes alpha_f + c_ij beta_f + sigma_f e_ijf. Here delta_if is a standard deviation; `delta` below holds its square, as
the papers write it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mcsp.errors import McspError

FEWEST = 2  # training subjects of a site: fewer have no variance
BLOCK = 1024  # features at a time, so that memory holds a few (N, BLOCK) arrays beside the data
TOLERANCE = 1e-10  # last change of an estimate: of gamma in pooled standard deviations, of delta relative


def _blocks(n_features: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, n_features, BLOCK))


def _within(deviations: np.ndarray, span: np.ndarray) -> np.ndarray:
    """(K, N): takes features (N, F) to the least-squares effects of covariates, given their deviations (N, K) from their
    site's mean and their range `span` (K,). By Frisch and Waugh's theorem these are the effects beside indicators of the
    sites. Where they are not determined, the shortest solution, so that a covariate that is constant within sites has none.
    """
    scale = np.where(span > 0, span, 1)
    u, s, vt = np.linalg.svd(deviations / scale, full_matrices=False)
    inverse = np.divide(1, s, out=np.zeros_like(s), where=s > 1e-8 * np.sqrt(len(u)))
    return (vt.T * inverse) @ u.T / scale[:, None]


def shrink(
    gamma: np.ndarray, squares: np.ndarray, delta: np.ndarray, n: int, prior: tuple[float, float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Conditional posterior means gamma*, delta* (F,) of a site with `n` subjects (Johnson et al. 2007, eq. 3.1).

    `gamma` and `delta` (F,) are the site's mean and variance of each standardised feature, `squares` the sum of squares
    about that mean. `prior` is the mean and variance over features of gamma, then of delta: normal and inverse gamma
    priors by moments, written so that a variance of zero gives its limit, the prior mean. Each feature is iterated until it
    changes no more; its delta rises or falls steadily within bounds, so it always ends.
    """
    g_mean, g_var, d_mean, d_var = prior
    shape = d_var * (n / 2 + 1) + d_mean**2
    g, d = gamma.copy(), delta.copy()
    active = np.arange(len(gamma))
    while len(active):
        own, old_d = gamma[active], d[active]
        new_g = (g_var * n * own + old_d * g_mean) / (g_var * n + old_d)
        new_d = (d_var * (squares[active] + n * (own - new_g) ** 2) / 2 + d_mean * (d_var + d_mean**2)) / shape
        moving = (np.abs(new_g - g[active]) > TOLERANCE) | (np.abs(new_d - old_d) > TOLERANCE * old_d)
        g[active], d[active] = new_g, new_d
        active = active[moving]
    return g, d


class Combat:
    """ComBat that is fitted on training subjects and then applied to anybody of the same sites.

    Only sites with at least two training subjects are fitted, and only where there are two such sites. Subjects of other
    sites (`state` tells which) are returned as they are, as nothing is known of how their site differs; so are
    features that don't vary within the sites. Arithmetic is in float64, a block of features at a time.

    Covariates are what sites may differ in without its being the site's effect, such as age and sex. Never the label:
    it would have to be known for test subjects, and would leave its own trace in their features. What a covariate
    can't tell from the site (one sex per site, say) counts as the site's. A missing covariate (NaN) is the training median.

    After `fit`: `n_train` (site -> training subjects) and `sites` (S,), those fitted; of these, where there are any: `mean`
    (F,) at their mean covariates `centre` (K,), `betas` (K, F), pooled `variance` (F,), 0 where a feature doesn't vary, and
    `gamma`, `delta` (S, F), in units of the standardised features.
    """

    def fit(self, x: np.ndarray, sites: np.ndarray, covariates: np.ndarray) -> Combat:
        """Fit on training subjects: features `x` (N, F), site of each (N,), numeric `covariates` (N, K).

        Raises McspError for features that are not finite, ValueError for arrays of different lengths.
        """
        sites, covariates = self._checked(x, sites, covariates)
        self.count(sites)
        known = [own[np.isfinite(own)] for own in covariates.T]
        self.median = np.array([np.median(own) if len(own) else 0.0 for own in known])
        if not len(self.sites):
            return self
        rows = np.flatnonzero(np.isin(sites, self.sites))
        self._estimate(x, rows, np.searchsorted(self.sites, sites[rows]), self._filled(covariates)[rows])
        return self

    def count(self, sites: np.ndarray) -> Combat:
        """Take note of training subjects' sites (N,) only: enough to ask for `state`."""
        names, counts = np.unique(np.asarray(sites), return_counts=True)
        self.n_train = dict(zip(names.tolist(), counts.tolist()))
        enough = names[counts >= FEWEST]
        self.sites = enough if len(enough) > 1 else enough[:0]
        return self

    def _estimate(self, x: np.ndarray, rows: np.ndarray, code: np.ndarray, covariates: np.ndarray) -> None:
        """Least squares on covariates and sites, then each site's estimates, drawn towards their mean over features."""
        n = np.bincount(code)
        self.centre = covariates.mean(axis=0)
        c = covariates - self.centre
        site_c = np.stack([c[code == i].mean(axis=0) for i in range(len(n))])
        project = _within(c - site_c[code], np.ptp(covariates, axis=0))
        n_features = x.shape[1]
        self.mean, self.variance, self.betas = np.zeros(n_features), np.zeros(n_features), np.zeros((c.shape[1], n_features))
        self.gamma, self.delta = np.zeros((len(n), n_features)), np.ones((len(n), n_features))
        squares = np.zeros((len(n), n_features))
        for block in _blocks(n_features):
            own = x[rows, block].astype(float)
            if not np.isfinite(own).all():
                raise McspError("ComBat: features with values that are not finite: rerun the stage that wrote the stores")
            beta, mean = project @ own, own.mean(axis=0)
            site_mean = np.stack([own[code == i].mean(axis=0) for i in range(len(n))]) - site_c @ beta
            scale = (own**2).mean(axis=0)
            own -= c @ beta + site_mean[code]
            own **= 2
            total = np.stack([own[code == i].sum(axis=0) for i in range(len(n))])
            variance = total.sum(axis=0) / len(rows)
            variance[variance <= 1e-24 * scale] = 0  # rounding: the feature is constant within the sites
            with np.errstate(invalid="ignore", divide="ignore"):
                self.gamma[:, block], squares[:, block] = (site_mean - mean) / np.sqrt(variance), total / variance
            self.mean[block], self.betas[:, block], self.variance[block] = mean, beta, variance
        self._draw_together(squares, n)

    def _draw_together(self, squares: np.ndarray, n: np.ndarray) -> None:
        """gamma and delta from each site's means and sums of squares (S, F); with one feature there is no prior."""
        varies = np.flatnonzero(self.variance)
        gamma, self.gamma = self.gamma[:, varies], np.zeros_like(self.gamma)
        for i, size in enumerate(n):
            own = squares[i, varies]
            delta = own / (size - 1)
            delta[delta == 0] = 1  # no spread at this site alone: as if it were the others'
            g = gamma[i]
            if len(varies) > 1:
                g, delta = shrink(g, own, delta, size, (g.mean(), g.var(ddof=1), delta.mean(), delta.var(ddof=1)))
            self.gamma[i, varies], self.delta[i, varies] = g, delta

    def transform(self, x: np.ndarray, sites: np.ndarray, covariates: np.ndarray) -> np.ndarray:
        """Harmonised copy of `x` (N, F), of its floating type; subjects of sites that are not fitted are as they were."""
        sites, covariates = self._checked(x, sites, covariates)
        out = np.array(x, dtype=np.result_type(x.dtype, np.float32))
        rows = np.flatnonzero(np.isin(sites, self.sites))
        if not len(rows):
            return out
        code = np.searchsorted(self.sites, sites[rows])
        c = self._filled(covariates)[rows] - self.centre
        for block in _blocks(x.shape[1]):
            own = x[rows, block].astype(float)
            kept = self.mean[block] + c @ self.betas[:, block]
            shift = np.sqrt(self.variance[block]) * self.gamma[:, block]
            new = kept + (own - kept - shift[code]) / np.sqrt(self.delta[:, block])[code]
            out[rows, block] = np.where(self.variance[block] > 0, new, own)
        return out

    def state(self, site: object) -> str:
        """'fitted', 'too few' (training subjects), 'only site' (of those with enough) or 'unseen' (in training)."""
        if site not in self.n_train:
            return "unseen"
        if self.n_train[site] < FEWEST:
            return "too few"
        return "fitted" if site in self.sites else "only site"

    @staticmethod
    def _checked(x: np.ndarray, sites: np.ndarray, covariates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sites, covariates = np.asarray(sites), np.asarray(covariates, dtype=float)
        if x.ndim != 2 or sites.shape != (len(x),) or covariates.ndim != 2 or len(covariates) != len(x):
            raise ValueError(f"not the same subjects: features {x.shape}, sites {sites.shape}, covariates {covariates.shape}")
        return sites, covariates

    def _filled(self, covariates: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(covariates), covariates, self.median)
