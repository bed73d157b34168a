//! Servers of object stores as child processes, on free ports over scratch directories: Azurite (Azure Blob) and WsgiDAV (WebDAV), put below
//! target/tools by tests/stores/install.sh. With s3.rs, which is a server in this process, and a plain directory, they are
//! the stores that tests run on. `Reach` is how one is reached, whichever it is.

use crate::process::{self, Leftover};
use crate::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use crate::{cluster, ports};
use holdfast_proto::pb;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const ACCOUNT: &str = "holdfasttest";
/// Base64, as Azure's keys are.
pub const ACCOUNT_KEY: &str = "aG9sZGZhc3QtdGVzdC1hY2NvdW50LWtleQ==";
const CONTAINER: &str = "container";
const DAV_USER: &str = "dav-user-of-tests";
pub const DAV_PASSWORD: &str = "holdfast-dav-password";

/// What a volume needs to know of a store: `--storage`, `--bucket`, and the variables that hold its credentials.
#[derive(Clone, Debug)]
pub struct Reach {
    pub kind: &'static str,
    pub url: String,
    pub variables: Vec<(&'static str, String)>,
}

impl Reach {
    /// A directory that is made if it is not there.
    pub fn directory(path: &Path) -> Reach {
        Reach { kind: "file", url: path.display().to_string(), variables: Vec::new() }
    }

    pub fn s3(server: &S3Server) -> Reach {
        let variables =
            vec![("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_string()), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_string())];
        Reach { kind: "s3", url: server.bucket_url(), variables }
    }

    /// The same store by another way: a proxy's.
    pub fn through(&self, port: u16) -> Reach {
        let start = self.url.find("127.0.0.1:").expect("a server of ours") + "127.0.0.1:".len();
        let end = start + self.url[start..].find('/').expect("a bucket below the server");
        let url = format!("{}{port}{}", &self.url[..start], &self.url[end..]);
        Reach { url, ..self.clone() }
    }

    /// The settings of a volume on this store.
    pub fn storage(&self) -> pb::Storage {
        let mut storage = pb::Storage { kind: self.kind.into(), url: self.url.clone(), ..Default::default() };
        for (variable, value) in &self.variables {
            let (map, name) = match *variable {
                "AWS_ACCESS_KEY_ID" => (&mut storage.secrets, "access_key_id"),
                "AWS_SECRET_ACCESS_KEY" => (&mut storage.secrets, "secret_access_key"),
                "AZURE_STORAGE_ACCOUNT" => (&mut storage.options, "account"),
                "AZURE_STORAGE_ACCOUNT_KEY" => (&mut storage.secrets, "account_key"),
                "WEBDAV_USER" => (&mut storage.secrets, "username"),
                "WEBDAV_PASSWORD" => (&mut storage.secrets, "password"),
                "GOOGLE_SERVICE_ACCOUNT_KEY" => (&mut storage.secrets, "service_account_key"),
                other => panic!("nobody knows the variable {other}"),
            };
            map.insert(name.to_string(), value.clone());
        }
        storage
    }

    /// `holdfast format META` on this store, credentials by environment.
    pub fn format(&self, meta: &str, args: &[&str]) -> process::Ended {
        let mut command = process::command("holdfast");
        command.args(["format", meta, "--storage", self.kind, "--bucket", &self.url]).args(args);
        command.envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())));
        process::run(command)
    }
}

/// A process that serves a store until it is dropped.
#[derive(Debug)]
pub struct StoreServer {
    pub reach: Reach,
    pub port: u16,
    pub dir: PathBuf,
    child: Child,
}

impl StoreServer {
    /// Azurite, with one empty container.
    pub fn azure() -> StoreServer {
        let (port, dir) = (ports::free_port(), process::scratch_dir("azurite"));
        let script = tool("azurite/node_modules/azurite/dist/src/blob/main.js");
        let mut command = Command::new(tool("node"));
        command.arg(script).args(["--blobPort", &port.to_string(), "--location"]).arg(&dir);
        command.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"]);
        command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{ACCOUNT_KEY}"));
        let url = format!("http://127.0.0.1:{port}/{ACCOUNT}/{CONTAINER}");
        let variables = vec![
            ("AZURE_STORAGE_ACCOUNT", ACCOUNT.to_string()),
            ("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY.to_string()),
        ];
        let server = StoreServer::start(command, port, dir, Reach { kind: "azure", url, variables });
        let mut make = Command::new(tool("venv/bin/python"));
        make.arg(repository().join("tests/stores/make-container.py")).args([&server.reach.url, ACCOUNT]);
        make.env("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY);
        process::run(make).ok("make a container");
        server
    }

    /// WsgiDAV, with one empty collection.
    pub fn webdav() -> StoreServer {
        let (port, dir) = (ports::free_port(), process::scratch_dir("webdav"));
        std::fs::create_dir_all(dir.join("files/share")).expect("the collection");
        let config = serde_json::json!({
            "host": "127.0.0.1", "port": port, "server": "cheroot", "verbose": 1,
            // Its own five places in the queue are full at once, and then connections are dropped.
            "server_args": {"numthreads": 32, "request_queue_size": 256},
            "provider_mapping": {"/": dir.join("files")},
            "simple_dc": {"user_mapping": {"*": {DAV_USER: {"password": DAV_PASSWORD}}}},
            "http_authenticator": {"accept_basic": true, "accept_digest": false, "default_to_digest": false},
        });
        let path = dir.join("wsgidav.json");
        std::fs::write(&path, config.to_string()).expect("the server's configuration");
        let mut command = Command::new(tool("venv/bin/wsgidav"));
        command.arg("--config").arg(path);
        let variables = vec![("WEBDAV_USER", DAV_USER.to_string()), ("WEBDAV_PASSWORD", DAV_PASSWORD.to_string())];
        let url = format!("http://127.0.0.1:{port}/share");
        StoreServer::start(command, port, dir, Reach { kind: "webdav", url, variables })
    }

    fn start(mut command: Command, port: u16, dir: PathBuf, reach: Reach) -> StoreServer {
        let log = std::fs::File::create(dir.join("log")).expect("log file");
        command.current_dir(&dir).stdin(Stdio::null()).stdout(log.try_clone().expect("dup")).stderr(log);
        let child = process::spawn(command).expect("start the store's server");
        process::register(Leftover::Process(child.id()));
        let mut server = StoreServer { reach, port, dir, child };
        process::wait_for("the store's server to listen", || {
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("the server ended with {status}:\n{}", cluster::tail(&server.dir.join("log"), 20));
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        server
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        process::unregister(&Leftover::Process(self.child.id()));
        if std::thread::panicking() {
            eprintln!("--- the end of the store's log\n{}", cluster::tail(&self.dir.join("log"), 20));
        }
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// A file below target/tools.
pub fn tool(name: &str) -> PathBuf {
    let path = repository().join("target/tools").join(name);
    assert!(
        path.exists(),
        "{} is not there: run tests/stores/install.sh once, which installs the stores' servers",
        path.display()
    );
    path
}
