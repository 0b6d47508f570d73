"""What a submission may not do while it is graded, held by the operating system and not by Python.

`restrict` is called in the process that will run a learner's code, before it does, and cannot be undone from inside.
Everything is taken where the system has it, and `restrict` says in words what is in force:

- "memory", "files of at most 64 MB" (POSIX resource limits; macOS ignores the one for memory);
- "no new processes, signals or network" (Linux on x86-64 or arm64: a seccomp filter that answers EPERM);
- "no files but its own" (Linux ≥ 5.13: Landlock; Python, its packages and `minillm/` can be read, one empty folder
  written; `solutions/`, the checks, the home folder and other submissions can not be opened).

Windows has none of these here: time is the only limit.

Differs: this is no virtual machine. A hole in the kernel is a hole here; grade strangers' work in a container.
Paper:   Salaün, "Landlock: unprivileged access control", docs.kernel.org/userspace-api/landlock.html; and
         docs.kernel.org/userspace-api/seccomp_filter.html.
Next:    minillm/course/grading_answers.py
"""

import ctypes
import os
import platform
import signal
import struct
import sys
from pathlib import Path

MB = 1024 * 1024
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _SET_DUMPABLE, _SET_PARENT_DEATH_SIGNAL = 38, 22, 4, 1
# what the filter refuses: (x86-64, arm64); -1 where a machine does not have it
_REFUSED = {
    "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221), "execveat": (322, 281),
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "socket": (41, 198), "connect": (42, 203), "io_uring_setup": (425, 425), "setsid": (112, 157),
    "setpgid": (109, 154), "mount": (165, 40), "unshare": (272, 97), "setns": (308, 268), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219), "setrlimit": (160, 164),
    # Landlock does not cover these, and they would work on files of the same user
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, -1),
    "fchown": (93, 55), "lchown": (94, -1), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "utime": (132, -1), "utimes": (235, -1), "futimesat": (261, -1), "utimensat": (280, 88),
}  # fmt: skip
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_CLONE, _CLONE3, _TGKILL, _PRLIMIT = (56, 220), 435, (234, 131), (302, 261)


def restrict(folder: Path, library: Path, megabytes: int) -> list[str]:
    """Give up, for this process and for good, what a submission does not need; says what is in force."""
    in_force = _limit_resources(megabytes)
    if sys.platform == "linux" and _prctl(_NO_NEW_PRIVILEGES, 1):
        if _allow_files(folder, library):
            in_force.append("no files but its own")
        if _filter_calls():
            in_force.append("no new processes, signals or network")
    return in_force


def hide_memory() -> None:
    """Let no process of the same user read or change this one's memory (Linux; root still could)."""
    if sys.platform == "linux":
        _prctl(_SET_DUMPABLE, 0)


def limit_memory(megabytes: int) -> None:
    """Let this process fail with MemoryError rather than take all memory (Linux); children may set their own limit."""
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (_at_most(megabytes * MB, hard), hard))


def die_with_parent() -> None:
    """Let the kernel end this process when the one that started it ends, however that happens (Linux)."""
    if sys.platform == "linux":
        _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _limit_resources(megabytes: int) -> list[str]:
    try:
        import resource
    except ImportError:
        return []
    # data counts what is really writable; address space alone would stop torch, which reserves far more than it uses
    wanted = [
        ("RLIMIT_DATA", megabytes * MB),
        ("RLIMIT_AS", megabytes * MB + 16 * 1024 * MB),
        ("RLIMIT_FSIZE", 64 * MB),
        ("RLIMIT_CORE", 0),
    ]
    for name, most in wanted:
        number = getattr(resource, name, None)
        if number is not None:
            most = _at_most(most, resource.getrlimit(number)[1])
            resource.setrlimit(number, (most, most))
    return ["files of at most 64 MB", *(["memory"] if sys.platform == "linux" else [])]


def _at_most(wanted: int, hard: int) -> int:
    return wanted if hard < 0 else min(wanted, hard)  # a negative limit is none


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> bool:
    return _libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0


