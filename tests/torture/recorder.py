"""Every change that a daemon makes to its disk, as strace saw it, in order.

No device, no mount, no library in between: strace sees what reaches the kernel, also from a program that is linked statically or calls it
directly. What it cannot see is memory that is mapped: of our files that is SQLite's index of its log (-shm), which is made anew after a cut.
"""
import pathlib
import re
import shutil
import subprocess
import sys

from rig import Failed

CHANGES = [
    "openat", "close", "dup", "dup2", "dup3", "fcntl", "lseek", "write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "truncate", "fallocate",
    "fsync", "fdatasync", "sync_file_range", "sync", "syncfs", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat",
    "link", "linkat", "symlink", "symlinkat", "copy_file_range", "sendfile", "splice", "creat", "open", "fchmod",
]
# Nobody of ours may use these on the disk: the model knows them not.
FOREIGN = {"writev", "pwritev", "pwritev2", "copy_file_range", "sendfile", "splice", "symlink", "symlinkat", "creat", "open", "truncate", "link", "dup2", "dup3"}
LINE = re.compile(r"^(\d+\.\d+) (\w+)\((.*)\) += (-?\d+|\?)(.*?)(?:<(\d+\.\d+)>)?$")
DUPLICATES = ("F_DUPFD", "F_DUPFD_CLOEXEC")


