#!/usr/bin/env bash
# Real work: git clone, commit, checkout, stash, gc, and fsck after each that matters. Usage: git.sh DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need git git

git -c safe.directory='*' clone --no-local --quiet "$repo" "$dir/clone"
cd "$dir/clone"
git fsck --full --strict
[ -z "$(git status --porcelain)" ]
git -c user.name=t -c user.email=t@example.invalid commit --quiet --allow-empty -m on-the-mount
git checkout --quiet -b other
echo change >>Cargo.toml
git -c user.name=t -c user.email=t@example.invalid stash --quiet
git stash pop --quiet
git gc --quiet --aggressive --prune=now
git fsck --full --strict
note "$(git count-objects -v | awk '/in-pack/ {print $2}') objects"
cd /
