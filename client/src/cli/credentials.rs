//! Credentials of an object store: from the environment, from a file, or asked for; never from an argument, never printed. Called by
//! `format` and `config`.

use crate::error::ClientError;
use holdfast_proto::pb;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Flags about credentials and options of the store.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StoreFlags {
    /// File of credentials: lines NAME=VALUE with the names of the environment variables
    #[arg(long, value_name = "FILE")]
    pub credentials_file: Option<PathBuf>,
    /// Environment variable that holds the access key or user name
    #[arg(long, value_name = "NAME")]
    pub access_key_env: Option<String>,
    /// Environment variable that holds the secret key or password
    #[arg(long, value_name = "NAME")]
    pub secret_key_env: Option<String>,
    /// Option of the store that is no secret, e.g. region=eu-west-1; may be repeated
    #[arg(long = "option", value_name = "NAME=VALUE")]
    pub options: Vec<String>,
    /// Region of the bucket (s3)
    #[arg(long)]
    pub region: Option<String>,
}

/// One thing a store wants to know: where it goes, and which variables may hold it, best first.
struct Field {
    name: &'static str,
    secret: bool,
    /// Asked for where it is missing.
    needed: bool,
    variables: &'static [&'static str],
}

const fn field(name: &'static str, secret: bool, needed: bool, variables: &'static [&'static str]) -> Field {
    Field { name, secret, needed, variables }
}

const S3: [Field; 3] = [
    field("access_key_id", true, true, &["HOLDFAST_ACCESS_KEY", "AWS_ACCESS_KEY_ID"]),
    field("secret_access_key", true, true, &["HOLDFAST_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"]),
    field("session_token", true, false, &["AWS_SESSION_TOKEN"]),
];
const GS: [Field; 1] = [field(
    "service_account_key",
    true,
    true,
    &["HOLDFAST_SECRET_KEY", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT"],
)];
const AZURE: [Field; 2] = [
    field("account", false, true, &["HOLDFAST_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"]),
    field("account_key", true, true, &["HOLDFAST_SECRET_KEY", "AZURE_STORAGE_ACCOUNT_KEY"]),
];
const WEBDAV: [Field; 2] = [
    field("username", true, false, &["HOLDFAST_ACCESS_KEY", "WEBDAV_USER", "WEBDAV_USERNAME"]),
    field("password", true, false, &["HOLDFAST_SECRET_KEY", "WEBDAV_PASSWORD"]),
];
/// Names that may not be given as an option, because an argument is seen by everybody on the machine.
const SECRET_WORDS: [&str; 4] = ["secret", "password", "token", "key"];

fn fields_of(kind: &str) -> Result<&'static [Field], ClientError> {
    match kind {
        "s3" => Ok(&S3),
        "gs" => Ok(&GS),
        "azure" => Ok(&AZURE),
        "webdav" => Ok(&WEBDAV),
        "file" => Ok(&[]),
        other => usage(format!("--storage \"{other}\" is none of s3, gs, azure, webdav, file")),
    }
}

/// Where a variable's value comes from.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Completes a storage of kind and URL with options and credentials.
///
/// # Errors
/// Usage, where something is missing and nobody can be asked.
pub fn gather(storage: &mut pb::Storage, flags: &StoreFlags) -> Result<(), ClientError> {
    let file = match &flags.credentials_file {
        Some(path) => read_file(path)?,
        None => BTreeMap::new(),
    };
    let lookup = |name: &str| file.get(name).cloned().or_else(|| std::env::var(name).ok()).filter(|v| !v.is_empty());
    fill(storage, flags, &lookup)?;
    complete(storage)
}

fn fill(storage: &mut pb::Storage, flags: &StoreFlags, lookup: Lookup<'_>) -> Result<(), ClientError> {
    add_options(storage, flags)?;
    for (index, field) in fields_of(&storage.kind)?.iter().enumerate() {
        let named = match index {
            0 => flags.access_key_env.as_deref(),
            1 => flags.secret_key_env.as_deref(),
            _ => None,
        };
        let value = match named {
            Some(name) => match lookup(name) {
                None => {
                    return usage(format!(
                        "the environment variable {name} is empty; set it, or leave out the flag that names it"
                    ));
                }
                value => value,
            },
            None => field.variables.iter().find_map(|name| lookup(name)),
        };
        let Some(value) = value else { continue };
        let value = if field.name == "service_account_key" { key_or_file(value)? } else { value };
        put(storage, field, value);
    }
    Ok(())
}

fn put(storage: &mut pb::Storage, field: &Field, value: String) {
    let map = if field.secret { &mut storage.secrets } else { &mut storage.options };
    map.insert(field.name.to_owned(), value);
}

fn add_options(storage: &mut pb::Storage, flags: &StoreFlags) -> Result<(), ClientError> {
    for option in &flags.options {
        let Some((name, value)) = option.split_once('=') else {
            return usage(format!("--option \"{option}\" is not NAME=VALUE"));
        };
        if SECRET_WORDS.iter().any(|word| name.contains(word)) {
            return usage(format!("{name} is a secret: give it by environment, --credentials-file or at the prompt"));
        }
        storage.options.insert(name.to_owned(), value.to_owned());
    }
    if let Some(region) = &flags.region {
        storage.options.insert("region".to_owned(), region.clone());
    }
    Ok(())
}

/// A Google key is JSON, or the path of a file that holds it: the cluster keeps the key itself, so that clients need no file.
fn key_or_file(value: String) -> Result<String, ClientError> {
    if value.trim_start().starts_with('{') {
        return Ok(value);
    }
    std::fs::read_to_string(&value)
        .or_else(|error| usage(format!("cannot read the service account's key file {value}: {error}")))
}

/// Asks for what is still missing.
fn complete(storage: &mut pb::Storage) -> Result<(), ClientError> {
    let anonymous = storage.options.get("skip_signature").is_some_and(|value| value == "true");
    for field in fields_of(&storage.kind)? {
        let known = storage.secrets.contains_key(field.name) || storage.options.contains_key(field.name);
        if known || anonymous || !field.needed {
            continue;
        }
        if !std::io::stdin().is_terminal() {
            return usage(format!(
                "no {} for {} storage: set {}, give --credentials-file, or run it in a terminal to be asked (--option skip_signature=true \
                 for a public bucket)",
                field.name,
                storage.kind,
                field.variables[field.variables.len().min(2) - 1]
            ));
        }
        let value = rpassword::prompt_password(format!("{} (not shown): ", field.name))
            .map_err(|error| ClientError::Failed(format!("cannot ask for {}: {error}", field.name)))?;
        put(storage, field, value.trim().to_owned());
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<BTreeMap<String, String>, ClientError> {
    let cannot = |error: std::io::Error| ClientError::Usage(format!("cannot read {}: {error}", path.display()));
    let mode = std::fs::metadata(path).map_err(cannot)?.permissions().mode();
    if mode & 0o077 != 0 {
        eprintln!("holdfast: warning: {} can be read by others; chmod 600 it", path.display());
    }
    parse_file(&std::fs::read_to_string(path).map_err(cannot)?)
        .map_err(|line| ClientError::Usage(format!("{} line {line}: not NAME=VALUE", path.display())))
}

/// Err: the number of the first line that is wrong. (The line itself may hold a secret.)
fn parse_file(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut values = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=').ok_or(index + 1)?;
        let value = value.trim();
        let bare = ['"', '\''].iter().find_map(|&q| value.strip_prefix(q)?.strip_suffix(q)).unwrap_or(value);
        values.insert(name.trim().to_owned(), bare.to_owned());
    }
    Ok(values)
}

fn usage<T>(message: String) -> Result<T, ClientError> {
    Err(ClientError::Usage(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(kind: &str, flags: &StoreFlags, env: &[(&str, &str)]) -> Result<pb::Storage, ClientError> {
        let mut storage = pb::Storage { kind: kind.to_owned(), ..Default::default() };
        let lookup = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        fill(&mut storage, flags, &lookup)?;
        Ok(storage)
    }

    #[test]
    fn each_kind_finds_its_own_variables() {
        let s3 = filled("s3", &StoreFlags::default(), &[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "s")]);
        let secrets = s3.unwrap().secrets;
        assert_eq!((secrets["access_key_id"].as_str(), secrets["secret_access_key"].as_str()), ("a", "s"));
        let azure = filled(
            "azure",
            &StoreFlags::default(),
            &[("AZURE_STORAGE_ACCOUNT", "n"), ("AZURE_STORAGE_ACCOUNT_KEY", "k")],
        );
        let azure = azure.unwrap();
        assert_eq!((azure.options["account"].as_str(), azure.secrets["account_key"].as_str()), ("n", "k"));
        let gs = filled("gs", &StoreFlags::default(), &[("GOOGLE_SERVICE_ACCOUNT_KEY", "{}")]).unwrap();
        assert_eq!(gs.secrets["service_account_key"], "{}");
        assert!(filled("file", &StoreFlags::default(), &[("AWS_ACCESS_KEY_ID", "a")]).unwrap().secrets.is_empty());
        assert!(filled("ftp", &StoreFlags::default(), &[]).is_err());
    }

    #[test]
    fn our_own_variables_win_and_named_ones_win_over_all() {
        let env = [("HOLDFAST_ACCESS_KEY", "ours"), ("AWS_ACCESS_KEY_ID", "theirs"), ("MINE", "named")];
        assert_eq!(filled("s3", &StoreFlags::default(), &env).unwrap().secrets["access_key_id"], "ours");
        let flags = StoreFlags { access_key_env: Some("MINE".into()), ..Default::default() };
        assert_eq!(filled("s3", &flags, &env).unwrap().secrets["access_key_id"], "named");
        let flags = StoreFlags { secret_key_env: Some("UNSET".into()), ..Default::default() };
        assert!(filled("s3", &flags, &env).unwrap_err().to_string().contains("UNSET"));
    }

    #[test]
    fn a_secret_is_not_taken_as_an_argument() {
        let flags = StoreFlags { options: vec!["secret_access_key=hunter2".into()], ..Default::default() };
        let error = filled("s3", &flags, &[]).unwrap_err().to_string();
        assert!(error.contains("is a secret") && !error.contains("hunter2"), "{error}");
        let flags = StoreFlags { options: vec!["a=b".into()], region: Some("x".into()), ..Default::default() };
        let options = filled("s3", &flags, &[]).unwrap().options;
        assert_eq!((options["a"].as_str(), options["region"].as_str()), ("b", "x"));
    }

    #[test]
    fn a_credentials_file_is_names_and_values() {
        let values = parse_file("# c\n\nexport A=1\nB = \"two = 2\"\nC='3'\n").unwrap();
        assert_eq!((values["A"].as_str(), values["B"].as_str(), values["C"].as_str()), ("1", "two = 2", "3"));
        assert_eq!(parse_file("A=1\nhunter2\n"), Err(2));
    }
}
