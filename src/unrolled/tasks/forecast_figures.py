"""How good forecasts are: n of them, of K numbers H steps ahead."""

import math

import numpy as np

from unrolled.data.row_targets import RowTargets
from unrolled.data.sequences import Source
from unrolled.data.series import Series
from unrolled.tasks.forecast_heads import Head, Told


def figures(truth: np.ndarray, told: Told, source: Source, head: Head) -> dict[str, float]:
    """Judge forecasts (n, O, ...) by the truth.

    ``mse`` and ``mae`` are those of scaled numbers, over all steps ahead, as Zhou et al. 2021 (Informer)
    report them; ``rmse`` is in the data's units. Of rows that stand alone ``r2`` is 1 less the mean over
    columns of squared error over variance. ``nrmse`` is at the last step ahead the root of the mean
    square over the variance of the truth, averaged over the columns. Nats a step are summed over the notes
    and averaged over all steps of all pieces, as Bai, Kolter & Koltun 2018 and Chung et al. 2014 report
    them. What goes beyond the point is judged by :meth:`Head.figures`.
    """
    beyond = head.figures(told, truth)
    if source.binary:
        if isinstance(source, Series):
            return {"accuracy": float(np.mean((told.point > 0.5) == truth)), **beyond}
        p = np.clip(np.where(truth > 0, told.point, 1 - told.point), 1e-12, 1)
        return {"nats_per_step": float(-np.log(p).sum() / len(p)), **beyond}
    errors = told.point - truth
    found = {"mse": float(np.mean(errors**2))}
    if isinstance(source, RowTargets):
        found["mae"] = float(np.mean(np.abs(errors)))
        found["rmse"] = float(np.sqrt(np.mean((errors * source.scale) ** 2)))
        if len(truth) > 1:
            from sklearn.metrics import r2_score

            found["r2"] = float(r2_score(truth, told.point))
    if isinstance(source, Series):
        found["mae"] = float(np.mean(np.abs(errors)))
        found["rmse"] = float(np.sqrt(np.mean((errors * source.scale[:, None]) ** 2)))
        squares, variance = (errors[..., -1] ** 2).mean(0), truth[..., -1].var(0)
        known = variance > 0
        share = squares[known] / variance[known]
        found["nrmse"] = float(np.sqrt(share.mean())) if known.any() else math.nan
    return {**found, **beyond}


def error_by_step(truth: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Mean square of the scaled error at each step ahead: (n, K, H) -> (H,)."""
    return ((point - truth) ** 2).mean((0, 1))
