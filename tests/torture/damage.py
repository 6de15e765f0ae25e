"""Files that rot: each sector of each file flipped, and each file cut short there. What cannot be used is named; nothing wrong is served, and no start is
silently an empty one."""
import shutil

from agent import Node, quiet, served
from daemons import TRUST_DOMAIN, Place, Wrong, must
from disk import SECTOR
from rig import free_port
from server import NODE, check_signing, see

# SQLite's index of its log is made anew at each start.
HARMLESS = ("-shm",)


def harms(folder):
    """Each way to harm a file of it: its place, where, and how."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(HARMLESS)):
        for at in range(0, path.stat().st_size, SECTOR):
            found += [(path.relative_to(folder), at, how) for how in ("flipped", "cut short")]
    return found


def harm(path, at, how, random):
    content = bytearray(path.read_bytes())
    if how == "cut short":
        del content[at:]
    else:
        place = random.randrange(at, min(at + SECTOR, len(content)))
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
            check(place, file)
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
        quiet(template.disk / "agent")
        whole = served(template)
        # Both generations in use, and something that only the older one names.
        node.step("entry create", lambda: node.create(2), node.all_there)
        now = served(template)
        template.stop_all()
        shutil.copytree(template.disk / "server", folder / "server")
        shutil.rmtree(template.disk / "server")
        check = lambda place, file: agent_stands(place, file, whole, now, folder / "server")
        each(folder, template, "agent", count, random, report, check)
    finally:
        template.stop_all()


def agent_stands(place, file, whole, now, server):
    place.start("agent")
    try:
        place.up("agent")
    except Wrong:
        named = file.name in place.said("agent", 20)
        if not place.ended("agent") or not named:
            raise
        # It does not start on a node's identity that it cannot read: the operator is told which file.
        return
    seen = must("it answers", lambda: (served(place),))[0] or {}
    if strange := set(seen.items()) - set(now.items()) - set(whole.items()):
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


def server(folder, binaries, count, random, report):
    """It starts with all that it had, or it does not start and names the file. SQLite's pages have no sums: what a flip within a value makes of it, it takes
    for the value; the log's have, and what is damaged there is as if it had not been written."""
    template = Place(folder / "whole", binaries, free_port())
    try:
        template.start("server")
        template.up("server")
        for number in range(20):
            words = ["--spiffe-id", f"spiffe://{TRUST_DOMAIN}/w{number}", "--parent-id", f"{NODE}x", "--selector", "unix:uid:7"]
            template.tell("entry", "create", *words)
        whole = see(template)
        template.stop("server")
        each(folder, template, "server", count, random, report, lambda place, file: server_stands(place, file, whole))
    finally:
        template.stop_all()


def server_stands(place, file, whole):
    place.start("server")
    try:
        place.up("server")
    except Wrong:
        if not place.ended("server") or file.name.removesuffix("-wal") not in place.said("server", 20):
            raise
        return
    seen = see(place)
    if file.suffix == ".key" and seen != whole:
        raise Wrong("a key is harmed, and something else is different")
    if not seen["authorities"] or seen["authorities"] != whole["authorities"]:
        raise Wrong(f"authorities began anew: {seen['authorities']}")
    # It has seen that it forgot something, and signs nothing before somebody has looked (ADR 30).
    if "quarantine" not in place.said("server", 200):
        check_signing(place)
