"""Every system call on the disk that can fail, failing: the process killed in it, EIO once, ENOSPC from there on until there is room again.

A flow is run once to count its calls, and then once for each of them, on a copy of the same disk each time. strace makes the call fail, and only on
paths of the disk. It counts in each thread: where work moves between threads, one number can mean more than one place.
"""
import pathlib
import re
import shutil
import signal
import subprocess

from daemons import Place, Wrong
from rig import Failed, free_port, until

SYNCS = ("fsync", "fdatasync")
WRITES = ("write", "pwrite64", "ftruncate", *SYNCS, "rename", "renameat", "renameat2", "linkat", "mkdir", "mkdirat")
FAILING = {"KILL": (*WRITES, "openat", "unlink", "unlinkat"), "EIO": (*WRITES, "openat", "unlink", "unlinkat"), "ENOSPC": WRITES}
NAMED = re.compile(r"<(/[^>]*)>")


class Flow:
    """`prepare` makes the disk, with all daemons stopped in the end. `setting` starts what the flow needs. `act` answers what was acknowledged."""

    # `aside`: the agent is on another machine, whose disk is whole.
    name, daemon, launched, aside = "", "server", False, False

    def prepare(self, place):
        """Nothing: an empty disk."""

    def setting(self, place):
        """Nothing but the daemon itself."""

    def act(self, place):
        raise NotImplementedError

    def healed(self, place, acked):
        """The disk takes everything again, and the daemon runs still."""

    def check(self, place, acked):
        """The daemon is not running."""
        raise NotImplementedError


class Attempt:
    """A flow on a copy of its disk, with strace around its daemon."""

    def __init__(self, flow, folder, template):
        self.flow, self.place, self.strace = flow, Place(folder, template.bin, template.port, template.beside, flow.aside), None
        shutil.rmtree(self.place.disk)
        shutil.copytree(template.disk, self.place.disk)
        self.log, self.said = folder / "strace", folder / "strace.said"

    def run(self, *options):
        """What was acknowledged. Afterwards the daemon is in the hands of strace, if it lives."""
        self.flow.setting(self.place)
        command = ["strace", "-f", "-qq", "-o", self.log, "-e", "signal=none", *options]
        if self.flow.launched:
            self.place.start(self.flow.daemon, around=command)
            return self.flow.act(self.place)
        self.place.start(self.flow.daemon)
        self.place.up(self.flow.daemon)
        pid = self.place.running[self.flow.daemon].pid
        with open(self.said, "wb") as said:
            self.strace = subprocess.Popen([part for part in command if part != "-qq"] + ["-p", str(pid)], stdout=said, stderr=said)
        until("strace holds the daemon", lambda: b"attached" in self.said.read_bytes(), 10)
        return self.flow.act(self.place)

    def alive(self):
        return not self.place.ended(self.flow.daemon)

    def let_go(self):
        """The disk takes everything again. Where strace has begun the daemon it goes with it."""
        if self.strace:
            # One that was killed is a zombie until it is asked for, and strace may wait for that.
            self.place.ended(self.flow.daemon)
            self.strace.send_signal(signal.SIGINT)
            try:
                self.strace.wait(10)
            except subprocess.TimeoutExpired:
                self.strace.kill()
                self.strace.wait()
                if not self.place.ended(self.flow.daemon):
                    self.place.running[self.flow.daemon].send_signal(signal.SIGCONT)
            self.strace = None

    def end(self):
        self.let_go()
        self.place.stop_all()


def points_of(flow, folder, template):
    """Each call that can be made to fail: how, its name, its number in its thread; and the paths that count."""
    attempt = Attempt(flow, folder, template)
    try:
        attempt.run("-y", "-e", f"trace={','.join(sorted({*FAILING['KILL'], 'close'}))}")
    finally:
        attempt.end()
    paths, counts = {str(attempt.place.disk / flow.daemon)}, {}
    for line in attempt.log.read_text(errors="replace").splitlines():
        named = {path.removesuffix(" (deleted)") for path in NAMED.findall(line) if pathlib.PurePath(path).is_relative_to(attempt.place.disk / flow.daemon)}
        paths |= named
        if match := re.match(r"(\d+) +(\w+)\((.*)", line):
            thread, call, rest = match.groups()
            if call in FAILING["KILL"] and (named or str(attempt.place.disk / flow.daemon) in rest):
                counts[call, thread] = counts.get((call, thread), 0) + 1
    most = {}
    for (call, _), count in counts.items():
        most[call] = max(most.get(call, 0), count)
    points = [(how, call, number) for how, calls in FAILING.items() for call in calls for number in range(1, most.get(call, 0) + 1)]
    if not points:
        raise Failed(f"{flow.name}: no call on the disk was seen")
    inside = sorted(str(pathlib.PurePath(path).relative_to(attempt.place.disk)) for path in paths)
    shutil.rmtree(folder)
    return points, inside


def attempt_point(flow, folder, template, point, paths):
    how, call, number = point
    what = "signal=KILL" if how == "KILL" else f"error={how}"
    when = f"{number}+" if how == "ENOSPC" else f"{number}"
    # Whoever has no room for one has none for another.
    which = ",".join(WRITES) if how == "ENOSPC" else call
    attempt = Attempt(flow, folder, template)
    try:
        limits = [part for path in paths for part in ("-P", attempt.place.disk / path)]
        acked = attempt.run("-e", f"trace={','.join({*which.split(','), call})}", *limits, "-e", f"inject={which}:{what}:when={when}")
        if how == "KILL":
            fired = not attempt.alive() or "killed by SIGKILL" in attempt.log.read_text(errors="replace")
        else:
            fired = "INJECTED" in attempt.log.read_text(errors="replace")
            if not flow.launched:
                if not attempt.alive():
                    raise Wrong(f"it has ended: {attempt.place.said(flow.daemon)}")
                attempt.let_go()
                flow.healed(attempt.place, acked)
        attempt.end()
        flow.check(attempt.place, acked)
        return fired
    finally:
        attempt.end()


def matrix(flows, folder, binaries, count, random, report):
    """`count` points of all flows together, each flow with as large a part of its own."""
    each = []
    for flow in flows:
        template = Place(folder / f"{flow.name.replace(' ', '-')}", binaries, free_port(), aside=flow.aside)
        try:
            flow.prepare(template)
        finally:
            template.stop_all()
        points, paths = points_of(flow, folder / "counting", template)
        each += [(flow, template, point, paths) for point in points]
    chosen = random.sample(each, min(count, len(each)))
    fired = 0
    for number, (flow, template, point, paths) in enumerate(chosen):
        what = f"{flow.name}, {point[0]} at {point[1]} number {point[2]}"
        place = folder / f"call-{number}"
        try:
            fired += attempt_point(flow, place, template, point, paths)
            report.good(place, what)
        except Wrong as why:
            report.bad(place, what, why)
    report.note = f"{len(chosen)} of {len(each)} points, of which {fired} came about"
    # Threads share the work anew each time; some must be met all the same.
    if not fired:
        raise Failed("no call was made to fail")
