//! Options: `-o` of mount(8) and of an fstab line, as a type. Pure. Called by cli/mount.

use crate::vfs::atimes::AtimePolicy;
use crate::vfs::ids::{self, IdMap};
use fuser::MountOption;

/// Options that mount(8) and the init system keep for themselves; they come along from fstab.
const FOR_OTHERS: [&str; 15] = [
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nolock",
    "lazytime",
    "export",
    "async",
    "default_permissions",
];
const KNOWN: &str = "ro, rw, [no]exec, [no]suid, [no]dev, [no]atime, [no]relatime, strictatime, nodiratime, export, sync, dirsync, allow_other, [no_]root_squash, anonuid=, anongid=, uidmap=LOCAL:VOLUME[:COUNT], gidmap=, and NAME=VALUE of \
                     subdir, cache-size, buffer-size, max-uploads, attr-cache, entry-cache, open-cache, log, tls-ca, tls-cert, tls-key";
/// Names that are long options of `holdfast mount` as well.
pub const OWN: [&str; 11] = [
    "subdir",
    "cache-size",
    "buffer-size",
    "max-uploads",
    "attr-cache",
    "entry-cache",
    "open-cache",
    "log",
    "tls-ca",
    "tls-cert",
    "tls-key",
];

/// Options about users and groups, as in exports(5) and mount(8).
const OF_IDS: [&str; 4] = ["uidmap", "gidmap", "anonuid", "anongid"];
const SQUASH: [&str; 2] = ["root_squash", "no_root_squash"];

/// What `-o` said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// For the kernel, in the order given, without contradictions: the last one counts.
    pub flags: Vec<MountOption>,
    pub read_only: bool,
    pub allow_other: bool,
    /// What a read does to atime. The kernel leaves it to a FUSE filesystem.
    pub atime: AtimePolicy,
    /// Users and groups by other numbers, and root as nobody.
    pub ids: IdMap,
    /// (name, value) of options that are long options, too.
    pub own: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    #[error("unknown mount option \"{0}\": known are {KNOWN}")]
    Unknown(String),
    #[error("mount option \"{0}\" needs a value: {0}=VALUE")]
    NoValue(String),
    #[error("mount option {name}: {problem}")]
    BadValue { name: &'static str, problem: String },
}

impl MountOptions {
    /// Reads comma-separated lists. A comma within a value is not possible, as in fstab.
    ///
    /// # Errors
    /// An option that is not known, or lacks its value.
    pub fn parse(lists: &[String]) -> Result<MountOptions, OptionError> {
        let mut options = MountOptions::default();
        let words = || lists.iter().flat_map(|list| list.split(',')).map(str::trim);
        for option in words() {
            options.add(option)?;
        }
        options.ids = ids(words())?;
        Ok(options)
    }

    fn add(&mut self, option: &str) -> Result<(), OptionError> {
        if option.is_empty()
            || option.starts_with("x-")
            || option.starts_with("comment=")
            || FOR_OTHERS.contains(&option)
        {
            return Ok(());
        }
        if let Some((name, value)) = option.split_once('=')
            && OWN.contains(&name)
        {
            self.own.push((name.to_owned(), value.to_owned()));
            return Ok(());
        }
        if option.split_once('=').is_some_and(|(name, _)| OF_IDS.contains(&name)) || SQUASH.contains(&option) {
            return Ok(());
        }
        if OWN.contains(&option) || OF_IDS.contains(&option) {
            return Err(OptionError::NoValue(option.to_owned()));
        }
        match option {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "allow_other" => self.allow_other = true,
            "relatime" | "atime" | "diratime" => self.set_atime(AtimePolicy::Relatime),
            "strictatime" | "norelatime" => self.set_atime(AtimePolicy::Strictatime),
            "nodiratime" => self.set_atime(AtimePolicy::Nodiratime),
            "noatime" => self.set_atime(AtimePolicy::Noatime),
            _ => self.set_flag(flag(option).ok_or_else(|| OptionError::Unknown(option.to_owned()))?),
        }
        Ok(())
    }

    /// The kernel only shows it, in the mount table.
    fn set_atime(&mut self, policy: AtimePolicy) {
        self.atime = policy;
        self.flags.retain(|given| *given != MountOption::NoAtime);
        if policy == AtimePolicy::Noatime {
            self.flags.push(MountOption::NoAtime);
        }
    }

