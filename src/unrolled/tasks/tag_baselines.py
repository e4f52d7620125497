"""What needs no sequence: the most frequent tag, that of each word, a linear model of a vector alone."""

from collections.abc import Mapping, Sequence

import numpy as np

from unrolled.data.tagged import Labels, Numbers, TagBatch, Vectors, Words
from unrolled.tasks.tag_figures import Judged

Arrays = Mapping[str, np.ndarray]


def fit(
    batches: Sequence[TagBatch], inputs: Words | Vectors, outputs: Labels | Numbers
) -> dict[str, np.ndarray]:
    """Fit the baselines on the training split."""
    x = np.concatenate([batch.inputs[0][batch.inside] for batch in batches])
    y = np.concatenate([batch.tags[batch.inside] for batch in batches])
    if isinstance(inputs, Words):
        if isinstance(outputs, Numbers):
            return {}
        counts = np.zeros((inputs.size, outputs.size))
        np.add.at(counts, (x, y), 1)
        return {"counts": counts}
    if isinstance(outputs, Numbers):
        weight, *_ = np.linalg.lstsq(_with_one(x), y, rcond=None)
        return {"linear": weight}
    counts = np.bincount(y, minlength=outputs.size)[None].astype(float)
    seen = np.flatnonzero(counts[0])
    if len(seen) < 2:
        return {"counts": counts}
    return {"counts": counts, "linear": _logistic(x, y, outputs.size)}


def _logistic(x: np.ndarray, y: np.ndarray, tags: int) -> np.ndarray:
    """Weights (I + 1, C) of logistic regression; a tag that never came has a score of -1e9."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000).fit(x, y)
    weight = np.zeros((x.shape[1] + 1, tags))
    weight[-1] = -1e9
    if len(model.classes_) == 2:  # the scores of the second; those of the first are zero
        weight[-1, model.classes_[0]] = 0
        weight[:, model.classes_[1]] = [*model.coef_[0], model.intercept_[0]]
    else:
        weight[:, model.classes_] = np.concatenate([model.coef_.T, model.intercept_[None]])
    return weight


def judge(
    batches: Sequence[TagBatch], fitted: Arrays, inputs: Words | Vectors, outputs: Labels | Numbers
) -> dict[str, list[Judged]]:
    """Let each baseline tell."""
    if isinstance(outputs, Numbers):
        found = {"mean": [_numbers(batch, np.zeros(outputs.size)) for batch in batches]}
        if "linear" in fitted:
            linear = fitted["linear"]
            found["linear"] = [_numbers(b, _with_one(b.inputs[0]) @ linear) for b in batches]
        return found
    counts = fitted["counts"]
    tags = counts.sum(0) + 1
    frequency = tags / tags.sum()
    found = {
        "most_frequent_tag": [
            tell(b, np.broadcast_to(frequency, (*b.tags.shape, len(tags)))) for b in batches
        ]
    }
    if isinstance(inputs, Words):
        known = counts + frequency  # one more of each word, its tag by the frequency of all
        known /= known.sum(1, keepdims=True)
        found["most_frequent_per_token"] = [tell(b, known[b.inputs[0]]) for b in batches]
    elif "linear" in fitted:
        found["linear"] = [
            tell(b, _softmax(_with_one(b.inputs[0]) @ fitted["linear"])) for b in batches
        ]
    return found


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((*x.shape[:-1], 1))], -1)


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def tell(batch: TagBatch, p: np.ndarray) -> Judged:
    """Tell the likeliest tags, by probabilities (T, B, C)."""
    truth = p[batch.inside][np.arange(batch.lengths.sum()), batch.tags[batch.inside]]
    nats = -float(np.log(np.maximum(truth, 1e-300)).sum())
    return Judged(batch.tags, p.argmax(-1), batch.lengths, nats)


def _numbers(batch: TagBatch, told: np.ndarray) -> Judged:
    return Judged(batch.tags, np.broadcast_to(told, batch.tags.shape), batch.lengths, 0.0)
