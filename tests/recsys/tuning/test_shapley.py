from itertools import permutations

import numpy as np
import pytest

from recsys.tuning.shapley import EXACT, ORDERS, Game


def by_definition(value, n):
    """Mean over all orders of what each change adds when its turn comes."""
    shares = np.zeros(n)
    orders = list(permutations(range(n)))
    for order in orders:
        made = set()
        for change in order:
            shares[change] += value(made | {change}) - value(made)
            made.add(change)
    return shares / len(orders)


def at(game, value):
    return np.array([value({int(change) for change in np.flatnonzero(row)}) for row in game.sets])


def crowded(made):
    """Worth that depends on what comes together: pairs of neighbours, and 0 with 3 is bad."""
    return sum(0.5 + change for change in made) + sum(2.0 for c in made if c + 1 in made) - 3.0 * ({0, 3} <= made)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_shares_are_the_mean_over_all_orders(n):
    game = Game.of(n, seed=0)
    assert game.weights @ at(game, crowded) == pytest.approx(by_definition(crowded, n))
    assert game.orders == 0


@pytest.mark.parametrize("n", [3, EXACT, EXACT + 1, 12])
def test_shares_sum_to_what_all_changes_do(n):
    game = Game.of(n, seed=0)
    values = np.random.default_rng(1).normal(size=len(game.sets))
    assert not game.sets[0].any()
    assert game.sets[-1].all()
    assert (game.weights @ values).sum() == pytest.approx(values[-1] - values[0])


def test_drawn_orders_come_near_to_all_of_them():
    n = EXACT + 1
    drawn = Game.of(n, seed=0)
    exact = Game._exact(n)
    assert drawn.orders == ORDERS
    assert drawn.weights @ at(drawn, crowded) == pytest.approx(exact.weights @ at(exact, crowded), abs=0.35)


def test_each_set_of_drawn_orders_is_valued_once():
    game = Game.of(EXACT + 2, seed=0)
    assert len({row.tobytes() for row in game.sets}) == len(game.sets)


def test_drawn_orders_are_fixed_by_the_seed():
    first, same, other = (Game.of(EXACT + 1, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.sets, same.sets)
    assert not (len(other.sets) == len(first.sets) and np.array_equal(first.sets, other.sets))


def test_a_change_that_does_nothing_has_no_share():
    game = Game.of(3, seed=0)
    assert game.weights @ at(game, lambda made: 2.0 * (0 in made) * (1 + (2 in made))) == pytest.approx([3.0, 0.0, 1.0])
