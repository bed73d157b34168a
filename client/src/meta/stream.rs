//! The stream: its outbound half, which takes what queued into one frame whenever the transport has room, and the driver, one task that
//! reads the inbound half, follows the leader and looks after time. No task and no timer belongs to a single request.
//! Called by meta::client; uses meta::leader to find whom to talk to, meta::link for every decision.

use super::codec::OutFrame;
use super::leader::{self, Attached, Nodes};
use super::link::{Core, Effects, NotTaken};
use crate::config::MetaConfig;
use futures::Stream;
use futures::future::{BoxFuture, OptionFuture};
use holdfast_proto::limits::{FRAME_BYTES_MAX, FRAME_REQUESTS_MAX, KEEP_ALIVE_MS};
use holdfast_proto::pb::push::Event;
use holdfast_proto::{pb, version};
use parking_lot::Mutex;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the driver looks at deadlines and at silence while something is under way.
const TICK: Duration = Duration::from_millis(50);
const KEEP_ALIVE: Duration = Duration::from_millis(KEEP_ALIVE_MS);
/// And at least so often within the lease that the node grants.
const KEEP_ALIVES_A_LEASE: u32 = 4;
/// A stream that ends before it has answered anything is not opened again at once.
const FRUITLESS_PAUSE_MS: u64 = 10;
const FRUITLESS_PAUSE_MS_MAX: u64 = 500;

/// What all parts of one client share.
#[derive(Debug)]
pub struct Link {
    pub config: MetaConfig,
    pub core: Mutex<Core>,
    pub nodes: Nodes,
    /// Told when slots or places became free and somebody waits for one.
    pub room: Notify,
    /// Wakes an idle driver.
    poke: Notify,
    /// The newest session; 0 before the first.
    pub session: AtomicU64,
    /// Address of the leader that we are attached to.
    pub leader: watch::Sender<Option<String>>,
    pub stop: CancellationToken,
    pushes: mpsc::UnboundedSender<pb::Push>,
    streams: AtomicU64,
}

impl Link {
    pub fn new(config: MetaConfig, pushes: mpsc::UnboundedSender<pb::Push>) -> Arc<Link> {
        Arc::new(Link {
            core: Mutex::new(Core::new(&config)),
            nodes: Nodes::new(&config.nodes),
            config,
            room: Notify::new(),
            poke: Notify::new(),
            session: AtomicU64::new(0),
            leader: watch::Sender::new(None),
            stop: CancellationToken::new(),
            pushes,
            streams: AtomicU64::new(0),
        })
    }

    /// Puts a request into the queue by `take`, and wakes whoever sends it.
    ///
    /// # Errors
    /// Those of `take`.
    pub fn submit(&self, take: impl FnOnce(&mut Core) -> Result<(), NotTaken>) -> Result<(), NotTaken> {
        let mut core = self.core.lock();
        take(&mut core)?;
        let waker = core.waker.take();
        let poke = std::mem::take(&mut core.driver_idle);
        drop(core);
        if let Some(waker) = waker {
            waker.wake();
        }
        if poke {
            self.poke.notify_one();
        }
        Ok(())
    }

    /// Runs `step` under the lock, and carries out what it leaves to do.
    pub fn step(&self, effects: &mut Effects, step: impl FnOnce(&mut Core, &mut Effects)) {
        let mut core = self.core.lock();
        step(&mut core, effects);
        let session = core.session.id();
        drop(core);
        if session != 0 {
            self.session.store(session, Ordering::Release);
        }
        for (waiter, outcome) in effects.done.drain(..) {
            // A caller that is gone does not want it any more.
            let _ = waiter.send(outcome);
        }
        for push in effects.pushes.drain(..) {
            // Nobody took the pushes: a command line call has no use for them.
            let _ = self.pushes.send(push);
        }
        if std::mem::take(&mut effects.room) {
            self.room.notify_waiters();
        }
        if let Some(waker) = effects.waker.take() {
            waker.wake();
        }
    }

    fn tick(&self, effects: &mut Effects) {
        effects.suspicious = false;
        effects.due = None;
        let why = || match &*self.leader.borrow() {
            Some(addr) => format!("the leader {addr} does not answer in time"),
            None => self.nodes.trouble(),
        };
        self.step(effects, |core, effects| core.on_tick(Instant::now(), why, effects));
    }
}

