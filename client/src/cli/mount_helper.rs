//! mount.holdfast: how mount(8) and fstab call us: `mount.holdfast META DIR [-sfnv] [-o options] [-t type]`. Turned into the arguments of
//! `holdfast mount -d`. Pure. Called by cli::main.

use crate::error::ClientError;
use std::ffi::{OsStr, OsString};
use std::path::Path;

const NAME: &str = "mount.holdfast";
/// Options that speak to mount(8), fstab or systemd, not to us.
const NOT_OURS: [&str; 10] =
    ["defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "owner", "loud"];

/// The arguments as `holdfast` takes them; None where there is nothing to do (a fake mount).
///
/// # Errors
/// Usage, for a call that mount(8) would not make.
pub fn rewrite(args: Vec<OsString>) -> Result<Option<Vec<OsString>>, ClientError> {
    let called = args.first().and_then(|arg| Path::new(arg).file_name());
    if called != Some(OsStr::new(NAME)) {
        return Ok(Some(args));
    }
    let mut places: Vec<OsString> = Vec::new();
    let mut options: Vec<String> = Vec::new();
    let mut fake = false;
    let mut rest = args.into_iter().skip(1);
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy().into_owned();
        let value = |rest: &mut dyn Iterator<Item = OsString>| match text.len() {
            2 => rest.next().map(|v| v.to_string_lossy().into_owned()).ok_or_else(usage),
            _ => Ok(text[2..].to_owned()),
        };
        match text.as_bytes() {
            [b'-', b'o', ..] => options.push(value(&mut rest)?),
            [b'-', b't' | b'N', ..] => drop(value(&mut rest)?),
            [b'-', flags @ ..] if !flags.is_empty() && flags.iter().all(|flag| b"sfnvrw".contains(flag)) => {
                fake |= flags.contains(&b'f');
                if flags.contains(&b'r') {
                    options.push("ro".to_owned());
                }
            }
            [b'-', ..] => return Err(usage()),
            _ => places.push(arg),
        }
    }
    let [meta, dir] = <[OsString; 2]>::try_from(places).map_err(|_| usage())?;
    if fake {
        return Ok(None);
    }
    let mut line: Vec<OsString> = ["holdfast", "mount", "-d"].map(OsString::from).into();
    let ours: Vec<&str> = options.iter().flat_map(|list| list.split(',')).filter(|option| is_ours(option)).collect();
    if !ours.is_empty() {
        line.extend(["-o".into(), ours.join(",").into()]);
    }
    line.extend(["--".into(), meta, dir]);
    Ok(Some(line))
}

fn is_ours(option: &str) -> bool {
    let generic = NOT_OURS.contains(&option) || option.starts_with("x-") || option.starts_with("comment=");
    !option.is_empty() && !generic
}

fn usage() -> ClientError {
    ClientError::Usage(format!("usage: {NAME} META DIR [-sfnv] [-o OPTIONS]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> Result<Option<String>, ClientError> {
        let args = line.split(' ').map(OsString::from).collect();
        let text = |args: Vec<OsString>| args.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
        rewrite(args).map(|args| args.map(text))
    }

    #[test]
    fn a_call_by_our_own_name_is_left_alone() {
        assert_eq!(rewritten("/usr/bin/holdfast status x"), Ok(Some("/usr/bin/holdfast status x".into())));
    }

    #[test]
    fn a_call_by_mount_becomes_a_mount_in_the_background() {
        let line = rewritten("/sbin/mount.holdfast holdfast://a:1/v /mnt -n -v -o rw,allow_other");
        assert_eq!(line, Ok(Some("holdfast mount -d -o rw,allow_other -- holdfast://a:1/v /mnt".into())));
    }

    #[test]
    fn options_of_fstab_and_systemd_are_not_passed_on() {
        let line = rewritten("mount.holdfast m /mnt -o defaults,_netdev,x-systemd.automount,nofail,ro,comment=a");
        assert_eq!(line, Ok(Some("holdfast mount -d -o ro -- m /mnt".into())));
        let line = rewritten("mount.holdfast m /mnt -o defaults,_netdev");
        assert_eq!(line, Ok(Some("holdfast mount -d -- m /mnt".into())));
    }

    #[test]
    fn flags_may_be_joined_and_a_fake_mount_does_nothing() {
        assert_eq!(rewritten("mount.holdfast m /mnt -sn -oro"), Ok(Some("holdfast mount -d -o ro -- m /mnt".into())));
        assert_eq!(rewritten("mount.holdfast m /mnt -fnv"), Ok(None));
        assert_eq!(rewritten("mount.holdfast m /mnt -t holdfast"), Ok(Some("holdfast mount -d -- m /mnt".into())));
    }

    #[test]
    fn other_calls_are_refused_with_the_usage() {
        for line in [
            "mount.holdfast",
            "mount.holdfast m",
            "mount.holdfast m d e",
            "mount.holdfast m d -x",
            "mount.holdfast m d -o",
        ] {
            assert!(rewritten(line).unwrap_err().to_string().starts_with("usage:"), "{line}");
        }
    }
}
