"""Name what the DAGs of a line hand to each other."""

from airflow.sdk import Asset


def dataset(line: str) -> Asset:
    """Frozen feedback with an incumbent to compare with; its events carry `dataset_id`."""
    return _asset(line, "dataset")


def drift(line: str) -> Asset:
    """A drift verdict, whether or not anything moved; its events carry `dataset_id`, `release_id` and `drifted`."""
    return _asset(line, "drift")


def candidate(line: str) -> Asset:
    """What a search or a refit chose; its events carry `plan_id`."""
    return _asset(line, "candidate")


def watch(line: str) -> Asset:
    """How the release in production does; its events carry `release_id`, `generation`, `health` and `because`."""
    return _asset(line, "watch")


def release(line: str) -> Asset:
    """What production now serves; its events carry `release_id` and `generation`."""
    return _asset(line, "release")


def _asset(line: str, kind: str) -> Asset:
    return Asset(name=f"{line}_{kind}", uri=f"retune://{line}/{kind}", group="retune")
