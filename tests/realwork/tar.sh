#!/usr/bin/env bash
# Real work: a tree with modes, hard links, symbolic links, a fifo, times of nanoseconds, holes, extended attributes, ACLs and a file
# capability goes through tar, twice, and comes out the same. Usage: tar.sh DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need tar tar; need setfattr attr; need setfacl acl; need setcap libcap2-bin

mkdir -p "$dir/in/sub/deep"
cd "$dir/in"
for i in 1 2 3; do head -c $((i * 100000)) /dev/urandom >"sub/file$i"; done
ln sub/file1 sub/deep/hard
ln -s ../sub/file2 sub/soft
mkfifo sub/fifo
truncate -s 10M sub/hole
printf end >>sub/hole
cp /bin/true sub/program
chmod 4711 sub/file3
chmod 1777 sub/deep
chown 1234:4321 sub/file2
setfattr -n user.colour -v blue sub/file1
setfattr -n user.binary -v 0x00ff0a00 sub/file1
setfattr -n user.empty sub/file2
setfattr -n user.big -v "$(head -c 3000 /dev/zero | tr '\0' x)" sub
setfattr -n trusted.kept -v yes sub/file1
setcap cap_net_bind_service=ep sub/program
setfacl -m u:daemon:rwx,g:mail:r--,m::rw sub/file1
setfacl -m d:u:daemon:rwx,d:g:mail:r-x sub
touch -d '2001-02-03 04:05:06.123456789' sub/file1 sub/deep
# What is made below a directory with a default ACL has it too.
mkdir sub/heir
touch sub/heir/file
getfacl -p sub/heir/file | grep -q '^user:daemon:rwx'
cd /

copy() {
  mkdir "$2"
  tar -C "$1" --xattrs --xattrs-include='*' --acls --sparse --format=posix -cf "$tmp/archive.tar" .
  tar -C "$2" --xattrs --xattrs-include='*' --acls -xpf "$tmp/archive.tar"
  tar -C "$2" --xattrs --xattrs-include='*' --acls -df "$tmp/archive.tar"
}
describe() {
  (
    cd "$1"
    find . -printf '%p %y %m %U %G %s %n %l %T@\n' | sort
    find . -type f -exec sha256sum {} + | sort
    getfattr -R -h -d -m - -e hex . | sed 's/^# file: //'
    getfacl -R -p -n .
  )
}

copy "$dir/in" "$dir/out"
copy "$dir/out" "$tmp/local"
copy "$tmp/local" "$dir/back"
for copy in in out back; do describe "$dir/$copy" >"$tmp/$copy"; done
diff "$tmp/in" "$tmp/out"
diff "$tmp/in" "$tmp/back"
grep -q 'user.colour=0x626c7565' "$tmp/back"
grep -q 'security.capability=' "$tmp/back"
grep -q '^default:user:2\|^default:user:1:' "$tmp/back" || grep -q '^default:user:[0-9]' "$tmp/back"
note "$(grep -c '=0x' "$tmp/back") extended attributes"
