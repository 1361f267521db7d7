//! Limits how much memory the bodies of all requests together may take.

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use footfall_shared::service::config::Ingest;
use footfall_shared::service::telemetry::{self, IntCounter, IntGauge};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::request::{Reason, Rejection};

/// The first bytes of each body, this many, are not charged to the budget. So a client that exhausts the budget with large
/// bodies that never end does not keep out the small ones, which are nearly all that browsers send. The number of
/// connections bounds what these take.
pub const FREE_BYTES: usize = 4 * 1024;

/// After the limit a body is read on, and thrown away, up to this many times the limit: a client that is still sending
/// would otherwise see a broken connection instead of the answer.
const OVERSIZE_READ_ON: usize = 16;

/// Reads bodies within a budget of bytes.
pub struct Bodies {
    budget: Arc<Semaphore>,
    bytes_max: usize,
    timeout: Duration,
    in_flight: IntGauge,
    crowded_out: IntCounter,
}

/// A body that has come whole. It keeps its room in the budget until it is dropped, and not only until it is parsed,
/// because the views that are parsed from it take about as much memory again.
pub struct Whole {
    bytes: Vec<u8>,
    room: Room,
}

impl Whole {
    /// The bytes of the body.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub enum NoBody {
    /// The request itself is bad.
    Rejected(Rejection),
    /// Other bodies take up the whole budget at the moment.
    Crowded,
}

impl From<Rejection> for NoBody {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// Bytes that are reserved in the budget.
struct Room {
    permits: Option<OwnedSemaphorePermit>,
    in_flight: IntGauge,
    bytes: i64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.in_flight.sub(self.bytes);
    }
}

impl Bodies {
    /// As configured.
    #[must_use]
    pub fn new(config: &Ingest) -> Self {
        Self {
            budget: Arc::new(Semaphore::new(config.bodies_bytes_max.get().min(Semaphore::MAX_PERMITS))),
            bytes_max: config.body_bytes_max.get(),
            timeout: config.body_timeout,
            in_flight: telemetry::gauge(
                "footfall_bodies_bytes",
                "Memory of requests' bodies that are on their way or being answered, in bytes.",
            ),
            crowded_out: telemetry::counter(
                "footfall_bodies_refused_total",
                "Requests that were answered with 503, because the bodies of others had all the room.",
            ),
        }
    }