    fn set_flag(&mut self, flag: MountOption) {
        let opposite = opposite(&flag);
        self.flags.retain(|given| *given != flag && Some(given) != opposite.as_ref());
        self.flags.push(flag);
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.own.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// The map that the options ask for.
fn ids<'a>(words: impl Iterator<Item = &'a str> + Clone) -> Result<IdMap, OptionError> {
    let values = |wanted: &'static str| {
        words.clone().filter_map(|word| word.split_once('=')).filter(move |(name, _)| *name == wanted)
    };
    let ranges = |name: &'static str| {
        let ranges = ids::parse_ranges(values(name).map(|(_, value)| value));
        ranges.map_err(|problem| OptionError::BadValue { name, problem })
    };
    let anon = |name: &'static str| match values(name).last() {
        Some((_, value)) => {
            value.parse::<u32>().map_err(|_| OptionError::BadValue { name, problem: format!("\"{value}\" is no id") })
        }
        None => Ok(ids::ANON_ID),
    };
    let squashed = words.clone().filter(|word| SQUASH.contains(word)).last() == Some("root_squash");
    let anon = (anon("anonuid")?, anon("anongid")?);
    Ok(IdMap { uids: ranges("uidmap")?, gids: ranges("gidmap")?, squash: squashed.then_some(anon) })
}

fn flag(option: &str) -> Option<MountOption> {
    Some(match option {
        "exec" => MountOption::Exec,
        "noexec" => MountOption::NoExec,
        "suid" => MountOption::Suid,
        "nosuid" => MountOption::NoSuid,
        "dev" => MountOption::Dev,
        "nodev" => MountOption::NoDev,
        "sync" => MountOption::Sync,
        "dirsync" => MountOption::DirSync,
        _ => return None,
    })
}

fn opposite(flag: &MountOption) -> Option<MountOption> {
    Some(match flag {
        MountOption::Exec => MountOption::NoExec,
        MountOption::NoExec => MountOption::Exec,
        MountOption::Suid => MountOption::NoSuid,
        MountOption::NoSuid => MountOption::Suid,
        MountOption::Dev => MountOption::NoDev,
        MountOption::NoDev => MountOption::Dev,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<MountOptions, OptionError> {
        MountOptions::parse(&[list.to_owned()])
    }

    #[test]
    fn the_last_of_two_opposites_counts() {
        let options = parse("noexec,ro,exec,rw,nosuid").expect("parses");
        assert_eq!(options.flags, [MountOption::Exec, MountOption::NoSuid]);
        assert!(!options.read_only);
    }

    #[test]
    fn the_last_word_on_access_times_counts() {
        assert_eq!(parse("").expect("parses").atime, AtimePolicy::Relatime);
        assert_eq!(parse("noatime,strictatime").expect("parses").atime, AtimePolicy::Strictatime);
        let none = parse("relatime,noatime").expect("parses");
        assert_eq!((none.atime, none.flags), (AtimePolicy::Noatime, vec![MountOption::NoAtime]));
    }

    #[test]
    fn users_may_have_other_numbers_and_root_be_nobody() {
        let options = parse("uidmap=1000:5000:10,uidmap=7:8,gidmap=100:200,root_squash,anonuid=99").expect("parses");
        assert_eq!((options.ids.uid_to_volume(1003), options.ids.uid_to_volume(7)), (5003, 8));
        assert_eq!((options.ids.gid_to_volume(100), options.ids.squash), (200, Some((99, 65534))));
        assert_eq!(parse("root_squash,no_root_squash").expect("parses").ids, IdMap::default());
        assert!(matches!(parse("uidmap=1000"), Err(OptionError::BadValue { name: "uidmap", .. })));
        assert!(matches!(parse("anongid=nobody"), Err(OptionError::BadValue { name: "anongid", .. })));
        assert_eq!(parse("uidmap"), Err(OptionError::NoValue("uidmap".into())));
    }

    #[test]
    fn an_fstab_line_passes_what_is_meant_for_others() {
        let options = parse("defaults,_netdev,nofail,x-systemd.automount,comment=hello,noatime").expect("parses");
        assert_eq!(options.flags, [MountOption::NoAtime]);
    }

    #[test]
    fn an_unknown_option_is_named_together_with_the_known_ones() {
        let error = parse("ro,compress").expect_err("unknown").to_string();
        assert!(error.contains("\"compress\"") && error.contains("[no]exec"), "{error}");
        assert_eq!(parse("subdir"), Err(OptionError::NoValue("subdir".into())));
    }

    #[test]
    fn options_of_the_command_may_be_given_with_o() {
        let options = MountOptions::parse(&["subdir=/a".into(), "attr-cache=1,subdir=/b".into()]).expect("parses");
        assert_eq!(
            (options.value("subdir"), options.value("attr-cache"), options.value("log")),
            (Some("/b"), Some("1"), None)
        );
    }
}
