"""Comparison of detectors on given samples within a time limit, and average ranks over many data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.base import clone
from sklearn.metrics import average_precision_score, roc_auc_score
from tqdm.auto import tqdm

from mmad_utils.benchmark import make_detector
from mmad_utils.datasets.take import take
from mmad_utils.detector import DetectorError, check_share, check_whole

__all__ = ["AverageRanks", "average_ranks", "choose", "compare", "subsample"]

RANDOM_BASELINE = "RandomScore"
SETS = {
    ("quick", "tabular"): "IsolationForest,KNNDistance,PCAResidual,GaussianAnomalyScorer,DistanceToCenter",
    ("quick", "image"): "PaDiM,PatchCore",
    ("thorough", "tabular"): "IsolationForest,KNNDistance,PCAResidual,GaussianAnomalyScorer,DistanceToCenter,"
    "LocalOutlierFactor,DenoisingAutoEncoder,RDP",
    ("thorough", "image"): "PaDiM,PatchCore",
}
TRIALS = (16, 8)  # the time of a detector is predicted from trials on 1/16 and 1/8 of the samples
BAR = "comparing: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
COLUMNS = (
    "auroc", "auroc_sd", "average_precision", "average_precision_sd", "agreement", "stability", "top", "shuffled",
    "seconds", "repeats", "left_out",
)  # fmt: skip
TOP = 0.05  # share of the samples with the highest scores that ``top`` compares


def choose(detectors: str, modality: str) -> dict[str, Any]:
    """Make detectors from "quick", "thorough", or comma-separated class names (see ``make_detector``).

    For tables, a random score is added as a control.

    Raises
    ------
    DetectorError
        A name is unknown, or a detector cannot take the modality ("tabular" or "image").
    """
    names = SETS.get((detectors, modality), detectors).split(",")
    chosen = {name.strip(): make_detector(name.strip()) for name in names}
    for name, detector in chosen.items():
        if modality not in getattr(detector, "modalities", ("tabular",)):
            raise DetectorError(f"{name} does not take {'tables' if modality == 'tabular' else 'images'} alone.")
    return chosen | ({RANDOM_BASELINE: make_detector(RANDOM_BASELINE)} if modality == "tabular" else {})


def subsample(n: int, y=None, *, most: int, seed: int = 0) -> np.ndarray:
    """Sorted indices of at most ``most`` of n samples, drawn at random; at most half of them labelled anomalies."""
    check_whole("most", most, 2)
    rng = np.random.default_rng(seed)
    if n <= most:
        return np.arange(n)
    if y is None:
        return np.sort(rng.choice(n, most, replace=False))
    anomalies = rng.permutation(np.flatnonzero(np.asarray(y) == 1))[: most // 2]
    normal = rng.permutation(np.flatnonzero(np.asarray(y) == 0))[: most - len(anomalies)]
    return np.sort(np.concatenate([anomalies, normal]))


def compare(
    detectors: Mapping[str, Any],
    X,
    y=None,
    *,
    encoder=None,
    rate: float | None = None,
    repeats: int = 3,
    minutes: float = 1.0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Compare detectors on samples that were not used to fit them.

    In each repeat, the normal samples are divided at random into two halves. Without labels all samples are divided,
    which assumes that anomalies are few. One clone of every detector is fitted on each half, and scores all samples.
    The measures are:

    - ``stability``: Spearman's correlation between the scores of the two clones, and ``top``, the share of the 5%
      highest scores that is common to both;
    - ``agreement``: Spearman's correlation with the mean rank of the other detectors; each sample is scored by the
      clone that was not fitted on it;
    - ``shuffled`` (tables): AUROC of the held-out samples against the same samples with independently permuted
      columns. The permuted rows have real values in wrong combinations; a detector that does not respond to
      combinations has 0.5;
    - with labels: ``auroc`` and ``average_precision`` of each clone, on its held-out normal samples and all
      anomalies. The average precision is reweighted to ``rate``.

    The times of the detectors and of the encoding are predicted from two trials, on 1/16 and 1/8 of the samples.
    Detectors run in the order of their predicted times. A detector that does not fit into the remaining time is left
    out, and the repeats end when the time is over.

    Parameters
    ----------
    detectors : dict of name -> estimator with ``fit`` and ``score_samples``
    X : DataFrame with an ``encoder``, else (n, d) array or sequence of image paths
    y : (n,) int, 0 normal, 1 anomaly, or None
    encoder : transformer or None
        Fitted on the same half as the detectors.
    rate : float, anomaly rate in the application; default: the rate in ``y``
    repeats : int
    minutes : float
    seed : int
    progress : bool, show a progress bar with the remaining time

    Returns
    -------
    DataFrame, index ``detector``, best first
        The means of the measures; with labels also ``auroc_sd`` and ``average_precision_sd``. ``seconds`` is the time
        of one repeat, ``repeats`` the number of repeats, and ``left_out`` the reason why a detector was not measured,
        or "". Without labels, detectors are sorted by the sum of agreement and stability, which does not measure
        their quality.

    Raises
    ------
    DetectorError
        No detector fits into the time.
    """
    check_whole("repeats", repeats, 1)
    check_share("minutes", minutes, np.inf)
    if rate is not None:
        check_share("rate", rate, 1)
    deadline = perf_counter() + 60 * minutes
    normal = np.arange(len(X)) if y is None else np.flatnonzero(np.asarray(y) == 0)
    anomalies = np.setdiff1d(np.arange(len(X)), normal)
    trials = [_trial(X, normal, fraction, encoder, seed) for fraction in TRIALS]
    encoding = _power_law([(seconds, fraction) for _, fraction, seconds in trials])
    costs = {name: _expected_seconds(detector, trials, seed) for name, detector in detectors.items()}
    order = sorted(costs, key=lambda name: costs[name])
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in order}
    left_out = dict.fromkeys(order, "")
    total = round((encoding + sum(costs.values())) * repeats)
    with tqdm(total=total, disable=not progress, bar_format=BAR) as bar:
        for repeat in range(repeats):
            start = perf_counter()
            if encoding + min(costs.values()) > deadline - start:
                if repeat == 0:
                    reason = f"encoding needs about {encoding:.0f} s, {max(0.0, deadline - start):.0f} s were left"
                    left_out = dict.fromkeys(order, reason)
                break
            rng = np.random.default_rng([seed, repeat])
            halves = np.array_split(rng.permutation(normal), 2)
            encoded = [_encode(encoder, X, np.sort(half), normal, rng) for half in halves]
            encoding = perf_counter() - start
            bar.update(encoding)
            new_to = np.full(len(X), -1)  # index of the clone that was not fitted on the sample; -1: both (anomalies)
            new_to[halves[0]], new_to[halves[1]] = 1, 0
            ranks = {}
            for name in order:
                start = perf_counter()
                if left_out[name]:
                    continue
                remaining = max(0.0, deadline - start)
                if costs[name] > remaining:
                    if not rows[name]:
                        left_out[name] = f"needs about {costs[name]:.0f} s, {remaining:.0f} s were left"
                    continue
                scores, shuffled = _scores(detectors[name], encoded, [seed, repeat])
                if not all(np.ptp(one) > 1e-12 for one in scores):
                    left_out[name] = "its scores are all equal or not finite"
                    continue
                row, ranks[name] = _measure(scores, shuffled, new_to, anomalies, rate)
                costs[name] = perf_counter() - start  # replaces the prediction
                rows[name].append(row | {"seconds": costs[name]})
                bar.total = bar.n + costs[name] + _ahead(costs, encoding, order, name, repeats - repeat)
                bar.update(costs[name])
            _add_agreement(rows, ranks)
    return _table(rows, left_out, minutes)


