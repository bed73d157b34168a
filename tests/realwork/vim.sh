#!/usr/bin/env bash
# Real work: vim edits files with each of its ways to save (rename over, copy back), with backup and swap file, as users and through a
# symbolic link; a vim killed with -9 leaves a swap file to recover from. Usage: vim.sh DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
vim=$(command -v vim || command -v vim.tiny || true)
[ -n "$vim" ] || { echo "vim is missing: apt-get install vim-tiny" >&2; exit 2; }
export TERM=dumb
cd "$dir"

edit() { timeout 60 "$vim" -u NONE -N -n -es "$@" </dev/null; }
seq 20000 >expected
for way in yes no auto; do
  for backup in backup nobackup; do
    file=$way-$backup
    cp expected "$file"
    chmod 640 "$file"
    chown 1234:4321 "$file"
    ln -s "$file" "$file.link"
    # To rename, and not to copy, is to replace a symbolic link.
    opened=$file.link
    [ "$way" != no ] || opened=$file
    inode=$(stat -c %i "$file")
    edit -c "set backupskip= backupcopy=$way $backup writebackup" -c '%s/^\(.*\)$/<\1>/' -c 'wq' "$opened"
    sed 's/.*/<&>/' expected | cmp - "$file"
    [ "$(stat -c '%a %u %g' "$file")" = "640 1234 4321" ]
    [ -L "$file.link" ]
    [ "$way" != yes ] || [ "$inode" = "$(stat -c %i "$file")" ]
    [ "$backup" = nobackup ] || cmp expected "$opened~" || cmp expected "$file~"
  done
done

# Killed with unsaved changes: what the swap file has comes back.
cp expected crash
(sleep 30 | timeout -s KILL 30 "$vim" -u NONE -N -es --cmd 'set directory=. updatecount=1' -c 'normal ggOrecovered' -c 'preserve' -c 'sleep 25' crash) &
for i in $(seq 100); do
  [ ! -e .crash.swp ] || ! grep -q recovered .crash.swp || break
  sleep 0.1
done
for pid in $(pgrep -f -- 'directory=. updatecount=1'); do
  if [ "$(readlink "/proc/$pid/cwd")" = "$dir" ]; then kill -9 "$pid" || true; fi
done
grep -q recovered .crash.swp
edit --cmd 'set directory=.' -r -c 'wq! saved' crash
{ echo recovered; cat expected; } | cmp - saved
note "6 saves, 1 recovery"
cd /
