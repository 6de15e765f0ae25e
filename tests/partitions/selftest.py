"""Faked histories: one that keeps every rule, and for each rule some that break it, each of which the checker must find, and by that rule."""
import copy
import json

import checker
import report
import selftest_rules

A, B, OLD, NEXT = "spiffe://plant.test/a", "spiffe://plant.test/b", "old0", "next"


def link(t, home, server, up):
    return {"t": t, "kind": "link", "ends": [home, server], "up": up}


def svids(t, agent, *held, bundle):
    """`held` are (id, serial, authority)."""
    return {"t": t, "kind": "svids", "agent": agent, "bundle": list(bundle),
            "svids": [{"id": one, "serial": serial, "authority": authority, "not_before": t - 60, "not_after": t + 60}
                      for one, serial, authority in held]}


def bundle(t, agent, *authorities):
    return {"t": t, "kind": "bundle", "agent": agent, "bundle": list(authorities)}


def status(t, agent, server, last_sync):
    return {"t": t, "kind": "status", "agent": agent, "server": server, "reachable": True, "last_sync": last_sync}


def redeem(t, token, key, result, what=None):
    what = what or ("5e71a1" if result == "ok" else "failed to attest: join token does not exist or has already been used")
    return {"t": t, "kind": "redeem", "token": token, "key": key, "server": "s1", "result": result, "what": what, "last": True}


def attested(t, **tokens):
    """By token: (key, serial) of each SVID that the database knows of."""
    return {"t": t, "kind": "attested", "round": 1, "tokens": tokens}


def good():
    """Two agents on two servers; one authority after another; an entry that comes and goes; a token."""
    return [
        {"t": 0.0, "kind": "begun", "backdate": 60, "kinds": ["links", "server"], "servers": 2},
        *({"t": 0.0, "kind": "server", "server": name, "live": True} for name in ("s1", "s2")),
        *({"t": 0.0, "kind": "agent", "agent": name, "home": home, "servers": {"s1": "s1", "s2": "s2"}} for name, home in (("n1", "a1"), ("n2", "a2"))),
        {"t": 1.0, "kind": "created", "id": A},
        *(event for name in ("n1", "n2") for event in (
            bundle(2.0, name, OLD),
            svids(2.0, name, (A, f"{name}-1", OLD), bundle=[OLD]),
            bundle(30.0, name, OLD, NEXT),
            svids(40.0, name, (A, f"{name}-2", NEXT), (B, f"{name}-3", NEXT), bundle=[OLD, NEXT]),
            svids(56.0, name, (A, f"{name}-2", NEXT), bundle=[OLD, NEXT]),
            bundle(60.0, name, NEXT),
            svids(70.0, name, (A, f"{name}-4", NEXT), bundle=[NEXT]),
            {"t": 5.0, "kind": "status", "agent": name, "revision": [1, 5]},
            {"t": 6.0, "kind": "status", "agent": name, "revision": [1, 6]},
            {"t": 7.0, "kind": "status", "agent": name, "revision": [2, 1]})),
        {"t": 38.0, "kind": "created", "id": B},
        {"t": 54.9, "kind": "deleting", "id": B},
        {"t": 55.0, "kind": "deleted", "id": B},
        {"t": 58.9, "kind": "revoking", "authority": OLD},
        {"t": 59.0, "kind": "revoked", "authority": OLD},
        {"t": 20.0, "kind": "token", "token": "t1"},
        redeem(21.0, "t1", "a1", "ok"), redeem(21.1, "t1", "a2", "InvalidArgument"), redeem(21.2, "t1", "a1", "ok"),
        {"t": 53.0, "kind": "round", "round": 1, "what": "kill of s1", "healed": True, "seconds": 5.0},
        {"t": 80.0, "kind": "trying", "round": 1, "tokens": ["t1"], "last": True}, redeem(81.0, "t1", "third", "InvalidArgument"),
        attested(82.0, t1=[["k1", "5e71a1"], ["k1", "5e71a2"]], fleet1=[["k2", "77"]]),
        {"t": 10.0, "kind": "early", "server": "s1", "authority": NEXT, "answer": "refused"},
        {"t": 11.0, "kind": "clock shown", "server": "s2", "offset": -30, "shown": [-30.4, -29.9]},
        {"t": 50.0, "kind": "failover", "round": 1, "what": "kill of s1", "agent": "n1", "seconds": 4.9},
        {"t": 51.0, "kind": "fault", "round": 1, "what": "hang", "server": "s1", "clear": 3.0, "recovered": 2.0},
        {"t": 52.0, "kind": "refused", "server": "s1", "command": "token create", "why": "unavailable", "hung": False},
    ]


