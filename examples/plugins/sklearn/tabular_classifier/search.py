"""Find the best strength of a model by cross-validation, one fit after another, so that it can stop between any two."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tabular_classifier.frame import Features, Rows
from tabular_classifier.parameters import Parameters

MOST_KINDS = 30


@dataclass(frozen=True)
class Found:
    """The strength that won, and how well its folds were predicted."""

    strength: float
    accuracy: float


def strengths(parameters: Parameters) -> list[float]:
    """The candidates, from the simplest model on: C of the regression, or the depth of the trees."""
    if parameters.model == "forest":
        return [float(2 + 2 * step) for step in range(parameters.candidates)]
    return [float(value) for value in np.geomspace(0.01, 100, parameters.candidates)]


def pipeline(features: Features, *, strength: float, parameters: Parameters) -> Pipeline:
    """Numbers: the median for what is missing, and a mark that it was. Categories: missing is one of them."""
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    categories = make_pipeline(
        SimpleImputer(missing_values=None, strategy="constant", fill_value="(missing)"),
        OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MOST_KINDS, sparse_output=False),
    )
    count = len(features.numbers)
    columns = ColumnTransformer(
        [
            ("numbers", numbers, list(range(count))),
            ("categories", categories, list(range(count, len(features.names)))),
        ]
    )
    return make_pipeline(columns, _estimator(strength, parameters))


def _estimator(strength: float, parameters: Parameters) -> LogisticRegression | RandomForestClassifier:
    weights = "balanced" if parameters.class_weights == "balanced" else None
    if parameters.model == "forest":
        return RandomForestClassifier(
            n_estimators=parameters.trees,
            max_depth=int(strength),
            class_weight=weights,
            random_state=parameters.seed,
            n_jobs=1,
        )
    return LogisticRegression(C=strength, class_weight=weights, max_iter=2000, random_state=parameters.seed)


def search(
    features: Features,
    rows: Rows,
    *,
    parameters: Parameters,
    scores: dict[str, float],
    after_each: Callable[[int, int], None],
) -> Found:
    """Do the fits that `scores` does not hold yet; `after_each` gets how many are done, of how many, and may raise."""
    fits = list(_fits(rows, parameters))
    for key, strength, train, test in fits:
        if key not in scores:
            model = fitted(features, rows.features[train], rows.outcomes[train], strength, parameters)
            scores[key] = float(accuracy_score(rows.outcomes[test], model.predict(rows.features[test])))
            after_each(len(scores), len(fits))
    means = {
        strength: fmean(scores[key] for key, other, _, _ in fits if other == strength)
        for strength in strengths(parameters)
    }
    best = max(means, key=lambda strength: means[strength])  # the simplest one among equals
    return Found(best, means[best])


def fitted(features: Features, matrix: Any, outcomes: Any, strength: float, parameters: Parameters) -> Pipeline:
    """Fit a new pipeline."""
    return pipeline(features, strength=strength, parameters=parameters).fit(matrix, outcomes)


def _fits(rows: Rows, parameters: Parameters) -> Iterator[tuple[str, float, Any, Any]]:
    """Every fit in its order: its key, the strength, the rows that teach and those that are predicted."""
    largest = max(int(np.sum(rows.outcomes == label)) for label in set(rows.outcomes))
    folds = StratifiedKFold(min(parameters.folds, largest), shuffle=True, random_state=parameters.seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # a class may be rarer than there are folds
        parts = list(folds.split(rows.features, rows.outcomes))
    for candidate, strength in enumerate(strengths(parameters)):
        for fold, (train, test) in enumerate(parts):
            yield f"{candidate}/{fold}", strength, train, test
