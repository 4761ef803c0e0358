"""Assigns whole tracks to sets so that the sets have the desired sizes and class proportions.

Tracks have different lengths, so a random assignment can be far from both. An assignment that is
near enough is used; any other is improved by moving and swapping tracks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Counts = NDArray[np.float64]

_NEAR = 0.1  # a count is near enough if it is off by a tenth, or by one clip
_WORK = 20_000  # draws times tracks times classes, which limits the number of draws
_SWAPPED = 1000  # tracks of a set that are tried in swaps; for thousands, moves are enough
_EMPTY = 1e12  # penalty for a set without one of its classes, above every distance


@dataclass(frozen=True)
class Goal:
    """The desired counts; rows are sets, columns are classes and, last, all clips.

    Attributes
    ----------
    wanted : array, shape (S, C + 1)
        Desired numbers of clips, above 0.
    weight : array, shape (S, C + 1)
        1 / wanted, or 0 if the count does not matter.
    needed : array of bool, shape (S, C + 1)
        Counts that must not be 0.
    """

    wanted: Counts
    weight: Counts
    needed: NDArray[np.bool_]

    @classmethod
    def of(cls, counts: Counts, shares: Counts, stratify: bool, train_first: bool) -> "Goal":
        """Return the goal for tracks (U, C + 1) and fractions (S,) of all clips, which sum to 1.

        Without `stratify` only the total of each set matters; with `train_first`, set 0 must still
        have every class.
        """
        wanted = np.outer(shares, counts.sum(axis=0))
        weight, needed = 1 / wanted, np.ones(wanted.shape, bool)
        if not stratify:
            weight[:, :-1] = 0
            needed[1 if train_first else 0 :, :-1] = False
        return cls(wanted, weight, needed)

    def is_met(self, held: Counts) -> bool:
        """Tell whether every count is near enough to the desired one."""
        off = np.abs(held - self.wanted) <= np.maximum(1, _NEAR * self.wanted)
        return bool((off | (self.weight == 0)).all() and (held[self.needed] > 0).all())

    def distance(self, held: Counts) -> float:
        """Return Pearson's chi-squared of the counts, plus a penalty for each empty count."""
        squared = float(((held - self.wanted) ** 2 * self.weight).sum())
        return squared + _EMPTY * int((self.needed & (held == 0)).sum())


def closest(draw: Callable[[], Indices], counts: Counts, goal: Goal) -> Indices:
    """Return the set of each track (U,): the first that meets the goal, or else the closest one.

    Parameters
    ----------
    draw : callable
        Returns a random assignment of sets (U,).
    counts : array, shape (U, C + 1)
        Clips of each class in each track; the last column is their sum.
    goal : Goal
        The desired counts.
    """
    best, least = None, np.inf
    for _ in range(min(100, max(1, _WORK // counts.size))):
        set_of = draw()
        held = _held(set_of, counts, len(goal.wanted))
        while not goal.is_met(held) and _improve(set_of, held, counts, goal):
            held = _held(set_of, counts, len(goal.wanted))
        if goal.is_met(held):
            return set_of
        if (distance := goal.distance(held)) < least - 1e-9:
            best, least = set_of, distance
    assert best is not None
    return best


def _held(set_of: Indices, counts: Counts, n_sets: int) -> Counts:
    held = np.zeros((n_sets, counts.shape[1]))
    np.add.at(held, set_of, counts)
    return held


def _improve(set_of: Indices, held: Counts, counts: Counts, goal: Goal) -> bool:
    """Make the best move, or else the best swap; tell whether one improves the distance."""
    change = _moves(set_of, held, counts, goal)
    track, target = np.unravel_index(change.argmin(), change.shape)
    if change[track, target] < -1e-9:
        set_of[track] = target
        return True
    least, pair = -1e-9, None
    for a in range(len(held)):
        for b in range(a + 1, len(held)):
            ours, theirs = (np.flatnonzero(set_of == s)[:_SWAPPED] for s in (a, b))
            if not (len(ours) and len(theirs)):
                continue
            change = _swaps(counts[ours], counts[theirs], held[[a, b]], goal, [a, b])
            i, j = np.unravel_index(change.argmin(), change.shape)
            if change[i, j] < least:
                least, pair = float(change[i, j]), (ours[i], theirs[j])
    if pair is None:
        return False
    set_of[list(pair)] = set_of[list(pair[::-1])]
    return True


def _moves(set_of: Indices, held: Counts, counts: Counts, goal: Goal) -> Counts:
    """Return the change of the distance for moving each track to each set, (U, S)."""
    slope, weight, needed = 2 * (held - goal.wanted) * goal.weight, goal.weight, goal.needed
    leave = (counts**2 * weight[set_of] - counts * slope[set_of]).sum(axis=1)
    enter = counts**2 @ weight.T + counts @ slope.T
    empties = ((held[set_of] == counts) & (counts > 0) & needed[set_of]).sum(axis=1)
    fills = (counts > 0).astype(float) @ ((held == 0) & needed).astype(float).T
    change: Counts = (leave + _EMPTY * empties)[:, None] + enter - _EMPTY * fills
    change[np.arange(len(counts)), set_of] = 0
    return change


def _swaps(ours: Counts, theirs: Counts, held: Counts, goal: Goal, sets: list[int]) -> Counts:
    """Return the change of the distance for swapping two tracks, (ours, theirs)."""
    weight, needed = goal.weight[sets], goal.needed[sets]
    slope = 2 * (held - goal.wanted[sets]) * weight
    tilt, bend = slope[1] - slope[0], weight.sum(axis=0)
    change: Counts = (ours @ tilt + ours**2 @ bend)[:, None] + theirs**2 @ bend - theirs @ tilt
    change -= 2 * (ours * bend) @ theirs.T
    # A count becomes 0 if one track is all of it and the other has none, or conversely.
    only = [
        ((held[i] == tracks) & (tracks > 0) & needed[i]).astype(float)
        for i, tracks in enumerate((ours, theirs))
    ]
    empties = only[0] @ (theirs == 0).T + (only[1] @ (ours == 0).T).T
    fills = [
        ((tracks > 0) & (held[i] == 0) & needed[i]).sum(axis=1)
        for i, tracks in ((1, ours), (0, theirs))
    ]
    change += _EMPTY * (empties - fills[0][:, None] - fills[1])
    return change
