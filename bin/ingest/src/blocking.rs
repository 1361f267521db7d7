//! Where work that blocks is done.

/// Where work that blocks is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// On a thread of its own, so that requests do not wait for a disk.
    Threads,
    /// At once. In a simulation there is nothing to wait for, and threads would make it differ from run to run.
    Inline,
}

impl Blocking {
    /// Does the work.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Self::Threads => tokio::task::spawn_blocking(work).await.expect("a panic ends the process"),
            Self::Inline => {
                tokio::task::yield_now().await;
                work()
            }
        }
    }
}
