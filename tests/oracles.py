"""The losses once more, row by row in numpy and scipy, for tests to compare with."""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy import special, stats

EPS = 1e-8


def correlation(x, y):
    """Pearson's, with the documented eps beside the norms."""
    norms = np.prod([np.linalg.norm(side - side.mean()) for side in (x, y)])
    if norms == 0:
        return 0.0
    return stats.pearsonr(x, y).statistic * norms / (norms + EPS)


def pearson_distance(x, y):
    return 1 - correlation(x, y)


def cosine_distance(x, y):
    norms = np.linalg.norm(x) * np.linalg.norm(y)
    return 1 - x @ y / (norms + EPS)


def kl_distance(x, y):
    x, y = x / (x.sum() + EPS), y / (y.sum() + EPS)
    return np.sum(y * (np.log(y + EPS) - np.log(x + EPS)))


DISTANCES = dict(pearson=pearson_distance, cosine=cosine_distance, kl=kl_distance)


def by_row(distance, x, y):
    return np.array([distance(a, b) for a, b in zip(x, y, strict=True)])


def mean(distance, x, y):
    """Over rows; 0 where there are none."""
    return float(by_row(distance, x, y).mean()) if len(x) else 0.0


def rows(maps):
    """[N, C] or [N, C, H, W] → [rows, C]."""
    return np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1])


def without_target(x, target):
    return np.array([np.delete(row, int(t)) for row, t in zip(x, target, strict=True)])


def channel(x, y, distance=pearson_distance):
    return mean(distance, rows(x), rows(y))


def spatial(x, y, distance=pearson_distance):
    return mean(distance, *(side.mean(1).reshape(len(side), -1) for side in (x, y)))


FUNCTIONS = {
    'pearson': lambda x, y: by_row(correlation, x, y),
    'pearson_distance': lambda x, y: by_row(pearson_distance, x, y),
    'cosine_distance': lambda x, y: by_row(cosine_distance, x, y),
    'kl_distance': lambda x, y: by_row(kl_distance, x, y),
    'inter_class_distance': lambda x, y: mean(pearson_distance, x, y),
    'intra_class_distance': lambda x, y: mean(pearson_distance, x.T, y.T),
    'channel_distance': channel,
    'spatial_distance': spatial,
    'non_target_distance': lambda x, y, t: mean(
        pearson_distance, without_target(x, t), without_target(y, t)),
}  # fmt: skip


def probabilities(x, loss):
    x = x / loss.tau
    return special.softmax(x, 1) if loss.activation == 'softmax' else special.expit(x)


def divergence(x, y, loss):
    """Mean over rows of KL(y || x)."""
    if not len(x):
        return 0.0
    p, q = probabilities(x, loss), probabilities(y, loss)
    terms = special.rel_entr(q, p)
    if loss.activation == 'sigmoid':
        other = (special.expit(-side / loss.tau) for side in (y, x))
        terms = terms + special.rel_entr(*other)
    return float(terms.sum(1).mean())


def kept_rows(loss, x, y, target):
    x, y = rows(x), rows(y)
    if loss.ignore_index is None:
        return x, y
    keep = target[0].flatten().numpy() != loss.ignore_index
    return x[keep], y[keep]


def dist(loss, x, y, *target):
    x, y = kept_rows(loss, x, y, target)
    if not len(x):
        return 0.0
    p, q = probabilities(x, loss), probabilities(y, loss)
    distance = DISTANCES[loss.relation]
    return loss.loss_weight * loss.tau**2 * (
        loss.inter_weight * mean(distance, p, q) + loss.intra_weight * mean(distance, p.T, q.T))


def logit_kl(loss, x, y, *target):
    x, y = kept_rows(loss, x, y, target)
    return loss.loss_weight * loss.tau**2 * divergence(x, y, loss)


def acclimation(loss, x, y, target):
    x, y, target = rows(x), rows(y), target.flatten().numpy()
    keep = (target >= 0) & (target < x.shape[1])
    x, y, target = x[keep], y[keep], target[keep]
    if loss.relation == 'kl':
        found = divergence(y, x, loss)
    else:
        p, q = probabilities(x, loss), probabilities(y, loss)
        if loss.relation == 'non_target':
            p, q = without_target(p, target), without_target(q, target)
        found = mean(pearson_distance, p, q)
    return loss.loss_weight * loss.tau**2 * found


def huber(x, y):
    error = np.abs(x - y)
    return np.where(error <= 1, error**2 / 2, error - 0.5).mean()


