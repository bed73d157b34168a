//! The simulated network: carries the calls between nodes and from clients, frame by frame, as gRPC encodes them. Frames of one call stay
//! in order, as on a TCP connection; between calls there is no order. A link may be slow, lose (which holds a call up, or breaks it)
//! or be cut in one direction; and a call may come twice, the second time late and with nobody waiting for its answer.

use crate::planted::Planted;
use crate::promises::{Kind, Said, always_granted, said};
use crate::trace::Trace;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::codegen::Bytes;
use tonic::codegen::http::{HeaderMap, StatusCode, Uri};

/// Frames of a call that are kept for its second coming.
const GHOST_FRAMES_MAX: usize = 12;

#[derive(Clone, Debug)]
pub enum Packet {
    Open(Uri, HeaderMap),
    Head(StatusCode, HeaderMap),
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    Broken(&'static str),
}

impl Packet {
    fn digest(&self) -> String {
        match self {
            Packet::Open(uri, _) => format!("open {}", uri.path()),
            Packet::Head(status, _) => format!("head {status}"),
            Packet::Data(bytes) => format!("data {} {:016x}", bytes.len(), crate::os::hash_of(bytes)),
            Packet::Trailers(_) => "trailers".to_owned(),
            Packet::End => "end".to_owned(),
            Packet::Broken(why) => format!("broken: {why}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    Server,
    Client,
}

/// A call that has come to a node.
pub struct Incoming {
    pub call: u64,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: UnboundedReceiver<Packet>,
}

struct Call {
    client: u64,
    server: u64,
    to_client: Option<UnboundedSender<Packet>>,
    to_server: Option<UnboundedSender<Packet>>,
    /// When the last frame each way arrives: the next does not before.
    last: [u64; 2],
    broken: bool,
    sent: Vec<Packet>,
    ghost: bool,
    kind: Kind,
}

struct Flight {
    call: u64,
    toward: Toward,
    packet: Packet,
}

/// How bad the network is now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub delay_max: u64,
    /// Chances per frame, out of 10 000.
    pub slow: u32,
    pub loss: u32,
    /// Chance per call, out of 10 000.
    pub twice: u32,
}

struct State {
    now: u64,
    rng: StdRng,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    next_flight: u64,
    flights: BTreeMap<(u64, u64), Flight>,
    /// Waiting for their link to be whole again.
    held: Vec<Flight>,
    doors: BTreeMap<u64, UnboundedSender<Incoming>>,
    cut: BTreeSet<(u64, u64)>,
    weather: Weather,
    planted: Planted,
    said: Vec<(u64, Said)>,
    /// Transfers of checkpoints that have begun since somebody asked: from whom, to whom.
    transfers: Vec<(u64, u64)>,
}

pub struct Net {
    state: Mutex<State>,
    trace: Trace,
}

pub fn address(id: u64) -> String {
    format!("node-{id}:1")
}

pub fn id_of(addr: &str) -> Option<u64> {
    addr.strip_prefix("node-")?.strip_suffix(":1")?.parse().ok()
}

impl State {
    fn fly(&mut self, at: u64, flight: Flight) {
        self.next_flight += 1;
        self.flights.insert((at, self.next_flight), flight);
    }

    fn chance(&mut self, of_10000: u32) -> bool {
        of_10000 > 0 && self.rng.random_ratio(of_10000, 10_000)
    }

    fn delay(&mut self) -> u64 {
        let weather = self.weather;
        let slow = if self.chance(weather.slow) { self.rng.random_range(10..400) } else { 0 };
        self.rng.random_range(1..=1 + weather.delay_max) + slow
    }

    /// Both ends will hear, sooner or later, that a call is no more.
    fn break_call(&mut self, id: u64, why: &'static str, soon: bool) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if std::mem::replace(&mut call.broken, true) {
            return;
        }
        for toward in [Toward::Server, Toward::Client] {
            let wait = if soon { self.rng.random_range(1..20) } else { self.rng.random_range(200..4_000) };
            self.fly(self.now + wait, Flight { call: id, toward, packet: Packet::Broken(why) });
        }
    }

    fn send(&mut self, id: u64, toward: Toward, mut packet: Packet) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.broken {
            return;
        }
        match &mut packet {
            Packet::Open(uri, _) => {
                call.kind = Kind::of_path(uri.path());
                if call.kind == Kind::Snapshot {
                    self.transfers.push((call.client, call.server));
                }
            }
            Packet::Data(bytes) if toward == Toward::Client => {
                if self.planted == Planted::ForgottenVotes
                    && call.kind == Kind::Vote
                    && let Some(Packet::Data(asked)) = call.sent.get(1)
                    && let Some(forged) = always_granted(asked, bytes)
                {
                    *bytes = forged;
                }
                self.said.extend(said(call.kind, bytes).into_iter().map(|said| (call.server, said)));
            }
            _ => {}
        }
        if toward == Toward::Server && call.sent.len() < GHOST_FRAMES_MAX && !call.ghost {
            call.sent.push(packet.clone());
        }
        let link = match toward {
            Toward::Server => (call.client, call.server),
            Toward::Client => (call.server, call.client),
        };
        let last = call.last[toward as usize];
        if self.cut.contains(&link) {
            return match self.rng.random_bool(0.5) || last == u64::MAX {
                true if last != u64::MAX => self.break_call(id, "no answer", false),
                _ => self.hold(id, toward, packet),
            };
        }
        // What was sent after something that is held waits with it.
        if last == u64::MAX {
            return self.hold(id, toward, packet);
        }
        let mut at = self.now + self.delay();
        if self.chance(self.weather.loss) {
            if self.rng.random_bool(0.3) {
                return self.break_call(id, "lost", false);
            }
            at += self.rng.random_range(200..600);
        }
        let at = at.max(last);
        if let Some(call) = self.calls.get_mut(&id) {
            call.last[toward as usize] = at;
        }
        self.fly(at, Flight { call: id, toward, packet });
    }

