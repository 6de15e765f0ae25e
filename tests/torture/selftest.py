"""The model of the disk and the recorder, on programs whose mistakes are known: each mistake must be seen, and who makes none must not be accused."""
import os
import subprocess
import sys
from random import Random

import recorder
from disk import MODES
from rig import Failed
from timeline import Recording

# `new` and `old` are what a file holds; a program that ends has acknowledged that it is `new`.
PREFIX = """
import os, sys
here = sys.argv[1]
os.chdir(here)
def write(name, text, sync=True):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, text.encode() * 300)
    sync and os.fsync(fd)
    os.close(fd)
def settle(name="."):
    fd = os.open(name, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
write(here + "/file", "old.")
settle(here)
"""
GOOD = {
    "temp, fsync, rename, fsync of the folder": 'write(here + "/temp", "new."); os.rename(here + "/temp", here + "/file"); settle(here)',
    "the same in a new folder": 'os.mkdir(here + "/d"); settle(here); write(here + "/d/temp", "new."); os.rename(here + "/d/temp", here + "/d/file"); settle(here + "/d")',
}
BAD = {
    "no fsync of the file": 'write(here + "/temp", "new.", sync=False); os.rename(here + "/temp", here + "/file"); settle(here)',
    "no fsync of the folder": 'write(here + "/temp", "new."); os.rename(here + "/temp", here + "/file")',
    "written in place": 'write(here + "/file", "new.")',
    "renamed before it is written": 'fd = os.open(here + "/temp", os.O_WRONLY | os.O_CREAT, 0o600); os.rename(here + "/temp", here + "/file"); settle(here); '
                                    'os.write(fd, b"new." * 300); os.fsync(fd)',
    "a new folder whose name is not on the disk": 'os.mkdir(here + "/d"); write(here + "/d/file", "new."); settle(here + "/d")',
}
OLD, NEW, GONE = b"old." * 300, b"new." * 300, b""


def place_of(program):
    return ("d", "file") if "/d/file" in program else ("file",)


def outcomes(folder, name, program, random):
    """What the file can hold after a cut at any moment since it was `old`, and what it can hold at the end."""
    place = folder / name.replace(" ", "-").replace(",", "")
    disk = place / "disk"
    disk.mkdir(parents=True)
    disk.chmod(0o700)
    command = recorder.command(place / "trace", sys.executable, "-S", "-E", "-c", PREFIX + program, disk)
    subprocess.run(command, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    recording = Recording(disk, [place / "trace"])
    recording.check(disk)
    where = place_of(program)
    moments, again = sorted(moment for moment, _ in recording.moments), Recording(disk, [place / "trace"])
    seen, last, begun = set(), set(), False
    for moment in moments:
        again.advance(moment)
        states = [again.disk.after(mode, random) for mode in MODES for _ in range(20)]
        last = {state.get(where, (0, GONE))[1] for state in states}
        begun = begun or {state.get(("file",), (0, GONE))[1] for state in states} == {OLD}
        seen |= last if begun else set()
    return seen, last


def is_right(where, seen, last):
    """It was one or the other all the time, and what was acknowledged is there."""
    return last == {NEW} and seen <= {OLD, NEW, *([GONE] if len(where) > 1 else [])}


def run(folder, binaries, count, random, report):
    for name, program in {**GOOD, **BAD}.items():
        right = is_right(place_of(program), *outcomes(folder, name, program, random))
        report.count += 1
        if right != (name in GOOD):
            raise Failed(f"selftest: {'who does it right is accused' if name in GOOD else 'a mistake is not seen'}: {name}")
    deterministic(folder)


def deterministic(folder):
    """The same seed is the same cut."""
    disk = folder / "no-fsync-of-the-file/disk"
    recording = Recording(disk, [disk.parent / "trace"])
    recording.advance(float("inf"))
    if recording.disk.after("torn", Random(1)) != recording.disk.after("torn", Random(1)):
        raise Failed("selftest: one seed, two disks")
