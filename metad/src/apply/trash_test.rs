//! Tests of the trash: what goes there and how it comes back, who may do what in it, and when it is emptied.

use super::*;
use crate::apply::Verdict;
use crate::apply::test_fs::{TestFs, VOLUME};
use crate::store::KvCommit;
use holdfast_proto::pb::{self, mutation::Op};

const HOUR_0: &str = "1970-01-01-00";

/// A volume that keeps things for two days.
fn keeper() -> TestFs {
    let mut fs = TestFs::new();
    fs.keep_removed(2);
    fs
}

fn names_in(fs: &TestFs, ino: u64) -> Vec<String> {
    let query = pb::ReaddirQuery { ino, after: 0, bytes_max: 1 << 20, with_attrs: true };
    let mut names: Vec<_> =
        fs.ask(query).expect("lists").entries.iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()).collect();
    names.sort();
    names
}

fn hour(fs: &TestFs, name: &str) -> u64 {
    fs.lookup(TRASH_INO, name).expect("is there").ino
}

/// What is in the trash, of all hours.
fn kept(fs: &TestFs) -> Vec<String> {
    names_in(fs, TRASH_INO).iter().flat_map(|name| names_in(fs, hour(fs, name))).collect()
}

#[test]
fn the_last_name_goes_to_the_trash_and_a_rename_brings_it_back() {
    let mut fs = keeper();
    let file = fs.create("a", 0o640).expect("creates").ino;
    fs.write(file, 0, 100).expect("writes");
    fs.link(file, ROOT_INO, "b").expect("links");
    assert_eq!(fs.unlink("a").map(|r| r.orphaned), Ok(false));
    assert_eq!(kept(&fs), Vec::<String>::new());
    let (before, usage) = (fs.attr(file), fs.usage());
    assert_eq!(fs.unlink("b").map(|r| (r.ino, r.orphaned)), Ok((file, false)));
    assert!(fs.last_effects().orphaned.is_empty());
    assert_eq!(kept(&fs), [format!("1-{file}-b")]);
    assert_eq!(fs.lookup(ROOT_INO, "b"), Err(FsErrno::NoEnt));
    let after = fs.attr(file);
    assert_eq!((after.nlink, after.mtime, after.mode), (1, before.mtime, 0o640));
    assert!(after.ctime > before.ctime);
    assert_eq!((fs.usage(), fs.slices(file).len()), (usage, 1));
    fs.write(file, 100, 10).expect("whoever has it open goes on");
    fs.check();

    let from = hour(&fs, HOUR_0);
    fs.rename(from, &format!("1-{file}-b"), ROOT_INO, "back", 1).expect("brings it back");
    assert_eq!(fs.lookup(ROOT_INO, "back").map(|attr| (attr.ino, attr.size)), Ok((file, 110)));
    assert_eq!(kept(&fs), Vec::<String>::new());
    fs.check();
}

#[test]
fn what_a_rename_replaces_is_kept_too() {
    let mut fs = keeper();
    let (new, old) = (fs.create("new", 0o600).expect("creates").ino, fs.create("f", 0o600).expect("creates").ino);
    assert_eq!(fs.rename(ROOT_INO, "new", ROOT_INO, "f", 0).map(|r| (r.ino, r.orphaned)), Ok((old, false)));
    assert_eq!((fs.lookup(ROOT_INO, "f").map(|attr| attr.ino), kept(&fs)), (Ok(new), vec![format!("1-{old}-f")]));
    // And the other way round: the old one comes back over the new one.
    let from = hour(&fs, HOUR_0);
    fs.rename(from, &format!("1-{old}-f"), ROOT_INO, "f", 0).expect("brings it back");
    assert_eq!((fs.lookup(ROOT_INO, "f").map(|attr| attr.ino), kept(&fs)), (Ok(old), vec![format!("1-{new}-f")]));
    fs.check();
}

