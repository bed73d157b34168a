//! An HTTP proxy between a client and the server of a store, which does to chosen exchanges what stores and networks do: says "busy",
//! resets, cuts bodies short, changes bytes, loses what it acknowledged, lists late. One exchange a connection; plain threads, because a
//! body that ends before its length is what HTTP libraries do not let one send. Called by tests/stores.

use crate::ports;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What happens to an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this status, and nothing is forwarded.
    Status(u16),
    /// The same, with a body.
    Says(u16, &'static str),
    /// The same as `Status`, with Retry-After (seconds).
    Busy(u16, u32),
    /// The connection is reset, and nothing is forwarded.
    Reset,
    /// Forwarded; then the connection is reset in place of the reply.
    ReplyLost,
    /// The reply's Content-Length is kept, and half of the body comes.
    CutBody,
    /// Half of the body comes in chunks, and the last one never.
    CutChunked,
    /// A bit of the reply's body is changed.
    FlipReply,
    /// A bit of the request's body is changed on its way.
    FlipRequest,
    /// 200 with no body at all, and a Content-Length that says so.
    Empty,
    /// 200 with the body that was last seen for another path.
    OtherBody,
    /// 200, and nothing is forwarded.
    Swallow,
    /// Half of the request's body is forwarded, as if it were all.
    StoreHalf,
    /// Forwarded after a while.
    Slow(Duration),
    /// The reply has this header, in place of what it says itself.
    Receipt(&'static str, &'static str),
    /// A listing without any object.
    ListNothing,
}

/// A request that came, in order.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    pub method: String,
    pub target: String,
    /// The whole head, as it was sent.
    pub head: String,
    pub fault: Option<Fault>,
}

#[derive(Debug)]
struct Rule {
    method: &'static str,
    target_part: String,
    fault: Fault,
    left: u32,
}

/// Faults at random.
#[derive(Debug)]
struct Storm {
    percent: u32,
    dice: StdRng,
    of_puts: Vec<Fault>,
    of_gets: Vec<Fault>,
}

impl Storm {
    fn throw(&mut self, method: &str) -> Option<Fault> {
        let faults = if method == "PUT" { &self.of_puts } else { &self.of_gets };
        let hit = self.dice.random_range(0..100) < self.percent;
        hit.then(|| faults[self.dice.random_range(0..faults.len())].clone())
    }
}

#[derive(Debug, Default)]
struct Shared {
    rules: Vec<Rule>,
    storm: Option<Storm>,
    seen: Vec<Seen>,
    /// Bodies of good replies to GET, by target.
    bodies: BTreeMap<String, Vec<u8>>,
}

/// A proxy that runs until the process ends.
#[derive(Debug)]
pub struct FaultyHttp {
    pub port: u16,
    shared: Arc<Mutex<Shared>>,
}

impl FaultyHttp {
    /// In front of the server on `target`. `drop_authorization`: the server behind does not know this kind of it.
    pub fn start(target: u16, drop_authorization: bool) -> FaultyHttp {
        FaultyHttp::start_on("127.0.0.1", target, drop_authorization)
    }

