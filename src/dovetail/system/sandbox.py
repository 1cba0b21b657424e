"""The second wall: the kernel lets a process that reads a model reach no network, start no program, and write nothing.

Linux offers seccomp (which calls a process may make) and Landlock (below which folders it may write); both are entered
for good and need no privilege. Where a wall is missing an audit hook stands in its place, which ends the process: it
holds against Python code, not against native code.
"""

import contextlib
import ctypes
import os
import platform
import struct
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NETWORK, PROGRAMS, WRITING = "network", "programs", "writing"
ENDED = 78  # the exit code of a process that the audit hook ended
_FILE_BYTES = 64 * 1024 * 1024  # the largest file that it may write, in its own folder

_NO_NEW_PRIVS = 38
_SECCOMP, _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = {"x86_64": 317, "aarch64": 277}, 444, 445, 446
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _REFUSE, _MISSING, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38, 0x80000000  # EPERM, ENOSYS

# Calls by their numbers: (x86_64, aarch64), None where there is no such call.
_SOCKETS = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242),
}  # fmt: skip
_STARTING = {
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "setns": (308, 268), "unshare": (272, 97), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "reboot": (169, 142), "swapon": (167, 224),
    "add_key": (248, 217), "keyctl": (250, 219), "request_key": (249, 218), "open_by_handle_at": (304, 265),
    "io_uring_setup": (425, 425), "prlimit64": (302, 261), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "mount_setattr": (442, 442),
}  # fmt: skip
_MARKING = {  # Landlock does not know them: modes, owners, attributes and times of files
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}  # fmt: skip
_CHANGING = {  # where there is no Landlock these are refused everywhere, and opening to write is
    "creat": (85, None), "truncate": (76, 45), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276),
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "mknod": (133, None),
    "mknodat": (259, 33),
}  # fmt: skip
_LATER_RIGHTS = ((13, 2), (14, 3), (15, 5))  # to move between folders, to truncate, to control devices; since which
_WITH_TCP, _WITH_SCOPES = 4, 6
_CLONE, _CLONE3, _KILL_ONE, _TGKILL, _IOCTL = (56, 220), (435, 435), (62, 129), (234, 131), (16, 29)
_OPEN, _OPENAT, _OPENAT2 = (2, None), (257, 56), (437, 437)
_CLONE_THREAD, _WRITE_FLAGS, _TTY_INPUT, _TTY_LINUX = 0x10000, 0o3 | 0o100 | 0o1000, 0x5412, 0x541C


@dataclass(frozen=True, slots=True)
class Wall:
    """One wall, whether this machine's kernel holds it, and by what; `by` says the reason where it does not."""

    against: str
    holds: bool
    by: str


def walls() -> tuple[Wall, ...]:
    """Which walls the kernel of this machine holds around a process that reads a model."""
    seccomp, landlock = _has_seccomp(), landlock_version()
    filtered = "seccomp" if seccomp else "this kernel has no seccomp filter for it; an audit hook stands there"
    written = f"Landlock {landlock}" if landlock else filtered
    return (
        Wall(NETWORK, seccomp, filtered), Wall(PROGRAMS, seccomp, filtered),
        Wall(WRITING, bool(landlock or seccomp), written),
    )  # fmt: skip


_FOLDERS = ("SKB_DATA_DIRECTORY", "MPLCONFIGDIR")  # skrub's and Matplotlib's


def enter(folder: Path | None = None, keep: Iterable[int] = ()) -> None:
    """Go behind the walls, for good: this process, and every thread that it has or begins.

    What is open is closed, besides output, errors and the descriptors in `keep`. It may write below `folder` only.
    """
    sys.dont_write_bytecode = True
    for name in _FOLDERS:  # some libraries make a folder in the user's home when they are imported
        os.environ.setdefault(name, tempfile.gettempdir())
    _parallel_in_threads()
    _close_all_but({*keep, 1, 2})
    _limit()
    alone = _threads() == 1  # Landlock binds the thread that asks for it, and those that it begins
    landlock = landlock_version()
    within = _landlock(folder, landlock) if landlock else False
    filtered = _filter(no_writing=not (within and alone)) if _has_seccomp() else False
    if not filtered:
        _stand_in(folder, writing=not within)


def _parallel_in_threads() -> None:
    # Estimators with n_jobs ask joblib, which would start processes; and it looks for semaphores when it is imported.
    with contextlib.suppress(ImportError):
        import joblib

        joblib.parallel_config(backend="threading")


def landlock_version() -> int:
    """The version of Landlock that the kernel offers; 0 for none."""
    if sys.platform != "linux":
        return 0
    found = _libc().syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return max(int(found), 0)


def _has_seccomp() -> bool:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _SECCOMP or sys.byteorder != "little" or sys.maxsize < 2**32:
        return False
    action = ctypes.c_uint32(_KILL)
    return int(_libc().syscall(_SECCOMP[machine], 2, 0, ctypes.byref(action))) == 0


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _threads() -> int:
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return 2  # unknown: more than one


def _close_all_but(keep: set[int]) -> None:
    """Point every other descriptor at nothing; closed, its number would be given to another file."""
    try:
        opened = [int(file.name) for file in Path("/dev/fd").iterdir()]
    except OSError:
        return
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number in opened:
        if number not in keep and number != nothing:
            with contextlib.suppress(OSError):  # the one that listed them
                os.fstat(number)
                os.dup2(nothing, number, inheritable=False)


