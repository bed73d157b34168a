//! An operator: asks nodes to add or remove a member, over the network, until one has done so.

use crate::carry::Port;
use crate::net::address;
use holdfast_proto::pb::admin_client::AdminClient;
use holdfast_proto::pb::{AddNodeRequest, RemoveNodeRequest};
use metad::raft::dial::PeerChannel;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_millis(900);
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
pub enum Ask {
    Add(u64),
    Remove(u64),
}

/// `done`: it has been seen to be done. An answer may get lost.
pub async fn operate(port: Arc<Port>, servers: Vec<u64>, ask: Ask, done: Arc<AtomicBool>) {
    for server in servers.iter().cycle() {
        if done.load(Ordering::SeqCst) {
            return;
        }
        let channel = PeerChannel::Carried { carrier: port.clone(), addr: address(*server).into() };
        let mut client = AdminClient::new(channel);
        let asked = async {
            match ask {
                Ask::Add(id) => client.add_node(AddNodeRequest { id, addr: address(id) }).await.map(drop),
                Ask::Remove(id) => client.remove_node(RemoveNodeRequest { id }).await.map(drop),
            }
        };
        if let Ok(Ok(())) = tokio::time::timeout(PATIENCE, asked).await {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
