"""What a machine can refuse: rights, long files, a full disk. Real refusals of the operating system, no mocks."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_VERSION_3 = 0x20080522
#: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: with them, root reads and writes whatever the rights say.
_OVERRIDES = (1 << 1) | (1 << 2)


@contextlib.contextmanager
def rights_count() -> Iterator[None]:
    """File rights count for root too, in this thread, as they do for everybody else."""
    header = struct.pack("Ii", _VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    if _LIBC.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    before = bytes(data.raw)
    effective, *rest = struct.unpack("6I", before)
    if _LIBC.capset(header, struct.pack("6I", effective & ~_OVERRIDES, *rest)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        _LIBC.capset(header, before)


@contextlib.contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    """Other rights for a while, so that the folder of the test can be removed afterwards."""
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        with rights_count():
            yield
    finally:
        path.chmod(before)


@contextlib.contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes: a write fails half-way, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[bool]:
    """A volume of this size at ``folder``; False where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)
