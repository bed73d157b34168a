//! Damage on purpose: to the state of stopped nodes, alike on all of them, so that it is the volume that is damaged and no node; and to
//! objects in a directory. Called by tests of fsck and gc.

use crate::cluster::Cluster;
use crate::files::files_below;
use metad::store::KvRead;
use metad::store::image_dir::ImageDir;
use metad::store::inode_record::Inode;
use metad::store::txn::Txn;
use metad::store::{keys, read};
use std::path::PathBuf;

/// The only volume of a test's cluster.
pub const VOLUME: u32 = 1;

/// Stops all nodes, has `break_it` write to the image of each, and starts them again. Nobody may have the volume mounted.
pub fn damage(cluster: &Cluster, break_it: impl Fn(&mut Txn<'_>)) {
    // It leaves all of the state in the images: nothing that is damaged comes back from the log.
    cluster.verify();
    for id in cluster.ids() {
        cluster.terminate(id);
    }
    for id in cluster.ids() {
        let dir = ImageDir::open(&cluster.node(id).data_dir().join("image"), 1 << 20).expect("the image opens");
        let batch = {
            let view: &dyn KvRead = &*dir.image;
            let mut txn = Txn::new(view);
            break_it(&mut txn);
            txn.into_batch()
        };
        let pairs = batch.0.iter().map(|(key, value)| (&key[..], value.as_deref()));
        dir.image.write_slice(pairs).expect("writes");
        dir.image.flush().expect("stays so");
    }
    cluster.ids().into_iter().for_each(|id| cluster.start_node(id));
    cluster.wait_ready();
}

/// Changes an inode that is there.
pub fn edit(txn: &mut Txn<'_>, ino: u64, change: impl FnOnce(&mut Inode)) {
    let mut inode = read::named_inode(txn, VOLUME, ino).expect("is there");
    change(&mut inode);
    txn.put(&keys::inode(VOLUME, ino), &inode);
}

/// All data objects of a volume, in order of names.
pub fn objects(cluster: &Cluster, volume: &str) -> Vec<PathBuf> {
    let mut objects = files_below(&cluster.bucket(volume));
    objects.retain(|path| path.components().any(|part| part.as_os_str() == "chunks"));
    objects.sort();
    objects
}
