//! MetaClient: the real MetaApi. Puts each operation into the link's queue and waits for its answer; everything between (leader, retries,
//! session) is the driver's. Called by vfs, data and the command line.

use super::flight::{Outcome, Waiter};
use super::link::{Core, Effects, NotTaken, closed};
use super::session::{Owner, State};
use super::stream::{Link, drive};
use super::{Answer, MetaApi};
use crate::config::MetaConfig;
use crate::error::ClientError;
use bytes::Bytes;
use holdfast_proto::{Ask, FsErrno, Op, pb};
use parking_lot::Mutex;
use prost::Message;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

/// How long an unmount waits for the end of its session; the lease ends it otherwise.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// A client of the metadata cluster. Must be made within a tokio runtime. Dropped, it stops its driver.
#[derive(Debug)]
pub struct MetaClient {
    link: Arc<Link>,
    pushes: Mutex<Option<mpsc::UnboundedReceiver<pb::Push>>>,
}

impl MetaClient {
    /// Finds the leader.
    ///
    /// # Errors
    /// Unavailable, with the nodes' names, where there is none within the call deadline; Usage for what cannot be an address.
    pub async fn connect(config: MetaConfig) -> Result<MetaClient, ClientError> {
        for addr in &config.nodes {
            super::channel::endpoint(addr, config.tls.as_ref())?;
        }
        let deadline = config.call_deadline;
        let (sender, pushes) = mpsc::unbounded_channel();
        let link = Link::new(config, sender);
        tokio::spawn(drive(link.clone()));
        let client = MetaClient { link, pushes: Mutex::new(Some(pushes)) };
        let mut leader = client.link.leader.subscribe();
        match tokio::time::timeout(deadline, leader.wait_for(Option::is_some)).await {
            Ok(Ok(_)) => Ok(client),
            Ok(Err(_)) | Err(_) => {
                let seconds = deadline.as_secs();
                Err(ClientError::Unavailable(format!("{} (gave up after {seconds} s)", client.link.nodes.trouble())))
            }
        }
    }

    /// Opens the session under which everything else is done. Once a client.
    ///
    /// # Errors
    /// Refused(ENOENT) where there is no such volume.
    pub async fn open_session(
        &self,
        volume: &str,
        host: &str,
        mountpoint: &str,
    ) -> Result<pb::OpenSessionReply, ClientError> {
        let owner = Owner { volume: volume.to_owned(), host: host.to_owned(), mountpoint: mountpoint.to_owned() };
        let answer = self.mutate_unbound(owner.open_op()).await?;
        let session = answer.reply.session;
        if session == 0 || session > u64::from(u32::MAX) {
            return Err(ClientError::Protocol(format!("session number {session} is out of bounds")));
        }
        self.link.step(&mut Effects::default(), |core, effects| {
            core.set_owner(owner);
            core.install(session, Instant::now());
            effects.waker = core.waker.take();
        });
        Ok(answer.reply)
    }

    /// Ends the session and the client. What the server does not hear, the lease will tell it.
    ///
    /// # Errors
    /// Where the server did not confirm it.
    pub async fn close_session(&self) -> Result<(), ClientError> {
        self.link.core.lock().session.closing = true;
        let creds = super::own_creds();
        let ended = match self.mutate_within(&creds, pb::CloseSessionOp {}, CLOSE_DEADLINE).await {
            // It was ended already, or by this very call, whose answer was lost.
            Ok(_) | Err(ClientError::SessionLost) => Ok(()),
            Err(error) => Err(error),
        };
        self.link.core.lock().session.state = State::Over(closed());
        self.link.stop.cancel();
        ended
    }

    /// A mutation that needs no session: format_volume, config_volume, open_session.
    ///
    /// # Errors
    /// Those of the operation; Unavailable after the call deadline.
    pub async fn mutate_unbound<O: Op>(&self, op: O) -> Result<Answer<O::Reply>, ClientError> {
        let mut op = Some(op.into_wire());
        let limits = (Instant::now(), self.link.config.call_deadline);
        let outcome = self.launch(limits, |core, waiter| core.take_unbound(&mut op, waiter, limits)).await;
        finish(O::NAME, limits.0, outcome)
    }

    /// A query to the cluster rather than to a volume: volume, list_volumes.
    ///
    /// # Errors
    /// Those of the query; Unavailable after the call deadline.
    pub async fn query_unbound<Q: Ask>(&self, ask: Q) -> Result<Answer<Q::Reply>, ClientError> {
        let limits = (Instant::now(), self.link.config.call_deadline);
        self.query_within(false, &pb::Creds::default(), ask, limits).await
    }

    /// Address of the leader that the client is attached to.
    pub fn leader(&self) -> Option<String> {
        self.link.leader.borrow().clone()
    }

    /// All addresses of nodes that are known by now.
    pub fn nodes(&self) -> Vec<String> {
        self.link.nodes.addrs()
    }

