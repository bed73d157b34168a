//! Options: `-o` of mount(8) and of an fstab line, as a type. Pure. Called by cli/mount.

use fuser::MountOption;

/// Options that mount(8) and the init system keep for themselves; they come along from fstab.
const FOR_OTHERS: [&str; 17] = [
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
    "relatime",
    "norelatime",
    "strictatime",
    "lazytime",
    "async",
    "default_permissions",
];
const KNOWN: &str = "ro, rw, [no]exec, [no]suid, [no]dev, [no]atime, sync, dirsync, allow_other, and NAME=VALUE of \
                     subdir, cache-size, buffer-size, max-uploads, attr-cache, entry-cache, log, tls-ca, tls-cert, tls-key";
/// Names that are long options of `holdfast mount` as well.
const OWN: [&str; 10] = [
    "subdir",
    "cache-size",
    "buffer-size",
    "max-uploads",
    "attr-cache",
    "entry-cache",
    "log",
    "tls-ca",
    "tls-cert",
    "tls-key",
];

/// What `-o` said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// For the kernel, in the order given, without contradictions: the last one counts.
    pub flags: Vec<MountOption>,
    pub read_only: bool,
    pub allow_other: bool,
    /// (name, value) of options that are long options, too.
    pub own: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    #[error("unknown mount option \"{0}\": known are {KNOWN}")]
    Unknown(String),
    #[error("mount option \"{0}\" needs a value: {0}=VALUE")]
    NoValue(String),
}

impl MountOptions {
    /// Reads comma-separated lists. A comma within a value is not possible, as in fstab.
    ///
    /// # Errors
    /// An option that is not known, or lacks its value.
    pub fn parse(lists: &[String]) -> Result<MountOptions, OptionError> {
        let mut options = MountOptions::default();
        for option in lists.iter().flat_map(|list| list.split(',')).map(str::trim) {
            options.add(option)?;
        }
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
        if OWN.contains(&option) {
            return Err(OptionError::NoValue(option.to_owned()));
        }
        match option {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "allow_other" => self.allow_other = true,
            _ => self.set_flag(flag(option).ok_or_else(|| OptionError::Unknown(option.to_owned()))?),
        }
        Ok(())
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

fn flag(option: &str) -> Option<MountOption> {
    Some(match option {
        "exec" => MountOption::Exec,
        "noexec" => MountOption::NoExec,
        "suid" => MountOption::Suid,
        "nosuid" => MountOption::NoSuid,
        "dev" => MountOption::Dev,
        "nodev" => MountOption::NoDev,
        "atime" => MountOption::Atime,
        "noatime" => MountOption::NoAtime,
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
        MountOption::Atime => MountOption::NoAtime,
        MountOption::NoAtime => MountOption::Atime,
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
