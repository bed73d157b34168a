//! Compiles the .proto files with protox, so that no protoc is needed on the machine.
use std::error::Error;

const FILES: [&str; 13] = [
    "types.proto",
    "namespace.proto",
    "inode.proto",
    "file.proto",
    "xattr.proto",
    "lock.proto",
    "member.proto",
    "session.proto",
    "volume.proto",
    "meta.proto",
    "raft.proto",
    "admin.proto",
    "upkeep.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    // src/redact.rs writes Debug of these, so that no log ever shows a secret.
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .skip_debug(["holdfast.v1.Storage"])
        .compile_fds(descriptors)?;
    Ok(())
}
