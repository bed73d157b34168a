//! readlink.

use holdfast_tests::fs::Fs;

on_both!(the_target_comes_back_unchanged, only_links_can_be_read);

fn the_target_comes_back_unchanged(fs: &dyn Fs) {
    for (name, target) in
        [("a", "x"), ("b", "/absolute/path"), ("c", "../up//double/"), ("d", "sp ace\nnewline ünïcode")]
    {
        fs.symlink(target, name).unwrap();
        assert_eq!(fs.readlink(name), Ok(target.to_string()));
    }
}

fn only_links_can_be_read(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.mkdir("d", 0o755).unwrap();
    assert_eq!((fs.readlink("f"), fs.readlink("d")), (Err(libc::EINVAL), Err(libc::EINVAL)));
    assert_eq!(fs.readlink("none"), Err(libc::ENOENT));
}
