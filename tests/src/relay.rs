//! A relay between a member of a network and its bridge, in this process: every packet may come late, in another order, or twice. What
//! netem does where the kernel has it. Needs root. Called by jepsen.
//!
//! The member's end of the bridge is taken off it and read as raw packets; in its place is a TAP. Both have the header that says
//! what of the packet's checksums and segments is still to be done, and it goes along.

use crate::net::Net;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// ioctl(2) number of TUNSETIFF, and flags of linux/if_tun.h.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TAP_WITH_HEADER: libc::c_short = 0x0002 | 0x1000 | 0x4000;
/// Options of packet(7) sockets, linux/if_packet.h.
const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
/// A packet of many segments, and its header.
const PACKET_MAX: usize = 70_000;
const LOOKS_EVERY: Duration = Duration::from_millis(50);

/// What happens to packets, both ways.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Each is late by up to this.
    pub delay_max: Duration,
    /// So many of a hundred come twice.
    pub twice_percent: u32,
    pub seed: u64,
}

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Relay {
    stop: Arc<AtomicBool>,
    spoilt: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    link: String,
    bridge: String,
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn tap(name: &str) -> io::Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all zeros are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = TAP_WITH_HEADER;
    // SAFETY: the request lives as long as the call.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    Ok(file)
}

/// All packets that come in at `link`.
fn packets(link: &str) -> io::Result<File> {
    let all = libc::ETH_P_ALL as u16;
    // SAFETY: takes no pointers.
    let socket = checked(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(all.to_be())) })?;
    // SAFETY: the descriptor is new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    for option in [PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING] {
        let on: libc::c_int = 1;
        let len = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the value lives as long as the call.
        checked(unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, (&raw const on).cast(), len)
        })?;
    }
    let name = CString::new(link)?;
    // SAFETY: a C string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeros are a valid address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = all.to_be();
    address.sll_ifindex = index as i32;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address and its length are of one structure.
    checked(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(File::from(socket))
}

impl Relay {
    /// Between member `id` and the bridge.
    ///
    /// # Errors
    /// This machine has no TAP devices.
    pub fn start(net: &Net, id: u64, weather: Weather) -> io::Result<Relay> {
        let (link, bridge, name) = (net.link(id), net.bridge(), net.tap(id));
        let ends = [tap(&name)?, packets(&link)?];
        crate::net::ip(&format!("link set {link} nomaster"));
        crate::net::ip(&format!("link set {name} master {bridge} up"));
        crate::net::ip(&format!("link set {link} promisc on"));
        let (stop, spoilt) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (own_stop, own_spoilt) = (stop.clone(), spoilt.clone());
        let thread = std::thread::spawn(move || carry(ends, weather, &own_stop, &own_spoilt));
        Ok(Relay { stop, spoilt, thread: Some(thread), link, bridge })
    }

    /// Packets that came late or twice so far.
    pub fn spoilt_count(&self) -> u64 {
        self.spoilt.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Ends both descriptors, and with them the TAP.
        let _ = self.thread.take().map(JoinHandle::join);
        crate::net::ip(&format!("link set {} promisc off", self.link));
        crate::net::ip(&format!("link set {} master {}", self.link, self.bridge));
    }
}

/// Due, its number, which end it goes to, and the packet.
type Late = Reverse<(Instant, u64, usize, Vec<u8>)>;

fn carry(mut ends: [File; 2], weather: Weather, stop: &AtomicBool, spoilt: &AtomicU64) {
    let mut dice = StdRng::seed_from_u64(weather.seed);
    let mut late: BinaryHeap<Late> = BinaryHeap::new();
    let (mut number, mut buffer) = (0, vec![0; PACKET_MAX]);
    while !stop.load(Ordering::Relaxed) {
        while late.peek().is_some_and(|Reverse((due, ..))| *due <= Instant::now()) {
            let Some(Reverse((_, _, to, packet))) = late.pop() else { break };
            // A packet that an end does not take is lost, as packets are.
            let _ = ends[to].write(&packet);
        }
        let wait = late.peek().map_or(LOOKS_EVERY, |Reverse((due, ..))| due.saturating_duration_since(Instant::now()));
        for from in readable(&ends, wait.min(LOOKS_EVERY)) {
            let Ok(len) = ends[from].read(&mut buffer) else { continue };
            let twice = dice.random_range(0..100) < weather.twice_percent;
            spoilt.fetch_add(u64::from(twice || !weather.delay_max.is_zero()), Ordering::Relaxed);
            for _ in 0..=u32::from(twice) {
                number += 1;
                let delay = weather.delay_max.mul_f64(dice.random_range(0.0..=1.0));
                late.push(Reverse((Instant::now() + delay, number, 1 - from, buffer[..len].to_vec())));
            }
        }
    }
}

/// Which of the two have something.
fn readable(ends: &[File; 2], wait: Duration) -> Vec<usize> {
    let mut polled = ends.each_ref().map(|end| libc::pollfd { fd: end.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    // Rounded up: a packet is never early, and nobody spins.
    let wait_ms = wait.as_micros().div_ceil(1000) as libc::c_int;
    // SAFETY: an array of two, which lives as long as the call.
    unsafe { libc::poll(polled.as_mut_ptr(), 2, wait_ms) };
    (0..2).filter(|&at| polled[at].revents & libc::POLLIN != 0).collect()
}
