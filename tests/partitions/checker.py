"""Reads a whole history and says which rules it breaks. It asks nobody: the same history has the same answer, also years later.

An agent was *online* when for a whole WINDOW there was one server to which its link was whole, which ran, whose link to the database was whole, and the
database worked: what the rig did, so that an agent which wrongly believes itself cut off is no excuse. And also, sooner than that, when it said itself
that it had synchronised within the last CONTACT with a server that was so at that time.
"""
import bisect
import itertools
from collections import Counter, defaultdict

import rules

# Seconds. A fail-over and one synchronisation; what an online agent has not got by then it lacks.
WINDOW = 6.0
CONTACT = 3.0
# Between what an agent does and when the observer of a busy machine has written it down.
SLACK = 1.0
# The bound for a fail-over.
FAILOVER = 5.0
# For a command to be refused, or health to say what is wrong; and for everything to work again, without a restart.
CLEAR, RECOVERED = 15.0, 15.0
# An entry that was made or deleted is so at every online agent by then; its SVID has to be signed as well.
CHANGED = 10.0
# Seconds by which a server's clock may differ without any harm.
TOLERATED = 3


class Paths:
    """Since when each agent's way through each server has been whole."""

    def __init__(self):
        self.homes, self.servers, self.down, self.since = {}, set(), set(), {}
        self.addresses, self.contact = {}, {}

    def see(self, event):
        kind = event["kind"]
        if kind == "agent":
            self.homes[event["agent"]] = event["home"]
            self.addresses[event["agent"]] = event.get("servers", {})
        elif kind == "server":
            self.servers.add(event["server"])
            self.mark(("server", event["server"]), event["live"])
        elif kind == "clock":
            # Beyond what SVIDs are backdated by, and half their life, its agents take none of it.
            self.mark(("clock", event["server"]), abs(event["offset"]) <= TOLERATED)
        elif kind == "link":
            self.mark(tuple(event["ends"]), event["up"])
        elif kind == "database":
            self.mark("database", event["works"])
        elif kind == "status" and "last_sync" in event:
            return self.note_contact(event)
        else:
            return
        for way in itertools.product(set(self.homes.values()), self.servers):
            if not self.whole(*way):
                self.since[way] = None
            elif self.since.get(way) is None:
                self.since[way] = event["t"]

    def note_contact(self, event):
        agent = event["agent"]
        server = self.addresses.get(agent, {}).get(event["server"])
        since = self.since.get((self.homes.get(agent), server))
        # Whole seconds; and the server must have had the news itself by then.
        if event["reachable"] and since is not None and event["last_sync"] >= since + SLACK:
            self.contact[agent] = event["last_sync"]

    def mark(self, what, good):
        (self.down.discard if good else self.down.add)(what)

    def whole(self, home, server):
        return not self.down & {("server", server), ("clock", server), (home, server), ("db", server), "database"}

    def online_since(self, agent):
        """Through the server that has been there longest, or nothing."""
        home = self.homes.get(agent)
        since = [self.since.get((home, server)) for server in self.servers]
        return min((t for t in since if t is not None), default=None)

    def online(self, agent, t, window=WINDOW):
        since = self.online_since(agent)
        return since is not None and t - since >= window or t - self.contact.get(agent, 0) <= CONTACT


class Bundles:
    """Which authorities each agent has served, when."""

    def __init__(self, events):
        self.seen, self.times, self.firsts = defaultdict(list), defaultdict(list), {}
        for event in events:
            if event["kind"] in ("svids", "bundle"):
                agent, t = event["agent"], event["t"]
                self.seen[agent].append(frozenset(event["bundle"]))
                self.times[agent].append(t)
                for authority in event["bundle"]:
                    self.firsts.setdefault((agent, authority), t)

    def around(self, agent, t):
        """Those it had at some moment within SLACK of `t`."""
        seen, times = self.seen[agent], self.times[agent]
        first = max(bisect.bisect_right(times, t - SLACK) - 1, 0)
        return frozenset().union(*seen[first:bisect.bisect_right(times, t + SLACK)])

    def first(self, agent, authority):
        return self.firsts.get((agent, authority))


