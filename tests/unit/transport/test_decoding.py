"""Unpacking: the same bytes for every cut, in bounded pieces, and no damage goes unnoticed."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.transport.decoding import decoder_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodellm_orm.transport.decoding import Decoder


def raw_deflate(body: bytes) -> bytes:
    """Deflate without zlib's frame, as some servers send it."""
    pack = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return pack.compress(body) + pack.flush()


def two_members(body: bytes) -> bytes:
    """Gzip in two members, as a server that appends makes it."""
    return gzip.compress(body[: len(body) // 2]) + gzip.compress(body[len(body) // 2 :])


PACKINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("X-GZIP ", gzip.compress),
    ("gzip", two_members),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("identity", bytes),
    ("", bytes),
]


def decoder(encoding: str) -> Decoder:
    """A decoder that exists."""
    found = decoder_for(encoding)
    assert found is not None
    return found


def unpacked(encoding: str, packed: bytes, size: int) -> bytes:
    """Everything, fed a few bytes at a time."""
    unpack = decoder(encoding)
    body = b"".join(
        piece for start in range(0, len(packed), size) for piece in unpack.feed(packed[start : start + size])
    )
    unpack.finish()
    return body


@pytest.mark.parametrize(("encoding", "pack"), PACKINGS)
@given(body=st.binary(max_size=3000), size=st.integers(1, 200))
def test_every_cut_gives_the_same_body(encoding: str, pack: Callable[[bytes], bytes], body: bytes, size: int) -> None:
    """However the packed bytes are cut, the body is the same."""
    assert unpacked(encoding, pack(body), size) == body


@pytest.mark.fault("A26")
@pytest.mark.parametrize(("encoding", "pack"), PACKINGS[:5])
def test_pieces_are_bounded(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """A bomb comes in pieces of 64 KiB, and all of it does."""
    sizes = [len(piece) for piece in decoder(encoding).feed(pack(bytes(5_000_000)))]
    assert max(sizes) <= 1 << 16
    assert sum(sizes) == 5_000_000


@pytest.mark.fault("A25")
@pytest.mark.parametrize(("encoding", "pack"), PACKINGS[:5])
def test_every_early_end_is_noticed(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """A body that lacks any number of its last bytes is damaged; gzip may end between two members."""
    packed = pack(b"some text, and some more of it")
    fine = [
        end
        for end in range(1, len(packed))
        if _passes(encoding, packed[:end])
    ]  # fmt: skip
    assert fine == ([packed.rindex(b"\x1f\x8b")] if pack is two_members else [])


def _passes(encoding: str, packed: bytes) -> bool:
    try:
        unpacked(encoding, packed, len(packed))
    except zlib.error:
        return False
    return True


@pytest.mark.fault("A24")
@pytest.mark.parametrize(("encoding", "pack"), PACKINGS[:5])
@pytest.mark.parametrize("size", [1, 1000])
def test_what_follows_the_end_is_damage(encoding: str, pack: Callable[[bytes], bytes], size: int) -> None:
    """Bytes after the end are no part of the body and not passed over either."""
    with pytest.raises(zlib.error):
        unpacked(encoding, pack(b"text") + b"more", size)


def test_nothing_at_all_is_an_empty_body() -> None:
    """A body without a byte is not damaged."""
    assert unpacked("gzip", b"", 1) == b""


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, br"])
def test_what_was_not_offered_has_no_decoder(encoding: str) -> None:
    """Only what can be checked to its end is unpacked."""
    assert decoder_for(encoding) is None
