"""Files that rot: each sector of each file flipped, and each file cut short there. What cannot be used is named; nothing wrong is served, no start is
silently an empty one, and no server silently an older one."""
import json
import shutil

import server_node
from agent import Node, own, quiet, served
from daemons import TRUST_DOMAIN, Place, Redeemer, Wrong, must
from disk import SECTOR
from rig import free_port
from server import NODE, check_signing, see

# SQLite's index of its log is made anew at each start.
HARMLESS = ("-shm",)
# Of files that people could read each number counts, and few bits are in one.
READABLE, FLIPS = ".json", 8


def harms(folder):
    """Each way to harm a file of it: its place, where, and how."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(HARMLESS)):
        ways = ["flipped", "cut short"] + ["flipped"] * (FLIPS if path.suffix == READABLE else 0)
        for at in range(0, path.stat().st_size, SECTOR):
            found += [(path.relative_to(folder), at, how) for how in ways]
    return found


def harm(path, at, how, random):
    content = bytearray(path.read_bytes())
    if how == "cut short":
        del content[at:]
    else:
        # Half of the flips in what can be read hit a digit, if there is one.
        places = range(at, min(at + SECTOR, len(content)))
        digits = [place for place in places if path.suffix == READABLE and chr(content[place]).isdigit()]
        place = random.choice(digits if digits and random.random() < 0.5 else places)
        content[place] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def each(folder, template, name, count, random, report, check):
    every = harms(template.disk / name)
    chosen = random.sample(every, min(count, len(every)))
    for number, (file, at, how) in enumerate(chosen):
        place = Place(folder / f"harm-{number}", template.bin, free_port(), template.beside)
        shutil.copytree(template.disk, place.disk, dirs_exist_ok=True)
        harm(place.disk / name / file, at, how, random)
        what = f"{file} {how} at {at}"
        try:
            check(place, file, how)
            place.stop_all()
            report.good(place.dir, what)
        except Wrong as why:
            report.bad(place.dir, what, why)
        finally:
            place.stop_all()
    report.note = f"{len(chosen)} of {len(every)} sectors and ways"


def agent(folder, binaries, count, random, report):
    """One SVID is lost at most where its file is harmed, and the agent says so; with its server it is whole again."""
    template = Place(folder / "whole", binaries, free_port())
    node = Node(template)
    try:
        node.begin(recorded=False)
        template.start("agent")
        must("it serves", lambda: served(template) is not None and node.all_there(served(template)))
        must("it is on disk", lambda: (template.disk / "agent/cache/index.b").exists())
        node.reserve()
        # It has come back once: its device key has counted.
        template.stop("agent")
        template.rotate("x509", "taint", "revoke")
        template.start("agent")
        must("it is back", lambda: node.firm() and own(template.disk / "agent")["counter"] == 1 and node.all_there(served(template) or {}), 30)
        quiet(template.disk / "agent")
        whole = served(template)
        # Both generations in use, and something that only the older one names.
        node.step("entry create", lambda: node.create(2), node.all_there)
        now = served(template)
        template.stop_all()
        shutil.copytree(template.disk / "server", folder / "server")
        shutil.rmtree(template.disk / "server")
        check = lambda place, file, _: agent_stands(place, file, whole, now, (folder / "server", own(template.disk / "agent")))
        each(folder, template, "agent", count, random, report, check)
    finally:
        template.stop_all()


def agent_stands(place, file, whole, now, others):
    server, before = others
    place.start("agent")
    # Also on an identity of its own that it cannot read: its device key brings it back.
    place.up("agent")
    seen = must("it answers", lambda: (served(place),))[0] or {}
    # A rung stands in for an SVID that cannot be read.
    rungs = {serial for serial, in place.rows("SELECT serial FROM issued WHERE rung = 1", server.parent)}
    if strange := {one for one in set(seen.items()) - set(now.items()) - set(whole.items()) if one[1] not in rungs}:
        raise Wrong(f"it serves {sorted(strange)}, which never was")
    log = place.said("agent", 100)
    if seen != now and file.name not in log and "passed over" not in log and "cannot" not in log:
        raise Wrong(f"it has lost {sorted(now.keys() - seen.keys())} without a word: {place.said('agent')}")
    if file.name.startswith("svid-") and len(now.keys() - seen.keys()) > 1:
        raise Wrong(f"one file is harmed, and {len(now) - len(seen)} identities are lost")
    shutil.copytree(server, place.disk / "server")
    place.start("server")
    place.up("server")
    must("with its server it is whole again", lambda: (served(place) or {}).keys() == now.keys(), 30)
    # A counter that went back would have the server take the node for a copy of itself.
    must("it says how its device key stands", lambda: place.tell("agent", "status")["device_key"])
    after, said = own(place.disk / "agent"), file.name in place.said("agent", 100)
    if not said and (after["counter"], after["of"]) != (before["counter"], before["of"]):
        raise Wrong(f"without a word its device key has counted to {after['counter']} and is of {after['of']}; it was {before['counter']} and {before['of']}")


def server(folder, binaries, count, random, report):
    """It starts with all that it had, or does not start and names the file, or is in quarantine. SQLite's pages have no sums: what a flip within a value
    makes of it, it takes for the value, but not for an older registry; the log's have, and what is damaged there is as if it had not been written."""
    template = Place(folder / "whole", binaries, free_port())
    redeemer = None
    try:
        template.start("server")
        template.up("server")
        template.publish_bundle()
        redeemer = Redeemer(template)
        for number in range(20):
            words = ["--spiffe-id", f"spiffe://{TRUST_DOMAIN}/w{number}", "--parent-id", f"{NODE}x", "--selector", "unix:uid:7"]
            made = template.tell("entry", "create", *words)["id"]
        template.tell("entry", "delete", made)
        tokens = [template.tell("token", "create", "--ttl", "4h")["token"] for _ in range(3)]
        redeemer.redeem([(token, "first") for token in tokens], template.port)
        template.tell("agent", "ban", NODE + tokens[0])
        template.rotate("x509", "taint", "revoke")
        noted = lambda: json.loads((template.disk / "server/newest.json").read_text())["sequence"] == template.rows("SELECT bundle_sequence FROM state")[0][0]
        must("how new it is has been noted", noted, 30)
        must("the bundle chain is up to it", lambda: len(template.rows("SELECT 1 FROM chain_steps")) > 1)
        whole = see(template)
        template.stop("server")
        # What stands in the log alone is what a damaged one can take away.
        check = lambda place, file, how: server_stands(place, file, how, whole, (redeemer, tokens))
        each(folder, template, "server", count, random, report, check)
    finally:
        template.stop_all()
        if redeemer:
            redeemer.end()