#[test]
fn a_removed_tree_can_be_put_together_again() {
    let mut fs = keeper();
    let dir = fs.mkdir("d", 0o750).expect("makes").ino;
    let sub = fs.mkdir_at(dir, "s", 0o700).expect("makes").ino;
    let file = fs.create_at(sub, "f", 0o600, true).expect("creates").attr.expect("attr").ino;
    let link = fs.symlink("l", "to").expect("links").ino;
    fs.unlink_at(sub, "f").expect("removes");
    fs.mutate(pb::RmdirOp { parent: dir, name: "s".into() }).expect("removes");
    assert_eq!(fs.rmdir("d").map(|r| r.orphaned), Ok(false));
    fs.unlink("l").expect("removes");
    assert_eq!(
        kept(&fs),
        [format!("1-{dir}-d"), format!("1-{link}-l"), format!("{dir}-{sub}-s"), format!("{sub}-{file}-f")]
    );
    assert_eq!((fs.attr(ROOT_INO).nlink, fs.readlink(link)), (2, Ok("to".into())));
    fs.check();
    // It is removed: nothing new gets into it.
    assert_eq!(fs.create_at(sub, "x", 0o600, true).map(|_| ()), Err(FsErrno::NoEnt));
    assert_eq!(fs.mkdir_at(sub, "x", 0o600).map(|_| ()), Err(FsErrno::NoEnt));
    fs.create("x", 0o600).expect("creates");
    assert_eq!(fs.rename(ROOT_INO, "x", sub, "x", 0).map(|_| ()), Err(FsErrno::NoEnt));

    let from = hour(&fs, HOUR_0);
    fs.rename(from, &format!("1-{dir}-d"), ROOT_INO, "d", 1).expect("brings back");
    fs.rename(from, &format!("{dir}-{sub}-s"), dir, "s", 1).expect("brings back");
    fs.rename(from, &format!("{sub}-{file}-f"), sub, "f", 1).expect("brings back");
    assert_eq!(fs.lookup(sub, "f").map(|attr| attr.ino), Ok(file));
    assert_eq!(fs.attr(dir).mode, 0o750);
    fs.check();
}

#[test]
fn names_are_cut_to_what_a_name_may_be() {
    let mut fs = keeper();
    let long = "n".repeat(255);
    let inos = [1, 2].map(|_| {
        let ino = fs.create(&long, 0o600).expect("creates").ino;
        fs.unlink(&long).expect("removes");
        ino
    });
    let names = kept(&fs);
    assert!(names.iter().all(|name| name.len() == 255), "{names:?}");
    assert!(inos.iter().all(|ino| names.iter().any(|name| name.starts_with(&format!("1-{ino}-nnn")))), "{names:?}");
}

#[test]
fn the_root_does_not_show_it_and_its_name_finds_it() {
    let mut fs = keeper();
    fs.create("f", 0o600).expect("creates");
    fs.unlink("f").expect("removes");
    assert_eq!((names_in(&fs, ROOT_INO), fs.attr(ROOT_INO).nlink), (vec![], 2));
    let trash = fs.lookup(ROOT_INO, ".trash").expect("is found");
    assert_eq!((trash.ino, trash.mode, trash.uid, trash.nlink, trash.parent), (TRASH_INO, 0o700, 0, 3, ROOT_INO));
    let of_hour = fs.lookup(TRASH_INO, HOUR_0).expect("is there");
    assert_eq!((of_hour.mode, of_hour.uid, of_hour.parent), (0o700, 0, TRASH_INO));
    assert_eq!(fs.lookup(of_hour.ino, "..").map(|attr| attr.ino), Ok(TRASH_INO));
    // Elsewhere it is a name like any other.
    let dir = fs.mkdir("d", 0o700).expect("makes").ino;
    assert_eq!(fs.lookup(dir, ".trash"), Err(FsErrno::NoEnt));
    fs.mkdir_at(dir, ".trash", 0o700).expect("makes");
    fs.check();
}

#[test]
fn things_come_into_the_trash_by_removal_alone() {
    let mut fs = keeper();
    let file = fs.create("f", 0o600).expect("creates").ino;
    let gone = fs.create("gone", 0o600).expect("creates").ino;
    fs.unlink("gone").expect("removes");
    let (from, name) = (hour(&fs, HOUR_0), format!("1-{gone}-gone"));
    let perm = Err(FsErrno::Perm);
    for dir in [TRASH_INO, from] {
        assert_eq!(fs.create_at(dir, "x", 0o600, true).map(|_| ()), perm);
        assert_eq!(fs.mkdir_at(dir, "x", 0o700).map(|_| ()), perm);
        assert_eq!(fs.link(file, dir, "x").map(|_| ()), perm);
        assert_eq!(fs.rename(ROOT_INO, "f", dir, "x", 0).map(|_| ()), perm);
        assert_eq!(fs.chmod(dir, 0o777).map(|_| ()), perm);
        assert_eq!(fs.set_xattr(dir, "user.a", b"v", 0).map(|_| ()), perm);
    }
    assert_eq!(fs.rename(ROOT_INO, "f", from, &name, 0).map(|_| ()), perm);
    assert_eq!(fs.rename(from, &name, from, "other", 0).map(|_| ()), perm);
    // An exchange and a whiteout leave something behind.
    assert_eq!(fs.rename(ROOT_INO, "f", from, &name, 2).map(|_| ()), perm);
    assert_eq!(fs.rename(from, &name, ROOT_INO, "f", 2).map(|_| ()), perm);
    assert_eq!(fs.rename(from, &name, ROOT_INO, "x", 4).map(|_| ()), perm);
    // The directories themselves stay where they are.
    assert_eq!(fs.rename(ROOT_INO, ".trash", ROOT_INO, "x", 0).map(|_| ()), perm);
    assert_eq!(fs.rename(TRASH_INO, HOUR_0, ROOT_INO, "x", 0).map(|_| ()), perm);
    assert_eq!(fs.rmdir(".trash").map(|_| ()), perm);
    assert_eq!(fs.rmdir(HOUR_0).map(|_| ()), Err(FsErrno::NoEnt));
    let dir = fs.mkdir("d", 0o700).expect("makes").ino;
    assert_eq!(fs.rename(ROOT_INO, "d", ROOT_INO, ".trash", 0).map(|_| ()), perm);
    assert_eq!(fs.rename(ROOT_INO, "d", ROOT_INO, ".trash", 2).map(|_| ()), perm);
    assert_eq!(fs.mkdir(".trash", 0o700).map(|_| ()), Err(FsErrno::Exist));
    assert_eq!(fs.create(".trash", 0o600).map(|_| ()), Err(FsErrno::Exist));
    assert_eq!((fs.attr(dir).nlink, kept(&fs)), (2, vec![name]));
    fs.check();
}