def without(events, kind, **what):
    return [event for event in events if event["kind"] != kind or any(event.get(key) != value for key, value in what.items())]


def changed(kind, name, value, **where):
    def change(events):
        hit = [event for event in events if event["kind"] == kind and all(event.get(key) == one for key, one in where.items())]
        assert hit, f"nothing to change: {kind} {where}"
        hit[0][name] = value
        return events
    return change


def with_also(*more):
    return lambda events: [*events, *more]


def clock(t, server, offset):
    return {"t": t, "kind": "clock", "server": server, "offset": offset}


LACKING = [bundle(30.0, "n1", OLD, NEXT), svids(32.0, "n1", (A, "early", NEXT), bundle=[OLD, NEXT])]
AWAY = [link(20.0, "a2", "s1", False), link(20.0, "a2", "s2", False)]


def late_bundle(events):
    """The second agent has the next authority from 38 on; the first hands out an SVID under it at 32."""
    return [*without(events, "bundle", agent="n2", t=30.0), bundle(38.0, "n2", OLD, NEXT), *LACKING]


def ahead(seconds):
    """The first SVID of one agent, of a clock that is so far ahead."""
    def change(events):
        svid = next(event for event in events if event["kind"] == "svids")["svids"][0]
        svid.update(not_before=svid["not_before"] + seconds, not_after=svid["not_after"] + seconds)
        return events
    return change


# The agent has lost the second entry, though nobody has deleted it; and has it again, though somebody has.
LOST = with_also(svids(50.0, "n1", (A, "n1-2", NEXT), bundle=[OLD, NEXT]))
BACK = with_also(svids(58.0, "n1", (A, "n1-2", NEXT), (B, "n1-3", NEXT), bundle=[OLD, NEXT]))


def lost_bundle(events):
    return [*events, bundle(44.0, "n2", OLD), svids(46.0, "n1", (A, "x", NEXT), bundle=[OLD, NEXT])]


