"""Find items that a model has no knowledge of: rows of its table that are empty or alike, scores that never differ."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from recsys.bundles import WEIGHTS
from recsys.errors import BadBundle
from recsys.models import FAMILIES
from recsys.records import Bundle

EMPTY = 1e-6  # of the median row's length: a row shorter than this is as good as none


def tables(bundle: Bundle, weights: bytes) -> Mapping[str, NDArray]:
    """Give the tables of a bundle's weights that have a row for each item.

    Args:
        bundle: Whose weights; its family says which they are.
        weights: The bytes of its checkpoint.

    Returns:
        Tables by name, without the row that belongs to no item, each of the shape [N, D]; none of a family that is
        counted.

    Raises:
        BadBundle: The checkpoint cannot be read, lacks such a table, or has other rows than the manifest has items.
    """
    return {name: _table(bundle, weights, name) for name in _names(bundle)}


def dead(table: NDArray) -> int:
    """Count the rows that are empty, no finite numbers, or the same as another.

    >>> dead(np.array([[1.0, 0.0], [0.0, 0.0], [2.0, 1.0], [2.0, 1.0], [0.0, 3.0]]))
    3
    """
    lengths = np.linalg.norm(table.astype(np.float64), axis=1)
    empty = ~(lengths > EMPTY * np.nanmedian(lengths)) | ~np.isfinite(lengths)
    return int((empty | alike(table)).sum())


def alike(rows: NDArray) -> NDArray[np.bool_]:
    """Mark the rows that another row equals in every number.

    >>> alike(np.array([[1, 2], [3, 4], [1, 2]]))
    array([ True, False,  True])
    """
    keys = [row.tobytes() for row in np.ascontiguousarray(rows)]
    times = Counter(keys)
    return np.array([times[key] > 1 for key in keys], bool)


def constant(rows: NDArray) -> NDArray[np.bool_]:
    """Mark the rows whose numbers are all the same.

    >>> constant(np.array([[2.0, 2.0], [2.0, 3.0]]))
    array([ True, False])
    """
    return np.asarray((rows == rows[:, :1]).all(axis=1), np.bool_)


def _names(bundle: Bundle) -> Iterator[str]:
    """Name the parameters that have a row for each item and several columns."""
    family = FAMILIES.get(bundle.family)
    if family is None:
        return
    network = family.sketch(bundle.configuration, n_items=bundle.n_items)
    learner = getattr(network, "learner", network)
    inside = next(name for name, module in network.named_modules() if module is learner)
    shapes = {name: parameter.ndim for name, parameter in learner.named_parameters()}
    for name in sorted(getattr(learner, "by_item", frozenset())):
        if shapes[name] == 2:
            yield f"{inside}.{name}".lstrip(".")


def _table(bundle: Bundle, weights: bytes, name: str) -> NDArray:
    try:
        table = safetensors.numpy.load(weights)[name]
    except (safetensors.SafetensorError, KeyError) as error:
        raise BadBundle(
            f"{WEIGHTS} of {bundle.release_id} must hold {name}, but cannot be read so: {error}.", file=WEIGHTS
        ) from error
    if len(table) != bundle.n_items + 1:
        raise BadBundle(
            f"{name} in {WEIGHTS} of {bundle.release_id} must have {bundle.n_items + 1} rows, one more than items, but "
            f"has {len(table)}.",
            file=WEIGHTS,
        )
    return table[1:]
