"""Find MovieLens, whose licence forbids passing it on, and give its ratings as feedback.

F. Maxwell Harper and Joseph A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

import csv
import hashlib
import http.client
import io
import logging
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from recsys.columns import EVENT, ITEM, TIME, USER
from recsys.errors import BadObject, NoFeedback

COLUMNS = (EVENT, USER, ITEM, TIME, "rating", "age", "gender", "occupation", "genre")
"""Keys, label, and contexts: three of the user, one of the item, its first genre."""

logger = logging.getLogger(__name__)

_FOLDER = "ml-100k"
_TIMEOUT_S = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A zip file with MovieLens-100K in it."""

    where: str  # as a person says it
    fetch: Callable[[], bytes]  # raises OSError
    sha256: str
    inside: str  # the folder within


def find(cache: Path, *, archives: Sequence[Archive] | None = None) -> Path:
    """Give the folder that holds MovieLens-100K.

    It is looked for in the folder `RETUNE_DATA`, then in `cache`, then downloaded into `cache`.

    Args:
        cache: Where a download is kept.
        archives: Where to download it from, in this order; by default its publisher, then the wheel of the package
            recbole 1.2.1.

    Raises:
        NoFeedback: It is nowhere to be had; the message says what was tried and why each failed.
    """
    data = os.environ.get("RETUNE_DATA")
    known = [*(Path(data, name) for name in (_FOLDER, ".") if data), cache / _FOLDER]
    if found := next(filter(_holds_ratings, known), None):
        return found
    failures = [f"RETUNE_DATA, which is {data or 'not set'}, holds no folder {_FOLDER}"]
    for archive in ARCHIVES if archives is None else archives:
        try:
            return _unpack(archive, cache)
        except (OSError, zipfile.BadZipFile) as error:
            failures.append(f"{archive.where} did not give it ({error})")
    raise NoFeedback(
        "MovieLens-100K must lie in the folder RETUNE_DATA, or be had from its publisher or from the package recbole, "
        f"but {'; '.join(failures)}."
    )


def events(folder: Path) -> pd.DataFrame:
    """Read MovieLens-100K from `folder` as feedback, oldest first.

    Returns:
        100,000 rows with the columns `COLUMNS`.

    Raises:
        NoFeedback: The folder holds no ratings.
        BadObject: A file is not what its name says.
    """
    for name, read in _LAYOUTS.items():
        if (folder / name).is_file():
            return _feedback(folder, read)
    raise NoFeedback(f"{folder} must hold one of {', '.join(_LAYOUTS)}, but holds neither.")


def ml1m_positives(folder: Path) -> pd.DataFrame:
    """Read the ratings of 4 and more of MovieLens-1M from `folder` as feedback, oldest first.

    Returns:
        518,897 rows with the columns `COLUMNS`; age and occupation are the codes of the publisher's README.

    Raises:
        NoFeedback: The folder holds no ratings.
        BadObject: A file is not what its name says.
    """
    if not (folder / "positives.parquet").is_file():
        raise NoFeedback(f"{folder} must hold positives.parquet, but does not.")
    return _feedback(folder, _read_ml1m)


def weeks(events: pd.DataFrame) -> list[pd.DataFrame]:
    """Cut `events` into weeks, the first of which begins with the day, in UTC, of the first event.

    Returns:
        One table a week; a week without events is an empty one.
    """
    if events.empty:
        return []
    since_first_day = events[TIME] - events[TIME].min().floor("D")
    numbers = since_first_day // pd.Timedelta(weeks=1)
    return [events[numbers == number].reset_index(drop=True) for number in range(numbers.max() + 1)]


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the callers' URLs are http
            body: bytes = answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"{url} broke off: {error!r}") from error
    return body


def _wheel(requirement: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--no-deps", "--only-binary=:all:", "--quiet", "--retries=1", f"--timeout={_TIMEOUT_S}")
        command = [sys.executable, "-m", "pip", "download", *flags, "--dest", folder, requirement]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=20 * _TIMEOUT_S)
        except subprocess.SubprocessError as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise OSError(f"pip: {said[-1]}") from error
        [wheel] = Path(folder).glob("*.whl")
        return wheel.read_bytes()


ARCHIVES = (
    Archive(
        where="its publisher",
        fetch=partial(_download, "https://files.grouplens.org/datasets/movielens/ml-100k.zip"),
        sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        inside="ml-100k",
    ),
    Archive(
        where="the package recbole",
        fetch=partial(_wheel, "recbole==1.2.1"),
        sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        inside="recbole/dataset_example/ml-100k",
    ),
)