#[test]
fn a_removal_in_the_trash_is_for_good_and_an_empty_hour_goes() {
    let mut fs = keeper();
    let file = fs.create("f", 0o600).expect("creates").ino;
    fs.write(file, 0, 100).expect("writes");
    fs.unlink("f").expect("removes");
    let from = hour(&fs, HOUR_0);
    let hour_goes = |fs: &mut TestFs| fs.mutate(pb::RmdirOp { parent: TRASH_INO, name: HOUR_0.into() }).map(|_| ());
    assert_eq!(hour_goes(&mut fs), Err(FsErrno::NotEmpty));
    assert_eq!(fs.unlink_at(from, &format!("1-{file}-f")).map(|r| r.orphaned), Ok(true));
    assert_eq!((fs.usage().used_bytes, fs.usage().used_inodes, fs.usage().orphans), (0, 0, 1));
    fs.check();
    assert_eq!(hour_goes(&mut fs), Ok(()));
    assert_eq!((fs.getattr(from), names_in(&fs, TRASH_INO)), (Err(FsErrno::Stale), vec![]));
    fs.check();
    // It comes again with the next removal.
    let next = fs.create("f", 0o600).expect("creates").ino;
    fs.unlink("f").expect("removes");
    assert_eq!(kept(&fs), [format!("1-{next}-f")]);
    fs.check();
}

#[test]
fn a_file_that_is_linked_out_of_the_trash_stays_when_its_name_there_goes() {
    let mut fs = keeper();
    let file = fs.create("f", 0o600).expect("creates").ino;
    fs.unlink("f").expect("removes");
    assert_eq!(fs.link(file, ROOT_INO, "f").map(|attr| attr.nlink), Ok(2));
    fs.unlink("f").expect("its name in the trash is the last one");
    fs.link(file, ROOT_INO, "g").expect("links");
    assert_eq!(kept(&fs), [format!("1-{file}-f")]);
    fs.check();
    fs.keep_removed(0);
    fs.empty_trash();
    assert_eq!((names_in(&fs, TRASH_INO), fs.lookup(ROOT_INO, "g").map(|attr| attr.nlink)), (vec![], Ok(1)));
    fs.check();
}

#[test]
fn what_is_open_when_the_trash_is_emptied_waits_for_its_last_close() {
    let mut fs = keeper();
    let file = fs.create("f", 0o600).expect("creates").ino;
    fs.write(file, 0, 100).expect("writes");
    fs.unlink("f").expect("removes");
    fs.keep_removed(0);
    fs.empty_trash();
    assert_eq!(fs.last_effects().orphaned, [file]);
    fs.hold(fs.log_index(), &[file]);
    fs.reclaim(&[file]);
    assert_eq!((fs.attr(file).nlink, fs.slices(file).len()), (0, 1));
    fs.release(&[file]);
    fs.reclaim(&[file]);
    assert_eq!((fs.getattr(file), fs.deleted_slices().len()), (Err(FsErrno::Stale), 1));
    fs.check();
}

#[test]
fn where_room_is_short_removed_files_give_theirs_back_at_once() {
    let mut fs = keeper();
    let file = |fs: &mut TestFs, name: &str| {
        let ino = fs.create(name, 0o600).expect("creates").ino;
        fs.write(ino, 0, 100).expect("writes");
    };
    ["a", "b", "c", "d"].iter().for_each(|name| file(&mut fs, name));
    fs.be_tight(true);
    assert_eq!(fs.unlink("a").map(|r| r.orphaned), Ok(true));
    fs.be_tight(false);
    // 300 bytes of 315: less than a twentieth is left.
    fs.config(Some(315), None);
    assert_eq!(fs.unlink("b").map(|r| r.orphaned), Ok(true));
    assert_eq!(fs.unlink("c").map(|r| r.orphaned), Ok(false));
    fs.config(Some(0), Some(2));
    assert_eq!(fs.unlink("d").map(|r| r.orphaned), Ok(true));
    assert_eq!((kept(&fs).len(), fs.usage().used_bytes), (1, 100));
    fs.check();
}

