"""The checker's rules about tokens, and about how much there was to look at: a rule that had nothing to judge has not been kept."""
from collections import Counter, defaultdict

# How a token that somebody else has redeemed is refused.
USED = ("InvalidArgument", "already been used")
# The key that has redeemed nothing.
THIRD = "third"
# Of all moments at which an online agent's bundle was wanted, how many may have had none; and of all looks at an agent, how many no revision.
BLIND, MUTE = 0.05, 0.2
# Seconds by which a log may show another time than the clock was set to.
EXACT = 1.0
# How often each kind of fault is drawn, of fifteen, and what part of that there is at least: chance is no violation.
DRAWN, LUCK = {"links": 6, "server": 3, "database": 3, "clock": 1, "nothing": 1, "replica": 1}, 0.2
# Entries that operators have at a time.
KEPT = 8
# At least so many for each round that was done.
EACH_ROUND = {
    "SVIDs": 5, "revisions": 5, "entries created": 0.5,
    "authorities activated": 0.04, "authorities revoked": 0.02, "authorities prepared that were not activated at once": 0.01,
}


def tokens(events, wrong, counted):
    """Each token that was handed out is redeemed by exactly one key: by what was answered, by what the database says, and also much later."""
    winners, attempts = defaultdict(dict), defaultdict(list)
    made = {event["token"] for event in events if event["kind"] == "token"}
    for event in events:
        if event["kind"] == "redeem":
            counted["attempts to redeem a token"] += 1
            attempts[event["token"]].append(event)
            if event["result"] == "ok":
                winners[event["token"]].setdefault(event["key"], []).append(event["what"])
    counted["tokens"] += len(made)
    for token in sorted(made):
        keys = sorted(winners[token])
        if len(keys) > 1:
            wrong.append(f"tokens: {token} was redeemed by {' and '.join(keys)}")
        elif not keys:
            ends = Counter(f"{one['key']} through {one['server']}: {one['result']} {one['what']}".strip() for one in attempts[token])
            wrong.append(f"tokens: {token} was redeemed by nobody: {dict(ends)}")
        else:
            counted["tokens redeemed"] += 1
    for token in set(attempts) - made:
        wrong.append(f"tokens: {token} was redeemed, but nobody has made it")
    later(events, attempts, made, wrong, counted)
    attested(events, winners, made, wrong, counted)


def later(events, attempts, made, wrong, counted):
    """Whenever all of them were tried again by another key, each was refused as used."""
    trials = [event for event in events if event["kind"] == "trying"]
    for trial, following in zip(trials, [*trials[1:], {"t": float("inf")}]):
        for token in trial["tokens"]:
            tried = [one for one in attempts[token] if one["key"] == THIRD and trial["t"] <= one["t"] < following["t"]]
            refused = [one for one in tried if one["result"] == USED[0] and USED[1] in one["what"]]
            counted["refusals of a used token"] += len(refused)
            ends = [one for one in tried if one["last"]]
            if not refused or any(one not in refused for one in ends):
                said = ", ".join(f"{one['result']} {one['what']} through {one['server']}" for one in ends) or "no answer"
                wrong.append(f"tokens: {token}, tried again with another key after round {trial['round']}, was not refused as used: {said}")
    at_last = next((trial["tokens"] for trial in trials if trial["last"]), None)
    if at_last is None and made:
        wrong.append("tokens: at the end nobody has tried them again with another key")
    for token in made - set(at_last if at_last is not None else made):
        wrong.append(f"tokens: {token} was not tried again at the end")


def attested(events, winners, made, wrong, counted):
    """The database has attested one key for each token, also one that belongs to an agent of the rig, and has given it what the node has."""
    keys, serials, reads = defaultdict(set), defaultdict(set), 0
    for event in events:
        if event["kind"] == "attested":
            reads += 1
            for token, rows in event["tokens"].items():
                keys[token].update(key for key, _ in rows)
                serials[token].update(serial for _, serial in rows)
    counted["agents in the database's records"] += len(keys)
    if not reads and made:
        wrong.append("tokens: nobody has read the database's records of them")
        return
    for token, attested_keys in sorted(keys.items()):
        if len(attested_keys) != 1:
            wrong.append(f"tokens: {token}: the database has attested {len(attested_keys)} keys: {', '.join(sorted(attested_keys))}")
    for token in sorted(made if reads else ()):
        held = {serial for those in winners[token].values() for serial in those}
        if held and not held & serials[token]:
            wrong.append(f"tokens: {token} was redeemed, and the database has no record of that")