def _limit() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        size = _FILE_BYTES if hard == resource.RLIM_INFINITY else min(hard, _FILE_BYTES)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _landlock(folder: Path | None, version: int) -> bool:
    """Refuse to change files but below `folder`, and TCP. https://docs.kernel.org/userspace-api/landlock.html."""
    libc = _libc()
    writing = 0b1_1111_1111_0010 | sum(1 << bit for bit, since in _LATER_RIGHTS if version >= since)
    network = 0b11 if version >= _WITH_TCP else 0
    scoped = 0b11 if version >= _WITH_SCOPES else 0  # signals, and sockets without a file
    rules = struct.pack("=QQQ", writing, network, scoped)[: 24 if scoped else 16 if network else 8]
    ruleset = libc.syscall(_LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        for path, rights in ((folder, writing), (Path(os.devnull), writing & 0b10)):
            if path is None:
                continue
            opened = os.open(path, os.O_PATH)
            rule = struct.pack("=Qi", rights, opened)
            added = libc.syscall(_LANDLOCK_ADD, ruleset, ctypes.c_int(1), rule, ctypes.c_uint32(0))
            os.close(opened)
            if added:
                return False
        libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
        return int(libc.syscall(_LANDLOCK_RESTRICT, ruleset, ctypes.c_uint32(0))) == 0
    finally:
        os.close(ruleset)


def _filter(*, no_writing: bool) -> bool:
    """Refuse calls of the kernel, in every thread. https://docs.kernel.org/userspace-api/seccomp_filter.html."""
    machine = platform.machine()
    program = b"".join(_program(machine, no_writing=no_writing))
    buffer = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    libc = _libc()
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    return int(libc.syscall(_SECCOMP[machine], 1, 1, described)) == 0  # SET_MODE_FILTER, for every thread


def _program(machine: str, *, no_writing: bool) -> list[bytes]:
    """The filter, in the kernel's classic BPF."""
    at = 0 if machine == "x86_64" else 1
    refused = {**_SOCKETS, **_STARTING, **_MARKING, **(_CHANGING if no_writing else {})}
    load, equal, any_of, end = 0x20, 0x15, 0x45, 0x06
    own = os.getpid()

    def say(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    def on(call: tuple[int | None, int | None], *checks: bytes) -> list[bytes]:
        number = call[at]
        return [] if number is None else [say(load, 0), say(equal, number, 0, len(checks)), *checks]

    def argument(index: int) -> bytes:
        return say(load, 16 + 8 * index)

    allow, refuse = say(end, _ALLOW), say(end, _REFUSE)
    flags = (say(any_of, _WRITE_FLAGS, 0, 1), refuse, allow)
    lines = [say(load, 4), say(equal, _AUDIT_ARCH[machine], 1, 0), say(end, _KILL), say(load, 0)]
    if machine == "x86_64":
        lines += [say(0x35, 0x40000000, 0, 1), refuse]  # the x32 calls
    for numbers in refused.values():
        if (number := numbers[at]) is not None:
            lines += [say(equal, number, 0, 1), refuse]
    lines += on(_CLONE, argument(0), say(any_of, _CLONE_THREAD, 1, 0), refuse, allow)
    lines += on(_CLONE3, say(end, _MISSING))  # its flags cannot be seen; the C library falls back to clone
    for call in (_KILL_ONE, _TGKILL):
        lines += on(call, argument(0), say(equal, own, 1, 0), refuse, allow)
    lines += on(_IOCTL, argument(1), say(equal, _TTY_INPUT, 1, 0), say(equal, _TTY_LINUX, 0, 1), refuse, allow)
    if no_writing:
        lines += [*on(_OPEN, argument(1), *flags), *on(_OPENAT, argument(2), *flags), *on(_OPENAT2, say(end, _MISSING))]
    return [*lines, allow]


def _stand_in(folder: Path | None, *, writing: bool) -> None:
    """Where the kernel has no filter: end the process at the first event of Python that would go through a wall."""
    starts = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.", "pty.", "os.kill")
    changes = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
               "os.chown", "os.utime", "os.setxattr", "os.removexattr")  # fmt: skip
    refused = ("socket.", *starts, *(changes if writing else ()))
    below = str(folder.resolve()) + os.sep if folder else None

    def end(event: str, arguments: tuple[Any, ...]) -> None:
        to_write = writing and event == "open" and _is_to_write(arguments)
        if not to_write and not event.startswith(refused):
            return
        if below and event.startswith((*changes, "open")) and isinstance(arguments[0], str | os.PathLike) and (
            os.path.realpath(arguments[0]).startswith(below)
        ):  # fmt: skip
            return
        os.write(2, f"dovetail: a model tried {event}; its process was ended\n".encode())
        os._exit(ENDED)

    sys.addaudithook(end)


def _is_to_write(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = (*arguments, None, None)[:3]
    if path == os.devnull:
        return False
    return bool(set("wax+") & set(mode)) if isinstance(mode, str) else bool((flags or 0) & _WRITE_FLAGS)