    async fn mutate_within<O: Op>(
        &self,
        creds: &pb::Creds,
        op: O,
        wait: Duration,
    ) -> Result<Answer<O::Reply>, ClientError> {
        let seen = self.link.session.load(Ordering::Acquire);
        let mut op = Some(op.into_wire());
        let limits = (Instant::now(), wait);
        let outcome =
            self.launch(limits, |core, waiter| core.take_mutation(seen, creds, &mut op, waiter, limits)).await;
        finish(O::NAME, limits.0, outcome)
    }

    async fn query_within<Q: Ask>(
        &self,
        bound: bool,
        creds: &pb::Creds,
        ask: Q,
        limits: (Instant, Duration),
    ) -> Result<Answer<Q::Reply>, ClientError> {
        let mut ask = Some(ask.into_wire());
        let outcome = self.launch(limits, |core, waiter| core.take_query(bound, creds, &mut ask, waiter, limits)).await;
        finish(Q::NAME, limits.0, outcome)
    }

    /// Gets a request under way and waits for its outcome.
    async fn launch(
        &self,
        limits: (Instant, Duration),
        mut take: impl FnMut(&mut Core, Waiter) -> Result<(), NotTaken>,
    ) -> Outcome {
        let (waiter, outcome) = oneshot::channel();
        match self.link.submit(|core| take(core, waiter)) {
            Ok(()) => outcome.await.unwrap_or_else(|_| Err(closed())),
            Err(NotTaken::Never(error)) => Err(error),
            Err(NotTaken::Full) => self.launch_when_room(limits, take).await,
        }
    }

    #[cold]
    async fn launch_when_room(
        &self,
        (now, wait): (Instant, Duration),
        mut take: impl FnMut(&mut Core, Waiter) -> Result<(), NotTaken>,
    ) -> Outcome {
        let _waiting = Waiting::new(&self.link);
        let overdue = || ClientError::Unavailable(format!("too much under way for {} s", wait.as_secs()));
        let deadline = now.checked_add(wait).unwrap_or_else(|| now + Duration::from_secs(86_400));
        loop {
            let mut room = pin!(self.link.room.notified());
            room.as_mut().enable();
            let (waiter, outcome) = oneshot::channel();
            match self.link.submit(|core| take(core, waiter)) {
                Ok(()) => return outcome.await.unwrap_or_else(|_| Err(closed())),
                Err(NotTaken::Never(error)) => return Err(error),
                Err(NotTaken::Full) => {}
            }
            tokio::time::timeout_at(deadline.into(), room).await.map_err(|_| overdue())?;
        }
    }
}

impl MetaApi for MetaClient {
    async fn mutate<O: Op>(&self, creds: &pb::Creds, op: O) -> Result<Answer<O::Reply>, ClientError> {
        self.mutate_within(creds, op, self.link.config.op_deadline).await
    }

    async fn query<Q: Ask>(&self, creds: &pb::Creds, ask: Q) -> Result<Answer<Q::Reply>, ClientError> {
        let limits = (Instant::now(), self.link.config.op_deadline);
        self.query_within(true, creds, ask, limits).await
    }

    fn session(&self) -> u64 {
        self.link.session.load(Ordering::Acquire)
    }

    fn take_pushes(&self) -> Option<mpsc::UnboundedReceiver<pb::Push>> {
        self.pushes.lock().take()
    }
}

impl Drop for MetaClient {
    fn drop(&mut self) {
        self.link.stop.cancel();
    }
}

/// Counts a caller that waits for room, also when it gives up.
struct Waiting<'a>(&'a Link);

impl<'a> Waiting<'a> {
    fn new(link: &'a Link) -> Waiting<'a> {
        link.core.lock().waiting_count += 1;
        Waiting(link)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.core.lock().waiting_count -= 1;
    }
}

fn finish<R: Message + Default>(
    name: &'static str,
    began: Instant,
    outcome: Result<(Bytes, u64), ClientError>,
) -> Result<Answer<R>, ClientError> {
    let answer = outcome.and_then(|(bytes, log_index)| match R::decode(bytes) {
        Ok(reply) => Ok(Answer { reply, log_index }),
        Err(error) => Err(ClientError::Protocol(format!("the reply to {name} does not decode: {error}"))),
    });
    match &answer {
        Ok(answer) => debug!(op = name, log_index = answer.log_index, took = ?began.elapsed(), "meta"),
        Err(error) => debug!(op = name, %error, took = ?began.elapsed(), "meta"),
    }
    answer
}

/// For a message: what a refusal of a volume's name means.
pub fn explain_volume(error: ClientError, volume: &str) -> ClientError {
    match error {
        ClientError::Refused(FsErrno::NoEnt) => ClientError::Failed(format!(
            "there is no volume \"{volume}\" in this cluster; create it with `holdfast format`, or correct META"
        )),
        other => other,
    }
}
