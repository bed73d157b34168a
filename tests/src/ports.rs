//! Free ports for servers that are going to be killed and started again on the same port.

use rand::Rng;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Mutex;

/// Ports given out by this process: a dead node's port must not go to a new one.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nobody listens on now, from below the ephemeral range: while a node is down, no outgoing connection of
/// anybody may take its port, as it might if the kernel had chosen the port (bind to 0).
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut random = rand::rng();
    for _ in 0..10_000 {
        let port = random.random_range(10_240..32_000);
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
    panic!("no free port on this machine")
}
