"""Arrays at a URL, in zarr and in the precomputed format of Neuroglancer, which are only read."""

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import zarr
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from emseg.errors import UserError
from emseg.volumes.damage import one_line
from emseg.volumes.ome_zarr import METADATA, describe, multiscales_of, place_in
from emseg.volumes.source import StoredSource

# How often a request is tried, the seconds before the second time, doubled then, and those without
# a byte after which a connection is lost.
TRIES, PAUSE, SILENCE = 4, 1.0, 60
# Bytes of precomputed chunks in a process's cache.
CACHE_BYTES = 1 << 30
# What all precomputed volumes of a process share, by the process that made it.
_CONTEXTS: dict[int, Any] = {}
# What servers say of a file's version, by the names that fsspec has for it.
_VERSIONS = ("ETag", "etag", "Last-Modified", "LastModified", "updated", "generation")


class RemoteZarr(StoredSource):
    """An array in a zarr at a URL: at its root, below a key, or the first scale of a multiscale."""

    def __init__(self, path: str, key: str) -> None:
        super().__init__(path, key)
        self._process, (store, files) = os.getpid(), _open(path)
        node = _node(store, key)
        scales = multiscales_of(node.attrs.asdict()) if isinstance(node, zarr.Group) else []
        if scales:
            self.key = f"{key}/{scales[0]['datasets'][0]['path']}".lstrip("/")
            node = _node(store, self.key)
        if not isinstance(node, zarr.Array):
            raise UserError(f"there is no zarr array at '{path}/{key}': name one, as {path}/raw")

        def scales_at(folder: str) -> list[dict[str, Any]]:
            group = _node(store, "" if folder == "." else folder)
            return [] if group is None else multiscales_of(group.attrs.asdict())

        self._array = node
        describe(self, node, place_in(self.key, scales_at, where=path))
        name = "zarr.json" if node.metadata.zarr_format == 3 else ".zarray"
        info = files.info("/".join(filter(None, (path, self.key, name))))
        self.state = store.metadata | {k: str(info[k]) for k in _VERSIONS if k in info}
        # Of a volume that was made anew, with other metadata, no old chunk is taken.
        about = hashlib.sha256(json.dumps([path, self.state], sort_keys=True).encode())
        folder = Path(os.environ.get("EMSEG_CACHE") or pooch.os_cache("emseg"))
        store.cache = LocalStore(folder / about.hexdigest())

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        if self._process != os.getpid():  # Connections do not outlive a fork.
            self.__init__(self.path, self.key)
        with one_line(f"cannot read '{self.path}/{self.key}'"):
            return np.asarray(self._array[region])

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteZarr, (self.path, self.key)


class CachedStore(WrapperStore[FsspecStore]):
    """A read-only store that asks again where a server fails, and stores chunks in a cache folder.

    Its files appear by renaming, so that any number of processes share them. Metadata are asked for
    each time; `metadata` has the SHA-256 of each file of them.
    """

    def __init__(self, store: FsspecStore, url: str) -> None:
        super().__init__(store)
        self.metadata: dict[str, str] = {}
        self.cache: LocalStore | None = None
        self._url, self._absent = url, set[str]()

    async def get(self, key: str, prototype: Any, byte_range: ByteRequest | None = None) -> Any:
        """The bytes of a file, None if there is none; UserError if the server does not say so."""
        name = key if byte_range is None else f"{key}.{byte_range}"
        if name in self._absent:
            return None
        cache = key.rpartition("/")[2] not in (*METADATA, ".zmetadata") and self.cache
        if cache and (found := await cache.get(name, prototype)) is not None:
            return found
        value = await self._fetch(key, prototype, byte_range)
        if value is not None and len(value) > _most(byte_range):
            raise UserError(f"'{self._url}/{key}' is sent whole, where a part was asked for")
        if value is None:
            self._absent.add(name)
        elif cache:
            await cache.set(name, value)
        else:
            self.metadata[key] = hashlib.sha256(value.to_bytes()).hexdigest()
        return value

    async def _fetch(self, key: str, *about: Any) -> Any:
        for attempt in range(TRIES):
            try:
                return await self._store.get(key, *about)
            except Exception as error:  # Each kind of server has classes of its own.
                last = error
            if attempt + 1 < TRIES:
                await asyncio.sleep(PAUSE * 2**attempt)
        where = f"cannot read '{self._url}/{key}', tried {TRIES} times"
        raise UserError(f"{where}: {type(last).__name__} {last}") from last