    /// The whole body, if it is small enough, comes in time and finds room.
    pub async fn whole<B>(&self, body: B) -> Result<Whole, NoBody>
    where
        B: Body<Data: Buf, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        let message = || format!("the body did not arrive within {:?}", self.timeout);
        let read = tokio::time::timeout(self.timeout, self.read(body)).await;
        read.unwrap_or_else(|_| Err(Rejection::new(Reason::Slow, message()).into()))
    }

    async fn read<B>(&self, body: B) -> Result<Whole, NoBody>
    where
        B: Body<Data: Buf, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        // As long as Content-Length says, or else as long as a body may be.
        let expected = body.size_hint().upper().and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
        let mut body = std::pin::pin!(Limited::new(body, self.bytes_max.saturating_mul(OVERSIZE_READ_ON)));
        let mut whole = self.nothing();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let unreadable = |error| Rejection::new(Reason::Malformed, format!("the body could not be read: {error}"));
            let Ok(mut data) = frame.map_err(unreadable)?.into_data() else { continue };
            length += data.remaining();
            if length > self.bytes_max {
                // All that was kept, and its room, are free again.
                whole = self.nothing();
                continue;
            }
            self.grow(&mut whole, length, expected)?;
            while data.has_remaining() {
                let chunk = data.chunk();
                whole.bytes.extend_from_slice(chunk);
                let read = chunk.len();
                data.advance(read);
            }
        }
        if length > self.bytes_max {
            let message = format!("the body has {length} bytes: at most {} are allowed", self.bytes_max);
            return Err(Rejection::new(Reason::TooLarge, message).into());
        }
        Ok(whole)
    }

    fn nothing(&self) -> Whole {
        Whole { bytes: Vec::new(), room: Room { permits: None, in_flight: self.in_flight.clone(), bytes: 0 } }
    }

    /// Memory for so many bytes: twice as much as before, so that few steps lead to the largest body, but no more than can
    /// come.
    fn grow(&self, whole: &mut Whole, length: usize, expected: usize) -> Result<(), NoBody> {
        let before = whole.bytes.capacity();
        if length <= before {
            return Ok(());
        }
        let after = length.max((2 * before).min(expected).min(self.bytes_max));
        let needed = after.saturating_sub(FREE_BYTES.max(before));
        let needed = u32::try_from(needed).map_err(|_| NoBody::Crowded)?;
        let Ok(permits) = Arc::clone(&self.budget).try_acquire_many_owned(needed) else {
            self.crowded_out.inc();
            return Err(NoBody::Crowded);
        };
        match &mut whole.room.permits {
            Some(all) => all.merge(permits),
            none => *none = Some(permits),
        }
        whole.bytes.reserve_exact(after - whole.bytes.len());
        let more = i64::try_from(after - before).unwrap_or(i64::MAX);
        whole.room.bytes += more;
        self.in_flight.add(more);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use std::num::NonZero;

    fn bodies(bodies_bytes_max: usize) -> Bodies {
        let config = Ingest {
            bodies_bytes_max: NonZero::new(bodies_bytes_max).expect("room"),
            body_bytes_max: NonZero::new(64 << 10).expect("room"),
            body_timeout: Duration::from_millis(500),
            ..Ingest::default()
        };
        Bodies::new(&config)
    }

    /// A body in parts of a KiB that ends, or never does.
    fn parts(kib: usize, ends: bool) -> impl Body<Data = Bytes, Error = Infallible> {
        use futures_util::stream::{self, StreamExt};
        let part = || Ok(Frame::data(Bytes::from_static(&[b'x'; 1024])));
        let parts = stream::iter((0..kib).map(move |_| part()));
        let rest = stream::poll_fn(move |_| if ends { std::task::Poll::Ready(None) } else { std::task::Poll::Pending });
        StreamBody::new(parts.chain(rest))
    }

    /// What a body that never ends holds, until it is dropped.
    async fn begin<'a>(bodies: &'a Bodies, kib: usize) -> impl Future<Output = Result<Whole, NoBody>> + 'a {
        let mut read = Box::pin(bodies.whole(parts(kib, false)));
        assert!(futures_util::poll!(&mut read).is_pending(), "it holds what came");
        read
    }

    #[tokio::test]
    async fn unfinished_bodies_keep_out_large_ones_only() {
        let bodies = bodies(256 << 10);
        let free = || bodies.budget.available_permits();
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(begin(&bodies, 63).await);
        }
        assert!(free() < 64 << 10, "{} are free", free());
        for _ in 0..1_000 {
            assert_eq!(bodies.whole(parts(4, true)).await.map(|whole| whole.bytes().len()).expect("small"), 4 << 10);
        }
        assert_eq!(bodies.whole(parts(60, true)).await.map(|_| ()), Err(NoBody::Crowded));
        // Whoever stalls is sent away, and what was held is free again.
        let first = held.remove(0);
        assert!(matches!(first.await, Err(NoBody::Rejected(Rejection { reason: Reason::Slow, .. }))));
        drop(held);
        assert_eq!(free(), 256 << 10);
        let whole = bodies.whole(parts(60, true)).await.map_err(|_| ()).expect("room");
        assert_eq!((whole.bytes().len(), whole.bytes().iter().all(|byte| *byte == b'x')), (60 << 10, true));
        assert!(free() <= 200 << 10, "it has its room until it is answered");
        drop(whole);
        assert_eq!((free(), bodies.in_flight.get()), (256 << 10, 0));
    }

    #[tokio::test]
    async fn what_is_too_large_is_not_kept() {
        let bodies = bodies(64 << 10);
        let _read_on = begin(&bodies, 200).await;
        assert_eq!(bodies.budget.available_permits(), 64 << 10);
        for (kib, reason) in [(65, Reason::TooLarge), (1023, Reason::TooLarge), (1025, Reason::Malformed)] {
            let rejection = bodies.whole(parts(kib, true)).await.map(|_| ()).expect_err("too large");
            assert!(
                matches!(&rejection, NoBody::Rejected(rejection) if rejection.reason == reason),
                "{kib}: {rejection:?}"
            );
        }
        // The largest one that is allowed fits, whatever it is made of.
        assert!(bodies.whole(parts(64, true)).await.is_ok());
    }
}