def _filter_calls() -> bool:
    """A seccomp filter: allow everything but what is refused; `clone` for threads only; signals to itself only."""
    if platform.machine() not in _MACHINES:
        return False
    column, architecture = _MACHINES[platform.machine()]
    load, equal, at_least, bits, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, unknown = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38  # SECCOMP_RET_ALLOW; ERRNO with EPERM, ENOSYS
    nr, arch, argument = 0, 4, lambda i: 16 + 8 * i  # offsets in struct seccomp_data, low words first
    program: list[tuple[int, int, int, int]] = [
        (load, 0, 0, arch),
        (equal, 1, 0, architecture),
        (answer, 0, 0, refuse),
        (load, 0, 0, nr),
        (at_least, 0, 1, 0x40000000),  # the x32 numbers of x86-64
        (answer, 0, 0, refuse),
        (equal, 0, 1, _CLONE3),
        (answer, 0, 0, unknown),  # its flags lie in memory that a filter cannot see; libc falls back to clone
        (equal, 0, 4, _CLONE[column]),
        (load, 0, 0, argument(0)),
        (bits, 1, 0, 0x00010000),  # CLONE_THREAD
        (answer, 0, 0, refuse),
        (answer, 0, 0, allow),
        (equal, 0, 4, _TGKILL[column]),
        (load, 0, 0, argument(0)),
        (equal, 1, 0, os.getpid()),
        (answer, 0, 0, refuse),
        (answer, 0, 0, allow),
        (equal, 0, 6, _PRLIMIT[column]),  # reading limits (no new value) is harmless
        (load, 0, 0, argument(2)),
        (equal, 0, 2, 0),
        (load, 0, 0, argument(2) + 4),
        (equal, 1, 0, 0),
        (answer, 0, 0, refuse),
        (answer, 0, 0, allow),
    ]
    for numbers in _REFUSED.values():
        if numbers[column] >= 0:
            program += [(equal, 0, 1, numbers[column]), (answer, 0, 0, refuse)]
    program.append((answer, 0, 0, allow))
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    whole = Program(len(program), ctypes.addressof(buffer))
    return _libc().prctl(_SET_SECCOMP, 2, ctypes.byref(whole), 0, 0) == 0


def _allow_files(folder: Path, library: Path) -> bool:
    """A Landlock ruleset: read Python and the library, write one folder, open nothing else."""
    libc = _libc()
    libc.syscall.restype = ctypes.c_long
    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    known = {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)  # how many rights this kernel knows
    everything, read = (1 << known) - 1, 0b1101  # execute, read a file, list a folder
    network, scopes = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    rules = struct.pack("QQQ", everything, network, scopes)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = libc.syscall(444, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        return False
    allowed = {str(folder): everything, "/dev/null": 0b110, "/dev/urandom": 0b100}
    allowed[str(library / "minillm")] = 0b1000  # imports list folders
    for path in _readable(library):
        allowed.setdefault(path, read)
    for path, rights in allowed.items():
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(path):
            rights &= 0b0100000000000111 | (1 << 15)  # what can be done to a file: execute, write, read, truncate
        libc.syscall(445, ruleset, 1, struct.pack("=Qi", rights & everything, handle), 0)
        os.close(handle)
    done = libc.syscall(446, ruleset, 0) == 0
    os.close(ruleset)
    return done


def _readable(library: Path) -> list[str]:
    """Python, its packages, system libraries, what torch asks about the processor, and minillm without its checks."""
    own = [path for path in (library / "minillm").iterdir() if path.name != "course"]
    course = library / "minillm" / "course"
    own += [p for p in (*course.glob("*.py"), *course.glob("__pycache__/*")) if not p.name.startswith("checks")]
    packages = [p for p in sys.path if p and Path(p).name in ("site-packages", "dist-packages", "lib-dynload")]
    system = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/proc/self", "/proc/cpuinfo"]
    system += ["/proc/meminfo", "/proc/stat", "/sys/devices/system", "/sys/fs/cgroup", "/dev/zero", "/opt/homebrew"]
    return [sys.prefix, sys.base_prefix, *map(str, own), *packages, *system]