    fn hold(&mut self, id: u64, toward: Toward, packet: Packet) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.last[toward as usize] = u64::MAX;
        }
        self.held.push(Flight { call: id, toward, packet });
    }

    /// What was held on links that are whole again goes on.
    fn release(&mut self) {
        let mut wait = BTreeMap::new();
        for flight in std::mem::take(&mut self.held) {
            let Some(call) = self.calls.get(&flight.call) else { continue };
            let link = match flight.toward {
                Toward::Server => (call.client, call.server),
                Toward::Client => (call.server, call.client),
            };
            if self.cut.contains(&link) {
                self.held.push(flight);
                continue;
            }
            let key = (flight.call, flight.toward as usize);
            let delay = *wait.entry(key).or_insert_with(|| 0) + self.delay();
            wait.insert(key, delay);
            let at = self.now + delay;
            if let Some(call) = self.calls.get_mut(&flight.call) {
                call.last[flight.toward as usize] = at;
            }
            self.fly(at, flight);
        }
    }

    /// The same call once more.
    fn haunt(&mut self, id: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        if call.ghost || call.sent.len() < 2 {
            return;
        }
        let (client, server, frames) = (call.client, call.server, call.sent.clone());
        let ghost = self.new_call(client, server, None, true);
        let mut at = self.now + self.rng.random_range(1..600);
        for packet in frames {
            at += self.rng.random_range(0..3);
            self.fly(at, Flight { call: ghost, toward: Toward::Server, packet });
        }
        let gone = at + self.rng.random_range(1..300);
        self.fly(gone, Flight { call: ghost, toward: Toward::Server, packet: Packet::Broken("a ghost") });
    }

    fn new_call(&mut self, client: u64, server: u64, to_client: Option<UnboundedSender<Packet>>, ghost: bool) -> u64 {
        self.next_call += 1;
        let call = Call {
            client,
            server,
            to_client,
            to_server: None,
            last: [0; 2],
            broken: false,
            sent: Vec::new(),
            ghost,
            kind: Kind::Other,
        };
        self.calls.insert(self.next_call, call);
        self.next_call
    }

    fn arrive(&mut self, Flight { call: id, toward, packet }: Flight) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let is_last = matches!(packet, Packet::Broken(_));
        let over = match (toward, packet) {
            (Toward::Server, Packet::Open(uri, headers)) => {
                let (sender, body) = unbounded_channel();
                let door = self.doors.get(&call.server);
                let opened = door.is_some_and(|door| door.send(Incoming { call: id, uri, headers, body }).is_ok());
                call.to_server = opened.then_some(sender);
                if !opened {
                    self.break_call(id, "connection refused", true);
                }
                return;
            }
            (Toward::Server, packet) => call.to_server.as_ref().is_none_or(|sender| sender.send(packet).is_err()),
            (Toward::Client, packet) => call.to_client.as_ref().is_none_or(|sender| sender.send(packet).is_err()),
        };
        if is_last || over {
            match toward {
                Toward::Server => call.to_server = None,
                Toward::Client => call.to_client = None,
            }
            if call.to_server.is_none() && call.to_client.is_none() {
                self.calls.remove(&id);
            }
        }
    }
}

