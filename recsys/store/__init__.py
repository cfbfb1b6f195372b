"""Keep a line's objects in one place: a folder, an S3 bucket or, for tests, memory."""

from urllib.parse import urlsplit

from recsys.store.protocol import Entry, Object, Store, Table, check_key

__all__ = ["Entry", "Object", "Store", "Table", "check_key", "open_store"]


def open_store(url: str, *, probe: bool = True) -> Store:
    """Open the store at `url`.

    Endpoint, keys and region of an S3 store come from the standard `AWS_*` environment.

    Args:
        url: `file:///an/absolute/folder`, which need not exist yet, or `s3://bucket/prefix` with an existing bucket.
        probe: Whether an S3 endpoint must show at once that it honours conditional writes. Who may only read passes
            False; the probe then waits for the first conditional write.

    Raises:
        ValueError: `url` is of neither form.
        Unsupported: The endpoint ignores conditional writes.
        StoreError: The endpoint cannot be reached, the keys are wrong or there is no such bucket.
    """
    scheme = urlsplit(url).scheme
    if scheme == "file":
        from recsys.store.file import FileStore

        return FileStore.at(url)
    if scheme == "s3":
        from recsys.store.s3 import S3Store  # boto3 takes a third of a second to import

        return S3Store.at(url, probe=probe)
    raise ValueError(f"a store's URL must begin with file:// or s3:// but got {url!r}.")