def _unpack(archive: Archive, cache: Path) -> Path:
    body = archive.fetch()
    found = hashlib.sha256(body).hexdigest()
    if found != archive.sha256:
        raise OSError(f"the file has the SHA-256 {found} instead of {archive.sha256}")
    target = cache / _FOLDER
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder, zipfile.ZipFile(io.BytesIO(body)) as members:
        draft = Path(folder, _FOLDER)
        draft.mkdir()
        for name in map(PurePosixPath, members.namelist()):
            if name.parent == PurePosixPath(archive.inside) and name.name in _FILES:
                (draft / name.name).write_bytes(members.read(str(name)))
        if not _holds_ratings(draft):
            raise OSError(f"the file holds no ratings in {archive.inside}")
        if not _holds_ratings(target):  # somebody else may have been faster
            draft.rename(target)
    logger.info("MovieLens-100K came from %s and lies in %s.", archive.where, target)
    return target


def _holds_ratings(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _LAYOUTS)


def _feedback(folder: Path, read: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
    try:
        found = read(folder).astype({USER: str, ITEM: str, "rating": "float64", "seconds": "int64", "age": "int64"})
    except (OSError, ValueError, KeyError) as error:
        raise BadObject(f"{folder} cannot be read as MovieLens: {error}", key=str(folder), reason=str(error)) from error
    found[TIME] = pd.to_datetime(found["seconds"], unit="s", utc=True).astype("datetime64[us, UTC]")
    found[EVENT] = "u" + found[USER] + "-i" + found[ITEM] + "-" + found["seconds"].astype(str)
    return found.sort_values([TIME, EVENT], ignore_index=True)[list(COLUMNS)]


def _read_typed(folder: Path) -> pd.DataFrame:
    """Read the layout of RecBole: tab-separated, each header's name followed by a colon and a type."""
    ratings, users, items = (
        _read_text(folder / f"ml-100k.{kind}", sep="\t", header=0).rename(columns=lambda name: name.partition(":")[0])
        for kind in ("inter", "user", "item")
    )
    items = items.assign(genre=items["class"].str.partition(" ")[0])
    return _joined(ratings.rename(columns={"timestamp": "seconds"}), users, items)


def _read_published(folder: Path) -> pd.DataFrame:
    """Read the publisher's layout: no headers, genres as flags in the order of the README."""
    ratings = _read_text(folder / "u.data", sep="\t", names=[USER, ITEM, "rating", "seconds"])
    users = _read_text(folder / "u.user", sep="|", names=[USER, "age", "gender", "occupation", "zip_code"])
    facts = [ITEM, "title", "released", "released_on_video", "url"]
    items = _read_text(folder / "u.item", sep="|", names=[*facts, *_GENRES], encoding="latin-1")
    items = items.assign(genre=(items[list(_GENRES)] == "1").idxmax(axis="columns"))
    return _joined(ratings, users, items)


def _read_ml1m(folder: Path) -> pd.DataFrame:
    ratings = pd.read_parquet(folder / "positives.parquet").rename(columns={"movie_id": ITEM, "timestamp": "seconds"})
    read = partial(_read_text, sep="::", engine="python", encoding="latin-1")
    users = read(folder / "users.dat", names=[USER, "gender", "age", "occupation", "zip_code"])
    items = read(folder / "movies.dat", names=[ITEM, "title", "genres"])
    items = items.assign(genre=items["genres"].str.partition("|")[0])
    return _joined(ratings, users.astype({USER: "int32"}), items.astype({ITEM: "int32"}))


def _read_text(path: Path, **layout: Any) -> pd.DataFrame:  # noqa: ANN401 - what pandas takes
    layout |= {"dtype": str, "keep_default_na": False, "quoting": csv.QUOTE_NONE}
    frame: pd.DataFrame = pd.read_csv(path, **layout)
    return frame


def _joined(ratings: pd.DataFrame, users: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    with_users = ratings.merge(users[[USER, "age", "gender", "occupation"]], on=USER, validate="many_to_one")
    joined = with_users.merge(items[[ITEM, "genre"]], on=ITEM, validate="many_to_one")
    if len(joined) != len(ratings):
        raise ValueError(f"{len(ratings) - len(joined)} ratings are of users or items that the other files do not know")
    return joined


_LAYOUTS: Mapping[str, Callable[[Path], pd.DataFrame]] = {"ml-100k.inter": _read_typed, "u.data": _read_published}
_FILES = frozenset({"ml-100k.inter", "ml-100k.item", "ml-100k.user", "u.data", "u.item", "u.user"})
_GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
