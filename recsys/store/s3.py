"""Keep objects in an S3 bucket, and find out what really happened when an answer is lost on the way.

A conditional write whose answer was lost is sent again and then fails its own condition. So every conditional write
carries a nonce in the object's metadata: whoever finds its own nonce under the key has won after all.
"""

import contextlib
import copy
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from recsys.errors import Conflict, NotFound, StoreError, Unsupported
from recsys.store.protocol import Entry, Object, Store, Table, check_key, check_prefix, is_listed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATTEMPTS = 8
"""Requests sent before giving up; with 5, one writer in 60 failed where 30 % of the answers were "slow down"."""

logger = logging.getLogger(__name__)

_NONCE = "retune-nonce"  # travels as the header x-amz-meta-retune-nonce
_PARTS = TransferConfig(max_concurrency=4)
_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    connect_timeout=5,
    read_timeout=60,
    max_pool_connections=32,
)


class S3Store:
    """A store below `prefix` in `bucket`, which must exist."""

    def __init__(self, session: Session, *, bucket: str, prefix: str = "") -> None:
        self._session = session
        self._bucket = bucket
        self._root = f"{check_key(prefix)}/" if prefix else ""
        with _border("", self.url):
            self._client: S3Client = session.client("s3", config=_CONFIG)
        self._probed = threading.Event()

    @classmethod
    def at(cls, url: str, *, probe: bool = True) -> Self:
        """Open the store at an `s3://` URL with the endpoint, keys and region of the `AWS_*` environment.

        Args:
            url: `s3://bucket` or `s3://bucket/prefix`.
            probe: Whether to try conditional writes at once rather than before the first one.

        Raises:
            ValueError: The URL is of neither form.
            Unsupported: The endpoint ignores conditional writes.
            StoreError: It cannot be reached, or refuses.
        """
        parts = urlsplit(url)
        if not parts.netloc or parts.query or parts.fragment:
            raise ValueError(f"an S3 store's URL must be s3://bucket or s3://bucket/prefix but got {url!r}.")
        session = Session(region_name=os.environ.get("AWS_REGION"))  # boto3 alone reads only AWS_DEFAULT_REGION
        store = cls(session, bucket=parts.netloc, prefix=parts.path.strip("/"))
        if probe:
            store.probe()
        return store

    @property
    def url(self) -> str:
        """`s3://`, the bucket and the prefix."""
        return f"s3://{self._bucket}/{self._root}".removesuffix("/")

    def probe(self) -> None:
        """Try whether the endpoint honours conditional writes.

        Raises:
            Unsupported: It lets a write pass whose condition does not hold, or refuses one whose condition does.
            StoreError: It cannot be reached, or refuses to write at all.
        """
        path = f"{self._root}.probe-{uuid.uuid4().hex}"  # hidden: no key begins with a dot
        with _border(path, self.url):
            created = self._write(path, b"1", IfNoneMatch="*")
            try:
                honoured = (
                    created is not None
                    and self._write(path, b"2", IfNoneMatch="*") is None
                    and self._write(path, b"3", IfMatch='"00000000000000000000000000000000"') is None
                    and self._write(path, b"4", IfMatch=f'"{created}"') is not None
                )
            finally:
                self._client.delete_object(Bucket=self._bucket, Key=path)
        if not honoured:
            raise Unsupported(
                f"the endpoint {self._client.meta.endpoint_url} does not honour If-None-Match and If-Match on writes "
                f"to {self.url}, so two releases at once could overwrite each other unseen."
            )
        self._probed.set()

    def get(self, key: str) -> Object:
        """Read an object; see `Store.get`."""
        path = self._path(key)
        with _border(key, self.url):
            for attempt in range(1, ATTEMPTS + 1):
                answer = self._client.get_object(Bucket=self._bucket, Key=path)
                try:
                    body = answer["Body"].read()
                except BotoCoreError as error:  # cut off on the way, which boto3 itself does not try again
                    if attempt == ATTEMPTS:
                        raise
                    logger.warning("%s broke off while reading %s (%s), attempt %d.", self.url, key, error, attempt)
                    _back_off(attempt)
                else:
                    break
        return Object(body=body, etag=_bare(answer["ETag"]), modified=answer["LastModified"])

    def put(self, key: str, body: bytes) -> str:
        """Write an object; see `Store.put`."""
        path = self._path(key)
        with _border(key, self.url):
            return _bare(self._client.put_object(Bucket=self._bucket, Key=path, Body=body)["ETag"])

    def create(self, key: str, body: bytes) -> str:
        """Write an object that must not exist yet; see `Store.create`."""
        etag = self._write_checked(key, body, IfNoneMatch="*")
        if etag is None:
            raise Conflict(f"{self.url} has an object {key!r} already.", key=key)
        return etag

    def replace(self, key: str, body: bytes, *, etag: str) -> str:
        """Write over the object that was read with `etag`; see `Store.replace`."""
        new_etag = self._write_checked(key, body, IfMatch=f'"{etag}"')
        if new_etag is None:
            raise Conflict(f"{key!r} in {self.url} is no longer the object that was read.", key=key)
        return new_etag

    def list(self, prefix: str) -> Iterator[Entry]:
        """Show all objects under `prefix`; see `Store.list`."""
        begin = self._root + check_prefix(prefix)
        with _border(prefix, self.url):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=begin)
            found = [
                Entry(
                    key=key,
                    etag=_bare(content["ETag"]),
                    size_bytes=content["Size"],
                    modified=content["LastModified"],
                )
                for page in pages
                for content in page.get("Contents", [])
                if is_listed(key := content["Key"].removeprefix(self._root))
            ]
        # AWS lists in this order, but servers that keep folders list `a/b` before `a-b`.
        return iter(sorted(found, key=lambda entry: entry.key))

    def delete(self, key: str) -> None:
        """Remove an object; see `Store.delete`."""
        with _border(key, self.url):
            self._client.delete_object(Bucket=self._bucket, Key=self._path(key))

    def fetch(self, key: str, path: Path) -> None:
        """Copy an object to a file; see `Store.fetch`."""
        source = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _border(key, self.url):  # boto3 writes beside `path` and renames
            self._client.download_file(self._bucket, source, str(path), Config=_PARTS)

    def upload(self, path: Path, key: str) -> str:
        """Write an object from a file; see `Store.upload`."""
        target = self._path(key)
        with _border(key, self.url):
            self._client.upload_file(str(path), self._bucket, target, Config=_PARTS)
            return _bare(self._client.head_object(Bucket=self._bucket, Key=target)["ETag"])

    def under(self, prefix: str) -> Store:
        """Give the same store rooted at `prefix`; see `Store.under`."""
        below = copy.copy(self)  # with the same connections and the same answer to the probe
        below._root = self._path(prefix) + "/"
        return below

    def table(self, key: str) -> Table:
        """Say how `deltalake` reaches the table at `key`; see `Store.table`."""
        endpoint = self._client.meta.endpoint_url
        options = {
            "AWS_REGION": self._client.meta.region_name.replace("aws-global", "us-east-1"),
            "aws_conditional_put": "etag",
        }
        if not (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
            options |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http:")).lower()}
        if credentials := self._session.get_credentials():
            frozen = credentials.get_frozen_credentials()
            keys = {
                "AWS_ACCESS_KEY_ID": frozen.access_key,
                "AWS_SECRET_ACCESS_KEY": frozen.secret_key,
                "AWS_SESSION_TOKEN": frozen.token,
            }
            options |= {name: value for name, value in keys.items() if value}
        return Table(uri=f"s3://{self._bucket}/{self._path(key)}", options=options)

    def _path(self, key: str) -> str:
        return self._root + check_key(key)

    def _write_checked(self, key: str, body: bytes, **condition: str) -> str | None:
        path = self._path(key)
        if not self._probed.is_set():
            self.probe()
        with _border(key, self.url):
            return self._write(path, body, **condition)

    def _write(self, path: str, body: bytes, **condition: str) -> str | None:
        """Write under a condition; None says that it did not hold."""
        nonce = uuid.uuid4().hex
        request: dict[str, Any] = {"Bucket": self._bucket, "Key": path, "Body": body, **condition}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _bare(self._client.put_object(**request, Metadata={_NONCE: nonce})["ETag"])
            except ClientError as error:
                if _status(error) == 409 and attempt < ATTEMPTS:  # a rival's write is under way: ask again
                    _back_off(attempt)
                elif _status(error) == 412 or _code(error) == "NoSuchKey":
                    return self._etag_if_ours(path, nonce)
                else:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _etag_if_ours(self, path: str, nonce: str) -> str | None:
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=path)
        except ClientError as error:
            if _status(error) == 404:
                return None
            raise
        if found["Metadata"].get(_NONCE) != nonce:
            return None
        logger.info("The answer to a write of %s in %s was lost; the write had succeeded.", path, self._bucket)
        return _bare(found["ETag"])


@contextlib.contextmanager
def _border(key: str, url: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise _translated(error, key, url) from error
    except (BotoCoreError, Boto3Error) as error:
        raise StoreError(f"{url} could not serve {key!r}: {error}", key=key) from error


def _translated(error: ClientError, key: str, url: str) -> StoreError:
    if _status(error) == 404 and _code(error) != "NoSuchBucket":
        return NotFound(f"{url} has no object {key!r}.", key=key)
    if _status(error) == 501:
        return Unsupported(f"{url} does not know what was asked for {key!r}: {error}", key=key)
    return StoreError(f"{url} refused {key!r}: {error}", key=key)


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def _code(error: ClientError) -> str:
    return error.response["Error"].get("Code", "")


def _bare(etag: str) -> str:
    return etag.strip('"')


def _back_off(attempt: int) -> None:
    time.sleep(random.uniform(0, min(2.0, 0.02 * 2**attempt)))  # seconds; full jitter