def check(events):
    """All violations, as sentences, and how much there was to look at."""
    wrong, counted = [], Counter()
    for rule in (authorities, validity, entries, rules.tokens, revisions, measured, rules.clocks, rules.orders, rules.floors):
        rule(events, wrong, counted)
    return wrong, counted


def authorities(events, wrong, counted):
    """No SVID under an authority that an online agent lacks; none under a revoked one."""
    bundles, paths, open_streams, handed_out = Bundles(events), Paths(), set(), set()
    revoked = {event["authority"]: event["t"] for event in events if event["kind"] == "revoked"}
    asked = may_be_revoked(events)
    backdate = next((event["backdate"] for event in events if event["kind"] == "begun"), 0)
    for event in events:
        paths.see(event)
        agent = event.get("agent")
        if event["kind"] == "bundle":
            open_streams.add(agent)
        elif event["kind"] == "ended" and event["stream"] == "bundles":
            open_streams.discard(agent)
        elif event["kind"] == "svids":
            for svid in event["svids"]:
                if (agent, svid["serial"]) not in handed_out:
                    handed_out.add((agent, svid["serial"]))
                    counted["SVIDs"] += 1
                    judge_svid(event, svid, bundles, paths, open_streams, revoked, asked, backdate, wrong, counted)


def may_be_revoked(events):
    """Since when each authority may be: by an order that was carried out, or whose answer was lost. One that was refused was none."""
    asked, before = {}, {}
    for event in events:
        if event["kind"] == "revoking":
            before[event["authority"]] = asked.get(event["authority"])
            asked.setdefault(event["authority"], event["t"])
        elif event["kind"] == "kept" and before.get(event["authority"]) is None:
            asked.pop(event["authority"], None)
    return asked


def judge_svid(event, svid, bundles, paths, open_streams, revoked, asked, backdate, wrong, counted):
    t, agent, authority = event["t"], event["agent"], svid["authority"]
    what = f"{svid['id']}, serial {svid['serial']}, by authority {authority}, handed out by {agent} at {t:.3f}"
    ended = revoked.get(authority)
    # Whole seconds: one that was signed in the second of the revocation may have been before it.
    signed = min(svid["not_before"] + backdate, t)
    if ended is not None and signed > ended + 1:
        wrong.append(f"authorities: {what}, was signed {signed - ended:.0f} s after its authority was revoked")
    if authority not in event["bundle"] and not asked.get(authority, t + 1) <= t:
        wrong.append(f"authorities: {what}: it is not in the bundle beside it")
    for other in paths.homes:
        if other == agent or not paths.online(other, t):
            continue
        if other not in open_streams:
            counted["times that an online agent served no bundle to compare with"] += 1
            continue
        counted["comparisons of an SVID with an online agent's bundle"] += 1
        if authority in bundles.around(other, t):
            lead = t - (bundles.first(other, authority) or t)
            counted["least lead, ms"] = min(counted["least lead, ms"] or 10**9, int(lead * 1000))
        elif (first := bundles.first(other, authority)) is None or first > t:
            late = f"got it {first - t:.3f} s later" if first else "never got it"
            wrong.append(f"authorities: {what}: {other}, online, lacked it and {late}")
        elif authority not in asked or asked[authority] > t + SLACK:
            wrong.append(f"authorities: {what}: {other}, online, had lost it, and nobody has revoked it")


def validity(events, wrong, counted):
    """What is handed out is valid at that moment, whatever the clock showed by which it was signed."""
    for event in events:
        for svid in event["svids"] if event["kind"] == "svids" else ():
            early, late = svid["not_before"] - event["t"], event["t"] - svid["not_after"]
            if early > SLACK or late > SLACK:
                how = f"begins {early:.0f} s later" if early > SLACK else f"has ended {late:.0f} s before"
                wrong.append(f"validity: {svid['id']}, serial {svid['serial']}, handed out by {event['agent']} at {event['t']:.3f}, {how}")


