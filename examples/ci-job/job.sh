#!/usr/bin/env bash
# A CI job: everything below runs with an identity of its own. Call it as it is; it starts `landfast dev` around itself.
set -euo pipefail

if [[ -z ${SPIFFE_ENDPOINT_SOCKET:-} ]]; then
  exec "${LANDFAST:-landfast}" dev --trust-domain ci.test --entry "spiffe://ci.test/collector=unix:uid:$(id -u)" -- "$0" "$@"
fi

landfast=${LANDFAST:-landfast}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

"$landfast" svid fetch x509 --write "$out"
"$landfast" svid inspect "$out/svid.pem"
token=$("$landfast" svid fetch jwt --audience historian)
"$landfast" jwt validate --audience historian "$token"
if "$landfast" jwt validate --audience somebody-else "$token" 2>/dev/null; then
  echo "error: a token for another audience was accepted" >&2
  exit 1
fi
echo "the job had an identity"
