//! setgid directories: what is made in them takes their group, and new directories take the bit too.

use crate::{ALICE, alice, stat};
use holdfast_tests::fs::{Fs, Kind};

on_both!(
    everything_made_in_it_takes_its_group,
    directories_pass_the_bit_on,
    chmod_by_a_stranger_to_the_group_drops_the_bit
);

fn setgid_dir(fs: &dyn Fs) {
    fs.mkdir("d", 0o777).unwrap();
    fs.chown("d", None, Some(5005)).unwrap();
    fs.chmod("d", 0o2777).unwrap();
}

fn everything_made_in_it_takes_its_group(fs: &dyn Fs) {
    setgid_dir(fs);
    let alice = alice();
    let user = fs.by(&alice);
    user.create("d/f", 0o644, true).unwrap();
    user.mknod("d/p", Kind::Fifo, 0o644, 0).unwrap();
    user.symlink("x", "d/l").unwrap();
    user.mkdir("d/e", 0o755).unwrap();
    for name in ["d/f", "d/p", "d/l", "d/e"] {
        assert_eq!((stat(fs, name).uid, stat(fs, name).gid), (ALICE, 5005), "{name}");
    }
}

fn directories_pass_the_bit_on(fs: &dyn Fs) {
    setgid_dir(fs);
    fs.by(&alice()).mkdir("d/e", 0o755).unwrap();
    fs.by(&alice()).create("d/f", 0o644, true).unwrap();
    assert_eq!((stat(fs, "d/e").mode, stat(fs, "d/f").mode), (0o2755, 0o644));
}

fn chmod_by_a_stranger_to_the_group_drops_the_bit(fs: &dyn Fs) {
    fs.create("f", 0o755, true).unwrap();
    fs.chown("f", Some(ALICE), Some(5005)).unwrap();
    fs.by(&alice()).chmod("f", 0o2755).unwrap();
    assert_eq!(stat(fs, "f").mode, 0o755);
    fs.by(&alice().with_groups(&[5005])).chmod("f", 0o2755).unwrap();
    assert_eq!(stat(fs, "f").mode, 0o2755);
}