impl Net {
    pub fn new(seed: u64, planted: Planted, trace: Trace) -> Arc<Net> {
        let state = State {
            now: 0,
            rng: StdRng::seed_from_u64(seed),
            calls: BTreeMap::new(),
            next_call: 0,
            next_flight: 0,
            flights: BTreeMap::new(),
            held: Vec::new(),
            doors: BTreeMap::new(),
            cut: BTreeSet::new(),
            weather: Weather::default(),
            planted,
            said: Vec::new(),
            transfers: Vec::new(),
        };
        Arc::new(Net { state: Mutex::new(state), trace })
    }

    /// Delivers all that arrives by `now`.
    pub fn deliver(&self, now: u64) {
        let mut state = self.state.lock();
        state.now = now;
        while let Some(entry) = state.flights.first_entry().filter(|entry| entry.key().0 <= now) {
            let flight = entry.remove();
            if let Some(call) = state.calls.get(&flight.call) {
                let (from, to) = match flight.toward {
                    Toward::Server => (call.client, call.server),
                    Toward::Client => (call.server, call.client),
                };
                self.trace.note(now, || format!("{from}>{to} #{} {}", flight.call, flight.packet.digest()));
            }
            state.arrive(flight);
        }
    }

    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    /// What nodes have promised since the last call.
    pub fn take_said(&self) -> Vec<(u64, Said)> {
        std::mem::take(&mut self.state.lock().said)
    }

    /// Transfers of checkpoints that have begun since the last call: from whom, to whom.
    pub fn take_transfers(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.state.lock().transfers)
    }

    /// Whether a machine receives or sends a checkpoint now.
    pub fn transfers(&self, id: u64, role: Toward) -> bool {
        let state = self.state.lock();
        let mut under_way =
            state.calls.values().filter(|call| call.kind == Kind::Snapshot && !call.broken && !call.ghost);
        under_way.any(|call| if role == Toward::Server { call.server == id } else { call.client == id })
    }

    /// Cuts exactly these links, each in one direction.
    pub fn cut(&self, links: BTreeSet<(u64, u64)>) {
        let mut state = self.state.lock();
        state.cut = links;
        state.release();
    }

    pub fn open_door(&self, id: u64) -> UnboundedReceiver<Incoming> {
        let (sender, door) = unbounded_channel();
        self.state.lock().doors.insert(id, sender);
        door
    }

    /// A machine is down: calls from and to it end. `silent`: its peers are not told at once.
    pub fn down(&self, id: u64, silent: bool) {
        let mut state = self.state.lock();
        state.doors.remove(&id);
        let calls = state.calls.iter().filter(|(_, call)| call.client == id || call.server == id);
        let calls: Vec<u64> = calls.map(|(id, _)| *id).collect();
        for call in calls {
            state.break_call(call, "the peer is down", !silent);
            // Nothing that comes from now on concerns the machine's next life.
            if let Some(call) = state.calls.get_mut(&call) {
                if call.client == id {
                    call.to_client = None;
                }
                if call.server == id {
                    call.to_server = None;
                }
            }
        }
    }

    pub fn send(&self, call: u64, toward: Toward, packet: Packet) {
        self.state.lock().send(call, toward, packet);
    }

    /// One end wants no more of a call.
    pub fn hang_up(&self, id: u64, by: Toward) {
        let mut state = self.state.lock();
        if state.calls.contains_key(&id) {
            let other = if by == Toward::Server { Toward::Client } else { Toward::Server };
            state.send(id, other, Packet::Broken("hung up"));
        }
    }

    /// Begins a call.
    pub fn call(&self, client: u64, server: u64, open: Packet) -> (u64, UnboundedReceiver<Packet>) {
        let (sender, packets) = unbounded_channel();
        let mut state = self.state.lock();
        let call = state.new_call(client, server, Some(sender), false);
        state.send(call, Toward::Server, open);
        (call, packets)
    }

    /// All of a call has been sent that way: it may come twice.
    pub fn is_sent(&self, call: u64, toward: Toward) {
        let mut state = self.state.lock();
        let twice = state.weather.twice;
        if toward == Toward::Server && state.chance(twice) {
            state.haunt(call);
        }
    }
}
