"""The power of a study: which differences a number of seeds detects with the paired t test (two-sided).

`sd` is the standard deviation of the paired differences over seeds; `sd` and `effect` are in points. Under an effect the test statistic has
the noncentral t distribution with noncentrality effect / sd · √n (Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988).
"""

from __future__ import annotations

import math

ALPHA, POWER = 0.05, 0.8
"""The significance level, and the power that a study is planned for."""
MOST_SEEDS = 100_000
"""The largest number of seeds that a study may have."""


def power(effect: float, sd: float, n: int, alpha: float = ALPHA) -> float:
    """Return the probability that n seeds show a true difference of `effect` as significant. Raises ValueError if n < 2 or sd ≤ 0."""
    import numpy as np
    from scipy.stats import nct, t

    if n < 2 or not sd > 0:
        raise ValueError(f"power: a paired t test needs 2 seeds and a spread, not {n} and {sd:g}")
    critical, noncentrality = t.ppf(1 - alpha / 2, n - 1), abs(effect) / sd * math.sqrt(n)
    with np.errstate(divide="ignore"):  # SciPy before 1.14 warns of a division by zero, although the value is right
        above, below = nct.sf(critical, n - 1, noncentrality), nct.cdf(-critical, n - 1, noncentrality)
    return float(above + np.nan_to_num(below))  # far in the tail scipy returns NaN for values below 1e-8


def detectable(sd: float, n: int, alpha: float = ALPHA) -> float:
    """Return the smallest true difference, in the unit of `sd`, that n seeds show as significant with the power `POWER`."""
    from scipy.optimize import brentq

    high = sd
    while power(high, sd, n, alpha) < POWER:
        high *= 2
    return float(brentq(lambda effect: power(effect, sd, n, alpha) - POWER, 0.0, high, xtol=1e-6 * sd))


def seeds_for(effect: float, sd: float, alpha: float = ALPHA) -> int | None:
    """Return the smallest number of seeds that shows a true difference of `effect` with the power `POWER`; None if above `MOST_SEEDS`."""
    low, high = 1, 2
    while power(effect, sd, high, alpha) < POWER:
        low, high = high, 2 * high
        if high > MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, sd, middle, alpha) >= POWER else (middle, high)
    return high