/// The outbound half of one stream: says hello, and takes from the queue once its gate is open.
#[derive(Debug)]
pub struct Outbound {
    link: Arc<Link>,
    id: u64,
    hello: bool,
    gate: Option<oneshot::Receiver<()>>,
}

impl Outbound {
    pub fn new(link: Arc<Link>, gate: oneshot::Receiver<()>) -> Outbound {
        let id = link.streams.fetch_add(1, Ordering::Relaxed) + 1;
        Outbound { link, id, hello: true, gate: Some(gate) }
    }

    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Stream for Outbound {
    type Item = OutFrame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<OutFrame>> {
        if std::mem::take(&mut self.hello) {
            let session = self.link.core.lock().session.id();
            let hello = pb::Hello { protocol: version::PROTOCOL, session, quiet: self.link.config.quiet };
            return Poll::Ready(Some(OutFrame { hello: Some(hello), ..Default::default() }));
        }
        if let Some(gate) = &mut self.gate {
            match Pin::new(gate).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(())) => self.gate = None,
            }
        }
        let mut core = self.link.core.lock();
        if core.active_stream != self.id {
            return Poll::Ready(None);
        }
        if core.outbox.is_empty() && core.keep_alive == 0 {
            core.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(next_frame(&mut core)))
    }
}

/// All that queued, up to half of what a frame may hold.
fn next_frame(core: &mut Core) -> OutFrame {
    let mut bytes_left = FRAME_BYTES_MAX / 2;
    let fits = |request: &bytes::Bytes| {
        let left = bytes_left.checked_sub(request.len());
        bytes_left = left.unwrap_or(0);
        left.is_some()
    };
    let count = core.outbox.iter().take(FRAME_REQUESTS_MAX).map(fits).take_while(|&fits| fits).count();
    let requests = core.outbox.drain(..count).collect();
    OutFrame { hello: None, requests, keep_alive: std::mem::take(&mut core.keep_alive) }
}

/// Why one stream's time was over.
enum End {
    Stopped,
    Lost,
    Redirect(Option<String>),
    /// The node was silent, and another one leads.
    Switched(Box<Attached>),
}

/// Runs until the link is stopped.
pub async fn drive(link: Arc<Link>) {
    let mut hint = None;
    let mut next = None;
    let mut fruitless_count = 0u32;
    loop {
        let attached = match next.take() {
            Some(attached) => attached,
            None => match detached(&link, hint.take(), fruitless_count).await {
                Some(attached) => attached,
                None => break,
            },
        };
        let mut run = Run::new(&link, attached);
        let end = run.run().await;
        let fruitful = run.frame_count > 0;
        run.finish();
        fruitless_count = if fruitful { 0 } else { fruitless_count.saturating_add(1) };
        match end {
            End::Stopped => break,
            End::Lost => {}
            End::Redirect(to) => hint = to,
            End::Switched(attached) => next = Some(*attached),
        }
    }
    link.core.lock().stop();
    link.room.notify_waiters();
}

/// Finds the leader, and meanwhile keeps the deadlines. None when stopped.
async fn detached(link: &Arc<Link>, hint: Option<String>, fruitless_count: u32) -> Option<Attached> {
    let pause = Duration::from_millis((FRUITLESS_PAUSE_MS * u64::from(fruitless_count)).min(FRUITLESS_PAUSE_MS_MAX));
    let mut find = pin!(async {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        leader::find(link, None, hint).await
    });
    let mut effects = Effects::default();
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            attached = &mut find => return Some(attached),
            _ = ticks.tick() => link.tick(&mut effects),
            () = link.stop.cancelled() => return None,
        }
    }
}

/// One stream's time.
struct Run<'a> {
    link: &'a Arc<Link>,
    addr: String,
    inbound: tonic::Streaming<pb::ServerFrame>,
    effects: Effects,
    /// The search for another leader, while this one is silent.
    probe: OptionFuture<BoxFuture<'a, Attached>>,
    probing: bool,
    /// Nothing is under way: the timer is far off, and a caller pokes us.
    idle: bool,
    /// How often the session is kept alive where nothing else names it.
    keep_alive: Duration,
    keep_alive_at: Instant,
    taken_count: u64,
    frame_count: u64,
}