class Precomputed(StoredSource):
    """One scale of a precomputed volume, the first if none is named, with axes zyx or czyx."""

    def __init__(self, path: str, key: str) -> None:
        import tensorstore as ts

        super().__init__(path, key)
        base, context = path.removeprefix("precomputed://") + "/", _context()
        info = ts.KvStore.open(base, context=context).result().read("info").result()
        if info.state != "value":
            raise UserError(f"there is no 'info' of a precomputed volume at '{path}'")
        scales = {scale["key"]: scale for scale in json.loads(info.value)["scales"]}
        self.key = key or next(iter(scales))
        if self.key not in scales:
            raise UserError(f"'{path}' has no scale '{key}' (allowed: {', '.join(scales)})")
        scale = scales[self.key]
        spec = {"driver": "neuroglancer_precomputed", "kvstore": base, "recheck_cached_data": False}
        spec |= {"scale_metadata": {"key": self.key}}
        array = ts.open(spec, context=context, open=True, read=True).result()
        # From x, y, z and channel, beginning at voxel_offset.
        array = array[ts.d[:].translate_to[0]].T
        self._array = array[0] if array.shape[0] == 1 else array
        self.shape, self.dtype = self._array.shape, self._array.dtype.numpy_dtype
        self.chunks = self._array.chunk_layout.read_chunk.shape
        size = [float(length) for length in scale["resolution"][::-1]]
        first = scale.get("voxel_offset", [0, 0, 0])[::-1]
        offset = [a * b for a, b in zip(first, size, strict=True)]
        axes = "zyx" if len(self.shape) == 3 else "czyx"
        self.attributes = {"axes": axes, "resolution": size, "offset": offset}
        self.named_axes = {}
        version = info.stamp.generation.hex()
        self.state = {"info": hashlib.sha256(info.value).hexdigest(), "version": version}

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        with one_line(f"cannot read '{self.path}'"):
            _context()
            return np.asarray(self._array[region].read().result())

    def __reduce__(self) -> tuple[Any, ...]:
        return Precomputed, (self.path, self.key)


def _most(part: ByteRequest | None) -> float:
    if isinstance(part, RangeByteRequest):
        return part.end - part.start
    return part.suffix if isinstance(part, SuffixByteRequest) else float("inf")


def _open(url: str) -> tuple[CachedStore, Any]:
    """A store and the file system of a URL; credentials come from the environment."""
    import fsspec
    from aiohttp import ClientTimeout

    # aiohttp would give up after five minutes, however much of a chunk had come.
    timeout = ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
    http = {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    options = http if url.startswith("http") else {}
    store = FsspecStore.from_url(url, storage_options=options, read_only=True)
    return CachedStore(store, url), fsspec.url_to_fs(url, **options)[0]


def _node(store: CachedStore, key: str) -> zarr.Array | zarr.Group | None:
    try:
        return zarr.open(store=store, path=key, mode="r")
    except FileNotFoundError:
        return None


def _context() -> Any:
    """The context of tensorstore of this process; UserError in one that was forked."""
    import tensorstore

    if not _CONTEXTS:
        again = {"max_retries": TRIES, "initial_delay": f"{PAUSE}s", "max_delay": f"{8 * PAUSE}s"}
        settings = {f"{server}_request_retries": again for server in ("http", "gcs", "s3")}
        settings["cache_pool"] = {"total_bytes_limit": CACHE_BYTES}
        _CONTEXTS[os.getpid()] = tensorstore.Context(settings)
    if os.getpid() not in _CONTEXTS:  # tensorstore would end the process.
        raise UserError("precomputed volumes of worker processes need data.preload=true")
    return _CONTEXTS[os.getpid()]
