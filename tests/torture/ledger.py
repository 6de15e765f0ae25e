"""The server's ledger: after a cut it verifies, goes on from the checkpoint that somebody has kept, and has a record of whatever was answered."""
import json

from daemons import Wrong

# What operators were answered, and what records it. A node's own steps have serial numbers.
TYPES = {
    "entry create": "entry.created",
    "entry update": "entry.changed",
    "entry policy": "policy.changed",
    "entry delete": "entry.deleted",
    "token create": "token.made",
    "agent ban": "node.banned",
    "agent evict": "node.evicted",
    "authority prepare": "authority.prepared",
    "authority activate": "authority.activated",
    "authority taint": "authority.tainted",
    "authority revoke": "authority.revoked",
    "bundle set": "bundle.stored",
    "bundle delete": "bundle.deleted",
}


def kept(place):
    """What an auditor takes along: the checkpoint and the key that verifies it."""
    folder = place.disk / "server/ledger"
    return [(folder / name).read_text() for name in ("checkpoint", "verifier-key")]


def check(place, steps, serials):
    """`steps`: those that were answered before the power went, in order; `serials`: of what was handed out by then. The server has ended."""
    folder = place.disk / "server/ledger"
    words = ["--key", folder / "verifier-key"]
    # After the last one it was looked at when the power had gone.
    if len(steps) > 1:
        checkpoint, key = place.dir / "kept-checkpoint", place.dir / "kept-key"
        for path, text in zip((checkpoint, key), steps[-2].kept):
            path.write_text(text)
        words = ["--key", key, "--checkpoint", checkpoint]
    found = place.run("audit", "verify", folder, *words)
    if found.returncode != 0:
        raise Wrong(f"the ledger does not verify: {found.stdout}{found.stderr}")
    exported = place.run("audit", "export", folder)
    if exported.returncode != 0:
        raise Wrong(f"the ledger cannot be read: {exported.stderr}")
    records = [json.loads(line) for line in exported.stdout.splitlines()]
    there = {record.get("detail", {}).get("serial") for record in records}
    if lost := [serial for serial in serials if serial not in there]:
        raise Wrong(f"the ledger has no record of {', '.join(lost)}, which were handed out")
    for name, kind in TYPES.items():
        answered = sum(step.name == name for step in steps)
        recorded = sum(record["type"] == kind and record.get("result") == "done" for record in records)
        if recorded < answered:
            raise Wrong(f"{answered} times {name} was answered, and the ledger has {recorded} records of {kind}")
