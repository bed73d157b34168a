//! fstab and mount(8), in a mount namespace of their own with a copy of /etc and /usr/sbin: `--update-fstab` writes a line, and with
//! that line and mount.holdfast `mount DIR` is all it takes.

use holdfast_tests::process;
use holdfast_tests::shared;
use std::process::Command;

const SCRIPT: &str = r#"
set -eu
cp -a /etc "$WORK/etc" && mount --bind "$WORK/etc" /etc
cp -a /usr/sbin "$WORK/sbin" && mount --bind "$WORK/sbin" /usr/sbin
ln -s "$HOLDFAST" /usr/sbin/mount.holdfast
printf '# kept as it is\n' >/etc/fstab
mkdir "$WORK/mnt"

"$HOLDFAST" mount "$META" "$WORK/mnt" -d --log "$WORK/log" --update-fstab -o noatime
echo written >"$WORK/mnt/by-hand"
"$HOLDFAST" umount "$WORK/mnt"
head -n 1 /etc/fstab | grep -qx '# kept as it is'
[ "$(grep -c "^$META $WORK/mnt holdfast " /etc/fstab)" = 1 ]

mount "$WORK/mnt"
[ "$(cat "$WORK/mnt/by-hand")" = written ]
grep -q " $WORK/mnt fuse.holdfast rw,.*noatime" /proc/self/mounts
umount "$WORK/mnt"

# Once more: the line is replaced and not repeated.
"$HOLDFAST" mount "$META" "$WORK/mnt" -d --log "$WORK/log" --update-fstab -o ro
[ "$(wc -l </etc/fstab)" = 2 ]
"$HOLDFAST" umount "$WORK/mnt"
mount -t holdfast -o ro "$META" "$WORK/mnt"
! touch "$WORK/mnt/no" 2>/dev/null
umount "$WORK/mnt"
! grep -q " $WORK/mnt " /proc/self/mounts
"#;

#[test]
fn update_fstab_writes_the_line_that_mount_needs() {
    let work = process::scratch_dir("fstab");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-xc", SCRIPT]);
    command.env("WORK", &work).env("META", shared::meta()).env("HOLDFAST", process::bin("holdfast"));
    process::run(command).ok("the script of an operator");
}
