#!/usr/bin/env bash
# make demo: from nothing to readings pushed over mTLS. A server and an agent on embedded SQLite in a temporary directory, a node
# enrolled with a join token, two workloads, two rotations. Works as any user, ends by itself, leaves nothing behind.
set -euo pipefail

cd "$(dirname "$0")/../.."
CARGO=${CARGO:-cargo}
domain=demo.test
uid=$(id -u)
pids=()

step() { printf '\n=== %s\n' "$*"; }

cleanup() {
  local status=$?
  trap - EXIT
  if ((status != 0)); then
    printf '\nerror: the demo failed (status %s)\n' "$status" >&2
    for log in "$work"/*.log; do
      [[ -s $log ]] || continue
      printf '\n--- the end of %s\n' "${log##*/}" >&2
      tail -n 25 "$log" >&2
    done
    printf '\nhint: nothing was left behind; run it again with LANDFAST_LOG=debug for more\n' >&2
  fi
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
  exit "$status"
}

start() { # NAME COMMAND...
  local name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 &
  pids+=($!)
}

# eventually SECONDS WHAT COMMAND...: asks until it works; ends at once when a process of ours has died.
eventually() {
  local end=$((SECONDS + $1)) what=$2 pid
  shift 2
  printf 'waiting for %s ' "$what"
  until "$@" >/dev/null 2>&1; do
    for pid in "${pids[@]}"; do
      kill -0 "$pid" 2>/dev/null || { printf 'a process ended\n'; return 1; }
    done
    ((SECONDS < end)) || { printf 'not within the time\n'; return 1; }
    printf .
    sleep 0.1
  done
  printf ' there\n'
}

free_port() {
  local port try
  for try in {1..50}; do
    port=$((20000 + RANDOM % 20000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  echo "error: no free port in $try attempts" >&2
  return 1
}

step "build"
$CARGO build --locked --quiet -p landfast-server -p landfast-agent -p landfast-cli -p telemetry-collector
bin=${CARGO_TARGET_DIR:-target}/debug

work=$(mktemp -d "${TMPDIR:-/tmp}/landfast-demo.XXXXXX")
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
begin=$SECONDS
landfast() {
  "$bin/landfast" --server-socket "$work/server/admin.sock" --agent-admin-socket "$work/agent/private/admin.sock" "$@"
}
mkdir -p "$work/server" "$work/agent/private" "$work/agent/public"
# Two programs in two places, so that the two workloads differ by more than their name.
cp "$bin/telemetry-collector" "$work/collector"
cp "$bin/telemetry-collector" "$work/receiver"

step "signing server for spiffe://$domain, on embedded SQLite"
port=$(free_port)
cat >"$work/server.toml" <<TOML
trust_domain = "$domain"
data_dir = "$work/server/data"
listen = ["127.0.0.1:$port"]
admin_socket = "$work/server/admin.sock"
[ttl]
backdate = "1s"
TOML
landfast server check "$work/server.toml"
start server "$bin/landfast-server" run --config "$work/server.toml"
eventually 15 "the server" landfast bundle show
landfast bundle show >"$work/bundle.pem"

step "agent, enrolled with a join token"
(umask 077 && landfast token create --ttl 5m --quiet >"$work/token")
cat >"$work/agent.toml" <<TOML
trust_domain = "$domain"
server = ["127.0.0.1:$port"]
data_dir = "$work/agent/data"
socket = "$work/agent/public/api.sock"
admin_socket = "$work/agent/private/admin.sock"
trust_bundle = "$work/bundle.pem"
[attestation]
method = "join_token"
token_file = "$work/token"
[sync]
interval = "500ms"
TOML
landfast agent check "$work/agent.toml"
start agent "$bin/landfast-agent" run --config "$work/agent.toml"
serving() { landfast agent status --output json | grep -q '"state": *"serving"'; }
eventually 15 "the agent" serving
landfast agent list

step "two workloads of this user (uid $uid), told apart by their program; X509-SVIDs for 10 seconds"
parent="spiffe://$domain/spire/agent/join_token/$(<"$work/token")"
for name in collector receiver; do
  landfast entry create --spiffe-id "spiffe://$domain/line4/$name" --parent-id "$parent" --x509-ttl 10s \
    --selector "unix:uid:$uid" --selector "unix:path:$work/$name" --output json >"$work/$name.json"
done
landfast entry list
held() { (($(landfast agent status --output json | grep -c '"serial": *"[0-9a-f]') == 2)); }
eventually 15 "the agent to hold both SVIDs" held
landfast agent status

step "receiver and collector, with the public spiffe crate: mTLS, two rotations, JWT-SVIDs"
export SPIFFE_ENDPOINT_SOCKET="unix://$work/agent/public/api.sock"
start receiver "$work/receiver" receiver --collector-id "spiffe://$domain/line4/collector"
eventually 15 "the receiver" grep -q 'listening on' "$work/receiver.log"
address=$(sed -n 's/^receiver: listening on //p' "$work/receiver.log")
"$work/collector" collector --to "$address" --receiver-id "spiffe://$domain/line4/receiver" --rotations 2 2>&1 |
  tee "$work/collector.log"
grep '^receiver: ' "$work/receiver.log"

step "why does the receiver get this identity, and this shell none?"
landfast why --pid "${pids[2]}"
echo
landfast why --pid $$

step "done in $((SECONDS - begin)) s after the build; cleaning up"
