import hashlib
import io
import os
import zipfile
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest

from recsys import movielens
from recsys.errors import BadObject, NoFeedback
from recsys.movielens import Archive

TYPED = {
    "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "2\t10\t5\t875635200\n1\t10\t3\t874724710\n1\t11\t4\t874724710\n",
    "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    "1\t24\tM\tnone\t85711\n2\t53\tF\tother\t94043\n",
    "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "10\tToy \"Story\t1995\tAnimation Children's Comedy\n11\tGoldenEye\t1995\tSci-Fi\n",
}
PUBLISHED = {
    "u.data": "2\t10\t5\t875635200\n1\t10\t3\t874724710\n1\t11\t4\t874724710\n",
    "u.user": "1|24|M|none|85711\n2|53|F|other|94043\n",
    "u.item": '10|Toy "Story (1995)|01-Jan-1995|||0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n'
    "11|Café (1995)|01-Jan-1995|||0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|1|0|0|0\n",
}
ROWS = [
    ("u1-i10-874724710", "1", "10", "1997-09-20T03:05:10+00:00", 3.0, 24, "M", "none", "Animation"),
    ("u1-i11-874724710", "1", "11", "1997-09-20T03:05:10+00:00", 4.0, 24, "M", "none", "Sci-Fi"),
    ("u2-i10-875635200", "2", "10", "1997-09-30T16:00:00+00:00", 5.0, 53, "F", "other", "Animation"),
]


def written(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text.encode("latin-1" if name == "u.item" else "utf-8"))
    return folder


def zipped(files: dict[str, str], inside: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{inside}/{name}", text.encode("latin-1" if name == "u.item" else "utf-8"))
    return buffer.getvalue()


def an_archive(body: bytes, inside: str = "ml-100k", fetch=None) -> Archive:
    sha256 = hashlib.sha256(body).hexdigest()
    return Archive(where="a test", fetch=fetch or (lambda: body), sha256=sha256, inside=inside)


def out_of_reach() -> bytes:
    raise OSError("no route to host")


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch):
    monkeypatch.delenv("RETUNE_DATA", raising=False)


# --- reading


@pytest.mark.parametrize("files", [TYPED, PUBLISHED], ids=["typed", "published"])
def test_both_layouts_give_the_same_events_in_the_order_of_time(tmp_path, files):
    found = movielens.events(written(tmp_path, files))
    assert tuple(found.columns) == movielens.COLUMNS
    times = found["timestamp"].map(pd.Timestamp.isoformat)
    assert list(found.assign(timestamp=times).itertuples(index=False, name=None)) == ROWS
    assert str(found["timestamp"].dtype) == "datetime64[us, UTC]"


def test_a_folder_without_ratings_is_no_feedback(tmp_path):
    with pytest.raises(NoFeedback, match=r"must hold one of ml-100k\.inter, u\.data"):
        movielens.events(tmp_path)
    with pytest.raises(NoFeedback, match=r"must hold positives\.parquet"):
        movielens.ml1m_positives(tmp_path)


@pytest.mark.parametrize(
    "broken",
    [
        {"u.data": "2\t10\tfive\t875635200\n"},
        {"u.data": "2\t10\n"},
        {"u.data": "9\t10\t5\t875635200\n"},  # a user that u.user does not know
        {"u.user": "1|24|M|none|85711\n1|53|F|other|94043\n"},
    ],
    ids=["no number", "short", "unknown user", "user twice"],
)
def test_broken_files_are_a_bad_object(tmp_path, broken):
    with pytest.raises(BadObject) as caught:
        movielens.events(written(tmp_path, PUBLISHED | broken))
    assert caught.value.key == str(tmp_path)


def test_a_missing_file_is_a_bad_object(tmp_path):
    written(tmp_path, PUBLISHED)
    (tmp_path / "u.item").unlink()
    with pytest.raises(BadObject, match=r"u\.item"):
        movielens.events(tmp_path)


