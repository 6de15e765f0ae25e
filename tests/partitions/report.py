"""What came of a run: for a reader on standard output, and the same as JSON."""
import json
from collections import Counter, defaultdict

from checker import CLEAR, FAILOVER, RECOVERED, check

LIFE = ("prepared", "activated", "tainted", "revoked")
SHOWN = 40


def distribution(seconds):
    """Of a list that is not empty."""
    seconds = sorted(seconds)
    at = lambda share: round(seconds[min(int(len(seconds) * share), len(seconds) - 1)], 3)
    return {"count": len(seconds), "p50": at(.5), "p99": at(.99), "max": at(1)}


def cause(event):
    """Histories of older rigs say only what was done."""
    return event.get("cause") or event["what"].split(" of ")[0]


def by(events, kind, name, value):
    """Distributions of a value, for each name; those that never came are left out."""
    found = defaultdict(list)
    for event in events:
        if event["kind"] == kind and event.get(value) is not None:
            found[name(event)].append(event[value])
    return {one: distribution(seconds) for one, seconds in sorted(found.items())}


def rotations(events):
    """How often an authority has come how far."""
    return {step: Counter(event["kind"] for event in events)[step] for step in LIFE}


def missed(events, seed):
    """Fail-overs that took longer than they may."""
    late = [event for event in events if event["kind"] == "failover" and (event["seconds"] is None or event["seconds"] > FAILOVER)]
    return [{"round": event["round"], "seed": seed, "what": event["what"], "agent": event["agent"], "seconds": event["seconds"]} for event in late]


def summary(events, **run):
    """Everything, as it goes into the file. `run` is what only the rig knows: its seed, how far it came, why it ended."""
    wrong, counted = check(events)
    seed = run.get("seed")
    rounds = [event for event in events if event["kind"] == "round"]
    return {
        **run,
        "rounds_done": len(rounds),
        "faults": dict(sorted(Counter(event["what"].split(" of ")[0] for event in rounds).items())),
        "seconds_a_round": by([event for event in rounds if "seconds" in event], "round", lambda event: event["what"].split(" of ")[0], "seconds"),
        "counted": dict(sorted(counted.items())),
        "rotations": rotations(events),
        "fail_over_aim": FAILOVER,
        "fail_over": by(events, "failover", cause, "seconds"),
        "fail_over_missed": missed(events, seed),
        "clear_aim": CLEAR,
        "clear": by(events, "fault", lambda event: event["what"], "clear"),
        "recovered_aim": RECOVERED,
        "recovered": by(events, "fault", lambda event: event["what"], "recovered"),
        "violations": wrong,
    }


def show(found):
    for what, count in found["counted"].items():
        print(f"  {count:>8}  {what}")
    print("  authorities: " + ", ".join(f"{count} {step}" for step, count in found["rotations"].items()))
    for title, aim in (("fail_over", "fail_over_aim"), ("clear", "clear_aim"), ("recovered", "recovered_aim")):
        print(f"  {title.replace('_', '-')}, aim {found[aim]:.0f} s")
        for what, one in found[title].items():
            print(f"    {what:<46} {one['count']:>4}  p50 {one['p50']:5.2f} s  p99 {one['p99']:5.2f} s  max {one['max']:5.2f} s")
    for one in found["fail_over_missed"]:
        took = "never" if one["seconds"] is None else f"{one['seconds']:.2f} s"
        print(f"MISSED round {one['round']}, seed {one['seed']}, {one['what']}: {one['agent']}: {took}")
    for violation in found["violations"][:SHOWN]:
        print(f"VIOLATION {violation}")
    if len(found["violations"]) > SHOWN:
        print(f"  … and {len(found['violations']) - SHOWN} more")
    print(f"{len(found['violations'])} violations, {len(found['fail_over_missed'])} fail-overs missed, {found['rounds_done']} rounds, {found['seconds']:.0f} s")


def write(found, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
