"""What ``files=`` takes, what the policy forbids, and how an error says which setting would allow it."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.domain.attachments import AttachmentPolicy
from nodellm_orm.domain.parts import MediaPart, TextPart
from nodellm_orm.errors import AttachmentError
from nodellm_orm.ports.fetching import Fetched
from nodellm_orm.runtime.attachments import Files, file_list

if TYPE_CHECKING:
    from collections.abc import Callable

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
QUESTION = (TextPart(text="What is this?"),)
posix = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX")


class FakeFetcher:
    """Gives a picture for every URL, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def fetch(self, url: str, policy: AttachmentPolicy) -> Fetched:
        """The picture."""
        del policy
        self.asked.append(url)
        return Fetched(data=PNG, url="https://cdn.example.com/real%20name.png?x=1", media_type="text/html")


async def attached(files: object, **policy: Any) -> list[MediaPart]:
    """The files of a question under a policy."""
    parts = await Files(AttachmentPolicy(**policy)).attach(QUESTION, files)
    assert parts[-1:] == QUESTION
    return [part for part in parts if isinstance(part, MediaPart)]


class Upload:
    """What web frameworks hand over: a name, and a read that has to be awaited."""

    filename = "photo.png"

    async def read(self, size: int = -1) -> bytes:
        """The whole content."""
        del size
        return PNG


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (PNG, None),
        (bytearray(PNG), None),
        (memoryview(PNG), None),
        (memoryview(PNG + PNG)[: len(PNG)], None),
        (("photo.png", PNG), "photo.png"),
        (("../up/photo.png", bytearray(PNG)), "photo.png"),
        (io.BytesIO(PNG), None),
        ("data:image/gif;base64,iVBORw0KGgoAAAANSUhEUg==", None),
        (MediaPart(media="image", media_type="image/png", data=PNG), None),
    ],
)
async def test_what_the_program_holds_is_taken(file: object, name: str | None) -> None:
    """Bytes in any form are taken without a policy, alone and in a list, and typed by their content."""
    for given in (file, [file], (file,)):
        (part,) = await attached(given)
        assert (part.media, part.media_type, part.name, part.data) == ("image", "image/png", name, PNG)
        if isinstance(file, io.BytesIO):
            file.seek(0)


async def test_files_come_before_the_text() -> None:
    """The files stand first, in the order given; the question keeps its own order behind them."""
    own = MediaPart(media="text", media_type="text/plain", data=b"own")
    question = (TextPart(text="Compare"), own, TextPart(text="with these"))
    parts = await Files(AttachmentPolicy()).attach(question, [("a.txt", b"first"), ("b.txt", b"second")])

    assert [part.data for part in parts[:2] if isinstance(part, MediaPart)] == [b"first", b"second"]
    assert parts[2:] == question


async def test_open_files_are_read_from_where_they_stand(tmp_path: Path) -> None:
    """Binary and text files give what is left in them, under their own name."""
    path = tmp_path / "notes.md"
    path.write_bytes("# skipped\ngrüße".encode())
    with path.open("rb") as binary, path.open(encoding="utf-8") as text:
        binary.seek(10)
        text.readline()
        parts = await attached([binary, text])

    assert [(part.name, part.media_type, part.data) for part in parts] == 2 * [
        ("notes.md", "text/markdown", "grüße".encode())
    ]


async def test_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """A closed file, one open for writing, and one read asynchronously are refused with the remedy."""
    closed = io.BytesIO(PNG)
    closed.close()
    with (tmp_path / "out.txt").open("wb") as writing:
        for file in (closed, writing):
            with pytest.raises(AttachmentError, match="open it for reading, or pass the bytes"):
                await attached(file)
    with pytest.raises(AttachmentError, match=r"'photo\.png' is read asynchronously; pass what `await file\.read\(\)`"):
        await attached(Upload())


@pytest.mark.parametrize("file", [7, None, "", ("a.txt", b""), ("a.txt", "text"), {}.keys(), Path, [PNG]])
async def test_what_is_no_file_is_refused(file: Any) -> None:
    """Anything else, and a file without content, is refused; the error says what may be given."""
    with pytest.raises(
        AttachmentError, match=r"empty; leave it out|bytes, a \(name, bytes\) pair, a path|not read: paths"
    ):
        await attached([file])


def test_one_file_need_not_be_in_a_list() -> None:
    """A single file stands for a list of it; a pair of name and bytes is one file, two names are two."""
    assert file_list(None) == file_list([]) == []
    assert file_list(b"") == [b""]
    assert file_list(("a", b"b")) == [("a", b"b")]
    assert file_list(("a", "b")) == ["a", "b"]
    assert file_list([("a", b"b")]) == [("a", b"b")]


# ── sizes and types ───────────────────────────────────────────────────────────────────────────────────────────────────


def endless() -> io.RawIOBase:
    """A file without an end."""

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    return Endless()


