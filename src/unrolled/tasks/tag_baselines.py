"""What needs no sequence: the most frequent tag, that of each word, a linear model of a vector alone."""

from collections.abc import Iterable, Mapping

import numpy as np

from unrolled.data.tagged import Labels, Numbers, TagBatch, Vectors, Words
from unrolled.tasks.tag_figures import Judged

Arrays = Mapping[str, np.ndarray]


def fit(
    batches: Iterable[TagBatch], inputs: Words | Vectors, outputs: Labels | Numbers
) -> dict[str, np.ndarray]:
    """Fit the baselines on the training split."""
    pairs = ((batch.inputs[0][batch.inside], batch.tags[batch.inside]) for batch in batches)
    if isinstance(inputs, Words):
        if isinstance(outputs, Numbers):
            return {}
        counts = np.zeros((inputs.size, outputs.size))
        for words, tags in pairs:
            np.add.at(counts, (words, tags), 1)
        return {"counts": counts}
    x, y = (np.concatenate(side) for side in zip(*pairs, strict=True))
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
    batch: TagBatch, fitted: Arrays, inputs: Words | Vectors, outputs: Labels | Numbers
) -> dict[str, Judged]:
    """Let each baseline tell."""
    x = batch.inputs[0]
    if isinstance(outputs, Numbers):
        found = {"mean": _numbers(batch, np.zeros(outputs.size))}
        if "linear" in fitted:
            found["linear"] = _numbers(batch, _with_one(x) @ fitted["linear"])
        return found
    counts = fitted["counts"]
    tags = counts.sum(0) + 1
    frequency = tags / tags.sum()
    everywhere = np.broadcast_to(frequency, (*batch.tags.shape, len(tags)))
    found = {"most_frequent_tag": tell(batch, everywhere)}
    if isinstance(inputs, Words):
        known = counts[x] + frequency  # one more of each word, its tag by the frequency of all
        known /= known.sum(-1, keepdims=True)
        found["most_frequent_per_token"] = tell(batch, known)
    elif "linear" in fitted:
        found["linear"] = tell(batch, _softmax(_with_one(x) @ fitted["linear"]))
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
