//! Drive: how a callback's future runs. It is polled once on the thread that read the request: what needs to wait for nobody (a
//! read from the cache, a write into a buffer) is answered right there, and what does wait has already sent its question before
//! the runtime takes it over. Called by the adapter only.

use std::future::Future;
use std::task::{Context, Waker};
use tokio::runtime::Handle;

/// Where what waits goes on. Apart, so that a name is never looked up behind the copying and checking of data.
#[derive(Clone, Debug)]
pub struct Runtimes {
    /// One thread, the one that MetaClient was made on: an answer is read, digested and given to the kernel without changing threads.
    pub meta: Handle,
    /// As many threads as cores.
    pub data: Handle,
}

/// What an operation may have to wait for.
#[derive(Clone, Copy, Debug)]
pub enum Needs {
    Names,
    Data,
}

impl Runtimes {
    /// Runs `work` to its end, here or on the runtime that suits it.
    pub fn drive(&self, needs: Needs, work: impl Future<Output = ()> + Send + 'static) {
        let runtime = match needs {
            Needs::Names => &self.meta,
            Needs::Data => &self.data,
        };
        let mut work = Box::pin(work);
        // Timers and spawned tasks of the first poll belong to the runtime, too.
        let _inside = runtime.enter();
        // A waker that does nothing loses no wake-up: the runtime polls again at once, with its own.
        if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tokio::runtime::{Builder, Runtime};

    fn runtime() -> (Runtime, Runtimes) {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let handle = runtime.handle().clone();
        (runtime, Runtimes { meta: handle.clone(), data: handle })
    }

    #[test]
    fn what_is_ready_is_done_on_the_calling_thread() {
        let (_runtime, runtimes) = runtime();
        let (done, ended) = mpsc::channel();
        runtimes.drive(Needs::Names, async move { done.send(std::thread::current().id()).unwrap_or_default() });
        assert_eq!(ended.try_recv(), Ok(std::thread::current().id()));
    }

    #[test]
    fn what_waits_is_finished_by_the_runtime() {
        let (runtime, runtimes) = runtime();
        let (wake, woken) = tokio::sync::oneshot::channel();
        let (done, ended) = tokio::sync::oneshot::channel();
        runtimes.drive(Needs::Names, async move {
            let value: u32 = woken.await.unwrap_or_default();
            done.send(value).unwrap_or_default();
        });
        wake.send(7).unwrap_or_default();
        assert_eq!(runtime.block_on(ended), Ok(7));
    }
}
