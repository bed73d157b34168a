//! A real S3 server (crate s3s-fs) over a temporary directory, in this process, on a loopback port of the kernel's choice. Used by the
//! object tests and by tests that mount over S3.

use holdfast_proto::pb;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use std::net::{SocketAddr, TcpListener};
use tokio::sync::oneshot;

pub const ACCESS_KEY: &str = "HOLDFASTTESTACCESS";
pub const SECRET_KEY: &str = "holdfast-test-secret-key";
pub const BUCKET: &str = "bucket";

/// Runs until it is dropped; its objects go with it.
pub struct S3Server {
    address: SocketAddr,
    directory: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl S3Server {
    /// Starts a server with one empty bucket. It answers when this returns.
    pub fn start() -> S3Server {
        S3Server::start_as(true)
    }

    /// The same, for requests that nobody signed.
    pub fn open_to_all() -> S3Server {
        S3Server::start_as(false)
    }

    fn start_as(signed: bool) -> S3Server {
        let directory = tempfile::tempdir().expect("a directory for objects");
        std::fs::create_dir(directory.path().join(BUCKET)).expect("make the bucket");
        let files = s3s_fs::FileSystem::new(directory.path()).expect("serve the directory");
        let mut builder = S3ServiceBuilder::new(files);
        if signed {
            builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        }
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a loopback port");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let address = listener.local_addr().expect("the port");
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, service) => {}
                    _ = stopped => {}
                }
            });
        });
        S3Server { address, directory, stop: Some(stop), thread: Some(thread) }
    }

    /// `--bucket` for `holdfast format --storage s3`.
    pub fn bucket_url(&self) -> String {
        format!("http://{}/{BUCKET}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What a volume on this server has in its settings.
    pub fn storage(&self) -> pb::Storage {
        let secrets = [("access_key_id", ACCESS_KEY), ("secret_access_key", SECRET_KEY)];
        pb::Storage {
            kind: "s3".into(),
            url: self.bucket_url(),
            secrets: secrets.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            ..Default::default()
        }
    }

    /// Where the bucket's objects are, as files.
    pub fn bucket_directory(&self) -> std::path::PathBuf {
        self.directory.path().join(BUCKET)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener of tokio");
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let service = service.clone();
        tokio::spawn(async move {
            let server = Builder::new(TokioExecutor::new());
            // A client that hangs up is its own business.
            let _ = server.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
