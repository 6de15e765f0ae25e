"""WIT-SVIDs read without a SPIFFE library: messages by hand over grpcio, tokens by PyJWT, a proof of possession by cryptography."""

import base64
import json
import time
from urllib.parse import urlparse

import grpc
import jwt
from jwt.algorithms import ECAlgorithm

from report import Report, env, refused, refused_with, want

SOCKET = urlparse(env("SPIFFE_ENDPOINT_SOCKET")).path
EMPTY = urlparse(env("INTEROP_EMPTY_SOCKET")).path
DOMAIN = f"spiffe://{env('INTEROP_TRUST_DOMAIN')}"
HEADER = (("workload.spiffe.io", "true"),)
WAIT = 10


def fields(message):
    """The length-delimited fields of a protobuf message, which are all that these have."""
    at, found = 0, []

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        want(key & 7 == 2, f"field {key >> 3} has wire type {key & 7}")
        length = varint()
        found.append((key >> 3, message[at : at + length]))
        at += length
    return found


def call(method, request=b"", socket=SOCKET, metadata=HEADER):
    """The first message of a stream, which is then left."""
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        stream = channel.unary_stream(f"/SpiffeWorkloadAPI/{method}")(request, metadata=metadata, timeout=WAIT)
        try:
            return next(stream)
        finally:
            stream.cancel()


def named(spiffe_id):
    text = spiffe_id.encode()
    return bytes([0x0A, len(text)]) + text


def svids(request=b""):
    """spiffe_id, wit_svid, wit_svid_key and hint of each."""
    answer = [dict(fields(svid)) for number, svid in fields(call("FetchWITSVID", request)) if number == 1]
    return [{name: svid.get(number, b"").decode() for number, name in ((1, "id"), (2, "token"), (3, "key"), (4, "hint"))} for svid in answer]


def bundle(method="FetchWITBundles"):
    """Our trust domain's keys."""
    entries = (dict(fields(entry)) for _, entry in fields(call(method)))
    return {entry[1].decode(): json.loads(entry[2]) for entry in entries}[DOMAIN]["keys"]


def claims(token, keys):
    kid = jwt.get_unverified_header(token)["kid"]
    matching = [key for key in keys if key["kid"] == kid]
    want(len(matching) == 1, f"{len(matching)} keys {kid}")
    key = ECAlgorithm.from_jwk(matching[0])
    return jwt.decode(token, key, algorithms=["ES256", "ES384"], options={"require": ["exp", "sub", "iat"], "verify_aud": False})


def every_rule():
    keys = bundle()
    want(len({key["kid"] for key in keys}) == len(keys), "key IDs repeat")
    want(all(key["use"] == "wit-svid" and "d" not in key for key in keys), f"keys are {keys}")
    got = svids()
    want(sorted((svid["id"], svid["hint"]) for svid in got) == [(f"{DOMAIN}/interop/{name}", name) for name in ("first", "second")], [svid["id"] for svid in got])
    for svid in got:
        header = jwt.get_unverified_header(svid["token"])
        want(set(header) == {"alg", "kid", "typ"} and header["typ"] == "wit+jwt", f"header {header}")
        said = claims(svid["token"], keys)
        want(set(said) == {"sub", "exp", "iat", "cnf"}, f"claims {sorted(said)}")
        want(said["sub"] == svid["id"], f"subject {said['sub']}")
        want(0 < said["exp"] - time.time() <= 31, "it ends when its entry says")
        public = said["cnf"]["jwk"]
        want("d" not in public and public["alg"] in ("ES256", "ES384"), f"cnf holds {sorted(public)}")
        proves(json.loads(svid["key"]), public)


def proves(private, public):
    """A signature by the key handed out, verified by the one in the token: what a workload proof token is."""
    want({name: private[name] for name in ("kty", "crv", "x", "y", "alg")} == {name: public[name] for name in ("kty", "crv", "x", "y", "alg")}, "the halves differ")
    proof = jwt.encode({"wth": "of the token"}, ECAlgorithm.from_jwk(private), algorithm=private["alg"])
    want(jwt.decode(proof, ECAlgorithm.from_jwk(public), algorithms=[public["alg"]]) == {"wth": "of the token"}, "the proof")


def other_keys():
    """Neither kind's keys verify the other's tokens, and neither bundle has the other's."""
    token = svids()[0]["token"]
    jwt_keys = bundle("FetchJWTBundles")
    want(not {key["kid"] for key in jwt_keys} & {key["kid"] for key in bundle()}, "one key for both")
    for key in jwt_keys:
        refused(lambda: claims(token, [{**key, "kid": jwt.get_unverified_header(token)["kid"]}]), jwt.InvalidSignatureError)


def changed():
    keys, token = bundle(), svids()[0]["token"]
    head, body, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=="))
    said["sub"] = f"{DOMAIN}/interop/second"
    forged = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
    refused(lambda: claims(f"{head}.{forged}.{signature}", keys), jwt.InvalidSignatureError)


def by_name():
    one = f"{DOMAIN}/interop/second"
    want([svid["id"] for svid in svids(named(one))] == [one], "only the one that is named")
    refused_with(grpc.StatusCode.PERMISSION_DENIED, lambda: svids(named(f"{DOMAIN}/interop/third")))
    refused_with(grpc.StatusCode.INVALID_ARGUMENT, lambda: svids(named("no ID")))


def refusals():
    for method in ("FetchWITSVID", "FetchWITBundles"):
        refused_with(grpc.StatusCode.PERMISSION_DENIED, lambda: call(method, socket=EMPTY))
        refused_with(grpc.StatusCode.INVALID_ARGUMENT, lambda: call(method, metadata=()))


def main():
    report = Report("wit")
    report.check("every rule of the token, and a proof of possession", every_rule)
    report.check("no key for both kinds of token", other_keys)
    report.check("another subject is refused", changed)
    report.check("by name", by_name)
    report.check("neither without entry nor without the security header", refusals)
    report.close()


if __name__ == "__main__":
    main()
