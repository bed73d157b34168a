//! Drive: how a callback's future runs. It is polled once on the thread that read the request: what needs to wait for nobody (a
//! read from the cache, a write into a buffer) is answered right there, and what does wait has already sent its question before
//! the runtime takes it over. Called by the adapter only.

use std::future::Future;
use std::task::{Context, Waker};
use tokio::runtime::Handle;

/// Runs `work` to its end, here or on the runtime.
pub fn drive(runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
    let mut work = Box::pin(work);
    // Timers and spawned tasks of the first poll belong to the runtime, too.
    let _inside = runtime.enter();
    // A waker that does nothing loses no wake-up: the runtime polls again at once, with its own.
    if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        runtime.spawn(work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn what_is_ready_is_done_on_the_calling_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (done, ended) = mpsc::channel();
        drive(runtime.handle(), async move { done.send(std::thread::current().id()).unwrap_or_default() });
        assert_eq!(ended.try_recv(), Ok(std::thread::current().id()));
    }

    #[test]
    fn what_waits_is_finished_by_the_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (wake, woken) = tokio::sync::oneshot::channel();
        let (done, ended) = tokio::sync::oneshot::channel();
        drive(runtime.handle(), async move {
            let value: u32 = woken.await.unwrap_or_default();
            done.send(value).unwrap_or_default();
        });
        wake.send(7).unwrap_or_default();
        assert_eq!(runtime.block_on(ended), Ok(7));
    }
}
