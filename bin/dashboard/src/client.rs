//! One viewer's WebSocket: gets what the feed says, is asked for a sign of life, and is dropped when
//! it stops reading. It never queues: a viewer who is late gets the latest snapshot and nothing between.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::{Instant, interval, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::frame::Frame;

/// The answer to the upgrade must be on its way within this time.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
const PING_PERIOD: Duration = Duration::from_secs(20);
/// A viewer that says nothing for this long, not even in answer to a ping, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A viewer that takes longer to receive one message has stopped reading.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Viewers have nothing to say; a few words are forgiven.
const WORDS_MAX: u32 = 16;
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// The library's defaults are made for bulk data: they take 142 KB per connection, these 5 KB.
fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_write_buffer_size(64 * 1024)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

/// Serves one viewer until one of the sides ends it.
pub async fn serve(upgrade: OnUpgrade, mut frames: watch::Receiver<Frame>, stop: CancellationToken) {
    let Ok(Ok(upgraded)) = timeout(UPGRADE_TIMEOUT, upgrade).await else {
        debug!("a viewer left before the upgrade was done");
        return;
    };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits())).await;
    let mut seen = None;
    let mut words = 0;
    let mut heard_at = Instant::now();
    let mut pings = interval(PING_PERIOD);
    pings.reset();
    frames.mark_changed();
    let farewell = loop {
        let message = tokio::select! {
            () = stop.cancelled() => break Some((CloseCode::Away, "the dashboard is being stopped")),
            changed = frames.changed() => {
                if changed.is_err() {
                    break Some((CloseCode::Away, "the dashboard is being stopped"));
                }
                let frame = frames.borrow_and_update();
                let text = frame.after(seen);
                seen = Some(frame.seq);
                Message::Text(text)
            }
            _ = pings.tick() => Message::Ping(Bytes::new()),
            heard = timeout_at(heard_at + SILENCE_MAX, socket.next()) => {
                match heard {
                    Ok(Some(Ok(Message::Text(_) | Message::Binary(_)))) if words == WORDS_MAX => {
                        break Some((CloseCode::Policy, "viewers listen only"));
                    }
                    Ok(Some(Ok(Message::Text(_) | Message::Binary(_)))) => words += 1,
                    // Pings are answered, and the closing handshake is finished, inside the library.
                    Ok(Some(Ok(_))) => {}
                    Ok(Some(Err(error))) => {
                        debug!("a viewer's connection ended: {error}");
                        break None;
                    }
                    Ok(None) => break None,
                    Err(_) => break Some((CloseCode::Away, "no sign of life")),
                }
                heard_at = Instant::now();
                continue;
            }
        };
        match timeout(SEND_TIMEOUT, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                debug!("a viewer's connection ended: {error}");
                break None;
            }
            Err(_) => {
                debug!("a viewer was dropped: it does not read");
                break None;
            }
        }
    };
    if let Some((code, reason)) = farewell {
        let farewell = CloseFrame { code, reason: reason.into() };
        // One second: the process does not wait longer for a viewer who does not read.
        let _ = timeout(Duration::from_secs(1), socket.close(Some(farewell))).await;
    }
}