LARGE: dict[str, Callable[[], object]] = {
    "bytes": lambda: b"x" * 101,
    "a pair": lambda: ("a.txt", b"x" * 101),
    "a binary file": lambda: io.BytesIO(b"x" * 101),
    "a text file": lambda: io.StringIO("ä" * 51),
    "an endless file": endless,
    "a data URL": lambda: "data:," + "x" * 101,
    "a long data URL": lambda: "data:," + "x" * 5_000_000,
    "a view of wide items": lambda: memoryview(bytes(104)).cast("Q"),
    "a part": lambda: MediaPart(media="text", media_type="text/plain", data=b"x" * 101),
}


@pytest.mark.fault("E17")
@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
async def test_large_file_is_refused(make: Callable[[], object]) -> None:
    """More than max_bytes is refused, however it is given, and read no further than that."""
    with pytest.raises(AttachmentError, match=r"more than 100 bytes; raise AttachmentPolicy\(max_bytes=\)"):
        await attached([make()], max_bytes=100)


@pytest.mark.fault("E17")
async def test_files_together_are_bounded() -> None:
    """The files of a question count together, those in its own parts among them."""
    own = MediaPart(media="text", media_type="text/plain", data=b"x" * 60)
    files = Files(AttachmentPolicy(max_total_bytes=100))
    assert len(await files.attach((*QUESTION, own), [b"y" * 40])) == 3
    with pytest.raises(AttachmentError, match=r"raise AttachmentPolicy\(max_total_bytes=\)"):
        await files.attach((*QUESTION, own), [b"y" * 41])


async def test_types_can_be_narrowed() -> None:
    """Only the named types are taken, by content; the program's own part is its own word."""
    (part,) = await attached(("x.pdf", PNG), media_types=["image/*", "application/pdf"])
    assert part.media_type == "image/png"
    with pytest.raises(AttachmentError, match=r"'x\.png' is text/plain, .*AttachmentPolicy\(media_types=\)"):
        await attached(("x.png", b"text"), media_types=["image/*"])
    assert await attached(MediaPart(media="text", media_type="text/x-own", data=b"text"), media_types=["image/*"])


# ── paths ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("E04")
async def test_no_path_is_read_without_a_policy(tmp_path: Path) -> None:
    """A path is refused whether it exists or not, and the error names the setting."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"secret")
    for given in (path, str(path), tmp_path / "missing.txt"):
        with pytest.raises(AttachmentError, match=r"attachments=AttachmentPolicy\(paths="):
            await attached([given])


@pytest.mark.parametrize("as_text", [True, False])
async def test_paths_inside_the_directories_are_read(tmp_path: Path, as_text: bool) -> None:  # noqa: FBT001 — a case
    """Files of an allowed directory and those below are read, by path or text, also through odd spellings."""
    inside = tmp_path / "uploads" / "deep"
    inside.mkdir(parents=True)
    (inside / "a.png").write_bytes(PNG)
    for path in (inside / "a.png", inside / ".." / "deep" / "a.png"):
        (part,) = await attached(
            [str(path) if as_text else path], paths=[tmp_path / "other", str(tmp_path / "uploads")]
        )
        assert (part.name, part.data) == ("a.png", PNG)


async def test_any_path_where_that_was_said(tmp_path: Path) -> None:
    """``paths=True`` reads any ordinary file."""
    (tmp_path / "a.png").write_bytes(PNG)
    assert (await attached(tmp_path / "a.png", paths=True))[0].data == PNG


@pytest.mark.fault("E04")
@posix
async def test_paths_that_lead_out_are_refused_alike(tmp_path: Path) -> None:
    """Dots, links, sibling names, other files and missing ones: outside is outside, and nothing more is told."""
    uploads, secret = tmp_path / "uploads", tmp_path / "secret.txt"
    uploads.mkdir()
    secret.write_bytes(b"secret")
    (tmp_path / "uploads-old").mkdir()
    (tmp_path / "uploads-old" / "a.txt").write_bytes(b"secret")
    (uploads / "link.txt").symlink_to(secret)
    (uploads / "up").symlink_to(tmp_path)
    (uploads / "loop").symlink_to(uploads / "loop")
    (uploads / "fine.txt").symlink_to(uploads / "real.txt")
    (uploads / "real.txt").write_bytes(b"fine")
    messages = set()
    for path in (
        secret,
        tmp_path / "missing.txt",
        uploads / ".." / "secret.txt",
        uploads / "link.txt",
        uploads / "up" / "secret.txt",
        tmp_path / "uploads-old" / "a.txt",
        uploads,
        "/etc/passwd",
        "/proc/self/environ",
    ):
        with pytest.raises(AttachmentError) as caught:
            await attached([str(path)], paths=uploads)
        messages.add(str(caught.value).replace(repr(str(path)), "PATH"))
    assert messages == {"the path PATH is not inside AttachmentPolicy(paths=); add its directory there to allow it"}
    assert (await attached([uploads / "fine.txt"], paths=uploads))[0].data == b"fine"


@pytest.mark.fault("E04")
@posix
@pytest.mark.parametrize("paths", [True, ""])
async def test_only_ordinary_files_are_read(tmp_path: Path, paths: Any) -> None:
    """Directories, pipes, devices, missing files and impossible names are refused, and none holds us up."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "pipe", "/dev/zero", tmp_path / "a\x00b"):
        with pytest.raises(AttachmentError, match=r"ordinary files|cannot be read|not inside"):
            await attached([str(path)], paths=paths or tmp_path)
    with pytest.raises(AttachmentError, match="cannot be read: No such file or directory; check it"):
        await attached([tmp_path / "missing"], paths=paths or tmp_path)


