#!/usr/bin/env bash
# The demo: three metad nodes, a volume on a local directory and a mount of it, all under target/demo.
# Called by `make demo` and `make demo-stop`.
#
#   deploy/demo.sh start          builds, starts what is missing, gives the tour the first time (TOUR=1: again, TOUR=0: never)
#   deploy/demo.sh kill-leader    kill -9 of the leader, then starts it again; says which node it was
#   deploy/demo.sh stop           leaves nothing behind
#
# PROFILE=release (default) or debug chooses which build is used. DEMO_DIR, an absolute path, holds another demo than target/demo;
# each has ports of its own.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
demo=${DEMO_DIR:-$root/target/demo}
# How the demo's files are called in what we say.
shown=${demo#"$root/"}
mnt=$demo/mnt
profile=${PROFILE:-release}
bin=${CARGO_TARGET_DIR:-$root/target}/$profile
nodes="1 2 3"

say() { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# ---- what the machine must have -------------------------------------------------------------------------------------------

# install PACKAGE WHAT-FOR: with apt-get where we may, else names the command.
install() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing $1 ($2)"
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1" >/dev/null 2>&1 ||
      { apt-get update >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1" >/dev/null; } ||
      fail "$1 ($2) is missing and could not be installed: apt-get install $1"
  else
    fail "$1 ($2) is missing. Install it with: sudo apt-get install $1"
  fi
}

need() {
  command -v cc >/dev/null || install build-essential "a C compiler and linker"
  command -v fusermount3 >/dev/null || install fuse3 "mounting"
  if [ ! -e /dev/fuse ]; then
    if [ "$(id -u)" = 0 ]; then
      modprobe fuse 2>/dev/null || true
      [ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229 2>/dev/null || true
    fi
    [ -e /dev/fuse ] || fail "/dev/fuse is missing. Load the module with: sudo modprobe fuse (in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN)"
  fi
  [ -r /dev/fuse ] && [ -w /dev/fuse ] || fail "/dev/fuse is not ours to open. Allow it with: sudo chmod 666 /dev/fuse"
  if ! command -v cargo >/dev/null; then
    # shellcheck disable=SC1091
    [ ! -f "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
  fi
  command -v cargo >/dev/null || fail "cargo is missing. Install Rust as https://rustup.rs says, then run this again"
}

build() {
  case $profile in
    release) (cd "$root" && cargo build --release -p holdfast-metad -p holdfast-client --bins) ;;
    # As the tests build it, so that nothing is compiled twice.
    debug) (cd "$root" && cargo build --workspace --bins) ;;
    *) fail "PROFILE is $profile: it must be release or debug" ;;
  esac
}

# ---- ports, once chosen and then kept ------------------------------------------------------------------------------------

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

choose_ports() {
  [ ! -s "$demo/ports" ] || return 0
  local chosen=" " port
  while [ "$(wc -w <<<"$chosen")" -lt 6 ]; do
    # Below the ephemeral range, so that nobody's outgoing connection takes the port of a node that is down.
    port=$((10240 + (RANDOM * 32768 + RANDOM) % 21000))
    case $chosen in *" $port "*) continue ;; esac
    if port_is_free "$port"; then chosen="$chosen$port "; fi
  done
  echo "$chosen" | xargs >"$demo/ports.new"
  mv "$demo/ports.new" "$demo/ports"
}

port() { cut -d' ' -f"$1" "$demo/ports"; }
listen() { echo "127.0.0.1:$(port "$1")"; }
admin() { echo "127.0.0.1:$(port $(($1 + 3)))"; }
peers() { echo "1=$(listen 1),2=$(listen 2),3=$(listen 3)"; }
meta() { echo "holdfast://$(listen 1),$(listen 2),$(listen 3)/demo"; }

# ---- nodes ---------------------------------------------------------------------------------------------------------------

# The pid of node $1 if that process lives and is ours; pids are used again by others.
node_pid() {
  local pid
  pid=$(cat "$demo/metad-$1/metad.pid" 2>/dev/null) || return 1
  [ -n "$pid" ] && tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -- "$demo/metad-$1/data" || return 1
  [ "$(awk '/^State/ {print $2}' "/proc/$pid/status" 2>/dev/null)" != Z ] || return 1
  echo "$pid"
}

