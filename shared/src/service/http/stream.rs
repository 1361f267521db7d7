//! One client's connection, as hyper reads and writes it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::service::telemetry::{self, IntCounter};

static STALLED: LazyLock<IntCounter> = LazyLock::new(|| {
    telemetry::counter(
        "footfall_connections_stalled_total",
        "Connections that were closed, because their client did not take its answers.",
    )
});

/// A connection that is closed when its client takes nothing for too long, and that is closed gently otherwise: it reads
/// on for a moment. If it is closed over bytes that were not read (a head that is too large), the kernel resets it, and
/// the client may never see the answer.
pub(super) struct ClientStream {
    stream: Option<TcpStream>,
    patience: Duration,
    /// Runs while the client has taken nothing of what is to be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// How long and how much is read on.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: u64 = 1 << 20;

impl ClientStream {
    /// A client may take nothing of its answers for as long as `patience`.
    pub(super) fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream: Some(stream), patience, stalled: None }
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("taken only when dropped"))
    }

    /// What became of a write; an error instead of yet another wait if the client has been waited for long enough.
    fn in_time<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match stalled.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                STALLED.inc();
                let why = format!("the client took nothing of its answer for {patience:?}");
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
            }
        }
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        // Who does not take answers is not waited for again.
        let Some(mut stream) = self.stream.take().filter(|_| self.stalled.is_none()) else { return };
        // Nothing there, or the client has closed first: the usual case.
        if !matches!(stream.try_read(&mut [0; 1]), Ok(1)) {
            return;
        }
        tokio::spawn(tokio::time::timeout(LINGER, async move {
            let _ = stream.shutdown().await;
            let _ = tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await;
        }));
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write_vectored(context, bytes);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
