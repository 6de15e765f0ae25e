"""A reserve of short-lived SVIDs, in real time: filled, topped up while the node is connected, handed out one after the other when its server is away.

What a rung is to be, and which one is the next, the agent works out from what is on its disk: after a cut at any moment it serves an SVID that is
valid then, and has ahead what it had.
"""
import datetime
import os
import signal

from agent import Node, cut_all, lasts, own, served
from daemons import TRUST_DOMAIN, Place, Wrong, must
from rig import free_port

# Of which one begins every 20 seconds: 200 cuts are made within the reserve.
LIFE, RESERVE = "40s", "40m"
TOP_UPS, HAND_OVERS = 2, 3


def valid(place):
    """The serial number of each identity whose SVID is valid now; nothing at all if the agent does not answer."""
    found = place.ask("svid", "fetch")
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return found and {one["spiffe_id"]: one["serial"] for one in found if one["not_before"] <= now < one["not_after"]}


class Islander(Node):
    def create(self, count):
        for _ in range(count):
            self.number += 1
            name = f"spiffe://{TRUST_DOMAIN}/w{self.number}"
            words = ["--spiffe-id", name, "--parent-id", self.id, "--selector", f"unix:uid:{os.geteuid()}", "--x509-ttl", LIFE]
            self.entries[name] = self.place.tell("entry", "create", *words)["id"]

    def note(self, name, act):
        self.history.step(name, act, lambda: served(self.place))
        self.history.steps[-1].lasts, self.history.steps[-1].own = lasts(self.place), own(self.data)

    def live(self):
        self.begin()

        def first():
            self.place.start("agent", recorded=True)
            must("it serves", lambda: self.all_there(served(self.place) or {}) and self.firm(), 30)
        self.note("first start", first)
        self.note("reserve", self.fill)
        for _ in range(TOP_UPS):
            self.note("top-up", self.top_up)
        self.place.stop("server", signal.SIGKILL)
        for _ in range(HAND_OVERS):
            self.note("hand-over", self.hand_over)

    def fill(self):
        for entry in self.entries.values():
            self.place.tell("entry", "policy", "set", entry, "--offline-reserve", RESERVE)
        must("the reserve is on disk", lambda: len(self.rungs()) >= 119 * len(self.entries), 60)

    def top_up(self):
        before = self.rungs()
        must("a rung more is on disk", lambda: self.rungs() - before, 100)

    def hand_over(self):
        before = served(self.place)
        must("another rung has taken its turn", lambda: served(self.place) not in (before, None), 100)


class Cut:
    def __init__(self, node, place, moment):
        self.node, self.place = node, place
        self.done, self.under_way = node.history.at(moment)

    def check(self):
        self.place.start("agent")
        self.place.up("agent")
        if self.done and self.done.name != "first start":
            seen = valid(self.place)
            if seen is None or self.node.entries.keys() - seen.keys():
                raise Wrong(f"of what it had ahead it serves {seen}: {self.place.said('agent')}")
            # No server is there: what comes later than the first SVIDs comes from the disk.
            short = lambda: [name for name, end in self.done.lasts.items() if lasts(self.place).get(name, "") < end]
            try:
                must("all that it had ahead is read", lambda: not short(), 20)
            except Wrong as wrong:
                raise Wrong(f"{wrong}: {', '.join(short())} until {lasts(self.place)}, and was to last until {self.done.lasts}") from wrong
        self.place.start("server")
        self.place.up("server")
        must("with its server it serves all", lambda: (valid(self.place) or {}).keys() == set(ids(self.place)), 30)
        self.place.stop_all()


def ids(place):
    return [entry["spiffe_id"] for entry in place.tell("entry", "list")]


def cuts(folder, binaries, count, random, report):
    place = Place(folder / "recorded", binaries, free_port())
    cut_all(folder, Islander(place), lambda node, place, moment, _number: Cut(node, place, moment), count, random, report)