ERRORS = dict(huber=huber, mse=lambda x, y: ((x - y) ** 2).mean(),
              l1=lambda x, y: np.abs(x - y).mean())  # fmt: skip


def vrm(loss, student, teacher, *virtual):
    views = [rows(np.asarray(x)) for x in (student, teacher, *(virtual or (student, teacher)))]
    if loss.standardises:
        views = [stats.zscore(x, axis=1) for x in views]
    one, goal, other, goal_other = views

    def between(first, second):
        found = np.array([[a - b for b in second] for a in first])
        if loss.normalises:
            length = np.linalg.norm(found, axis=-1, keepdims=True)
            found = found / np.where(length < 1e-12, np.inf, length)
        return found

    error = ERRORS[loss.distance]
    total = loss.inter_sample_weight * error(between(one, other), between(goal, goal_other))
    total += loss.inter_class_weight * error(
        between(one.T, other.T), between(goal.T, goal_other.T))
    both = [np.concatenate(side) for side in ((one, other), (goal, goal_other))]
    return loss.loss_weight * (total + loss.vertex_weight * error(*both))


def feature_relation(loss, x, y):
    distance = DISTANCES[loss.relation]
    return loss.loss_weight * (loss.channel_weight * channel(x, y, distance)
                               + loss.spatial_weight * spatial(x, y, distance))  # fmt: skip


def channel_wise(loss, x, y):
    p, q = (special.softmax(side.reshape(*side.shape[:2], -1) / loss.tau, 2) for side in (x, y))
    return loss.loss_weight * loss.tau**2 * special.rel_entr(q, p).sum(2).mean()


def pkd(loss, x, y):
    x, y = (np.moveaxis(side, 1, 0).reshape(side.shape[1], -1) for side in (x, y))
    if x.shape[1] == 1:
        return 0.0
    standard = [stats.zscore(side, axis=1, ddof=1) for side in (x, y)]
    return loss.loss_weight * ((standard[0] - standard[1]) ** 2).mean() / 2


def fgd(loss, x, y, boxes):
    images, channels, height, width = x.shape
    total = 0.0
    for s, t, found in zip(x, y, boxes, strict=True):
        foreground = np.zeros((height, width))
        for left, top, right, bottom in found.double().numpy():
            left, top = int(left * width // 1), int(top * height // 1)
            right, bottom = int(np.ceil(right * width)), int(np.ceil(bottom * height))
            inside = foreground[top: bottom + 1, left: right + 1]
            np.maximum(inside, 1 / ((bottom - top + 1) * (right - left + 1)), out=inside)
        background = (foreground == 0) / max((foreground == 0).sum(), 1)
        spatial_t, spatial_s = (
            height * width * special.softmax(np.abs(m).mean(0) / loss.tau) for m in (t, s))
        channel_t, channel_s = (
            channels * special.softmax(np.abs(m).mean((1, 2)) / loss.tau) for m in (t, s))
        error = (channel_t[:, None, None] * (s - t) ** 2).sum(0) * spatial_t
        total += loss.foreground_weight * (error * foreground).sum()
        total += loss.background_weight * (error * background).sum()
        total += loss.attention_weight * (
            np.abs(spatial_t - spatial_s).sum() + np.abs(channel_t - channel_s).sum())
        # The context blocks' last layers start at zero: they add nothing.
        total += loss.context_weight * ((s - t) ** 2).sum()
    return loss.loss_weight * total / images


def mgd(loss, x, y):
    mask = copy.deepcopy(loss).mask(torch.from_numpy(x)).numpy()
    first, _, last = loss.generation
    with torch.no_grad():
        generated = last(first(torch.from_numpy(x * mask)).clamp_min(0)).numpy()
    return loss.loss_weight * ((generated - y) ** 2).sum() / len(x)


def of(loss):
    """The formula of a loss: ``formula(loss, student, teacher, …)`` of arrays."""
    return {
        'DISTLoss': dist, 'LogitKLLoss': logit_kl, 'AcclimationLoss': acclimation, 'VRMLoss': vrm,
        'FeatureRelationLoss': feature_relation, 'ChannelWiseLoss': channel_wise, 'PKDLoss': pkd,
        'FeatureMimicLoss': lambda loss, x, y: loss.loss_weight * ((x - y) ** 2).mean(),
        'FGDLoss': fgd, 'MGDLoss': mgd,
    }[type(loss).__name__]  # fmt: skip
