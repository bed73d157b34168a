//! Creates: those on their way, whose inodes nobody here knows yet. An orphan question must wait for them: a file may have been made for
//! us, and unlinked by another client, before the reply with its number has arrived. Called by ops/create and pushes.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Tickets {
    next: u64,
    under_way: BTreeSet<u64>,
}

/// Creates of one mount that are under way.
#[derive(Debug, Default)]
pub struct Creates {
    tickets: Mutex<Tickets>,
    ended: Notify,
}

impl Creates {
    /// A create is about to be sent. Give the ticket back with `end`.
    pub fn begin(&self) -> u64 {
        let mut tickets = self.tickets.lock();
        let ticket = tickets.next;
        tickets.next += 1;
        tickets.under_way.insert(ticket);
        ticket
    }

    /// The reply is here, and what it opened has been counted.
    pub fn end(&self, ticket: u64) {
        self.tickets.lock().under_way.remove(&ticket);
        self.ended.notify_waiters();
    }

    /// Waits until every create that is under way now has ended: only then is "not open here" true of all inodes.
    pub async fn settled(&self) {
        let until = self.tickets.lock().next;
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // Registered before the look, so that an end in between is not missed.
            ended.as_mut().enable();
            if self.tickets.lock().under_way.first().is_none_or(|first| *first >= until) {
                return;
            }
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn settling_waits_for_creates_that_began_before_and_for_no_other() {
        let creates = Arc::new(Creates::default());
        let before = creates.begin();
        let settled = tokio::spawn({
            let creates = creates.clone();
            async move { creates.settled().await }
        });
        tokio::task::yield_now().await;
        assert!(!settled.is_finished());
        let _after = creates.begin();
        creates.end(before);
        assert!(settled.await.is_ok());
    }
}
