//! Work that waits for a disk goes to threads of its own, so that no heartbeat waits with it. A simulated run has one thread, and nothing in it
//! may happen at a moment of its own: there such work is done in its place, after a while that the run chooses. Called by raft and rpc.

use std::cell::Cell;
use std::io;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

thread_local! {
    static IN_PLACE: Cell<Option<fn() -> Duration>> = const { Cell::new(None) };
}

/// From now on what this thread asks for is done by the runtime that it asks from, each time so much later.
pub fn stay_in_place(after: fn() -> Duration) {
    IN_PLACE.set(Some(after));
}

async fn in_place<T>(after: Duration, work: impl FnOnce() -> T) -> T {
    tokio::time::sleep(after).await;
    work()
}

/// Work of moments.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match IN_PLACE.get() {
        Some(after) => tokio::spawn(in_place(after(), work)),
        None => tokio::task::spawn_blocking(work),
    }
}

/// Long work that nobody waits for in a hurry, on a thread of low priority.
///
/// # Errors
/// There are no more threads.
pub fn spawn_unhurried<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (done, result) = oneshot::channel();
    match IN_PLACE.get() {
        Some(after) => drop(tokio::spawn(in_place(after(), || drop(done.send(work()))))),
        None => {
            let body = move || {
                crate::priority::lower();
                // Whoever asked may have gone.
                drop(done.send(work()));
            };
            std::thread::Builder::new().name(name.to_owned()).spawn(body)?;
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_elsewhere_unless_it_is_to_stay() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let here = std::thread::current().id();
        let whereabouts = || {
            runtime.block_on(async {
                let unhurried = spawn_unhurried("t", || std::thread::current().id()).expect("a thread");
                let moments = spawn(|| std::thread::current().id()).await.expect("done");
                (moments, unhurried.await.expect("done"))
            })
        };
        let (moments, unhurried) = whereabouts();
        assert!(moments != here && unhurried != here);
        stay_in_place(|| Duration::from_millis(1));
        assert_eq!(whereabouts(), (here, here));
    }
}
