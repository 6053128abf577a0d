"""Reads regular files only, writes files atomically, computes their digests, and finds the folder of this package's own files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from trickzoo.addresses import check_local
from trickzoo.errors import BadData, BadOption, NotWritten, TrickzooError

TEMPORARY = ".tz-"
"""The prefix of the names of temporary files and folders. Older versions named them `.NAME.` and eight hex digits."""
LONGEST_NAME = 255
"""Bytes that a file's name may have on common file systems."""


class Identity(NamedTuple):
    """Size, times, inode and device of a file. A file with the same identity as before has the same bytes as before."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        """Return the identity in a result of `os.stat` or `os.fstat`."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)


def expanded(place: str | os.PathLike[str]) -> Path:
    """Return the path with a leading ~ replaced by the user's home folder.

    Raises BadOption if the system knows no such folder, and for a URL as `check_local` does.
    """
    check_local(os.fspath(place))
    try:
        return Path(place).expanduser()
    except RuntimeError:
        raise BadOption(f"{place}: the home folder that ~ stands for is unknown; write the whole path") from None


def home() -> Path:
    """Return the folder of weights from urls, stamps, the lock file and decoded images.

    It is TRICKZOO_HOME if that variable is set, else the folder trickzoo in the user's cache folder. A user without a home folder, as in
    many containers, gets a folder of their own among the system's temporary files. Raises BadOption if anybody else may write to it.
    """
    if own := os.environ.get("TRICKZOO_HOME"):
        return expanded(own)
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return expanded(cache) / "trickzoo"
    try:
        return Path.home() / ".cache" / "trickzoo"
    except RuntimeError:
        return _temporary_home()


def _temporary_home() -> Path:
    """Return the folder for a user without a home folder.

    Raises BadOption if anybody else may write to it, because the files and stamps in it are trusted.
    """
    path = Path(tempfile.gettempdir()) / f"trickzoo-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise BadOption(f"{path} cannot be used ({error.strerror or error}); set TRICKZOO_HOME to a folder of your own") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise BadOption(f"{path} is not a folder that only you can write to; set TRICKZOO_HOME to a folder of your own")
    return path


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading in binary.

    Raises OSError if it cannot be opened, or is not a regular file: reading from a FIFO may wait forever, and a device may have no end.
    """
    flags = (getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))  # not every system has all of them
    descriptor = os.open(path, os.O_RDONLY | sum(flags))
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def utf8_path(path: Path, file: BinaryIO) -> Path:
    """Return a path to an open file for a library that takes only paths in UTF-8: `path` itself if it is one, else that of its descriptor.

    Names that are not UTF-8 occur only on systems that have the descriptors of a process under /dev/fd.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:  # a surrogate stands for each byte that is not UTF-8
        return Path(f"/dev/fd/{file.fileno()}")
    return path


def read_regular(path: Path, *, at_most: int | None = None) -> bytes:
    """Return the bytes of a regular file.

    Raises OSError if it cannot be read, is not a regular file, or has more than `at_most` bytes.
    """
    with open_regular(path) as file:
        if at_most is None:
            return file.read()
        size = os.fstat(file.fileno()).st_size
        content = file.read(min(size, at_most) + 1)  # Python allocates as many bytes as are asked for
        if len(content) > size:  # the file has grown, or the system states no size
            content += file.read(at_most + 1 - len(content))
    if len(content) > at_most:
        raise OSError(errno.EFBIG, f"more than {at_most:,} bytes", str(path))
    return content


def read_json(path: Path) -> Any:
    """Return the content of a JSON file of up to 64 MiB, in UTF-8 or UTF-16, with a byte-order mark or without.

    Raises OSError if the file cannot be read, is not a regular file or is larger. Raises ValueError if it is not JSON, is nested more
    deeply than Python can parse, or has an object with the same key twice.
    """
    try:
        return json.loads(read_regular(path, at_most=64 << 20), object_pairs_hook=_each_once)
    except UnicodeDecodeError:
        raise ValueError("it is neither UTF-8 nor UTF-16 text") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f'it has the key "{key}" twice')
        found[key] = value
    return found