def test_ml1m_reads_in_the_same_columns(tmp_path):
    pd.DataFrame(
        {"user_id": [2, 1], "movie_id": [10, 10], "rating": [5, 4], "timestamp": [956703954, 956703932]}
    ).to_parquet(tmp_path / "positives.parquet")
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    (tmp_path / "movies.dat").write_text("10::Café (1995)::Drama|War\n", encoding="latin-1")
    found = movielens.ml1m_positives(tmp_path)
    assert tuple(found.columns) == movielens.COLUMNS
    assert found["event_id"].tolist() == ["u1-i10-956703932", "u2-i10-956703954"]
    assert found[["age", "gender", "occupation", "genre"]].values.tolist() == [
        [1, "F", "10", "Drama"],
        [56, "M", "16", "Drama"],
    ]


# --- weeks


def test_weeks_begin_with_the_day_of_the_first_event(tmp_path):
    stamps = ["1997-09-20T03:05", "1997-09-26T23:59", "1997-09-27T00:00", "1997-10-11T00:00"]
    events = pd.DataFrame({"event_id": list("abcd"), "timestamp": pd.to_datetime(stamps, utc=True)})
    assert [week["event_id"].tolist() for week in movielens.weeks(events)] == [["a", "b"], ["c"], [], ["d"]]
    assert all(week.index.tolist() == list(range(len(week))) for week in movielens.weeks(events))


def test_no_events_make_no_weeks():
    assert movielens.weeks(pd.DataFrame({"event_id": [], "timestamp": pd.to_datetime([], utc=True)})) == []


# --- finding


@pytest.mark.parametrize("folder", [".", "ml-100k"])
def test_what_lies_in_the_data_folder_is_taken(tmp_path, monkeypatch, folder):
    written(tmp_path / "data" / folder, TYPED)
    monkeypatch.setenv("RETUNE_DATA", str(tmp_path / "data"))
    found = movielens.find(tmp_path / "cache", archives=())
    assert found.resolve() == (tmp_path / "data" / folder).resolve()
    assert not (tmp_path / "cache").exists()


def test_a_download_is_unpacked_once_and_kept(tmp_path):
    archive = an_archive(zipped(PUBLISHED | {"README": "not needed"}, "ml-100k"))
    found = movielens.find(tmp_path / "new" / "cache", archives=[archive])
    assert found == tmp_path / "new" / "cache" / "ml-100k"
    assert sorted(path.name for path in found.iterdir()) == ["u.data", "u.item", "u.user"]
    assert len(movielens.events(found)) == 3
    assert [path.name for path in found.parent.iterdir()] == ["ml-100k"]
    assert movielens.find(tmp_path / "new" / "cache", archives=()) == found


def test_the_next_archive_is_tried_where_one_fails(tmp_path):
    good = an_archive(zipped(TYPED, "deep/inside"), inside="deep/inside")
    wrong = Archive(where="a liar", fetch=good.fetch, sha256="0" * 64, inside=good.inside)
    no_zip = an_archive(b"<html>")
    away = an_archive(b"", fetch=out_of_reach)
    found = movielens.find(tmp_path, archives=[away, wrong, no_zip, good])
    assert len(movielens.events(found)) == 3


def test_an_archive_of_something_else_is_not_kept(tmp_path):
    with pytest.raises(NoFeedback, match="holds no ratings"):
        movielens.find(tmp_path, archives=[an_archive(zipped({"other.csv": "1"}, "ml-100k"))])
    assert list(tmp_path.iterdir()) == []


def test_where_it_is_nowhere_one_error_says_all_that_was_tried(tmp_path, monkeypatch):
    monkeypatch.setenv("RETUNE_DATA", str(tmp_path / "nothing"))
    archives = [
        Archive(where="its publisher", fetch=out_of_reach, sha256="", inside=""),
        Archive(where="the package recbole", fetch=lambda: b"1", sha256="0" * 64, inside=""),
    ]
    with pytest.raises(NoFeedback) as caught:
        movielens.find(tmp_path / "cache", archives=archives)
    message = str(caught.value)
    assert str(tmp_path / "nothing") in message
    assert "its publisher did not give it (no route to host)" in message
    assert "the package recbole did not give it (the file has the SHA-256 6b86b273ff34" in message