    /// The same at another address of this machine.
    pub fn start_on(host: &str, target: u16, drop_authorization: bool) -> FaultyHttp {
        let port = ports::free_port();
        let listener = TcpListener::bind((host, port)).expect("the proxy's port");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let own = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = own.clone();
                std::thread::spawn(move || serve(client, target, drop_authorization, &shared));
            }
        });
        FaultyHttp { port, shared }
    }

    /// The next `times` requests of this method ("" is any) whose target has this part get this fault.
    pub fn inject(&self, method: &'static str, target_part: &str, fault: Fault, times: u32) {
        self.lock().rules.push(Rule { method, target_part: target_part.to_string(), fault, left: times });
    }

    /// From now on this share of all requests gets one of these faults.
    pub fn storm(&self, percent: u32, seed: u64, of_puts: &[Fault], of_gets: &[Fault]) {
        let dice = StdRng::seed_from_u64(seed);
        let storm = Storm { percent, dice, of_puts: of_puts.to_vec(), of_gets: of_gets.to_vec() };
        self.lock().storm = Some(storm);
    }

    /// The store is well again.
    pub fn heal(&self) {
        let mut shared = self.lock();
        shared.rules.clear();
        shared.storm = None;
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// How many requests got this fault.
    pub fn count(&self, fault: &Fault) -> usize {
        self.seen().iter().filter(|seen| seen.fault.as_ref() == Some(fault)).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A request or a reply: everything up to the empty line, and what follows.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn without(&mut self, name: &str) {
        let is_other = |line: &&str| !line.split(':').next().is_some_and(|known| known.eq_ignore_ascii_case(name));
        self.head = self.head.lines().filter(is_other).map(|line| format!("{line}\r\n")).collect();
    }

    fn set(&mut self, name: &str, value: &str) {
        self.without(name);
        self.head.push_str(&format!("{name}: {value}\r\n"));
    }

    /// With a Content-Length that fits the body.
    fn with_body(mut self, body: Vec<u8>) -> Message {
        self.without("transfer-encoding");
        self.set("content-length", &body.len().to_string());
        Message { body, ..self }
    }

    fn send(&self, to: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
        to.write_all(format!("{}\r\n", self.head).as_bytes())?;
        to.write_all(body)
    }
}

/// Reads a message; `to_the_end`: a reply on a connection that closes after it, which may have any kind of length.
fn receive(from: &mut TcpStream, to_the_end: bool) -> Option<Message> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65_536];
    let head_len = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 2;
        }
        match from.read(&mut buffer).ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let body = bytes.split_off(head_len + 2);
    bytes.truncate(head_len);
    let mut message = Message { head: String::from_utf8_lossy(&bytes).into_owned(), body };
    let length = message.header("content-length").and_then(|text| text.parse().ok());
    let wanted = if to_the_end { usize::MAX } else { length.unwrap_or(0) };
    while message.body.len() < wanted {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => message.body.extend_from_slice(&buffer[..count]),
        }
    }
    if to_the_end && message.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        let body = unchunk(&message.body)?;
        message = message.with_body(body);
    }
    Some(message)
}

fn unchunk(mut coded: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = coded.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&coded[..line]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(coded.get(line + 2..line + 2 + size)?);
        coded = coded.get(line + 2 + size + 2..)?;
    }
}

fn serve(mut client: TcpStream, target: u16, drop_authorization: bool, shared: &Mutex<Shared>) {
    let _ = client.set_nodelay(true);
    let Some(mut request) = receive(&mut client, false) else { return };
    let mut words = request.head.split(' ').map(str::to_string);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let fault = note(shared, &method, &path, &request.head);
    if drop_authorization {
        request.without("authorization");
    }
    request.set("connection", "close");
    if let Some(reply) = refuse(fault.as_ref()) {
        match reply {
            Some(text) => drop(client.write_all(text.as_bytes())),
            None => reset(&client),
        }
        return;
    }
    let request = spoil_request(request, fault.as_ref());
    let Some(mut reply) = forward(&request, target) else { return };
    reply.set("connection", "close");
    if fault == Some(Fault::ReplyLost) {
        reset(&client);
        return;
    }
    if method == "GET" && fault.is_none() && reply.head.contains(" 200 ") {
        let mut shared = shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shared.bodies.insert(path.clone(), reply.body.clone());
    }
    answer(client, reply, &path, fault.as_ref(), shared);
}

/// Remembers the request, and finds what is to happen to it.
fn note(shared: &Mutex<Shared>, method: &str, target: &str, head: &str) -> Option<Fault> {
    let mut shared = shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let fits = |rule: &&mut Rule| {
        rule.left > 0 && (rule.method.is_empty() || rule.method == method) && target.contains(&rule.target_part)
    };
    let ruled = shared.rules.iter_mut().find(fits).map(|rule| {
        rule.left -= 1;
        rule.fault.clone()
    });
    let fault = ruled.or_else(|| shared.storm.as_mut()?.throw(method));
    let (method, target, head) = (method.to_string(), target.to_string(), head.to_string());
    shared.seen.push(Seen { at: Instant::now(), method, target, head, fault: fault.clone() });
    fault
}