def entries(events, wrong, counted):
    """A deleted entry goes, and stays away; one that was acknowledged comes, and stays."""
    paths, deleted, asked, created, gone = Paths(), {}, set(), {}, set()
    for event in events:
        paths.see(event)
        kind, t = event["kind"], event["t"]
        if kind == "created":
            created[event["id"]] = t
            counted["entries created"] += 1
        elif kind == "deleting":
            asked.add(event["id"])
        elif kind == "deleted":
            deleted[event["id"]] = t
            counted["entries deleted"] += 1
        elif kind == "lost":
            # Somebody has said that the database without them is to hold: from now on nobody has made or deleted them.
            for one in event["created"]:
                created.pop(one, None)
            for one in event["deleted"]:
                deleted.pop(one, None)
                gone.difference_update([each for each in gone if each[1] == one])
                # When it is back at each agent, and until when, is nobody's promise.
                asked.add(one)
            counted["changes given up"] += len(event["created"]) + len(event["deleted"])
        elif kind == "svids":
            here, agent = {svid["id"] for svid in event["svids"]}, event["agent"]
            online = paths.online_since(agent)
            for one, at in deleted.items():
                if one not in here:
                    gone.add((agent, one))
                elif (agent, one) in gone:
                    wrong.append(f"entries: {one}, deleted at {at:.3f}, came back at {agent} at {t:.3f}")
                elif online is not None and t - max(at, online) > CHANGED:
                    wrong.append(f"entries: {one}, deleted at {at:.3f}, was still served by {agent} at {t:.3f}, online since {online:.3f}")
            for one, at in created.items():
                if one not in here and one not in asked and online is not None and t - max(at, online) > CHANGED:
                    wrong.append(f"entries: {one}, acknowledged at {at:.3f}, was not served by {agent} at {t:.3f}, online since {online:.3f}")


def revisions(events, wrong, counted):
    """What an agent has seen never goes back. A status without a revision is not judged, and must be rare."""
    newest = {}
    for event in events:
        if event["kind"] == "status" and not event.get("revision"):
            counted["statuses without a revision"] += 1
        elif event["kind"] == "status":
            counted["revisions"] += 1
            agent, revision = event["agent"], tuple(event["revision"])
            if revision < newest.get(agent, (0, 0)):
                wrong.append(f"revisions: {agent} went back from {newest[agent]} to {revision} at {event['t']:.3f}")
            newest[agent] = max(revision, newest.get(agent, (0, 0)))


def measured(events, wrong, counted):
    """What the rig has waited for: fail-overs, refusals, recoveries."""
    for event in events:
        if event["kind"] == "failover":
            counted["fail-overs"] += 1
            if event["seconds"] is None or event["seconds"] > FAILOVER:
                took = "never" if event["seconds"] is None else f"after {event['seconds']:.1f} s"
                wrong.append(f"fail-over: round {event['round']}, {event['what']}: {event['agent']} was served again {took}")
        elif event["kind"] == "fault":
            counted["faults of the database, at a server"] += 1
            for name, limit in (("clear", CLEAR), ("recovered", RECOVERED)):
                seconds = event.get(name)
                if name in event and (seconds is None or seconds > limit):
                    took = "never" if seconds is None else f"after {seconds:.1f} s"
                    wrong.append(f"database: round {event['round']}, {event['what']}: {event['server']} was {name} {took}")
        elif event["kind"] == "stale":
            wrong.append(f"stale: round {event['round']}: {event['server']} has answered {event['command']} by a database that lacks what was acknowledged")
        elif event["kind"] == "refused" and event["hung"]:
            wrong.append(f"database: {event['command']} on {event['server']} at {event['t']:.3f} had no answer at all")
        elif event["kind"] == "died":
            wrong.append(f"processes: {event['name']} has ended by itself, exit {event['code']}")
        elif event["kind"] == "unhealed":
            wrong.append(f"recovery: round {event['round']}: {event['what']}")
