//! Ctrl-C and its kin.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::{INTERRUPTED, Result};

/// Whether SIGINT or SIGTERM has come. From here on the first one no longer ends the process: it is for the command to
/// come to an end, and to say what it did. A second one ends the process at once.
#[derive(Clone)]
pub(crate) struct Interrupt(CancellationToken);

impl Interrupt {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Self> {
        let refused = |error| Failure::file("watch for signals", &error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
        let token = CancellationToken::new();
        let came = token.clone();
        tokio::spawn(async move {
            for is_first in [true, false] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if is_first {
                    came.cancel();
                }
            }
            std::process::exit(i32::from(INTERRUPTED));
        });
        Ok(Self(token))
    }

    /// Waits until it comes.
    pub(crate) async fn came(&self) {
        self.0.cancelled().await;
    }

    pub(crate) fn has_come(&self) -> bool {
        self.0.is_cancelled()
    }

    /// For those who may stop for other reasons too.
    pub(crate) fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}