def _ahead(costs, encoding: float, order, name: str, repeats: int) -> float:
    """Predicted seconds after ``name``, in this repeat and in the following ones."""
    this = sum(costs[key] for key in order[order.index(name) + 1 :])
    return this + (repeats - 1) * (encoding + sum(costs.values()))


def _encode(encoder, X, train, normal, rng):
    """Encode the training samples, all samples, and the held-out normal samples with and without permuted columns."""
    held = take(X, np.setdiff1d(normal, train))
    if encoder is None:
        if not isinstance(X, np.ndarray) or X.ndim != 2:
            return take(X, train), X, None
        return X[train], X, (held, rng.permuted(held, axis=0))
    fitted = clone(encoder).fit(take(X, train))
    shuffled = held.apply(lambda column: column.iloc[rng.permutation(len(column))].array)
    encoded = fitted.transform(X)
    return encoded[train], encoded, (fitted.transform(held), fitted.transform(shuffled))


def _trial(X, normal, fraction, encoder, seed):
    """``_encode`` for a part of the normal samples: result, ratio of all samples to this part, and seconds."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(normal, min(len(normal), max(10, len(normal) // fraction)), replace=False))
    part, everything = take(X, rows), np.arange(len(rows))
    start = perf_counter()
    encoded = [_encode(encoder, part, half, everything, rng) for half in np.array_split(everything, 2)]
    return encoded, len(X) / len(rows), perf_counter() - start


def _expected_seconds(detector, trials, seed) -> float:
    """Seconds of a repeat on all samples, extrapolated by a power law with an exponent in [0, 2]."""
    points = []
    for encoded, fraction, _ in trials:
        start = perf_counter()
        _scores(detector, encoded, [seed])
        points.append((perf_counter() - start, fraction))
    return _power_law(points)


def _power_law(points) -> float:
    """Extrapolate the time to all samples, from (seconds, ratio of all samples to the trial) of two trials.

    The trial with fewer samples is first.
    """
    (early, first), (late, second) = points
    if first <= second or early <= 0:
        return late * second
    exponent = np.clip(np.log(late / early) / np.log(first / second), 0, 2) if late > 0 else 0
    return float(late * second**exponent)


def _scores(detector, encoded, seed: list[int]):
    """Scores of all samples by the two clones, 2 × (n,), and of the held-out samples with and without permutation."""
    scores, shuffled = [], []
    for number, (train, everything, pair) in enumerate(encoded):
        fitted = clone(detector)
        if "random_state" in fitted.get_params():
            fitted.set_params(random_state=int(np.random.default_rng([*seed, number]).integers(2**31)))
        fitted.fit(train)
        scores.append(-fitted.score_samples(everything))
        if pair is not None:
            shuffled.append([-fitted.score_samples(rows) for rows in pair])
    return scores, shuffled


def _measure(scores, shuffled, new_to, anomalies, rate):
    """Measures of one detector in one repeat, and the rank of each sample by the clone not fitted on it."""
    highest = [set(np.argsort(-one)[: max(1, round(TOP * len(one)))]) for one in scores]
    row = {"stability": stats.spearmanr(*scores).statistic, "top": len(highest[0] & highest[1]) / len(highest[0])}
    ranks = np.mean([stats.rankdata(one) for one in scores], axis=0)
    for number, one in enumerate(scores):
        new = new_to == number
        ranks[new] = stats.rankdata(one)[new]
    if shuffled:
        truth = [np.repeat([0, 1], len(pair[0])) for pair in shuffled]
        row["shuffled"] = np.mean([roc_auc_score(t, np.concatenate(pair)) for t, pair in zip(truth, shuffled)])
    if len(anomalies):
        parts = [(one[new_to == number], one[anomalies]) for number, one in enumerate(scores)]
        y = [np.repeat([0, 1], [len(part) for part in pair]) for pair in parts]
        rate = len(anomalies) / len(new_to) if rate is None else rate
        weights = [np.where(labels == 1, rate / labels.mean(), (1 - rate) / (1 - labels.mean())) for labels in y]
        joined = [np.concatenate(pair) for pair in parts]
        row["auroc"] = [roc_auc_score(*pair) for pair in zip(y, joined)]
        row["average_precision"] = [average_precision_score(*t, sample_weight=w) for *t, w in zip(y, joined, weights)]
    return row, ranks


def _add_agreement(rows, ranks) -> None:
    """Add the correlation of each detector with the mean rank of the others to its latest row."""
    for name, own in ranks.items():
        others = [other for key, other in ranks.items() if key not in (name, RANDOM_BASELINE)]
        if others:
            rows[name][-1]["agreement"] = stats.spearmanr(own, np.mean(others, axis=0)).statistic


def _table(rows, left_out, minutes: float) -> pd.DataFrame:
    """Means over the repeats, best first."""
    if not any(rows.values()):
        raise DetectorError(
            f"no detector was measured within {minutes:g} minutes ("
            + "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            + "). Give more minutes or fewer samples."
        )
    columns = {}
    for name, runs in rows.items():
        frame = pd.DataFrame(runs)
        columns[name] = {"repeats": len(runs), "left_out": left_out[name]}
        for key in frame:
            values = np.concatenate(frame[key].dropna().map(np.atleast_1d).to_list())
            columns[name][key] = values.mean()
            if key in ("auroc", "average_precision"):
                columns[name][f"{key}_sd"] = values.std(ddof=1)
    table = pd.DataFrame.from_dict(columns, orient="index").rename_axis("detector")
    table = table[[key for key in COLUMNS if key in table]]
    merit = table["auroc"] if "auroc" in table else table.get("agreement", 0) + table["stability"]
    return table.loc[merit.sort_values(ascending=False, na_position="last").index]


@dataclass(frozen=True)
class AverageRanks:
    """Average ranks of detectors over data sets, and which pairs of detectors differ; see `average_ranks`.

    Attributes
    ----------
    ranks : Series, index: detectors, the best (lowest rank) first
    n_datasets : int
    alpha : float
    friedman_p : float
        p-value of Friedman's test that all detectors are equal; NaN for two detectors.
    pairs : DataFrame, one row per pair
        ``first`` and ``second`` (the better rank first), ``first_rank``, ``second_rank``, ``p`` (Wilcoxon),
        ``p_holm`` and ``different``.
    """

    ranks: pd.Series
    n_datasets: int
    alpha: float
    friedman_p: float
    pairs: pd.DataFrame

    @property
    def cliques(self) -> list[list[str]]:
        """Maximal groups of detectors with consecutive ranks in which no pair differs significantly.

        Two detectors that do not differ are in different groups if a detector ranked between them differs from one of
        them. This is possible because Wilcoxon's test of a pair, unlike a critical difference, does not depend on the
        ranks alone.
        """
        names = list(self.ranks.index)
        differ = {frozenset(pair) for pair in self.pairs.loc[self.pairs["different"], ["first", "second"]].to_numpy()}
        found: list[list[str]] = []
        end = 0
        for start in range(len(names)):
            stop = start + 1
            while stop < len(names) and not any(frozenset((one, names[stop])) in differ for one in names[start:stop]):
                stop += 1
            if stop - start > 1 and stop > end:
                found.append(names[start:stop])
                end = stop
        return found


def average_ranks(scores: pd.DataFrame, *, alpha: float = 0.05) -> AverageRanks:
    """Rank detectors on each data set, and test which of them differ (Demšar 2006).

    Friedman's test is done first. If it does not reject the equality of all detectors, no pair is reported as
    different. Pairs are compared by Wilcoxon's two-sided signed-rank test over the data sets, with Holm's correction
    for the number of pairs. The tests assume independent data sets. Several classes of one collection are not
    independent; their p-values are too small.

    Parameters
    ----------
    scores : DataFrame of float, index: data sets; one column per detector
        For example the mean AUROC over seeds; higher is better. Equal scores get the mean of their ranks.
    alpha : float in (0, 1)
        Significance level.

    Raises
    ------
    DetectorError
        There are fewer than two detectors, or a score is missing, or there are too few data sets. In the last case
        Wilcoxon's smallest p-value, 2^(1 - n), is not significant after the correction, whatever the scores are.

    References
    ----------
    J. Demšar (2006), Statistical comparisons of classifiers over multiple data sets, JMLR 7, section 3.2.
    A. Benavoli, G. Corani, F. Mangili (2016), Should we really use post-hoc tests based on mean-ranks?, JMLR 17.
    S. Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Statistics 6.
    """
    check_share("alpha", alpha, 1)
    n, k = scores.shape
    if k < 2:
        raise DetectorError(f"{k} detectors: give at least two.")
    least = int(np.ceil(1 - np.log2(alpha / (k * (k - 1) / 2))))
    if n < least:
        raise DetectorError(
            f"{n} data sets are too few: with {k} detectors, at least {least} data sets are needed for a difference."
        )
    if scores.isna().to_numpy().any():
        dataset, detector = scores.isna().stack().idxmax()
        raise DetectorError(f"{detector} has no score on {dataset}; give every detector a score on every data set.")
    ranks = scores.rank(axis=1, ascending=False).mean().sort_values(kind="stable")
    friedman = stats.friedmanchisquare(*scores.to_numpy().T).pvalue if k > 2 else np.nan
    pairs = pd.DataFrame(combinations(ranks.index, 2), columns=["first", "second"])
    for side in ("first", "second"):
        pairs[f"{side}_rank"] = pairs[side].map(ranks)
    pairs["p"] = [_wilcoxon(scores[a] - scores[b]) for a, b in zip(pairs["first"], pairs["second"])]
    pairs["p_holm"] = _holm(pairs["p"].to_numpy())
    pairs["different"] = (pairs["p_holm"] <= alpha) & (k == 2 or friedman <= alpha)
    return AverageRanks(ranks, n, alpha, float(friedman), pairs)


def _wilcoxon(differences: pd.Series) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test; 1 if all differences are 0."""
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values: the i-th smallest of m is multiplied by m - i + 1, and made non-decreasing."""
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1.0)[np.argsort(order)]