def server_stands(place, file, how, whole, used):
    place.start("server")
    try:
        place.up("server")
    except Wrong:
        if not place.ended("server") or file.name.removesuffix("-wal") not in place.said("server", 20):
            raise
        return
    seen, quarantine = see(place), place.tell("quarantine", "show")["quarantine"]
    if not seen["authorities"] or (file.name.endswith(".key") and seen["authorities"] != whole["authorities"]):
        raise Wrong(f"authorities began anew: {seen['authorities']}")
    # It has seen that it forgot something, and signs nothing before somebody has looked (ADR 30).
    if quarantine:
        if place.run("mint", "x509", "--spiffe-id", f"spiffe://{TRUST_DOMAIN}/after").returncode == 0:
            raise Wrong("it is in quarantine, and signs")
        return
    not_older(whole, seen)
    if (file.name, how) != ("landfast.db", "flipped") and (differs := [part for part in whole if part != "ahead" and seen[part] != whole[part]]):
        raise Wrong(f"{', '.join(differs)}: not as before, and it is in no quarantine")
    check_signing(place)
    redeemer, tokens = used
    place.publish_bundle()
    if again := [token for (token, _), (result, _) in redeemer.redeem([(token, "third") for token in tokens], place.port).items() if result == "ok"]:
        raise Wrong(f"used tokens enrol other nodes: {again}")


def not_older(whole, seen):
    """Nothing is fewer than it was, and no number smaller."""
    if any(now < before for before, now in zip(whole["numbers"], seen["numbers"])):
        raise Wrong(f"it stands at {seen['numbers']} and was at {whole['numbers']}, and is in no quarantine")
    for part in ("entries", "nodes", "authorities", "policies"):
        if len(seen[part]) < len(whole[part]):
            raise Wrong(f"{part}: {len(seen[part])} are there of {len(whole[part])}, and it is in no quarantine")
    banned = lambda of: sum('"banned": true' in node for node in of["nodes"])
    if banned(seen) < banned(whole):
        raise Wrong("a ban is gone, and it is in no quarantine")
    # SQLite has no sums: what a flip has made of one node's row may not be JSON any more, or have another node's name, but the row is there.
    known = seen["ahead"]["devices"].keys()
    gone = whole["ahead"]["devices"].keys() - known
    if len(gone) > len(seen["ahead"]["unreadable"]) + len(known - whole["ahead"]["devices"].keys()):
        raise Wrong(f"how {', '.join(sorted(gone))} stand with their device keys is gone")
    devices = {agent: device for agent, device in whole["ahead"]["devices"].items() if agent not in gone}
    server_node.compare({**whole["ahead"], "steps": [], "devices": devices}, seen["ahead"], whole["ahead"])
    if len(seen["ahead"]["steps"]) < len(whole["ahead"]["steps"]):
        raise Wrong("steps of the bundle chain are gone, and it is in no quarantine")