def test_the_publishers_archive_comes_by_http(tmp_path):
    body = zipped(PUBLISHED, "ml-100k")
    (tmp_path / "ml-100k.zip").write_bytes(body)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            at = f"http://127.0.0.1:{server.server_address[1]}"
            absent = an_archive(body, fetch=partial(movielens._download, f"{at}/absent.zip"))
            with pytest.raises(NoFeedback, match="404"):
                movielens.find(tmp_path / "cache", archives=[absent])
            present = an_archive(body, fetch=partial(movielens._download, f"{at}/ml-100k.zip"))
            assert len(movielens.events(movielens.find(tmp_path / "cache", archives=[present]))) == 3
        finally:
            server.shutdown()
            thread.join()


def test_the_packages_wheel_comes_by_pip(tmp_path, monkeypatch):
    metadata = "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n"
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    dist = "../recbole-1.2.1.dist-info"
    files = TYPED | {f"{dist}/METADATA": metadata, f"{dist}/WHEEL": tags, f"{dist}/RECORD": ""}
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(os.path.normpath(f"data/{name}"), text)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "recbole-1.2.1-py3-none-any.whl").write_bytes(body.getvalue())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    archive = an_archive(body.getvalue(), inside="data", fetch=partial(movielens._wheel, "recbole==1.2.1"))
    assert len(movielens.events(movielens.find(tmp_path / "cache", archives=[archive]))) == 3

    absent = an_archive(b"", fetch=partial(movielens._wheel, "recbole==9.9.9"))
    with pytest.raises(NoFeedback, match=r"pip: .*recbole==9\.9\.9"):
        movielens.find(tmp_path / "other", archives=[absent])


# --- the real files


def data(name: str) -> Path:
    shared = Path(__file__).resolve().parents[3] / "shared" / "data"
    for folder in (Path(os.environ.get("RETUNE_DATA") or shared), shared):
        if (folder / name).is_dir():
            return folder / name
    pytest.skip(f"MovieLens is absent: neither RETUNE_DATA nor ../shared/data holds {name}")


@pytest.fixture
def ml100k(monkeypatch):
    monkeypatch.undo()  # RETUNE_DATA again
    return movielens.events(data("ml-100k"))


def test_the_real_ratings_are_all_there(ml100k):
    assert len(ml100k) == 100_000
    assert ml100k["event_id"].is_unique
    assert ml100k["user_id"].nunique() == 943
    assert ml100k["item_id"].nunique() == 1682
    assert ml100k["timestamp"].is_monotonic_increasing
    assert ml100k["timestamp"].iloc[0] == datetime(1997, 9, 20, 3, 5, 10, tzinfo=UTC)
    # How often each rating was given, as counted by `cut -f3 | sort | uniq -c`.
    assert ml100k["rating"].value_counts().to_dict() == {4.0: 34174, 3.0: 27145, 5.0: 21201, 2.0: 11370, 1.0: 6110}
    assert not ml100k.isna().any().any()
    assert set(ml100k["gender"]) == {"F", "M"}
    assert ml100k["age"].between(7, 73).all()
    assert ml100k["occupation"].nunique() == 21
    assert (ml100k["genre"] != "").all()


def test_the_real_weeks_hold_every_rating_once(ml100k):
    weeks = movielens.weeks(ml100k)
    assert len(weeks) == 31
    pd.testing.assert_frame_equal(pd.concat(weeks, ignore_index=True), ml100k)
    begins = np.datetime64("1997-09-20")
    for number, week in enumerate(weeks):
        days = (week["timestamp"].dt.tz_localize(None) - begins).dt.days
        assert days.between(7 * number, 7 * number + 6).all()


def test_the_real_positives_of_ml1m_are_all_there(monkeypatch):
    monkeypatch.undo()
    found = movielens.ml1m_positives(data("ml-1m"))
    assert len(found) == 518_897
    assert found["event_id"].is_unique
    assert found["timestamp"].is_monotonic_increasing
    assert set(found["rating"]) == {4.0, 5.0}