def digest(path: Path) -> str:
    """Return the SHA-256 of a regular file, in hexadecimal digits. Raises OSError as `examine` does."""
    return examine(path)[0]


def examine(path: Path) -> tuple[str, Identity]:
    """Return the SHA-256 of a regular file, in hexadecimal digits, and the identity of the file that was read.

    Raises OSError if it cannot be read, is not a regular file, or changes while it is read.
    """
    with open_regular(path) as file:
        before = Identity.of(os.fstat(file.fileno()))
        value = hashlib.sha256()
        while chunk := file.read(1 << 20):
            value.update(chunk)
        if Identity.of(os.fstat(file.fileno())) != before:
            raise OSError(errno.EBUSY, "the file changes while it is read", str(path))
    return value.hexdigest(), before


def refusal(path: Path, error: OSError) -> str:
    """Return why the system refuses to write the file or folder `path`.

    The system says "File exists" or "Not a directory" if a part of the path is a file where a folder is needed. That part is named.
    """
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        for part in (path, *path.parents):
            if part.exists() and not part.is_dir():
                return f"{part} is a file"
    return error.strerror or str(error)


@contextlib.contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Convert an OSError within the block to BadData, which names `path`."""
    try:
        yield
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror})") from None


@contextlib.contextmanager
def writing(path: Path, **remedy: str) -> Iterator[None]:
    """Convert an OSError within the block to NotWritten, which names `path` and the remedy (`remedy="…"`, or a general one)."""
    try:
        yield
    except TrickzooError:
        raise
    except OSError as error:
        raise NotWritten(path, refusal(path, error), **remedy) from None


def temporary_name() -> str:
    """Return a new name for a temporary file or folder: hidden, and short however long the final name is."""
    return TEMPORARY + secrets.token_hex(8)


def file_name(stem: str, suffix: str) -> str:
    """Return `stem` + `suffix` as the name of a file.

    A name of more than 255 bytes, which file systems refuse, is cut, and ends in the first eight hex digits of the stem's SHA-256.
    """
    if len(os.fsencode(stem + suffix)) <= LONGEST_NAME:
        return stem + suffix
    end = f"-{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}{suffix}"
    cut = os.fsencode(stem)[: LONGEST_NAME - len(os.fsencode(end))]
    return cut.decode(errors="ignore") + end


def is_device(path: Path) -> bool:
    """Return whether a path is that of a device, a pipe or a socket, or of anything else in /dev."""
    return path.exists() and not path.is_dir() and (not path.is_file() or Path("/dev") in path.absolute().parents)


@contextlib.contextmanager
def atomically(path: Path, **remedy: str) -> Iterator[Path]:
    """Yield the path of an empty temporary file beside `path`, which replaces `path` when the block ends.

    The file is synced to the disk before it is renamed. If the block raises an error, it is deleted and `path` stays as it was. A device or
    a pipe, such as /dev/stdout, is not replaced: the content is written into it.
    Raises NotWritten if the operating system refuses the file.
    """
    if is_device(path):
        with writing(path, **remedy), tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder, path.name)
            temporary.touch()
            yield temporary
            with temporary.open("rb") as content, path.open("ab") as device:
                shutil.copyfileobj(content, device)
        return
    with writing(path, **remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(temporary_name())
        try:
            temporary.touch(exist_ok=False)
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)  # safetensors creates files that only their owner may read
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def new_folder(path: Path, **remedy: str) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`, which must not exist or be empty. The folder gets that name when the block ends.

    If the block raises an error, the folder is deleted. Raises NotWritten if the operating system refuses.
    """
    with writing(path, **remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(temporary_name())
        try:
            temporary.mkdir()
            yield temporary
            if path.is_dir():
                path.rmdir()  # fails unless the folder is empty
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def write_atomically(path: Path, content: bytes, **remedy: str) -> None:
    """Write a file so that it has either the whole new content or its old content. Raises NotWritten if the operating system refuses."""
    with atomically(path, **remedy) as temporary:
        temporary.write_bytes(content)