# Name, the rule that must find it (or none: it is not wrong), the change.
CASES = [
    ("all is well", None, lambda events: events),
    ("an online agent gets the authority later", "authorities", late_bundle),
    ("an agent that is cut off gets the authority later", None, lambda events: [*late_bundle(events), *AWAY]),
    ("an agent with one way left is online", "authorities", lambda events: [*late_bundle(events), AWAY[0]]),
    ("an agent whose only server has lost its database is not", None,
     lambda events: [*late_bundle(events), AWAY[0], {"t": 21.0, "kind": "link", "ends": ["db", "s2"], "up": False}]),
    ("an agent whose only server is dead is not", None,
     lambda events: [*late_bundle(events), AWAY[0], {"t": 21.0, "kind": "server", "server": "s2", "live": False}]),
    ("nobody is online without a database", None, lambda events: [*late_bundle(events), {"t": 21.0, "kind": "database", "works": False}]),
    ("an agent that came back is given a moment", None, lambda events: [*late_bundle(events), *AWAY, link(28.0, "a2", "s1", True)]),
    ("and no more", "authorities", lambda events: [*late_bundle(events), *AWAY, link(25.0, "a2", "s1", True)]),
    ("it is online sooner by its own word", "authorities",
     lambda events: [*late_bundle(events), *AWAY, link(28.0, "a2", "s1", True), status(30.5, "n2", "s1", 30)]),
    ("not by a word that is old", None, lambda events: [*late_bundle(events), *AWAY, status(19.5, "n2", "s1", 19)]),
    ("nor by one of the very second in which the way was mended", None,
     lambda events: [*late_bundle(events), *AWAY, link(29.5, "a2", "s1", True), status(30.5, "n2", "s1", 30)]),
    ("nor by a server that is cut off itself", None,
     lambda events: [*late_bundle(events), *AWAY, link(28.0, "a2", "s1", True), link(28.0, "db", "s1", False), status(30.5, "n2", "s1", 30)]),
    ("an online agent never gets the authority", "authorities", with_also(svids(45.0, "n1", (A, "x", "other"), bundle=[OLD, "other"]))),
    ("an authority is not in the bundle beside the SVID", "authorities",
     lambda events: [*events, bundle(44.0, "n2", OLD, "other"), svids(45.0, "n1", (A, "x", "other"), bundle=[OLD])]),
    ("an authority is lost that nobody revoked", "authorities", lost_bundle),
    ("one whose revocation was not answered may be", None,
     lambda events: [*lost_bundle(events), {"t": 43.0, "kind": "revoking", "authority": NEXT}]),
    ("one whose revocation was refused is not", "authorities",
     lambda events: [*lost_bundle(events), {"t": 43.0, "kind": "revoking", "authority": NEXT}, {"t": 43.1, "kind": "kept", "authority": NEXT}]),
    ("one whose second revocation was refused may be by the first", None,
     lambda events: [*lost_bundle(events), {"t": 42.0, "kind": "revoking", "authority": NEXT}, {"t": 43.0, "kind": "revoking", "authority": NEXT},
                     {"t": 43.1, "kind": "kept", "authority": NEXT}]),
    ("nor is it exempt from the bundle beside the SVID when it was refused", "authorities",
     lambda events: [*events, {"t": 43.0, "kind": "revoking", "authority": NEXT}, {"t": 43.1, "kind": "kept", "authority": NEXT},
                     svids(45.0, "n1", (A, "x", NEXT), (B, "n1-3", NEXT), bundle=[OLD])]),
    ("an SVID is signed under a revoked authority", "authorities", with_also(svids(65.0, "n1", (A, "x", OLD), bundle=[NEXT]))),
    ("a token is redeemed by two keys", "tokens", changed("redeem", "result", "ok", key="a2")),
    ("a token is redeemed by nobody", "tokens", lambda events: without(events, "redeem", result="ok")),
    ("a redeemed token lets a third key in, much later", "tokens", changed("redeem", "result", "ok", key="third")),
    ("a third key has no answer", "tokens", changed("redeem", "result", "unanswered", key="third")),
    ("a third key is refused for another reason", "tokens", changed("redeem", "what", "failed to attest: join token expired", key="third")),
    ("a third key is refused by one server and has no answer of another", "tokens", with_also(redeem(81.1, "t1", "third", "unanswered", "x"))),
    ("no third key tries", "tokens", lambda events: without(events, "redeem", key="third")),
    ("nobody tries again at the end", "tokens", changed("trying", "last", False)),
    ("nobody tries all again at the end", "tokens", changed("trying", "tokens", [])),
    ("a third key is refused in one round, and not tried in the next", "tokens",
     with_also({"t": 90.0, "kind": "trying", "round": 2, "tokens": ["t1"], "last": True})),
    ("the database has attested two keys, of which one had no answer", "tokens", with_also(attested(83.0, t1=[["k3", "5e71a3"]]))),
    ("it has attested two for an agent of the rig", "tokens", with_also(attested(83.0, fleet1=[["k3", "5e71a3"]]))),
    ("it has none of what was given to the node", "tokens", changed("attested", "tokens", {"t1": [["k1", "5e71a2"]], "fleet1": [["k2", "77"]]})),
    ("it has nothing at all of a token", "tokens", changed("attested", "tokens", {"fleet1": [["k2", "77"]]})),
    ("nobody has looked into the database", "tokens", lambda events: without(events, "attested")),
    ("an authority signs at once beside another server", "orders", changed("early", "answer", "activated")),
    ("it may have been refused for another reason", None, changed("early", "answer", "unknown")),
    ("a clock was not moved", "clock", changed("clock shown", "shown", [-0.4, 0.1])),
    ("a clock was moved the other way", "clock", changed("clock shown", "shown", [29.9, 30.4])),
    ("a server has written nothing by its clock", None, changed("clock shown", "shown", None)),
    ("a token is redeemed that nobody made", "tokens", lambda events: without(events, "token")),
    ("a fail-over takes long", "fail-over", changed("failover", "seconds", 5.1)),
    ("a fail-over never happens", "fail-over", changed("failover", "seconds", None)),
    ("a revision goes back", "revisions", with_also({"t": 8.0, "kind": "status", "agent": "n1", "revision": [1, 7]})),
    ("a number goes back", "revisions", with_also({"t": 6.5, "kind": "status", "agent": "n1", "revision": [1, 5]})),
    ("a deleted entry comes back", "entries", with_also(svids(58.0, "n1", (A, "n1-2", NEXT), (B, "n1-3", NEXT), bundle=[OLD, NEXT]))),
    ("a deleted entry stays", "entries",
     lambda events: [*without(events, "svids", agent="n2", t=56.0), svids(69.0, "n2", (A, "x", NEXT), (B, "n2-3", NEXT), bundle=[NEXT])]),
    ("one that stays where nobody can tell is no wonder", None,
     lambda events: [*without(without(events, "svids", agent="n2", t=56.0), "svids", agent="n2", t=70.0), link(54.0, "a2", "s1", False),
                     link(54.0, "a2", "s2", False), svids(69.0, "n2", (A, "x", NEXT), (B, "n2-3", NEXT), bundle=[NEXT])]),
    ("an acknowledged entry is lost", "entries", with_also(svids(45.0, "n1", (B, "n1-3", NEXT), bundle=[OLD, NEXT]))),
    ("an agent whose only server has another clock is not online", None, lambda events: [*late_bundle(events), AWAY[0], clock(21.0, "s2", 30)]),
    ("one whose only server is a little late is", "authorities", lambda events: [*late_bundle(events), AWAY[0], clock(21.0, "s2", -3)]),
    ("a clock that is set is right", "authorities",
     lambda events: [*late_bundle(events), AWAY[0], clock(21.0, "s2", 30), clock(22.0, "s2", 0)]),
    ("an SVID is handed out before it begins", "validity", ahead(280)),
    ("an SVID is handed out after it has ended", "validity", ahead(-90)),
    ("one that has just ended was under way", None, ahead(-60.5)),
    ("an acknowledged entry is lost with the database, and somebody accepts it", None,
     lambda events: [*LOST(events), {"t": 44.0, "kind": "lost", "created": [B], "deleted": []}]),
    ("nobody has accepted it yet", "entries", lambda events: [*LOST(events), {"t": 62.0, "kind": "lost", "created": [B], "deleted": []}]),
    ("another one goes with it", "entries", lambda events: [*LOST(events), {"t": 44.0, "kind": "lost", "created": ["c"], "deleted": []}]),
    ("a deletion is lost with the database, and somebody accepts it", None,
     lambda events: [*BACK(events), {"t": 57.0, "kind": "lost", "created": [], "deleted": [B]}]),
    ("a deleted entry comes back by a replica that nobody has accepted", "entries",
     lambda events: [*BACK(events), {"t": 58.5, "kind": "lost", "created": [], "deleted": [B]}]),
    ("a server answers by a database that lacks something", "stale",
     with_also({"t": 9.0, "kind": "stale", "round": 2, "server": "s1", "command": "entry create"})),
    ("a server does not recover, and nothing else was looked at", "database",
     with_also({"t": 9.0, "kind": "fault", "round": 2, "what": "replica", "server": "s1", "recovered": None})),
    ("a server does not say that it cannot work", "database", changed("fault", "clear", None)),
    ("a server does not recover", "database", changed("fault", "recovered", None)),
    ("a command hangs", "database", changed("refused", "hung", True)),
    ("a process ends by itself", "processes", with_also({"t": 9.0, "kind": "died", "name": "s1", "code": 101})),
    ("something does not work though everything is up", "recovery", with_also({"t": 9.0, "kind": "unhealed", "round": 3, "what": "x"})),
]


def run():
    failed = 0
    for name, rule, change in CASES:
        events = sorted(change(copy.deepcopy(good())), key=lambda event: event["t"])
        found, _ = checker.check(events)
        # Of so little there is not enough: that has histories of its own.
        rules = {one.split(":")[0] for one in found} - {"floors"}
        if rules != ({rule} if rule else set()):
            failed += 1
            print(f"FAIL {name}: expected {rule or 'nothing'}, found {found or 'nothing'}")
    failed += selftest_rules.run()
    late = changed("failover", "seconds", None)(copy.deepcopy(good()))
    told = json.loads(json.dumps(report.summary(late, seed=7, seconds=0.0)))
    if told["fail_over_missed"] != [{"round": 1, "seed": 7, "what": "kill of s1", "agent": "n1", "seconds": None}] or not told["violations"]:
        failed += 1
        print(f"FAIL the report: {told}")
    print(f"{len(CASES) + selftest_rules.COUNT + 1 - failed} passed, {failed} failed")
    return 1 if failed else 0
