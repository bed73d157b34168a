//! The background side of `holdfast mount`: the child process and how it tells that it is ready, the log file, and fstab. Called
//! by cli/mount only.

use crate::cli::mount::Plan;
use crate::error::ClientError;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the child writes to its standard output when the mount answers; anything else is why it does not.
const READY: &str = "ready";

/// Starts the child and waits until its mount answers.
///
/// # Errors
/// What the child said.
pub(crate) fn start(plan: &Plan) -> Result<(), ClientError> {
    let failed = |what: &str, error: std::io::Error| ClientError::Failed(format!("cannot {what}: {error}"));
    let program = std::env::current_exe().map_err(|error| failed("find this program", error))?;
    let log = log_path(plan);
    let stderr = match &log {
        Some(path) => Stdio::from(open_log(path)?),
        None => Stdio::null(),
    };
    let mut command = Command::new(program);
    command.args(child_args(plan, log.as_deref())).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    // A process group of its own: Ctrl-C in the terminal is not for the mount.
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| failed("start the mount's process", error))?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        // One line, or the end of the child.
        BufReader::new(stdout).read_line(&mut said).map_err(|error| failed("hear from the mount's process", error))?;
    }
    match said.trim() {
        READY => Ok(()),
        "" => {
            let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            let see = log.map(|path| format!("; see {}", path.display())).unwrap_or_default();
            Err(ClientError::Unavailable(format!("the mount's process ended before it was ready ({status}){see}")))
        }
        error => Err(ClientError::Failed(error.to_owned())),
    }
}

/// The child's end of the pipe.
pub(crate) struct Ready(());

impl Ready {
    pub fn take() -> Ready {
        Ready(())
    }

    pub fn ok(self) {
        self.say(READY);
    }

    pub fn failed(self, error: &ClientError) {
        self.say(&error.to_string().replace('\n', " "));
    }

    fn say(self, line: &str) {
        // The parent may have been killed; the mount goes on without it.
        let _ = writeln!(std::io::stdout(), "{line}").and_then(|()| std::io::stdout().flush());
        // Its end of the pipe must close, and nothing printed later may hit a closed one.
        if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
            let _ = nix::unistd::dup2_stdout(null.as_fd());
        }
        // Not to keep whatever directory the caller stood in busy.
        let _ = std::env::set_current_dir("/");
    }
}

/// The same mount, as arguments: also when the caller was mount(8), whose arguments look otherwise.
fn child_args(plan: &Plan, log: Option<&Path>) -> Vec<OsString> {
    let args = &plan.args;
    // As it was given, if that says enough: people look for it in the list of processes.
    let dir = args.places.last().filter(|dir| dir.is_absolute()).unwrap_or(&plan.dir);
    let mut line: Vec<OsString> = vec!["mount".into(), plan.meta.to_string().into(), dir.into()];
    line.push("--background-child".into());
    let mut push = |name: &str, value: Option<OsString>| {
        if let Some(value) = value {
            line.extend([OsString::from(name), value]);
        }
    };
    for options in &args.options {
        push("-o", Some(options.into()));
    }
    for (name, value) in args.own() {
        // The parent may have chosen where to log.
        let value = if name == "log" { log.map(absolute) } else { value };
        push(&format!("--{name}"), value);
    }
    if args.read_only {
        line.push("--read-only".into());
    }
    if args.update_fstab {
        line.push("--update-fstab".into());
    }
    line
}

pub(crate) fn absolute(path: &Path) -> OsString {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).into()
}

/// Where the background process logs: what was asked for, else root's /var/log, else nowhere.
fn log_path(plan: &Plan) -> Option<PathBuf> {
    let default = || {
        let path = PathBuf::from(format!("/var/log/holdfast-{}.log", plan.volume));
        let usable =
            nix::unistd::geteuid().is_root() && OpenOptions::new().create(true).append(true).open(&path).is_ok();
        usable.then_some(path)
    };
    plan.args.log.clone().or_else(default)
}

pub(crate) fn open_log(path: &Path) -> Result<File, ClientError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| ClientError::Failed(format!("cannot write the log file {}: {error}", path.display())))
}

/// Adds the mount to fstab, or replaces the line that mounts on the same directory.
pub(crate) fn update_fstab(plan: &Plan, fstab: &Path) -> Result<(), ClientError> {
    let failed = |error: std::io::Error| ClientError::Failed(format!("cannot update {}: {error}", fstab.display()));
    let old = match std::fs::read_to_string(fstab) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.map_err(failed)?,
    };
    let new = with_line(&old, &fstab_line(plan), &escape(&plan.dir.to_string_lossy()));
    if new == old {
        return Ok(());
    }
    // Beside and then renamed: a machine that stops half-way must still boot.
    let beside = fstab.with_extension("holdfast-new");
    let mut file = File::create(&beside).map_err(failed)?;
    file.write_all(new.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    if let Ok(metadata) = std::fs::metadata(fstab) {
        file.set_permissions(metadata.permissions()).map_err(failed)?;
    }
    std::fs::rename(&beside, fstab).map_err(failed)
}

fn fstab_line(plan: &Plan) -> String {
    let args = &plan.args;
    let mut options: Vec<String> = vec!["_netdev".into(), "nofail".into()];
    options.extend(args.options.iter().cloned());
    let mut push = |name: &str, value: Option<String>| {
        if let Some(value) = value
            && plan.options.value(name).is_none()
        {
            options.push(format!("{name}={value}"));
        }
    };
    for (name, value) in args.own() {
        push(name, value.map(|value| value.to_string_lossy().into_owned()));
    }
    if args.read_only {
        options.push("ro".into());
    }
    format!("{} {} holdfast {} 0 0", plan.meta, escape(&plan.dir.to_string_lossy()), escape(&options.join(",")))
}

/// fstab(5): blanks within a field.
fn escape(field: &str) -> String {
    field.replace(' ', "\\040").replace('\t', "\\011")
}

fn with_line(fstab: &str, line: &str, dir: &str) -> String {
    let same_place = |old: &str| {
        let mut fields = old.split_ascii_whitespace();
        let (source, target, kind) = (fields.next(), fields.next(), fields.next());
        !source.is_some_and(|source| source.starts_with('#')) && target == Some(dir) && kind == Some("holdfast")
    };
    let mut lines: Vec<&str> = fstab.lines().filter(|old| !same_place(old)).collect();
    lines.push(line);
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_same_place_is_replaced_and_all_others_stay() {
        let old =
            "# c\n/dev/a / ext4 defaults 0 1\nholdfast://old:1/v /mnt holdfast ro 0 0\nx /mnt/b holdfast ro 0 0\n";
        let new = with_line(old, "holdfast://new:1/v /mnt holdfast rw 0 0", "/mnt");
        assert_eq!(
            new,
            "# c\n/dev/a / ext4 defaults 0 1\nx /mnt/b holdfast ro 0 0\nholdfast://new:1/v /mnt holdfast rw 0 0\n"
        );
        assert_eq!(with_line("", "line", "/mnt"), "line\n");
    }
}
