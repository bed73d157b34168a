//! META: `holdfast://host1:port,host2:port,host3:port/volume`, the one argument that says where a volume lives. Pure but for
//! `from_arg_or_env`. Called by the command line and by mount.

use crate::error::ClientError;
use holdfast_proto::limits::volume_name_ok;
use std::fmt;
use std::str::FromStr;

/// The variable that stands in for a META that was not given.
pub const META_ENV: &str = "HOLDFAST_META";
const SCHEME: &str = "holdfast://";
const EXAMPLE: &str = "holdfast://10.0.0.1:9400,10.0.0.2:9400,10.0.0.3:9400/my-volume";

/// A parsed META.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaUrl {
    /// `host:port` of each metadata node named, in order, without repetition.
    pub nodes: Vec<String>,
    volume: Option<String>,
}

impl MetaUrl {
    /// What was given on the command line, else HOLDFAST_META.
    ///
    /// # Errors
    /// Usage, with what to do.
    pub fn from_arg_or_env(arg: Option<&str>) -> Result<MetaUrl, ClientError> {
        if let Some(arg) = arg {
            return arg.parse();
        }
        match std::env::var(META_ENV) {
            Ok(value) if !value.is_empty() => value.parse().map_err(|error| usage(format!("{META_ENV}: {error}"))),
            _ => Err(usage(format!("META is missing: give it as an argument or set {META_ENV}, e.g. {EXAMPLE}"))),
        }
    }

    /// The volume's name.
    ///
    /// # Errors
    /// Usage, where META names the cluster only.
    pub fn volume(&self) -> Result<&str, ClientError> {
        self.volume.as_deref().ok_or_else(|| usage(format!("META names no volume: write {self}/VOLUME")))
    }
}

impl FromStr for MetaUrl {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<MetaUrl, ClientError> {
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return Err(usage(format!("META \"{text}\" does not begin with {SCHEME}: write it as {EXAMPLE}")));
        };
        let (hosts, volume) = match rest.split_once('/') {
            Some((hosts, volume)) => (hosts, volume.trim_end_matches('/')),
            None => (rest, ""),
        };
        let mut nodes: Vec<String> = Vec::new();
        for node in hosts.split(',') {
            check_node(node, text)?;
            if !nodes.iter().any(|known| known == node) {
                nodes.push(node.to_owned());
            }
        }
        if !volume.is_empty() && !volume_name_ok(volume) {
            return Err(usage(format!(
                "volume name \"{volume}\" is not valid: 1 to 63 of a-z, 0-9 and '-', starting with a letter"
            )));
        }
        Ok(MetaUrl { nodes, volume: (!volume.is_empty()).then(|| volume.to_owned()) })
    }
}

impl fmt::Display for MetaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.nodes.join(","))?;
        match &self.volume {
            Some(volume) => write!(f, "/{volume}"),
            None => Ok(()),
        }
    }
}

/// `host:port` or `[v6]:port`, port 1 to 65535.
fn check_node(node: &str, whole: &str) -> Result<(), ClientError> {
    let bad = |what: &str| Err(usage(format!("META \"{whole}\": {what}; write it as {EXAMPLE}")));
    if node.is_empty() {
        return bad("an empty host:port");
    }
    if node.contains('@') {
        return bad("credentials do not belong there");
    }
    let Some((host, port)) = node.rsplit_once(':') else {
        return bad(&format!("node \"{node}\" has no port"));
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    let v6 = bracketed && host.len() > 2 && host[1..host.len() - 1].bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    if !plain && !v6 {
        return bad(&format!("\"{host}\" is no host name or address (IPv6 goes in brackets: [::1]:9400)"));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => bad(&format!("\"{port}\" is no port (1 to 65535)")),
    }
}

fn usage(message: String) -> ClientError {
    ClientError::Usage(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        text.parse::<MetaUrl>().expect_err(text).to_string()
    }

    #[test]
    fn a_full_url_gives_nodes_in_order_and_the_volume() {
        let url: MetaUrl = "holdfast://a:1,b.example.com:2,[::1]:3/vol-1".parse().unwrap();
        assert_eq!(url.nodes, ["a:1", "b.example.com:2", "[::1]:3"]);
        assert_eq!(url.volume().unwrap(), "vol-1");
        assert_eq!(url.to_string(), "holdfast://a:1,b.example.com:2,[::1]:3/vol-1");
    }

    #[test]
    fn a_node_named_twice_counts_once_and_a_trailing_slash_is_nothing() {
        let url: MetaUrl = "holdfast://a:1,a:1/v/".parse().unwrap();
        assert_eq!(url.nodes, ["a:1"]);
        assert_eq!(url.volume().unwrap(), "v");
    }

    #[test]
    fn a_cluster_without_volume_parses_and_says_so_when_the_volume_is_needed() {
        for text in ["holdfast://a:1", "holdfast://a:1/"] {
            let url: MetaUrl = text.parse().unwrap();
            let error = url.volume().unwrap_err().to_string();
            assert!(error.contains("holdfast://a:1/VOLUME"), "{error}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, part) in [
            ("redis://a:1/v", "does not begin with holdfast://"),
            ("", "does not begin with holdfast://"),
            ("holdfast:///v", "an empty host:port"),
            ("holdfast://a:1,,b:2/v", "an empty host:port"),
            ("holdfast://a/v", "node \"a\" has no port"),
            ("holdfast://a:0/v", "\"0\" is no port"),
            ("holdfast://a:70000/v", "\"70000\" is no port"),
            ("holdfast://a:x/v", "\"x\" is no port"),
            ("holdfast://:1/v", "no host name"),
            ("holdfast://::1:1/v", "no host name"),
            ("holdfast://u@a:1/v", "credentials do not belong"),
            ("holdfast://a:1/Vol", "volume name \"Vol\" is not valid"),
            ("holdfast://a:1/v/w", "volume name \"v/w\" is not valid"),
        ] {
            assert!(message(text).contains(part), "{text}: {}", message(text));
        }
    }
}
