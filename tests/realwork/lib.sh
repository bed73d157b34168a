# shellcheck shell=bash
# What the real work shares; sourced by each item. An item is a script that takes a directory, works in a fresh one below it ($dir,
# removed at the end; $tmp is one on the local disk), and fails at the first thing that is not right. What is printed with `note` ends
# up in the line of run.sh.
set -eEu
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
item=$(basename "$0" .sh)
[ $# -ge 1 ] && [ -d "$1" ] || { echo "usage: $0 DIR" >&2; exit 2; }
dir=$(cd "$1" && pwd)/$item-$$
# The same directory as another mount of the volume shows it (its DIR), where there is one.
other=$dir
[ -z "${REALWORK_SECOND:-}" ] || other=$(cd "$REALWORK_SECOND" && pwd)/$item-$$
tmp=$(mktemp -d)
mkdir "$dir"
at_exit() { :; }
trap 'at_exit; rm -rf "$dir" "$tmp"' EXIT
trap 'echo "$0: line $LINENO failed: $BASH_COMMAND" >&2' ERR

note() { printf 'note: %s\n' "$*"; }
fail() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }
# need PROGRAM PACKAGE
need() { command -v "$1" >/dev/null || { echo "$1 is missing: apt-get install $2" >&2; exit 2; }; }