def clocks(events, wrong, counted):
    """A server whose clock was set shows that: without, no round has tried a clock."""
    for event in events:
        if event["kind"] == "clock shown" and event["shown"]:
            low, high = event["shown"]
            counted["clocks seen to be wrong"] += low > EXACT or high < -EXACT
            if not low - EXACT <= event["offset"] <= high + EXACT:
                wrong.append(f"clock: {event['server']} was set {event['offset']:+d} s beside the others, and shows {low:+.1f} to {high:+.1f} s")


def orders(events, wrong, counted):
    """An authority that agents of another server may not know yet does not sign."""
    for event in events:
        if event["kind"] in ("activated", "revoked"):
            counted[f"authorities {event['kind']}"] += 1
        elif event["kind"] == "early" and event["answer"] == "activated":
            wrong.append(f"orders: {event['server']} has activated {event['authority']} at once at {event['t']:.3f}, beside another server")
        elif event["kind"] == "early" and event["answer"] == "refused":
            counted["authorities prepared that were not activated at once"] += 1


def kind_of(what):
    """Of a round, by its words."""
    first = what.split()[0]
    return {"cut": "links", "silent": "links", "kill": "server", "stop": "server", "end": "server"}.get(first, first)


def floors(events, wrong, counted):
    """There was enough to look at, for so many rounds of these kinds."""
    begun = next((event for event in events if event["kind"] == "begun" and "kinds" in event), None)
    done = Counter(kind_of(event["what"]) for event in events if event["kind"] == "round")
    rounds = sum(done.values())
    if begun is None or not rounds:
        wrong.append("floors: the history says neither how it began nor of any round: nothing was looked at")
        return
    least = {what: int(share * rounds) for what, share in EACH_ROUND.items()}
    least["SVIDs"] = max(least["SVIDs"], 1)
    # Whose only server has another clock is not online.
    least["comparisons of an SVID with an online agent's bundle"] = 5 * (rounds - done["clock"])
    # Some are kept before the first is deleted.
    least["entries deleted"] = max(int(0.25 * rounds) - KEPT, 0)
    drawn = sum(DRAWN[kind] for kind in begun["kinds"])
    for kind in begun["kinds"]:
        least[f"rounds of {kind}"] = int(LUCK * rounds * DRAWN[kind] / drawn)
        counted[f"rounds of {kind}"] = done[kind]
    # A database that does not work makes none, and beside a replica nobody asks for any.
    least["tokens redeemed"] = int(0.3 * (rounds - done["database"] - done["replica"]))
    least["refusals of a used token"] = least["tokens redeemed"]
    least["agents in the database's records"] = least["tokens redeemed"]
    least["fail-overs"] = int(0.15 * (done["links"] + done["server"])) if begun["servers"] > 1 else 0
    least["faults of the database, at a server"] = begun["servers"] * (done["database"] + done["replica"])
    least["clocks seen to be wrong"] = int(0.3 * done["clock"])
    if begun["servers"] < 2:
        least["authorities prepared that were not activated at once"] = 0
    for what, floor in least.items():
        if counted[what] < floor:
            wrong.append(f"floors: {counted[what]} {what} in {rounds} rounds, where {floor} are the least")
    share(counted, wrong, "times that an online agent served no bundle to compare with", "comparisons of an SVID with an online agent's bundle", BLIND)
    share(counted, wrong, "statuses without a revision", "revisions", MUTE)


def share(counted, wrong, without, having, most):
    part = counted[without] / max(counted[without] + counted[having], 1)
    if part > most:
        wrong.append(f"floors: {part:.0%} {without}, where {most:.0%} are the most")
