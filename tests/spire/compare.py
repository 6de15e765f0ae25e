"""Gives each command of commands.txt to a SPIRE server and to a Landfast server, and compares what a user sees."""
import json
import pathlib
import re
import shlex

from site_of import TRUST_DOMAIN, Failed, SpireAgent, until

HERE = pathlib.Path(__file__).parent

# What differs between any two servers, were they of one kind.
SAME = [
    (r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", "<pem>"),
    (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "<jwt>"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\dZ?(\.\d+)?( [-+]\d{4} (UTC|[-+]\d\d))?( m=\S+)?", "<time>"),
    (r'("(?:expires_at|issued_at|created_at|x509svid_expires_at)": ?)"?1\d{9}"?', r"\1<time>"),
    (r'("(?:asn1|public_key|x5c|x|y|n)": ?\[?\s*)"[\w+/=-]+"', r"\1<data>"),
    (r'("(?:x509svid_serial_number)": ?)"\d+"', r"\1<serial>"),
    (r"(Serial number\s*: )\d+", r"\1<serial>"),
    (r'("(?:kid|key_id|authority_id|authorityId)": ?)"\w+"', r"\1<id>"),
    (r"(Authority ID: )\w+", r"\1<id>"),
    (r"\b[0-9a-f]{40}\b", "<key>"),
    (r'("(?:sequence_number|spiffe_sequence)": ?)"?\d+"?', r"\1<number>"),
    (r'("spiffe_refresh_hint": ?)\d+', r"\1<hint>"),
    (r'("uptime": ?)\d+', r"\1<seconds>"),
    (r"/private/api\.sock", ""),
    (r"(Uptime:\s+)\S+", r"\1<seconds>"),
    (r"SERIALNUMBER=[\w<>]+", "SERIALNUMBER=<number>"),
    (r"\"x509_svid\":\[.*?\]", "\"x509_svid\":[<chain>]"),
    (r"\"root_cas\":\[.*?\]", "\"root_cas\":[<authorities>]"),
    (r"\"private_key\":\"[^\"]*\"", "\"private_key\":<key>"),
    # SPIRE names the part that complains.
    (r"datastore-(sql|validation): ", ""),
]


def plain(text, names):
    for name in names:
        text = text.replace(name, "<dir>")
    for pattern, shown in SAME:
        text = re.sub(pattern, shown, text, flags=re.S)
    text = "\n".join(line.rstrip() for line in text.splitlines()).strip()
    return in_order(text)


def in_order(text):
    """The order of a list is nobody's promise: SPIRE's is that of its database."""
    if text.startswith("Found "):
        return "\n\n".join(sorted(text.split("\n\n")))
    if text.startswith('{"federation_relationships"'):
        listed, rest = text.split("\n", 1)
        found = json.loads(re.sub(r"<\w+>", '"<hidden>"', listed))
        found["federation_relationships"].sort(key=lambda one: one["trust_domain"])
        return json.dumps(found) + rest
    return text


class Line:
    def __init__(self, section, text):
        self.section, self.reason, self.keep, self.regex = section, None, None, None
        if named := re.match(r"(\w+) = (.*) :: (.*)", text):
            self.keep, text, self.regex = named.groups()
        self.text = text


def lines():
    section, found = None, []
    for raw in (HERE / "commands.txt").read_text().splitlines():
        text = raw.strip()
        if text.startswith("["):
            section = text.strip("[]")
        elif text.startswith("~"):
            found[-1].reason = text[1:].strip()
        elif text and not text.startswith("#"):
            found.append(Line(section, text))
    return found


def prepare(site, server):
    """An attested device, and a node with a token that the section may spoil."""
    agent = site.device("device1") if not (site.dir / "device1.pem").exists() else site.device1
    site.device1 = agent
    token = server.token()
    device = SpireAgent(server, f"{server.name}-device", device="device1")
    spare = SpireAgent(server, f"{server.name}-spare", token=token)
    for count, one in enumerate((spare, device), 1):
        one.start()
        until(f"{one.name} is attested", lambda: f'"count":{count}' in server.cli("agent", "count", "-output", "json").stdout)
    for one in (device, spare):
        site.stop(one.name)
    return {"agent": agent, "token_agent": f"spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}"}


def files(site, spire):
    bundle = spire.cli("bundle", "show", "-format", "spiffe").stdout
    site.write("office.json", bundle)
    pem = spire.cli("bundle", "show").stdout
    site.write("office.pem", pem)
    other = json.loads(bundle)
    other["spiffe_sequence"] = other.get("spiffe_sequence", 1) + 1
    site.write("office2.json", json.dumps(other))
    entry = {"spiffe_id": f"spiffe://{TRUST_DOMAIN}/from-file", "parent_id": f"spiffe://{TRUST_DOMAIN}/node",
             "selectors": [{"type": "unix", "value": "uid:1"}], "entry_id": "file1"}
    site.write("entries.json", json.dumps({"entries": [entry]}))
    site.write("ids.json", json.dumps({"ids": ["file1", "e2", "nobody"]}))
    site.write("relationships.json", json.dumps({"federationRelationships": [{
        "trustDomain": "file.test", "bundleEndpointURL": "https://file.test/", "bundleEndpointProfile": "https_web"}]}))
    return {"pem": site.dir / "office.pem", "spiffe": site.dir / "office.json", "spiffe2": site.dir / "office2.json",
            "dir": site.dir, "long256": "x" * 256, "long1025": "x" * 1025}


def compare(site, verbose):
    """Answers the lines that differ without a reason, and those that have a reason and do not."""
    spire, ours = site.spire_server(), site.landfast_server()
    shared = files(site, spire)
    known = {server: {**shared, **prepare(site, server)} for server in (spire, ours)}
    wrong, counts = [], {}
    for line in lines():
        seen = {}
        for server in (spire, ours):
            variables = known[server]
            words = shlex.split(line.text.format(**variables)) if "{" in line.text else shlex.split(line.text)
            done = server.cli(*words, check=False)
            if line.keep and (found := re.search(line.regex, done.stdout)):
                variables[line.keep] = found.group(1)
            elif line.keep:
                raise Failed(f"{line.text}: {line.regex} is not in {done.stdout}{done.stderr}")
            hide = [str(variables["token_agent"]), str(site.dir / server.name), str(site.dir)]
            seen[server.name] = plain(f"{done.stdout}\n{done.stderr}\nexit {done.returncode}", hide)
        same = seen[spire.name] == seen[ours.name]
        section = counts.setdefault(line.section, [0, 0])
        section[0 if same else 1] += 1
        if same == bool(line.reason):
            wrong.append(line.text)
        if not same and (verbose or not line.reason):
            print(f"\n$ {line.text}\n--- SPIRE\n{seen[spire.name]}\n--- Landfast\n{seen[ours.name]}")
        if same and line.reason:
            print(f"\n$ {line.text}\n--- no longer differs; take the reason out: {line.reason}")
    for section, (same, differ) in counts.items():
        print(f"  {section}: {same} commands answered alike, {differ} otherwise")
    return wrong