#[test]
fn each_hour_goes_when_all_that_is_in_it_is_old_enough() {
    let mut fs = keeper();
    let remove = |fs: &mut TestFs| {
        let ino = fs.create("f", 0o600).expect("creates").ino;
        fs.unlink("f").expect("removes");
        format!("1-{ino}-f")
    };
    let first = remove(&mut fs);
    fs.pass_hours(25);
    let second = remove(&mut fs);
    assert_eq!(names_in(&fs, TRASH_INO), [HOUR_0, "1970-01-02-01"]);
    fs.empty_trash();
    fs.pass_hours(47 - 25);
    fs.empty_trash();
    assert_eq!(kept(&fs), [first, second.clone()]);
    // The first one is 48 hours old, but what else was removed in its hour might not be.
    fs.pass_hours(1);
    fs.empty_trash();
    assert_eq!(kept(&fs).len(), 2);
    fs.pass_hours(1);
    fs.empty_trash();
    assert_eq!((names_in(&fs, TRASH_INO), kept(&fs)), (vec!["1970-01-02-01".to_owned()], vec![second]));
    fs.keep_removed(1);
    fs.pass_hours(1);
    fs.empty_trash();
    assert_eq!(names_in(&fs, TRASH_INO), Vec::<String>::new());
    assert_eq!(fs.usage().orphans, 2);
    fs.check();
}

#[test]
fn a_large_trash_is_emptied_in_several_steps_whoever_proposes_them() {
    let mut fs = keeper();
    for n in 0..limits::BACKGROUND_BATCH_MAX + 5 {
        fs.create(&format!("f{n}"), 0o600).expect("creates");
        fs.unlink(&format!("f{n}")).expect("removes");
    }
    fs.mkdir("d", 0o700).expect("makes");
    fs.rmdir("d").expect("removes");
    let is_due = |fs: &TestFs| fs.store().view(|view| due(view, VOLUME, Stamp::default(), 1)).expect("reads").len();
    assert_eq!(is_due(&fs), 0);
    fs.keep_removed(0);
    fs.empty_trash();
    assert_eq!((kept(&fs).len(), is_due(&fs)), (6, 1));
    fs.check();
    fs.empty_trash();
    assert_eq!((names_in(&fs, TRASH_INO).len(), is_due(&fs)), (0, 0));
    assert_eq!(fs.attr(TRASH_INO).nlink, 2);
    fs.check();
}

#[test]
fn without_the_setting_nothing_is_kept_and_a_users_own_file_of_that_name_stays_his() {
    let mut fs = TestFs::new();
    fs.create("f", 0o600).expect("creates");
    assert_eq!(fs.unlink("f").map(|r| r.orphaned), Ok(true));
    assert_eq!(fs.lookup(ROOT_INO, ".trash"), Err(FsErrno::NoEnt));
    let own = fs.create(".trash", 0o600).expect("creates").ino;
    let op = |days| {
        Op::ConfigVolume(pb::ConfigVolumeOp { name: "vol".into(), trash_days: Some(days), ..Default::default() })
    };
    assert_eq!(fs.send(0, 0, op(1)), Verdict::Refused(FsErrno::Exist));
    assert_eq!(fs.send(0, 0, op(limits::TRASH_DAYS_MAX + 1)), Verdict::Refused(FsErrno::Inval));
    assert_eq!((fs.usage().trash_days, fs.lookup(ROOT_INO, ".trash").map(|attr| attr.ino)), (0, Ok(own)));
    fs.unlink(".trash").expect("removes");
    fs.keep_removed(1);
    assert_eq!(fs.lookup(ROOT_INO, ".trash").map(|attr| attr.ino), Ok(TRASH_INO));
    fs.check();
}

#[test]
fn hours_are_named_by_their_numbers() {
    let name = |sec: i64| hour_name(hour_ino(sec.div_euclid(HOUR_SEC)));
    assert_eq!(name(951_827_696).as_deref(), Some("2000-02-29-12"));
    assert_eq!(name(-1).as_deref(), Some(HOUR_0));
    assert!(name(i64::MAX).is_some());
    assert_eq!((hour_name(TRASH_INO), hour_name(ROOT_INO), hour_name(INO_END)), (None, None, None));
}
