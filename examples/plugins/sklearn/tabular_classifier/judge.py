"""Say how good a model is on rows that it has not seen, beside what always guessing the commonest outcome reaches."""

from __future__ import annotations

from collections import Counter

import numpy as np
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.pipeline import Pipeline

from tabular_classifier.frame import Rows


def commonest(rows: Rows) -> str:
    """The commonest outcome; the first one by name among equals."""
    counts = Counter(rows.outcomes)
    return str(min(counts, key=lambda label: (-counts[label], label)))


def metrics(model: Pipeline, *, train: Rows, evaluation: Rows) -> dict[str, float]:
    """accuracy, majority_accuracy, log_loss and roc_auc, all of them finite; those that cannot be told are left out.

    An outcome that no training row has counts as a wrong prediction, and cannot count in the other two.
    """
    if not len(evaluation):
        return {}
    told = {
        "accuracy": float(accuracy_score(evaluation.outcomes, model.predict(evaluation.features))),
        "majority_accuracy": float(np.mean(evaluation.outcomes == commonest(train))),
    }
    known = np.isin(evaluation.outcomes, model.classes_)
    outcomes, likely = evaluation.outcomes[known], model.predict_proba(evaluation.features[known])
    if not len(outcomes):
        return told
    told["log_loss"] = float(log_loss(outcomes, likely, labels=model.classes_))
    if len(set(outcomes)) == len(model.classes_):
        scores = likely[:, 1] if len(model.classes_) == 2 else likely
        told["roc_auc"] = float(roc_auc_score(outcomes, scores, multi_class="ovr", labels=model.classes_))
    return {name: value for name, value in told.items() if np.isfinite(value)}