impl<'a> Run<'a> {
    fn new(link: &'a Arc<Link>, attached: Attached) -> Run<'a> {
        let now = Instant::now();
        link.core.lock().begin_stream(attached.stream, now);
        // Where the outbound half is gone already, the inbound half says so.
        let _ = attached.gate.send(());
        link.leader.send_replace(Some(attached.addr.clone()));
        // What the server said to a stream that is gone is lost: waits for locks have to be asked about. Where nobody takes the
        // pushes, nobody waits.
        let _ = link.pushes.send(pb::Push { event: Some(Event::LockGranted(pb::LockGranted::default())) });
        let keep_alive = KEEP_ALIVE.min(attached.lease / KEEP_ALIVES_A_LEASE);
        Run {
            link,
            addr: attached.addr,
            inbound: attached.inbound,
            effects: Effects::default(),
            probe: OptionFuture::default(),
            probing: false,
            idle: false,
            keep_alive,
            keep_alive_at: now + keep_alive,
            taken_count: 0,
            frame_count: 0,
        }
    }

    async fn run(&mut self) -> End {
        let link = self.link;
        let mut stopped = pin!(link.stop.cancelled());
        let mut timer = pin!(tokio::time::sleep(TICK));
        loop {
            tokio::select! {
                frame = self.inbound.message() => match frame {
                    Ok(Some(frame)) => {
                        if let Some(end) = self.on_frame(frame) {
                            return end;
                        }
                        if let Some(due) = self.effects.due.take() && due < timer.deadline().into_std() {
                            timer.as_mut().reset(due.into());
                        }
                    }
                    Ok(None) => return self.lost("the node ended the stream"),
                    Err(status) => return self.lost(&super::channel::describe(&status)),
                },
                () = &mut timer => {
                    let at = self.on_timer();
                    timer.as_mut().reset(at.into());
                }
                () = link.poke.notified(), if self.idle => {
                    self.idle = false;
                    timer.as_mut().reset((Instant::now() + TICK).into());
                }
                Some(attached) = &mut self.probe => {
                    warn!(silent = self.addr, leader = attached.addr, "the leader fell silent, and another node leads");
                    return End::Switched(Box::new(attached));
                }
                () = &mut stopped => return End::Stopped,
            }
        }
    }

    fn lost(&self, why: &str) -> End {
        info!(addr = self.addr, why, "the stream is lost");
        End::Lost
    }

    fn on_frame(&mut self, frame: pb::ServerFrame) -> Option<End> {
        self.frame_count += 1;
        // Drawn only where something failed; an answer needs none.
        let failed = frame.responses.iter().any(|r| matches!(r.result, Some(pb::response::Result::Failure(_))));
        let jitter = if failed { rand::random() } else { 0.0 };
        let resigned = frame.welcome.as_ref().is_some_and(|w| !w.is_leader).then(|| frame.welcome.clone()).flatten();
        self.link.step(&mut self.effects, |core, effects| core.on_frame(frame, Instant::now(), jitter, effects));
        if let Some(to) = self.effects.redirect.take() {
            info!(addr = self.addr, to, "this node does not lead any more");
            return Some(End::Redirect(to));
        }
        resigned.map(|welcome| End::Redirect((!welcome.leader.is_empty()).then_some(welcome.leader)))
    }

    /// Looks after time; when to look again.
    fn on_timer(&mut self) -> Instant {
        self.link.tick(&mut self.effects);
        let now = Instant::now();
        if !self.effects.suspicious {
            self.probe = OptionFuture::default();
        } else if !self.probing {
            let (link, addr) = (self.link, self.addr.clone());
            let find: BoxFuture<'a, Attached> = Box::pin(leader::find(link, Some(addr), None));
            self.probe = OptionFuture::from(Some(find));
        }
        self.probing = self.effects.suspicious;
        let mut core = self.link.core.lock();
        if now >= self.keep_alive_at {
            self.keep_alive_at = now + self.keep_alive;
            core.keep_alive = core.session.id();
        }
        self.idle = core.flights.is_empty() && core.taken_count == self.taken_count;
        self.taken_count = core.taken_count;
        core.driver_idle = self.idle;
        let waker = if core.keep_alive == 0 { None } else { core.waker.take() };
        drop(core);
        if let Some(waker) = waker {
            waker.wake();
        }
        let tick = if self.idle { self.keep_alive_at } else { now + TICK };
        self.effects.due.take().map_or(tick, |due| due.min(tick))
    }

    /// Leaves the stream: the outbound half learns that it is no longer the one.
    fn finish(self) {
        self.link.leader.send_replace(None);
        let mut core = self.link.core.lock();
        core.end_stream();
        let waker = core.waker.take();
        drop(core);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
