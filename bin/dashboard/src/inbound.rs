//! A limit on what viewers send: they have nothing to say.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What a viewer may send at once: the rest of the handshake, a few messages, and pongs.
const BURST_BYTES: f64 = 64.0 * 1024.0;
/// What it may send in the long run: a pong has six bytes and comes every 20 s.
const BYTES_PER_SECOND: f64 = 64.0;

/// Ends a connection on which more comes in than that. The limit on messages is not enough: a message can be made of empty
/// fragments without end, and pings are not messages.
pub(crate) struct InboundLimit<S> {
    stream: S,
    left_bytes: f64,
    at: Instant,
}

impl<S> InboundLimit<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, left_bytes: BURST_BYTES, at: Instant::now() }
    }

    /// Takes bytes off the budget, and says whether it was enough.
    fn take(&mut self, bytes: usize) -> bool {
        let now = Instant::now();
        let filled = now.saturating_duration_since(self.at).as_secs_f64() * BYTES_PER_SECOND;
        self.at = now;
        self.left_bytes = BURST_BYTES.min(self.left_bytes + filled) - bytes as f64;
        self.left_bytes >= 0.0
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for InboundLimit<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.take(buffer.filled().len() - before) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::QuotaExceeded, "a viewer sends more than it may")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InboundLimit<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
