import math

import numpy as np
import pytest

from nnjit.datasets import Encoding
from nnjit.datasets.encode import METHODS
from nnjit.errors import ConfigError, DataError


def naive(x, method, levels):
    def uniform(v):
        return min(math.floor(levels * v), levels - 1)

    codes = []
    for v in x:
        if method == "uniform":
            codes.append(uniform(v))
        elif method == "ceil":
            codes.append(math.ceil((levels - 1) * v))
        else:
            mu, y = levels - 1, 2 * v - 1
            companded = math.copysign(math.log1p(mu * abs(y)) / math.log1p(mu), y)
            codes.append(uniform((max(companded, -1) + 1) / 2))
    return codes


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("levels", [2, 3, 16, 255, 256])
def test_quantise_equals_the_loop(method, levels, rng):
    x = np.concatenate([rng.uniform(size=500), np.arange(levels) / (levels - 1), [0.5]])
    codes = Encoding(levels=levels, method=method).quantise(x)
    assert codes.dtype == np.uint8
    assert codes.tolist() == naive(x, method, levels)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("levels", [2, 16, 256])
def test_codes_rise_and_use_every_level(method, levels):
    codes = Encoding(levels=levels, method=method).quantise(np.linspace(0, 1, 20_001))
    assert (np.diff(codes.astype(int)) >= 0).all()
    assert np.unique(codes).tolist() == list(range(levels))


def test_uniform_bins_are_equal_and_mulaw_is_fine_around_the_middle():
    x = (np.arange(16_000) + 0.5) / 16_000
    assert (np.bincount(Encoding().quantise(x)) == 1000).all()
    counts = np.bincount(Encoding(method="mulaw").quantise(x))
    assert counts.argmax() in (0, 15)
    assert counts.argmin() in (7, 8)


@pytest.mark.parametrize("bad", [-0.01, 1.01, np.nan, np.inf])
def test_a_value_outside_is_refused(bad):
    with pytest.raises(DataError, match=r"expected \[0, 1\]"):
        Encoding().quantise(np.array([0.5, bad]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 1}, "dataset.levels=1 "),
        ({"levels": 257}, "from 2 to 256"),
        ({"levels": 16.0}, "dataset.levels"),
        ({"levels": True}, "dataset.levels"),
        ({"method": "alaw"}, "dataset.encoding=alaw is unknown: use uniform, ceil, mulaw"),
        ({"resampler": "fft"}, "dataset.resampler=fft is unknown: use soxr, decimate"),
        ({"rate": 0}, "dataset.rate=0 "),
        ({"rate": -1.0}, "dataset.rate"),
        ({"rate": math.nan}, "dataset.rate"),
        ({"rate": "fast"}, "dataset.rate=fast"),
        ({"duration": 0}, "dataset.duration"),
        ({"duration": 1e-9}, "less than one sample"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ConfigError, match=message):
        Encoding(**options)


def test_round_trip_and_equality():
    encoding = Encoding(levels=4, method="mulaw", rate=10_000, duration=2)
    assert Encoding.from_dict(encoding.to_dict()) == encoding
    assert Encoding(rate=10_000) == Encoding(rate=10_000.0)
    assert encoding.n_steps == 20_000
    with pytest.raises(ConfigError, match="unknown encoding key 'mu'"):
        Encoding.from_dict({"mu": 255})
    with pytest.raises(ConfigError, match=r"set dataset\.rate"):
        _ = Encoding(rate=None).n_steps
