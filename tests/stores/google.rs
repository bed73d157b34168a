//! Google Cloud Storage. None of its emulators that the registries have speaks what the client speaks (the XML API with its listings), so
//! this is no emulator: the requests go to a server of S3, whose verbs, paths and listings the XML API shares, through a proxy that keeps
//! what only Google knows: the bearer token, which the server would not understand, and which is checked here against the service account's key.

use crate::contract::{MORE_THAN_A_PAGE, keeps_all, open};
use base64url::decode;
use bytes::Bytes;
use holdfast_tests::faulty_http::{Fault, FaultyHttp};
use holdfast_tests::process;
use holdfast_tests::s3::{BUCKET, S3Server};
use holdfast_tests::stores::Reach;
use std::path::Path;
use std::process::Command;

const EMAIL: &str = "holdfast@tests.iam.gserviceaccount.com";

pub struct Google {
    pub reach: Reach,
    pub proxy: FaultyHttp,
    pub dir: std::path::PathBuf,
    _server: S3Server,
}

fn openssl(dir: &Path, args: &[&str]) -> process::Ended {
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(args);
    process::run(command)
}

impl Google {
    pub fn start() -> Google {
        let dir = process::scratch_dir("google");
        let key = ["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key.pem"];
        openssl(&dir, &key.map(|word| word)).ok("make a key");
        openssl(&dir, &["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]).ok("its public half");
        let private_key = std::fs::read_to_string(dir.join("key.pem")).expect("the key");
        let account = serde_json::json!({
            "type": "service_account", "private_key_id": "1", "private_key": private_key, "client_email": EMAIL,
        });
        let server = S3Server::open_to_all();
        let proxy = FaultyHttp::start(server.port(), true);
        let url = format!("http://127.0.0.1:{}/{BUCKET}", proxy.port);
        let variables = vec![("GOOGLE_SERVICE_ACCOUNT_KEY", account.to_string())];
        Google { reach: Reach { kind: "gs", url, variables }, proxy, dir, _server: server }
    }
}

/// The base64 of tokens (RFC 4648 section 5, without padding).
mod base64url {
    pub fn decode(text: &str) -> Vec<u8> {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let value = |digit| DIGITS.iter().position(|known| *known == digit).expect("a digit") as u32;
        let groups = text.as_bytes().chunks(4).map(|group| {
            let bits = (0..4).fold(0, |bits, at| (bits << 6) | group.get(at).map_or(0, |digit| value(*digit)));
            bits.to_be_bytes()[1..group.len()].to_vec()
        });
        groups.collect::<Vec<_>>().concat()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn google_keeps_the_contract() {
    let google = Google::start();
    keeps_all(&google.reach, MORE_THAN_A_PAGE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_to_google_carries_a_token_that_the_account_has_signed() {
    let google = Google::start();
    let store = open(&google.reach.storage());
    store.put("chunks/0/0/1_0_1", Bytes::from_static(b"x")).await.expect("put");
    store.get("chunks/0/0/1_0_1").await.expect("get");
    store.list("chunks").await.expect("list");
    store.delete("chunks/0/0/1_0_1").await.expect("delete");
    let seen = google.proxy.seen();
    assert_eq!(seen.iter().map(|seen| seen.method.as_str()).collect::<Vec<_>>(), ["PUT", "GET", "GET", "DELETE"]);
    for request in seen {
        let bearer = request.head.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
        let token = bearer.expect("a bearer token").trim();
        let (signed, signature) = token.rsplit_once('.').expect("a token has three parts");
        let claims = decode(signed.split('.').nth(1).expect("claims"));
        let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
        assert!(
            claims["iss"] == EMAIL && claims["scope"].as_str().is_some_and(|scope| scope.contains("cloud-platform")),
            "{claims}"
        );
        std::fs::write(google.dir.join("signed"), signed).expect("write");
        std::fs::write(google.dir.join("signature"), decode(signature)).expect("write");
        let verify = ["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "signed"];
        openssl(&google.dir, &verify).ok("the signature is the account's");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_signatures_no_machine_is_asked_for_a_token() {
    let google = Google::start();
    let mut storage = google.reach.storage();
    storage.secrets.clear();
    storage.options.insert("skip_signature".into(), "true".into());
    holdfast::object::prove(&*open(&storage)).await.expect("the server wants no token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_of_google_for_other_bytes_is_put_again() {
    let google = Google::start();
    let store = open(&google.reach.storage());
    google.proxy.inject("PUT", "", Fault::Receipt("x-goog-hash", "crc32c=AAAAAA=="), 1);
    store.put("chunks/0/0/1_0_1", Bytes::from_static(b"x")).await.expect("put");
    assert_eq!(google.proxy.seen().len(), 2);
    google.proxy.inject("PUT", "", Fault::Receipt("x-goog-hash", "crc32c=4waSgw=="), 1);
    store.put("chunks/0/0/2_0_9", Bytes::from_static(b"123456789")).await.expect("put");
    assert_eq!(google.proxy.seen().len(), 3);
}