start_node() {
  local dir=$demo/metad-$1 init=()
  mkdir -p "$dir"
  [ "$1" != 1 ] || init=(--init)
  # setsid: a ^C that ends the demo must not end the nodes.
  setsid "$bin/metad" --id "$1" --listen "$(listen "$1")" --peers "$(peers)" --data-dir "$dir/data" \
    --admin-listen "$(admin "$1")" "${init[@]}" >>"$dir/log" 2>&1 </dev/null &
  echo $! >"$dir/metad.pid"
}

# Waits until the command given succeeds, for at most 60 s.
wait_until() {
  local what=$1 i
  shift
  for i in $(seq 600); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  for i in $nodes; do tail -n 3 "$demo/metad-$i/log" >&2 || true; done
  fail "waited 60 s in vain for $what; the logs are in $demo/metad-*/log"
}

status_json() { "$bin/holdfast" cluster status "$(meta)" --json; }

# Whether each node's status has a field that matches all of the patterns.
nodes_say() {
  local fields pattern
  fields=$(status_json | tr ',{}[]' '\n')
  for pattern in "$@"; do [ "$(grep -cE "$pattern" <<<"$fields")" = 3 ] || return 1; done
}
cluster_is_ready() { nodes_say '"ready": *true'; }
cluster_is_level() { nodes_say '"ready": *true' '"lag": *0$'; }

# The id of the node whose role is leader.
leader() {
  status_json | tr -d ' \n' | tr '{' '\n' | sed -n 's/.*"role":"leader".*/&/p' | grep -oE '"id":[0-9]+' | head -n1 | cut -d: -f2
}

start_nodes() {
  local i started=
  for i in $nodes; do
    if node_pid "$i" >/dev/null; then continue; fi
    start_node "$i"
    started="$started $i"
  done
  if [ -n "$started" ]; then say "started metad$started (logs in $shown/metad-N/log)"; else say "three metad run already"; fi
  wait_until "three ready nodes" cluster_is_ready
}

# ---- volume and mount ----------------------------------------------------------------------------------------------------

format() {
  if "$bin/holdfast" status "$(meta)" >/dev/null 2>&1; then return 0; fi
  mkdir -p "$demo/objects"
  "$bin/holdfast" format "$(meta)" --storage file --bucket "$demo/objects"
}

is_mounted() { grep -qF -- " $mnt fuse" /proc/self/mounts; }

mount_pids() {
  local line
  for line in /proc/[0-9]*/cmdline; do
    if tr '\0' '\n' <"$line" 2>/dev/null | grep -qxF -- "$mnt"; then
      line=${line#/proc/}
      echo "${line%/cmdline}"
    fi
  done
}

detach() {
  fusermount3 -u "$mnt" 2>/dev/null || umount "$mnt" 2>/dev/null || fusermount3 -uz "$mnt" 2>/dev/null || umount -l "$mnt" 2>/dev/null || true
}

start_mount() {
  mkdir -p "$demo"
  if is_mounted && ! ls "$mnt" >/dev/null 2>&1; then detach; fi
  if is_mounted; then
    say "$shown/mnt is mounted already"
    return 0
  fi
  mkdir -p "$mnt"
  "$bin/holdfast" mount "$(meta)" "$mnt" -d --log "$demo/mount.log"
  say "mounted $shown/mnt"
}

write_env() {
  cat >"$demo/env.new" <<END
# Source this: . $shown/env
export HOLDFAST_META='$(meta)'
case ":\$PATH:" in *":$bin:"*) ;; *) export PATH="$bin:\$PATH" ;; esac
END
  mv "$demo/env.new" "$demo/env"
}

# ---- the tour ------------------------------------------------------------------------------------------------------------

now_ms() { echo $(($(date +%s%N) / 1000000)); }

