"""What was done and answered when, and what the disk went through meanwhile."""
import re
import shutil
import time
from random import Random

import recorder
from daemons import Wrong
from disk import MODES, Disk, write_out
from rig import Failed

# Not read by the next start: SQLite's index of its log is mapped, and made anew.
MAPPED = "-shm"


class Step:
    """Something that was asked for, from when to when it was answered, and what could be seen after it."""

    def __init__(self, name, begin, end, seen):
        self.name, self.begin, self.end, self.seen = name, begin, end, seen
        # What could be seen before it, so for certain before its end: what a daemon does by itself may come between the end and `seen`.
        self.before = None


class History:
    def __init__(self):
        self.steps = []

    def step(self, name, act, see):
        begin = time.time()
        done = act()
        self.steps.append(Step(name, begin, time.time(), None))
        self.steps[-1].before = self.steps[-2].seen if len(self.steps) > 1 else None
        self.steps[-1].seen = see()
        return done

    def at(self, moment):
        """The last step that was answered by then, and the one that was asked for and not answered yet; nothing where there is none."""
        done = [step for step in self.steps if step.end <= moment]
        under_way = [step for step in self.steps if step.begin < moment < step.end]
        return done[-1] if done else None, under_way[0] if under_way else None


class Recording:
    """A disk as it was at one moment after the other."""

    def __init__(self, path, runs, base=None):
        self.disk, self.moments, self.applied = Disk(path, base), [], 0
        each = [(call, number) for number, run in enumerate(runs) for call in recorder.calls(run)]
        self.calls = sorted(each, key=lambda one: (one[0].order(), one[1]))
        self.processes = [recorder.Process(self.disk) for _ in runs]
        self.disk.on_change = lambda call, name: self.moments.append((call.end, kind(name)))

    def advance(self, moment):
        while self.applied < len(self.calls) and self.calls[self.applied][0].order() <= moment:
            call, number = self.calls[self.applied]
            self.processes[number].apply(call)
            self.applied += 1

    def check(self, real, only=None):
        """Against the disk as the daemons have left it, which is what would be there had nothing been lost. `only`: this folder of it."""
        self.advance(float("inf"))
        modelled = {where: content for where, (_, content) in self.disk.after("kept", Random(0)).items()}
        there = {path.relative_to(real).parts: path.read_bytes() if path.is_file() else None for path in [real, *real.rglob("*")]}
        for where in modelled.keys() | there.keys():
            if only and where[:1] != (only,):
                continue
            same = where in modelled and where in there and modelled[where] == there[where]
            if not same and not (where and where[-1].endswith(MAPPED)):
                raise Failed(f"the model of the disk is not as the disk: {'/'.join(where)}")


def kind(name):
    """Of which kind a file is, also while it is a temporary one. Of SVIDs, rungs and keys there are many."""
    name = re.sub(r"^\.|(\.new|\.\d+)?\.tmp$", "", name)
    return re.sub(r"[0-9a-f]{16,}", "", name)


def moments_of(path, runs, only=None, base=None):
    """All moments at which something changed, and of what kind it was; the recording is seen to be true to the disk."""
    recording = Recording(path, runs, base)
    recording.check(path, only)
    return sorted(recording.moments)


def choose(moments, history, count, random):
    """When to cut, and what is lost, in the order of time: a third at a change, where each kind of file has the same chance, a third as an answer has come,
    a third at the last change before it."""
    kinds = {}
    for moment, of in moments:
        kinds.setdefault(of, []).append(moment)
    moments = [moment for moment, _ in moments]
    chosen, first = [], moments[0]
    answers = [step.end for step in history.steps]
    for number in range(count):
        mode = MODES[number // 3 % len(MODES)] if number < 3 * len(MODES) else random.choice(MODES)
        moment = random.choice(kinds[random.choice(sorted(kinds))]) if number % 3 == 0 else random.choice(answers)
        if number % 3 == 2:
            moment = max((one for one in moments if one < moment), default=first)
        chosen.append((moment, mode))
    return sorted(chosen)


def trial(cut, place, report, described, again):
    """`again` cuts a second time, or does nothing."""
    mode, twice = described
    name = lambda step: step.name if step else "nothing"
    what = f"{mode}{', twice,' if twice else ''} after {name(cut.done)}, during {name(cut.under_way)}"
    try:
        again()
        cut.check()
        report.good(place.dir, what)
    except Wrong as why:
        report.bad(place.dir, what, why)
    finally:
        place.stop_all()


def cut_again(place, name, found, mode, random):
    """The power goes and comes, and goes again while the daemon starts."""
    place.start(name, recorded=True)
    place.up(name)
    place.stop(name)
    moments = sorted(moments_of(place.disk, place.runs[name], name, found))
    if moments:
        again = Recording(place.disk, place.runs[name], found)
        again.advance(random.choice(moments)[0])
        found = again.disk.after(mode, random)
        shutil.rmtree(place.disk)
        place.disk.mkdir()
        write_out(found, place.disk)
