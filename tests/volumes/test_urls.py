"""Locations at URLs: what they mean, and what is refused."""

import pickle
from pathlib import Path

import pytest

from emseg.errors import UserError
from emseg.volumes.location import is_url, parse_location


@pytest.mark.parametrize(
    ("text", "path", "key", "kind"),
    [
        ("https://host/a.zarr", "https://host/a.zarr", "", "zarr"),
        ("https://host:80/d/a.zarr/raw/0/", "https://host:80/d/a.zarr", "raw/0", "zarr"),
        ("s3://bucket/a.ome.zarr:raw", "s3://bucket/a.ome.zarr", "raw", "zarr"),
        ("gs:/bucket/a.zarr/raw", "gs://bucket/a.zarr", "raw", "zarr"),
        ("precomputed://gs://b/seg", "precomputed://gs://b/seg", "", "precomputed"),
        ("precomputed:/https:/h:1/a:8_8", "precomputed://https://h:1/a", "8_8", "precomputed"),
    ],
)
def test_a_url_is_an_address_a_key_and_a_format(text, path, key, kind):
    for found in (parse_location(text), parse_location(Path(text))):
        assert (str(found.path), found.key, found.format) == (path, key, kind)
        assert parse_location(str(found)) == found
        assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://host/a.h5", r"\.zarr"),
        ("https://host", "names no remote"),
        ("https://user:secret@host", "environment"),
        ("n5://https://host/a.n5", "precomputed://"),
        ("ftp://host/a.zarr", "https://, s3:// and gs://"),
        ("https://user:secret@host/a.zarr", "environment"),
        ("precomputed://https://user:secret@host/a", "environment"),
        ("https://host/a.zarr?token=secret", "environment"),
    ],
)
def test_other_urls_are_refused(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_location(text)
    assert "secret" not in str(caught.value)


def test_local_names_are_no_urls():
    for name in ("a.h5:raw", "a.h5:/raw", "sections:raw_*.tif", "/data/https/a.zarr", "s3/a.zarr"):
        assert not is_url(name)
