"""Prints one line a check, in the form that ../run counts. An exception inside a check is a failed check."""

import os
import sys

import grpc


class Report:
    def __init__(self, client):
        self.client = client
        self.failed = False

    def check(self, name, check):
        try:
            check()
        except BaseException as cause:  # noqa: BLE001: whatever a library raises is the finding
            self.failed = True
            said = f"{type(cause).__name__}: {cause}".replace("\n", " | ")
            print(f"FAIL {self.client}: {name}: {said[:600]}", flush=True)
        else:
            print(f"ok   {self.client}: {name}", flush=True)

    def close(self):
        """The line without which ../run counts the client as one that died. os._exit: gRPC's threads may linger."""
        print(f"done {self.client}", flush=True)
        sys.stderr.flush()
        os._exit(1 if self.failed else 0)


def env(name):
    value = os.environ.get(name)
    if not value:
        sys.exit(f"{name} is not set: this program is started by tests/interop/run")
    return value


def want(condition, what):
    if not condition:
        raise AssertionError(what)


def refused(call, kind=Exception, saying=""):
    """The exception by which `call` was refused."""
    try:
        answer = call()
    except kind as cause:
        want(saying in str(cause), f"refused, but without {saying!r}: {cause}")
        return cause
    raise AssertionError(f"accepted: {answer!r}")


def refused_with(code, call):
    cause = refused(call, grpc.RpcError)
    want(cause.code() == code, f"code {cause.code()}, want {code}: {cause.details()}")