/// The answer of a fault that forwards nothing: a whole reply, or a reset (None).
fn refuse(fault: Option<&Fault>) -> Option<Option<String>> {
    let says = |status: &str, more: &str, body: &str| {
        let head = format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close", body.len());
        Some(Some(format!("{head}\r\n\r\n{body}")))
    };
    let empty = |status: &str, more: &str| says(status, more, "");
    match fault? {
        Fault::Status(status) => empty(&format!("{status} Injected"), ""),
        Fault::Says(status, body) => says(&format!("{status} Injected"), "", body),
        Fault::Busy(status, seconds) => empty(&format!("{status} Injected"), &format!("Retry-After: {seconds}\r\n")),
        Fault::Swallow => empty("200 OK", "ETag: \"0123456789abcdef0123456789abcdef\"\r\n"),
        Fault::Reset => Some(None),
        _ => None,
    }
}

fn spoil_request(mut request: Message, fault: Option<&Fault>) -> Message {
    match fault {
        Some(Fault::FlipRequest) => flip(&mut request.body),
        Some(Fault::StoreHalf) => {
            let half = request.body[..request.body.len() / 2].to_vec();
            return request.with_body(half);
        }
        Some(Fault::Slow(pause)) => std::thread::sleep(*pause),
        _ => {}
    }
    request
}

fn flip(body: &mut [u8]) {
    let middle = body.len() / 2;
    if let Some(byte) = body.get_mut(middle) {
        *byte ^= 0x10;
    }
}

fn forward(request: &Message, target: u16) -> Option<Message> {
    let mut server = TcpStream::connect(("127.0.0.1", target)).ok()?;
    let _ = server.set_nodelay(true);
    request.send(&mut server, &request.body).ok()?;
    receive(&mut server, true)
}

fn answer(mut client: TcpStream, mut reply: Message, path: &str, fault: Option<&Fault>, shared: &Mutex<Shared>) {
    match fault {
        Some(Fault::FlipReply) => flip(&mut reply.body),
        Some(Fault::Receipt(name, value)) => reply.set(name, value),
        Some(Fault::Empty) => reply = reply.with_body(Vec::new()),
        Some(Fault::OtherBody) => {
            let shared = shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let other = shared.bodies.iter().find(|(known, _)| *known != path).map(|(_, body)| body.clone());
            drop(shared);
            reply = reply.with_body(other.expect("the body of another object was seen before"));
        }
        Some(Fault::ListNothing) => {
            let body = list_nothing(&String::from_utf8_lossy(&reply.body)).into_bytes();
            reply = reply.with_body(body);
        }
        Some(Fault::CutChunked) => {
            reply.without("content-length");
            reply.set("transfer-encoding", "chunked");
            let half = &reply.body[..reply.body.len() / 2];
            let body = [format!("{:x}\r\n", half.len()).as_bytes(), half, b"\r\n"].concat();
            let _ = reply.send(&mut client, &body);
            let _ = client.shutdown(Shutdown::Both);
            return;
        }
        _ => {}
    }
    let shown = if fault == Some(&Fault::CutBody) { reply.body.len() / 2 } else { reply.body.len() };
    let _ = reply.send(&mut client, &reply.body[..shown]);
    let _ = client.shutdown(Shutdown::Write);
    // What the client still sends would turn the close into a reset.
    let _ = client.set_read_timeout(Some(Duration::from_secs(1)));
    let _ = client.read(&mut [0; 16]);
}

/// Takes the objects out of a listing of S3, Google (Contents) or Azure (Blob).
fn list_nothing(xml: &str) -> String {
    let mut text = xml.to_string();
    for tag in ["Contents", "Blob"] {
        while let (Some(start), Some(end)) = (text.find(&format!("<{tag}>")), text.find(&format!("</{tag}>"))) {
            text.replace_range(start..end + tag.len() + 3, "");
        }
    }
    text
}

/// Closes with RST: data that is still on its way is thrown away by both sides.
fn reset(client: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the pointer and the length are those of a local that outlives the call.
    unsafe {
        libc::setsockopt(
            client.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            std::ptr::from_ref(&linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
    }
}
