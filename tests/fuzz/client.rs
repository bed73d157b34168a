//! What a client reads that it has not written: names of objects in a bucket, and what people write on a command line, in fstab and in a
//! volume's settings.

use crate::records::number;
use holdfast::cli::{mount_helper, size};
use holdfast::data::blocks::crc32c;
use holdfast::fuse::options::MountOptions;
use holdfast::meta::url::MetaUrl;
use holdfast::object::keys::{self, BlockName};
use holdfast_proto::pb;
use holdfast_tests::fuzz::{Decoder, Law};
use rand::Rng;
use rand::rngs::StdRng;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A decoder of text.
fn check(
    name: &'static str,
    law: Law,
    make: impl Fn(&mut StdRng) -> String,
    read: impl Fn(&str) -> Result<String, String>,
) {
    let valid = |random: &mut StdRng| make(random).into_bytes();
    let read = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        read(text).map(String::into_bytes)
    };
    Decoder { name, law, cases: 6000, valid: &valid, read: &read }.run();
}

fn pick<'a>(random: &mut StdRng, from: &[&'a str]) -> &'a str {
    from[random.random_range(0..from.len())]
}

#[test]
fn names_of_objects() {
    let make = |random: &mut StdRng| keys::block_key(number(random), number(random) as u32, number(random) as u32);
    check("object-key", Law::Canonical, make, |text| {
        assert!(keys::block_len(text) <= u64::from(u32::MAX));
        BlockName::parse(text).map(|name| name.key()).ok_or_else(|| "no name of a block".to_owned())
    });
}

#[test]
fn meta_urls() {
    let make = |random: &mut StdRng| {
        let node = |random: &mut StdRng| {
            format!("{}:{}", pick(random, &["a", "10.0.0.1", "[::1]", "x-y.z"]), random.random_range(1..70))
        };
        let first = node(random);
        let volume = pick(random, &["", "/v", "/my-volume-2"]);
        match node(random) {
            second if second != first => format!("holdfast://{first},{second}{volume}"),
            _ => format!("holdfast://{first}{volume}"),
        }
    };
    check("meta-url", Law::Normal, make, |text| {
        let url: MetaUrl = text.parse().map_err(|error: holdfast::error::ClientError| error.to_string())?;
        assert!(!url.nodes.is_empty());
        Ok(url.to_string())
    });
}

#[test]
fn sizes() {
    let make = |random: &mut StdRng| (number(random) >> random.random_range(0..64)).to_string();
    check("size", Law::Normal, make, |text| {
        let bytes = size::parse(text)?;
        assert!(!size::show(bytes).is_empty());
        Ok(bytes.to_string())
    });
}

#[test]
fn mount_options() {
    const WORDS: [&str; 16] = [
        "ro",
        "rw",
        "noexec",
        "noatime",
        "relatime",
        "allow_other",
        "root_squash",
        "anonuid=7",
        "uidmap=1:2",
        "gidmap=1000:2000:50",
        "uidmap=0:0:4294967295",
        "cache-size=1G",
        "x-systemd.automount",
        "defaults",
        "subdir=/a",
        "",
    ];
    let make = |random: &mut StdRng| {
        (0..random.random_range(1..6)).map(|_| pick(random, &WORDS)).collect::<Vec<_>>().join(",")
    };
    let valid = |random: &mut StdRng| make(random).into_bytes();
    // Nobody writes them again: what is taken stands for itself.
    let read = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())?;
        // Contradictions of maps of users are refused, however often they come up.
        let parsed = MountOptions::parse(std::slice::from_ref(&text));
        let known = parsed.as_ref().err().is_none_or(|error| !error.to_string().is_empty());
        assert!(known);
        Ok(bytes.to_vec())
    };
    Decoder { name: "mount-options", law: Law::Normal, cases: 6000, valid: &valid, read: &read }.run();
}

#[test]
fn calls_of_mount() {
    let make = |random: &mut StdRng| {
        let words = ["mount.holdfast", "m", "/mnt", "-o", "ro,allow_other", "-sfn", "-t", "-oro", "-x", "--", "-é"];
        let words = (0..random.random_range(0..6)).map(|_| pick(random, &words));
        std::iter::once("mount.holdfast").chain(words).collect::<Vec<_>>().join(" ").into_bytes()
    };
    let read = |bytes: &[u8]| {
        let args = bytes.split(|byte| *byte == b' ').map(|word| OsString::from_vec(word.to_vec())).collect();
        let line = mount_helper::rewrite(args).map(|line| line.unwrap_or_default());
        if let Err(error) = &line {
            assert!(error.to_string().starts_with("usage:"), "{error}");
        }
        assert!(line.unwrap_or_default().iter().all(|arg| !arg.as_bytes().contains(&b' ')));
        Ok(bytes.to_vec())
    };
    Decoder { name: "mount-helper", law: Law::Normal, cases: 3000, valid: &make, read: &read }.run();
}

#[test]
fn storage_settings() {
    let make = |random: &mut StdRng| {
        let kinds = ["file", "s3", "gs", "azure", "webdav", "?"];
        let urls =
            ["/tmp/x", "file:///tmp/x", "s3://b/p", "http://h:1/b", "https://a.b/c/d", "gs://b", "http://[", "@"];
        let options = ["no_sync", "region", "verify_puts", "retry_deadline_ms", "requests_max", "skip_signature"];
        let values = ["true", "0", "18446744073709551615", "", "x"];
        let option = |random: &mut StdRng| (pick(random, &options).to_owned(), pick(random, &values).to_owned());
        let line = format!("{}\n{}", pick(random, &kinds), pick(random, &urls));
        let options = (0..random.random_range(0..3)).map(|_| option(random));
        options.fold(line, |line, (name, value)| format!("{line}\n{name}={value}"))
    };
    check("storage", Law::Normal, make, |text| {
        let mut lines = text.lines();
        let (kind, url) = (lines.next().unwrap_or_default().to_owned(), lines.next().unwrap_or_default().to_owned());
        let options = lines.filter_map(|line| line.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned()));
        let storage = pb::Storage { kind, url, options: options.collect(), ..Default::default() };
        let opened = holdfast::object::open(&storage, "v-1/");
        assert!(opened.is_ok() || opened.is_err_and(|error| !error.to_string().is_empty()));
        Ok(text.to_owned())
    });
}

#[test]
fn a_block_with_one_other_bit_has_another_checksum() {
    let make = |random: &mut StdRng| {
        let block: Vec<u8> = (0..random.random_range(1..3000)).map(|_| random.random()).collect();
        [&crc32c(&block).to_le_bytes()[..], &block].concat()
    };
    let read = |bytes: &[u8]| {
        let (crc, block) = bytes.split_first_chunk::<4>().ok_or("no block")?;
        let found = crc32c(block);
        (found == u32::from_le_bytes(*crc)).then(|| bytes.to_vec()).ok_or_else(|| format!("its checksum is {found:x}"))
    };
    Decoder { name: "block", law: Law::Guarded, cases: 3000, valid: &make, read: &read }.run();
}