@pytest.mark.fault("E04")
@posix
async def test_file_that_is_swapped_while_it_is_opened_is_refused(tmp_path: Path) -> None:
    """A name that leads outside when it is opened, and inside whenever it is checked, is caught by the open file."""
    uploads, secret = tmp_path / "uploads", tmp_path / "secret.txt"
    uploads.mkdir()
    secret.write_bytes(b"secret")
    (uploads / "real.txt").write_bytes(b"fine")
    link = uploads / "a.txt"
    link.symlink_to(uploads / "real.txt")

    class Swapping(os.PathLike[str]):
        """A path whose name is looked up anew for every step; the opening, and only it, finds the secret."""

        def __fspath__(self) -> str:
            caller = sys._getframe(1).f_code.co_name
            link.unlink()
            link.symlink_to(secret if caller == "opened" else uploads / "real.txt")
            return str(link)

    with pytest.raises(AttachmentError, match="not inside"):
        await attached([Swapping()], paths=uploads)


@pytest.mark.fault("E17")
async def test_size_of_a_path_is_asked_before_it_is_read(tmp_path: Path) -> None:
    """A large file behind a path is refused by its size alone."""
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(AttachmentError, match=r"AttachmentPolicy\(max_bytes=\)"):
        await attached([tmp_path / "large.bin"], paths=tmp_path)


# ── URLs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("E03")
async def test_no_url_is_fetched_without_a_policy() -> None:
    """A URL is refused before anything is connected; the error names the setting and no query."""
    fetcher = FakeFetcher()
    with pytest.raises(AttachmentError, match=r'AttachmentPolicy\(urls="fetch"') as caught:
        await Files(AttachmentPolicy(), fetcher).attach(QUESTION, ["https://example.com/a.png?token=secret"])
    assert "secret" not in str(caught.value)
    assert fetcher.asked == []


@pytest.mark.fault("E03")
@pytest.mark.parametrize("urls", ["refuse", "pass", "fetch"])
@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://example.com/a.png", "FTP://example.com/a.png"])
async def test_other_schemes_are_refused_by_any_policy(url: str, urls: Any) -> None:
    """Only http and https are URLs here, whatever the policy says."""
    fetcher = FakeFetcher()
    with pytest.raises(AttachmentError, match="only http and https are"):
        await Files(AttachmentPolicy(urls=urls, paths=True), fetcher).attach(QUESTION, [url])
    assert fetcher.asked == []


async def test_fetched_file_is_known_by_its_content() -> None:
    """What was fetched is typed by its bytes, named by where it was in the end, and keeps no address."""
    fetcher = FakeFetcher()
    parts = await Files(AttachmentPolicy(urls="fetch"), fetcher).attach(QUESTION, "HTTPS://example.com/x")
    made = hashlib.sha256(PNG).hexdigest()
    assert parts[0] == MediaPart(media="image", media_type="image/png", name="real name.png", sha256=made)
    assert fetcher.asked == ["HTTPS://example.com/x"]
    with pytest.raises(AttachmentError, match=r"AttachmentPolicy\(media_types=\)"):
        await Files(AttachmentPolicy(urls="fetch", media_types=["text/*"]), fetcher).attach(
            QUESTION, ["https://e.com/x"]
        )


async def test_url_is_handed_to_the_provider() -> None:
    """``pass`` makes a part of the address alone, from an allowed host, and opens nothing."""
    (part,) = await attached(["https://cdn.example.com/a.pdf?v=1"], urls="pass", hosts=["*.example.com"])
    assert part == MediaPart(
        media="document", media_type="application/pdf", url="https://cdn.example.com/a.pdf?v=1", name="a.pdf"
    )


@pytest.mark.fault("E03")
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://evil.net/a.png", "hosts="),
        ("https://cdn.example.com:22/a.png", "ports="),
        ("https://cdn.example.com@evil.net/a.png", "a user or a password"),
        ("https://cdn.example.com\\@evil.net/a.png", "write it in full"),
        ("https://cdn.example.com/a\n.png", "write it in full"),
        ("https:///a.png", "write it in full"),
        ("https://cdn.example.com:x/a.png", "write it in full"),
        ("https://cdn.example.com/a.bin", "does not say what it is"),
    ],
)
async def test_url_that_is_handed_on_is_checked(url: str, told: str) -> None:
    """Host, port, form and user of a URL are checked before the provider is given it."""
    with pytest.raises(AttachmentError, match=told):
        await attached([url], urls="pass", hosts=["cdn.example.com"])


async def test_address_that_the_program_gives_itself_is_allowed() -> None:
    """A `MediaPart` with a URL or a file id is the program's own decision under any policy."""
    parts = [
        MediaPart(media="image", media_type="image/png", url="https://internal/a"),
        MediaPart(media="document", media_type="application/pdf", file_id="file-1"),
    ]
    assert await attached(parts) == parts
