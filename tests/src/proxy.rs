//! A TCP proxy between clients and one metad that loses replies: it forwards what the client says, and when the dice fall so, it
//! throws the server's next bytes away and cuts the connection. The request has then been done, and the client does not know.

use crate::ports;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Replies that carried less than this on one connection are left alone, so that the handshake gets through.
const SPARED_BYTES: u64 = 600;

/// A proxy that runs until the process ends.
#[derive(Debug)]
pub struct Proxy {
    pub port: u16,
    dials: Arc<Dials>,
}

#[derive(Debug, Default)]
struct Dials {
    target: AtomicU32,
    /// Chance that a piece of the server's answer is lost, in 1/10 000.
    loss: AtomicU32,
    cuts: AtomicU64,
}

impl Proxy {
    /// Listens; connections go nowhere until `aim`.
    pub fn start(seed: u64) -> Proxy {
        let port = ports::free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the proxy's port");
        let dials = Arc::new(Dials::default());
        let shared = dials.clone();
        std::thread::spawn(move || {
            let mut seeds = StdRng::seed_from_u64(seed);
            for client in listener.incoming().flatten() {
                let (dials, seed) = (shared.clone(), seeds.random());
                std::thread::spawn(move || serve(client, &dials, seed));
            }
        });
        Proxy { port, dials }
    }

    /// Sends connections to this port from now on.
    pub fn aim(&self, target: u16) {
        self.dials.target.store(target.into(), Ordering::Relaxed);
    }

    /// Loses this share of the answers, in 1/10 000.
    pub fn lose(&self, share: u32) {
        self.dials.loss.store(share, Ordering::Relaxed);
    }

    /// How many connections were cut.
    pub fn cut_count(&self) -> u64 {
        self.dials.cuts.load(Ordering::Relaxed)
    }
}

fn serve(client: TcpStream, dials: &Arc<Dials>, seed: u64) {
    let target = dials.target.load(Ordering::Relaxed) as u16;
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (Ok(client_reads), Ok(server_writes)) = (client.try_clone(), server.try_clone()) else { return };
    let forward = std::thread::spawn(move || copy(client_reads, server_writes));
    answer(server, client, dials, seed);
    let _ = forward.join();
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 65_536];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn answer(mut server: TcpStream, mut client: TcpStream, dials: &Dials, seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut buffer = [0; 65_536];
    let mut passed = 0;
    while let Ok(count) = server.read(&mut buffer) {
        if count == 0 {
            break;
        }
        passed += count as u64;
        if passed > SPARED_BYTES && dice.random_range(0..10_000) < dials.loss.load(Ordering::Relaxed) {
            dials.cuts.fetch_add(1, Ordering::Relaxed);
            break;
        }
        if client.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