tour() {
  local old before after pause
  step "Tour 1: a file"
  say "\$ echo \"written before the crash\" > $shown/mnt/hello"
  echo "written before the crash" >"$mnt/hello"
  say "\$ cat $shown/mnt/hello"
  cat "$mnt/hello"

  step "Tour 2: kill the leader"
  old=$(leader)
  [ -n "$old" ] || fail "no node says that it is the leader"
  say "metad $old is the leader: kill -9 $(node_pid "$old")"
  before=$(now_ms)
  kill -9 "$(node_pid "$old")"
  echo "written after the crash" >"$mnt/hello-again"
  after=$(now_ms)
  pause=$((after - before))
  say "the next file was created, written and closed $pause ms after the kill: that was the pause"
  say "\$ cat $shown/mnt/hello $shown/mnt/hello-again"
  cat "$mnt/hello" "$mnt/hello-again"
  say "metad $(leader) leads now"

  step "Tour 3: start the node again"
  # The shell that started it may not have noticed its end yet.
  wait_until "the killed node to be gone" eval "! node_pid $old"
  start_node "$old"
  wait_until "three nodes at the same index" cluster_is_level
  "$bin/holdfast" cluster status "$(meta)"
  date >"$demo/toured"
}

next() {
  cat <<END

The filesystem is up at $shown/mnt. Try next:
  . $shown/env                       # HOLDFAST_META, and holdfast on your PATH
  cp -r client/src $shown/mnt/       # it is a directory like any other
  holdfast info $shown/mnt/hello     # inode, chunks, slices, objects
  holdfast status                         # the volume: settings, sessions, usage
  holdfast cluster status                 # the nodes
  kill -9 \$(cat $shown/metad-1/metad.pid); make demo   # starts what is missing
  tests/realwork/run.sh $shown/mnt   # builds, git, SQLite, rsync, a big file
  make demo-stop                          # leaves nothing behind
END
}

start() {
  step "What the machine needs"
  need
  build
  mkdir -p "$demo"
  choose_ports
  write_env
  step "Cluster, volume, mount"
  start_nodes
  format
  start_mount
  if [ "${TOUR:-}" != 0 ] && { [ ! -e "$demo/toured" ] || [ -n "${TOUR:-}" ]; }; then
    tour
  elif [ "${TOUR:-}" != 0 ]; then
    step "Everything runs (the tour was given before; TOUR=1 make demo gives it again)"
    "$bin/holdfast" cluster status "$(meta)"
  fi
  next
}

kill_leader() {
  local old pid
  old=$(leader)
  [ -n "$old" ] && pid=$(node_pid "$old") || fail "no node says that it is the leader"
  kill -9 "$pid"
  # The shell that started it may not have noticed its end yet.
  wait_until "the killed node to be gone" eval "! node_pid $old"
  start_node "$old"
  say "killed metad $old (pid $pid), and started it again"
}

# ---- stop ----------------------------------------------------------------------------------------------------------------

# end PID: SIGTERM, and SIGKILL if it still lives after 5 s.
end() {
  local i
  kill -CONT "$1" 2>/dev/null || true
  kill -TERM "$1" 2>/dev/null || return 0
  for i in $(seq 50); do
    if [ ! -e "/proc/$1" ] || [ "$(awk '/^State/ {print $2}' "/proc/$1/status" 2>/dev/null)" = Z ]; then return 0; fi
    sleep 0.1
  done
  kill -KILL "$1" 2>/dev/null || true
}

stop() {
  local pid i n
  if [ ! -d "$demo" ]; then
    say "no demo is there"
    return 0
  fi
  for n in 1 2 3 4; do
    if ! is_mounted; then break; fi
    detach
  done
  for i in $(seq 50); do
    if [ -z "$(mount_pids)" ]; then break; fi
    sleep 0.1
  done
  for pid in $(mount_pids); do end "$pid"; done
  for i in $nodes; do
    if pid=$(node_pid "$i"); then end "$pid"; fi
  done
  # A mount that would not go must not be emptied by rm.
  if is_mounted; then fail "$shown/mnt is still mounted: close what uses it, then run make demo-stop again"; fi
  rm -rf --one-file-system "$demo"
  say "the demo is gone"
}

case ${1:-start} in
  start) start ;;
  kill-leader) kill_leader ;;
  stop) stop ;;
  *) fail "usage: deploy/demo.sh start|kill-leader|stop" ;;
esac
