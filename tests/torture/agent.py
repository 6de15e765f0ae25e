"""The agent's own files and its sealed cache: what it has put there it serves after a cut while its server is away, and what was taken away stays away.

The server is recorded too, and loses nothing: after each cut the agent meets it as it was at that moment.
"""
import json
import os
import signal
import time

from daemons import TRUST_DOMAIN, Place, Wrong, must
from disk import write_out
from rig import free_port
from timeline import History, Recording, choose, cut_again, moments_of, trial

NODE = f"spiffe://{TRUST_DOMAIN}/spire/agent/join_token/"
QUIET = 1.2
# What lets a node be what it was: not a fresh key that nobody has signed for.
SECRET = ("node-identity.json", "index.a", "index.b", "tokens")


def served(place):
    """The serial number of each identity; nothing at all if the agent does not answer."""
    done = place.run("svid", "fetch")
    if done.returncode == 0:
        return {one["spiffe_id"]: one["serial"] for one in json.loads(done.stdout)}
    return {} if "the agent refuses" in done.stderr else None


def files(folder):
    """Which file is where, as long as nobody writes."""
    found = {}
    for path in folder.rglob("*"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        found[str(path.relative_to(folder))] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


def quiet(folder):
    """Until all that was to be written is."""
    before, since = files(folder), time.monotonic()
    while time.monotonic() - since < QUIET or any(name.endswith(".tmp") for name in before):
        time.sleep(0.02)
        now = files(folder)
        if now != before:
            before, since = now, time.monotonic()


class Node:
    """An agent with its server, and what is done to them."""

    def __init__(self, place):
        self.place, self.history, self.entries, self.number = place, History(), {}, 0
        # All that a step may leave behind: the SVIDs served while it was under way.
        self.passing, self.data = {}, place.disk / "agent"

    def index(self):
        there = files(self.data)
        return there.get("cache/index.a"), there.get("cache/index.b")

    def svids(self):
        """Of which there are files: those that no index names are removed."""
        return sum(name.startswith("cache/svid-") for name in files(self.data))

    def step(self, name, act, so, writes=True, after=False):
        """`so(served)`: the agent has come to it. `writes`: both indexes are then written anew; `after`: and once more since it has come to it."""
        before, passing = self.index(), set()

        def all_of_it():
            act()

            def come():
                now = served(self.place)
                passing.update((now or {}).items())
                return now is not None and so(now)
            must(f"{name}: the agent has come to it", come, 30)
            last = self.index() if after else before
            if writes:
                must(f"{name}: it is on disk", lambda: all(a != b for a, b in zip(last, self.index())) and self.svids() == len(served(self.place) or {}), 30)
            quiet(self.data)
        self.history.step(name, all_of_it, lambda: served(self.place))
        step = self.history.steps[-1]
        step.passing = passing | set((step.seen or {}).items())

    def create(self, count):
        for _ in range(count):
            self.number += 1
            words = ["--spiffe-id", f"spiffe://{TRUST_DOMAIN}/w{self.number}", "--parent-id", self.id, "--selector", f"unix:uid:{os.geteuid()}"]
            made = self.place.tell("entry", "create", *words)
            self.entries[made["spiffe_id"]] = made["id"]

    def delete(self, count):
        for name in sorted(self.entries)[:count]:
            self.place.tell("entry", "delete", self.entries.pop(name))

    def all_there(self, now):
        return set(now) == set(self.entries)

    def begin(self, recorded=True):
        self.place.start("server", recorded)
        self.place.up("server")
        self.place.publish_bundle()
        token = self.place.tell("token", "create", "--ttl", "4h")["token"]
        self.id = NODE + token
        file = self.place.beside / "token"
        file.write_text(token)
        file.chmod(0o600)
        self.create(3)

    def again(self, number):
        def act():
            self.place.stop("agent", number)
            self.place.start("agent", recorded=True)
            self.place.up("agent")
        self.step("restart", act, self.all_there, writes=False)

    def rotate(self):
        shown = lambda standing: next(one["id"] for one in self.place.tell("authority", "show") if (one["kind"], one["standing"]) == ("x509", standing))
        old, before = shown("active"), served(self.place)

        def act():
            self.place.tell("authority", "prepare", "x509")
            self.place.tell("authority", "activate", "x509", shown("prepared"))
            self.place.tell("authority", "taint", "x509", old)
        self.step("taint", act, lambda now: self.all_there(now) and not set(now.values()) & set(before.values()), after=True)

    def update(self):
        name, before = sorted(self.entries)[0], served(self.place)
        change = lambda: self.place.tell("entry", "update", self.entries[name], "--hint", "other")
        self.step("entry update", change, lambda now: self.all_there(now) and now[name] != before[name], after=True)

    def live(self, ban=True):
        self.begin()
        self.step("first start", lambda: self.place.start("agent", recorded=True), self.all_there)
        self.step("entry create", lambda: self.create(2), self.all_there)
        self.step("entry delete", lambda: self.delete(1), self.all_there)
        self.rotate()
        self.again(signal.SIGTERM)
        self.update()
        self.step("entry delete", lambda: self.delete(2), self.all_there)
        self.again(signal.SIGKILL)
        self.step("entry create", lambda: self.create(3), self.all_there)
        if ban:
            self.step("ban", lambda: self.place.tell("agent", "ban", self.id), lambda now: not now and self.destroyed(), writes=False)

    def destroyed(self):
        return not keys(self.data)


def keys(folder):
    """Files of a node that is in, and of its workloads."""
    return [str(path) for path in folder.rglob("*") if path.name in SECRET or "svid-" in path.name]


class Cut:
    def __init__(self, node, place, moment):
        self.node, self.place = node, place
        self.done, self.under_way = node.history.at(moment)

    def check(self):
        banned = self.done and self.done.name == "ban"
        left = keys(self.place.disk / "agent")
        if banned and left:
            raise Wrong(f"the node is banned, and its keys are back: {', '.join(left)}")
        self.place.start("agent")
        self.place.up("agent")
        self.alone(must("it answers", lambda: (served(self.place),))[0])
        self.place.start("server")
        self.place.up("server")
        node = next((one for one in self.place.tell("agent", "list") if one["id"] == self.node.id), None)
        if node and node["banned"]:
            must("a banned node serves nothing", lambda: served(self.place) == {} and not keys(self.place.disk / "agent"))
        else:
            wanted = {entry["spiffe_id"] for entry in self.place.tell("entry", "list")}
            must("it serves what the server has for it", lambda: set(served(self.place) or {}) == wanted, 30)
        self.place.stop_all()

    def alone(self, seen):
        """While the server is away: what is there before and after what was under way is there, and nothing that neither has."""
        if seen is None:
            raise Wrong(f"it does not answer: {self.place.said('agent')}")
        before = self.done.seen if self.done else {}
        after = self.under_way.seen if self.under_way else before
        may = set(before.items()) | (self.under_way.passing if self.under_way else set())
        if wrong := set(seen.items()) - may:
            raise Wrong(f"it serves {sorted(wrong)}, which was withdrawn or never was")
        if lost := (before.keys() & after.keys()) - seen.keys():
            raise Wrong(f"it has lost {', '.join(sorted(lost))}: {self.place.said('agent')}")
        leaving = "ban" in [step.name for step in (self.done, self.under_way) if step]
        agent_id = self.place.tell("agent", "status")["agent_id"]
        if self.done and not leaving and agent_id != self.node.id:
            raise Wrong(f"the node was {self.node.id} and is {agent_id}")


def cuts(folder, binaries, count, random, report):
    place = Place(folder / "recorded", binaries, free_port())
    node = Node(place)
    try:
        node.live()
        place.stop_all()
        chosen = choose(moments_of(place.disk, place.runs["agent"], "agent"), node.history, count, random)
        agent, server = (Recording(place.disk, place.runs[name]) for name in ("agent", "server"))
        for number, (moment, mode) in enumerate(chosen):
            agent.advance(moment)
            server.advance(moment)
            one_cut(folder, node, agent, server, (number, moment, mode), random, report)
    finally:
        place.stop_all()


def one_cut(folder, node, agent, server, which, random, report):
    number, moment, mode = which
    place = Place(folder / f"cut-{number}", node.place.bin, free_port(), node.place.dir)
    found, twice = agent.disk.after(mode, random), number % 4 == 3
    write_out(found, place.disk)

    def again():
        if twice:
            cut_again(place, "agent", found, mode, random)
        write_out(server.disk.after("kept", random), place.disk)
    trial(Cut(node, place, moment), place, report, (mode, twice), again)
