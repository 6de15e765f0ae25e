#!/usr/bin/env python3
"""`landfast audit` by URL: a copy of the server's ledger on Python's http.server, plain and with TLS, as it is and tampered with."""

import functools
import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time

LANDFAST, LEDGER, WORK = sys.argv[1:4]
COPY = os.path.join(WORK, "ledger")
KEY = os.path.join(WORK, "key")
failed = False


def check(name, holds, why=""):
    global failed
    failed = failed or not holds
    print(f"ok   web: {name}" if holds else f"FAIL web: {name}: {' '.join(str(why).split())}", flush=True)


class Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments):
        pass


def serve(tls=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=WORK))
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}/ledger"


def landfast(*arguments):
    done = subprocess.run([LANDFAST, *arguments], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def verify(place, *more):
    return landfast("audit", "verify", place, "--key", KEY, "--output", "json", *more)


def copied():
    """A copy that is whole and has a few records: beside a running server a file may be gone before it is copied, and a checkpoint comes each ten seconds."""
    for _ in range(120):
        shutil.rmtree(COPY, ignore_errors=True)
        subprocess.run(["cp", "-r", LEDGER, COPY], check=False, stderr=subprocess.DEVNULL)
        if verify(COPY)[0] == 0 and records() >= 3:
            return True
        time.sleep(0.5)
    return False


def records():
    with open(os.path.join(COPY, "checkpoint"), encoding="utf-8") as checkpoint:
        return int(checkpoint.read().splitlines()[1])


def certificate():
    made = [os.path.join(WORK, name) for name in ("web.pem", "web.key")]
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=web -addext subjectAltName=IP:127.0.0.1"
    command = command.split() + ["-addext", "basicConstraints=critical,CA:FALSE", "-out", made[0], "-keyout", made[1]]
    subprocess.run(command, check=True, capture_output=True)
    return made


def main():
    os.makedirs(WORK, exist_ok=True)
    shutil.copy(os.path.join(LEDGER, "verifier-key"), KEY)
    check("the copy verifies as a directory", copied(), verify(COPY))
    plain, tls = serve(), certificate()
    secure = serve(tls)
    expected = json.loads(verify(COPY)[1])
    for name, place, more in (("HTTP", plain, ()), ("TLS", secure, ("--ca-file", tls[0]))):
        code, out, err = verify(place, *more)
        check(f"verify over {name} reports what it reports of the directory", code == 0 and json.loads(out) == expected, (out, err))
    code, _, err = verify(secure)
    check("a web server of authorities that the system does not know is refused", code == 1, err)
    arguments = ("audit", "export", plain)
    check("export by URL gives the same bytes", landfast(*arguments)[1] == landfast("audit", "export", COPY)[1] != "")
    code, out, err = landfast("audit", "tail", plain, "-n", "3", "--output", "json")
    check("tail by URL gives the last records", code == 0 and len(json.loads(out)) == 3, (out, err))
    code, out, err = landfast("audit", "prove", plain, "--key", KEY, "--record", "0")
    check("prove by URL gives a proof", code == 0 and out.startswith("c2sp.org/tlog-proof@v1\n"), (out, err))

    bundles = os.path.join(COPY, "tile", "entries")
    # The largest: smaller ones may be of earlier checkpoints, and nobody reads them any more.
    files = (os.path.join(top, name) for top, _, names in os.walk(bundles) for name in names)
    bundle = max(files, key=os.path.getsize)
    with open(bundle, "r+b") as file:
        data = file.read()
        file.seek(data.index(b'"type":"') + 8)
        file.write(b"X")
    code, out, _ = verify(plain)
    findings, here = json.loads(out)["report"]["findings"], json.loads(verify(COPY)[1])["report"]["findings"]
    check("an edited record is found by URL as in the directory", code == 1 and findings and findings == here, (findings, here))
    print("done web", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
