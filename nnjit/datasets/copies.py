"""Recordings that are the same under several names, found by the clips they become."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .inputs import RECORDINGS, Words

_SHOWN = 3  # groups that a message names
_OF_EACH = 5  # members of a group that it names


def digest(clips: NDArray[Any]) -> str:
    """Return the SHA-256 of clips (N, T), in hex digits."""
    return hashlib.sha256(np.ascontiguousarray(clips).data).hexdigest()


def find(codes: Sequence[NDArray[Any]], digests: Iterable[str] | None = None) -> list[list[int]]:
    """Return the groups of equal recordings, two or more each, as positions.

    What is compared are the clips (N, T), so that a file with other tags, a lossless copy in
    another format and a link are found as well; a copy that was compressed or cut is not. Where
    their digests are known already, no clip is read.
    """
    groups: dict[tuple[tuple[int, ...], str], list[int]] = {}
    for i, (clips, its) in enumerate(zip(codes, digests or map(digest, codes), strict=True)):
        groups.setdefault((clips.shape, its), []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def join(tracks: Sequence[str], same: Sequence[Sequence[int]]) -> list[str]:
    """Return the tracks, with one name, the first, for those that share a recording.

    Examples
    --------
    >>> join(["a", "b", "b", "c"], [[0, 1], [2, 3]])
    ['a', 'a', 'a', 'a']
    """
    first = {track: track for track in tracks}

    def root(track: str) -> str:
        while first[track] != track:
            track = first[track]
        return track

    order = {track: i for i, track in reversed(list(enumerate(tracks)))}
    for group in same:
        roots = sorted({root(tracks[i]) for i in group}, key=order.__getitem__)
        for other in roots[1:]:
            first[other] = roots[0]
    return [root(track) for track in tracks]


def tell(
    names: Sequence[tuple[str, str]], same: Sequence[Sequence[int]], words: Words = RECORDINGS
) -> list[str]:
    """Return a line on copies, and one on those that carry several labels, where there are any.

    Parameters
    ----------
    names : sequence of (str, str)
        Name and class of each recording.
    same : sequence of sequences of int
        Groups, as `find` returns them.
    words : Words
        What the inputs are called.
    """
    one = f"kept as one {words.track}"
    mixed = [group for group in same if len({names[i][1] for i in group}) > 1]
    lines = []
    if plain := [group for group in same if group not in mixed]:
        lines.append(
            f"{_listed(plain, names)}: the same {words.source} each, {one}; "
            "remove the copies to count each once"
        )
    if mixed:
        lines.append(
            f"{_listed(mixed, names)}: the same {words.source} in several classes, {one}; "
            "remove it from those where it is wrong"
        )
    return lines


def _listed(groups: Sequence[Sequence[int]], names: Sequence[tuple[str, str]]) -> str:
    shown = ", ".join(_equal([names[i][0] for i in group]) for group in groups[:_SHOWN])
    more = len(groups) - _SHOWN
    return shown + (f" and {more} more" if more > 0 else "")


def _equal(names: Sequence[str]) -> str:
    more = len(names) - _OF_EACH
    return " = ".join(names[:_OF_EACH]) + (f" = {more} others" if more > 0 else "")
