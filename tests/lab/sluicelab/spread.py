# SPDX-License-Identifier: Apache-2.0
"""Does a spread agree with the weights? Pearson's chi-squared test."""

import math


def chi_squared_tail(statistic, degrees):
    """P(X >= statistic) for the chi-squared distribution: the regularised upper incomplete gamma function
    Q(degrees/2, statistic/2), by its recurrence (DLMF 8.8.6) up from Q(1/2) or Q(1), which have closed forms."""
    if statistic <= 0:
        return 1.0
    x = statistic / 2
    if degrees % 2:
        tail, a = math.erfc(math.sqrt(x)), 0.5
    else:
        tail, a = math.exp(-x), 1.0
    while a < degrees / 2 - 1e-9:
        tail += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    return min(1.0, tail)


def agreement(counts, weights):
    """(statistic, p) of observed counts {name: n} against weights {name: w}. Names of weight 0 must not occur."""
    total, weight = sum(counts.values()), sum(weights.values())
    statistic = 0.0
    for name in set(counts) | set(weights):
        expected = total * weights.get(name, 0) / weight
        if expected == 0:
            if counts.get(name, 0):
                return math.inf, 0.0
            continue
        statistic += (counts.get(name, 0) - expected) ** 2 / expected
    return statistic, chi_squared_tail(statistic, sum(1 for w in weights.values() if w) - 1)
