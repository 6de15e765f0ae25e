"""For each floor a run that is just above it, and one that has one less to look at: which the checker must find."""
from collections import Counter

import checker
import rules

ROUNDS = {"links": 80, "server": 40, "database": 40, "clock": 13, "nothing": 14, "replica": 13}
WORDS = {"links": "silent cut of a1-s1", "server": "kill of s1", "database": "database hang", "clock": "clock of s1 +30 s", "nothing": "nothing",
         "replica": "replica"}
# Of 200 rounds as above, the least of each.
LEAST = {
    "SVIDs": 1000, "comparisons of an SVID with an online agent's bundle": 935, "revisions": 1000, "entries created": 100, "entries deleted": 42,
    "authorities activated": 8, "authorities revoked": 4, "authorities prepared that were not activated at once": 2, "tokens redeemed": 44,
    "refusals of a used token": 44, "agents in the database's records": 44, "fail-overs": 18, "faults of the database, at a server": 106,
    "clocks seen to be wrong": 3,
}
RARE = {"links": 16, "server": 8, "database": 8, "clock": 2, "nothing": 2, "replica": 2}
BLIND, MUTE = "times that an online agent served no bundle to compare with", "statuses without a revision"


def history(done=None, servers=2, kinds=tuple(ROUNDS)):
    rounds = [{"t": 1.0, "kind": "round", "what": WORDS[kind]} for kind, count in (done or ROUNDS).items() for _ in range(count)]
    return [{"t": 0.0, "kind": "begun", "kinds": list(kinds), "servers": servers}, *rounds]


def found(events, counted):
    wrong = []
    rules.floors(events, wrong, Counter(counted))
    return wrong


def fewer(kind):
    """One round less than the least of a kind; the others make up for it, and there is plenty of all else."""
    done = ROUNDS | {kind: RARE[kind] - 1}
    return ROUNDS | done | {"nothing" if kind != "nothing" else "links": 200 - sum(count for one, count in done.items()
                            if one != ("nothing" if kind != "nothing" else "links"))}


def cases():
    """Name, what must be in the one sentence that is found (or none: it is not wrong), events, what was counted."""
    plenty = {what: 10 * floor for what, floor in LEAST.items()}
    yield "the least of all", None, history(), LEAST
    for what, floor in LEAST.items():
        yield f"one less than the least: {what}", f" {floor - 1} {what} ", history(), LEAST | {what: floor - 1}
    for kind in RARE:
        yield f"rounds of {kind}", f" rounds of {kind} ", history(fewer(kind)), plenty
    yield "nobody has asked for replicas", None, history({"links": 187, "clock": 13}, kinds=("links", "clock")), plenty
    yield "one server has nobody to fail over to", None, history({"links": 200}, 1, ("links",)), plenty | {"fail-overs": 0, list(LEAST)[7]: 0}
    yield "a few rounds may have little", None, history({"nothing": 1}, 2, ("nothing",)), {"SVIDs": 5, list(LEAST)[1]: 5, "revisions": 5}
    yield "no bundle to compare with, now and then", None, history(), plenty | {BLIND: 450}
    yield "no bundle to compare with, often", "no bundle to compare with", history(), plenty | {BLIND: 600}
    yield "no revision, often", MUTE, history(), plenty | {MUTE: 2600}


COUNT = 1 + len(list(cases()))


def run():
    failed = 0
    for name, part, events, counted in cases():
        wrong = found(events, counted)
        if len(wrong) != bool(part) or any(part not in one for one in wrong):
            failed += 1
            print(f"FAIL {name}: expected {part or 'nothing'}, found {wrong or 'nothing'}")
    if not any(one.startswith("floors:") for one in checker.check([])[0]):
        failed += 1
        print("FAIL a history of nothing is well")
    return failed