def available():
    if sys.platform != "linux" or not shutil.which("strace"):
        return False
    # A container may forbid it.
    tried = subprocess.run(["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "true"], capture_output=True)
    return tried.returncode == 0


def command(folder, *words):
    """Runs `words` and writes a file for each thread into `folder`."""
    folder.mkdir(mode=0o700)
    return ["strace", "-ff", "-o", folder / "t", "-ttt", "-T", "-xx", "-s", "16000000", "--seccomp-bpf", "-qq", "-e", "signal=none",
            "-e", f"trace={','.join(CHANGES)}", *words]


# What strace writes of a process that ends within a call, and of one that it lets go when it is stopped itself.
ENDS = ("<unfinished", "<detached", "+++")


class Call:
    """One system call that went well: when it began and ended, its name, its arguments as strace writes them, what it gave."""

    __slots__ = ("begin", "end", "name", "args", "result")

    def __init__(self, match):
        begin, self.name, args, result, _, took = match.groups()
        self.begin = float(begin)
        self.end = self.begin + float(took or 0)
        self.args, self.result = args.split(", "), int(result)

    def order(self):
        """A descriptor is there when the call that makes it has ended, and gone when the one that closes it begins."""
        return self.end if self.name in ("openat", "dup", "fcntl", "fsync", "fdatasync") else self.begin


def calls(folder):
    found = []
    for file in sorted(folder.iterdir()):
        for line in file.read_text().splitlines():
            match = LINE.match(line)
            if match and match[4] != "?" and not match[4].startswith("-"):
                found.append(Call(match))
            elif not match and not any(ends in line for ends in ENDS):
                raise Failed(f"not understood in {file}: {line[:200]}")
    return sorted(found, key=Call.order)


def text(quoted):
    """The bytes of a string as strace -xx writes it."""
    if not quoted.startswith('"') or not quoted.endswith('"'):
        raise Failed(f"strace has cut a string short: {quoted[:60]}")
    return bytes.fromhex(quoted[1:-1].replace("\\x", ""))


class Process:
    """The descriptors of one run of a daemon, and what its calls do to a disk."""

    def __init__(self, disk):
        self.disk, self.root, self.fds, self.at = disk, pathlib.PurePosixPath(disk.path), {}, {}

    def apply(self, call):
        if hasattr(self, call.name):
            getattr(self, call.name)(call, *call.args)
        elif call.name in FOREIGN:
            self.refuse(call)

    def refuse(self, call):
        touched = [arg for arg in call.args[:3] if arg.isdigit() and int(arg) in self.fds]
        named = [arg for arg in call.args if arg.startswith('"') and self.path("AT_FDCWD", arg) is not None]
        if touched or named:
            raise Failed(f"{call.name} on the disk, which the model does not know: teach it")

    def path(self, folder, name):
        """Inside the disk, in parts; nothing for what is elsewhere."""
        name = pathlib.PurePosixPath(text(name).decode())
        if not name.is_absolute():
            if folder == "AT_FDCWD" or int(folder) not in self.fds:
                return None
            return self.disk.place_of(self.fds[int(folder)]) + [part for part in name.parts if part != "."]
        return list(name.relative_to(self.root).parts) if name.is_relative_to(self.root) else None

    def openat(self, call, folder, name, flags, mode="0600"):
        self.fds.pop(call.result, None)
        where = self.path(folder, name)
        if where is None:
            return
        flags = flags.split("|")
        node = self.disk.find(where)
        if node is None and "O_CREAT" in flags:
            node = self.disk.create(call, where, int(mode, 8))
        if node is None:
            raise Failed(f"{'/'.join(where)} was opened, and the model does not have it")
        if "O_TRUNC" in flags and node.size:
            node.truncate(call, 0)
        self.fds[call.result] = node
        self.at[call.result] = None if "O_APPEND" in flags else 0

    def close(self, call, fd):
        self.fds.pop(int(fd), None)

    def dup(self, call, fd, *_):
        self.fds.pop(call.result, None)
        if int(fd) in self.fds:
            self.fds[call.result], self.at[call.result] = self.fds[int(fd)], self.at[int(fd)]

    def fcntl(self, call, fd, what="", *_):
        if what in DUPLICATES:
            self.dup(call, fd)

    def lseek(self, call, fd, *_):
        if int(fd) in self.fds:
            self.at[int(fd)] = call.result

    def write(self, call, fd, data, _):
        if node := self.fds.get(int(fd)):
            at = self.at[int(fd)]
            node.write(call, node.size if at is None else at, text(data)[:call.result])
            if at is not None:
                self.at[int(fd)] = at + call.result

    def pwrite64(self, call, fd, data, _, at):
        if node := self.fds.get(int(fd)):
            node.write(call, int(at), text(data)[:call.result])

    def ftruncate(self, call, fd, size):
        if node := self.fds.get(int(fd)):
            node.truncate(call, int(size))

    def fallocate(self, call, fd, _, at, length):
        node = self.fds.get(int(fd))
        if node and node.size < int(at) + int(length):
            node.truncate(call, int(at) + int(length))

    def fsync(self, call, fd):
        if node := self.fds.get(int(fd)):
            node.sync(call)

    fdatasync = fsync

    def fchmod(self, call, fd, mode):
        if node := self.fds.get(int(fd)):
            node.mode = int(mode, 8)

    def sync(self, call, *_):
        self.disk.sync(call)

    syncfs = sync

    def mkdirat(self, call, folder, name, mode):
        if where := self.path(folder, name):
            self.disk.create_folder(call, where, int(mode, 8))

    def mkdir(self, call, name, mode):
        self.mkdirat(call, "AT_FDCWD", name, mode)

    def unlinkat(self, call, folder, name, *_):
        if where := self.path(folder, name):
            self.disk.unlink(call, where)

    def unlink(self, call, name):
        self.unlinkat(call, "AT_FDCWD", name)

    rmdir = unlink

    def renameat(self, call, old_folder, old, new_folder, new, *_):
        source, target = self.path(old_folder, old), self.path(new_folder, new)
        if (source is None) != (target is None):
            raise Failed("a file is moved onto the disk, or off it, which the model does not know")
        if source:
            self.disk.rename(call, source, target)

    renameat2 = renameat

    def rename(self, call, old, new):
        self.renameat(call, "AT_FDCWD", old, "AT_FDCWD", new)

    def linkat(self, call, old_folder, old, new_folder, new, *_):
        if source := self.path(old_folder, old):
            self.disk.link(call, source, self.path(new_folder, new))
