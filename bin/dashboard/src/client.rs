//! The WebSocket of one viewer. The viewer gets the feed's frames, is pinged, and is dropped when it stops reading. Nothing
//! is queued: a viewer that is late gets the latest snapshot and nothing in between.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, interval, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Bytes, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::frame::Frame;
use crate::inbound::InboundLimit;

/// The upgrade must be done within this time.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
const PING_PERIOD: Duration = Duration::from_secs(20);
/// A viewer that sends nothing for this long, not even a pong, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A viewer that takes longer to receive one message has stopped reading.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Viewers have nothing to say; a few messages are tolerated.
const MESSAGES_MAX: u32 = 16;
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
pub(crate) async fn serve(upgrade: OnUpgrade, frames: watch::Receiver<Frame>, stop: CancellationToken) {
    match timeout(UPGRADE_TIMEOUT, upgrade).await {
        Ok(Ok(upgraded)) => show(TokioIo::new(upgraded), frames, stop).await,
        _ => debug!("a viewer left before the upgrade was done"),
    }
}

async fn show<S>(stream: S, mut frames: watch::Receiver<Frame>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = WebSocketStream::from_raw_socket(InboundLimit::new(stream), Role::Server, Some(limits())).await;
    let mut seen = None;
    let mut messages = 0;
    let mut heard_at = Instant::now();
    let mut pings = interval(PING_PERIOD);
    pings.reset();
    frames.mark_changed();
    let close = loop {
        let text = tokio::select! {
            () = stop.cancelled() => break Some((CloseCode::Away, "the dashboard is being stopped")),
            changed = frames.changed() => {
                if changed.is_err() {
                    break Some((CloseCode::Away, "the dashboard is being stopped"));
                }
                let frame = frames.borrow_and_update();
                let text = frame.after(seen);
                seen = Some(frame.seq);
                Some(text)
            }
            _ = pings.tick() => None,
            heard = timeout_at(heard_at + SILENCE_MAX, socket.next()) => {
                match heard {
                    Ok(Some(Ok(Message::Text(_) | Message::Binary(_)))) if messages == MESSAGES_MAX => {
                        break Some((CloseCode::Policy, "viewers listen only"));
                    }
                    Ok(Some(Ok(Message::Text(_) | Message::Binary(_)))) => messages += 1,
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
        let sending = async {
            match text {
                Some(text) => send_text(&mut socket, &text).await,
                None => socket.send(Message::Ping(Bytes::new())).await,
            }
        };
        match timeout(SEND_TIMEOUT, sending).await {
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
    if let Some((code, reason)) = close {
        let frame = CloseFrame { code, reason: reason.into() };
        // One second: the process does not wait longer for a viewer who does not read.
        let _ = timeout(Duration::from_secs(1), socket.close(Some(frame))).await;
    }
}

/// Sends a text without the library, which would copy it for every viewer and keep the buffer.
async fn send_text<S>(socket: &mut WebSocketStream<S>, text: &Utf8Bytes) -> Result<(), tungstenite::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // What the library has begun to send comes first.
    socket.flush().await?;
    let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
    write_head(text.len(), &mut head);
    let mut message = bytes::Buf::chain(head.as_slice(), text.as_bytes());
    socket.get_mut().write_all_buf(&mut message).await?;
    Ok(())
}

const HEAD_BYTES_MAX: usize = 10;

/// The frame header of a text of `len` bytes, unfragmented and not masked (RFC 6455, section 5.2).
fn write_head(len: usize, to: &mut Vec<u8>) {
    to.push(0x81);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..126), _) => to.push(len),
        (_, Ok(len)) => {
            to.push(126);
            to.extend(len.to_be_bytes());
        }
        _ => {
            to.push(127);
            to.extend((len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::sleep;

    use super::*;
    use crate::snapshot::Snapshot;

    struct Served {
        stream: DuplexStream,
        frames: watch::Sender<Frame>,
        serving: JoinHandle<()>,
    }

    /// A viewer who has `room` bytes before it must read.
    fn serve_with(room: usize) -> Served {
        let (stream, ours) = duplex(room);
        let (frames, seen) = watch::channel(Frame::first(&snapshot(0)));
        Served { stream, frames, serving: tokio::spawn(show(ours, seen, CancellationToken::new())) }
    }

    fn snapshot(views: u64) -> Snapshot {
        Snapshot { views: Some(views), ..Snapshot::initial("s".into()) }
    }

    fn next(frames: &watch::Sender<Frame>) {
        frames.send_modify(|frame| *frame = frame.next(&snapshot(frame.seq + 1)));
    }

    async fn client(stream: DuplexStream) -> WebSocketStream<DuplexStream> {
        WebSocketStream::from_raw_socket(stream, Role::Client, None).await
    }

    /// Kind, number and views of the next message.
    async fn message(client: &mut WebSocketStream<DuplexStream>) -> (String, u64, u64) {
        let message = client.next().await.expect("a message").expect("no error");
        let message: Value = serde_json::from_str(message.to_text().expect("text")).expect("JSON");
        let number = |name: &str| message[name].as_u64().expect("a number");
        (message["type"].as_str().expect("a kind").to_owned(), number("seq"), number("views"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_viewer_who_says_nothing_is_asked_and_then_dropped() {
        let Served { mut stream, serving, frames: _frames } = serve_with(1 << 20);
        let started = Instant::now();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("an end");
        assert_eq!(started.elapsed().as_secs(), SILENCE_MAX.as_secs());
        serving.await.expect("no panic");
        let (rest, close) = bytes.split_at(bytes.len() - "no sign of life".len());
        assert_eq!(close, b"no sign of life");
        // After the snapshot: pings, and the head of the close.
        let pings = rest.rsplit(|byte| *byte == b'}').next().expect("the end of the snapshot");
        assert!(pings.starts_with(&[0x89, 0, 0x89, 0]), "{pings:02x?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_viewer_who_answers_stays() {
        let Served { stream, frames, serving } = serve_with(1 << 20);
        let mut client = client(stream).await;
        let reading = async { while client.next().await.is_some_and(|message| message.is_ok()) {} };
        assert!(timeout(10 * SILENCE_MAX, reading).await.is_err(), "dropped");
        assert!(!serving.is_finished());
        drop(frames);
        serving.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn a_viewer_who_is_late_gets_the_latest_and_nothing_between() {
        let Served { stream, frames, serving: _serving } = serve_with(64);
        for _ in 0..3 {
            sleep(SEND_TIMEOUT / 5).await;
            next(&frames);
        }
        let mut client = client(stream).await;
        assert_eq!(message(&mut client).await, ("snapshot".into(), 0, 0));
        assert_eq!(message(&mut client).await, ("snapshot".into(), 3, 3));
        next(&frames);
        assert_eq!(message(&mut client).await, ("update".into(), 4, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_viewer_who_does_not_read_is_dropped() {
        let Served { mut stream, frames, serving } = serve_with(64);
        let started = Instant::now();
        while !serving.is_finished() {
            sleep(Duration::from_millis(250)).await;
            next(&frames);
        }
        assert_eq!(started.elapsed().as_secs(), SEND_TIMEOUT.as_secs());
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("an end");
        assert_eq!(bytes.len(), 64, "nothing was queued beside the connection's own room");
    }

    #[tokio::test(start_paused = true)]
    async fn a_viewer_who_never_ends_a_message_is_dropped() {
        let Served { mut stream, frames: _frames, serving } = serve_with(1 << 20);
        // A text that is not over, and empty pieces of it, masked as a client's are.
        let mut sent = 6;
        stream.write_all(&[0x01, 0x80, 0, 0, 0, 0]).await.expect("sent");
        while stream.write_all(&[0x00, 0x80, 0, 0, 0, 0].repeat(100)).await.is_ok() && !serving.is_finished() {
            sent += 600;
            assert!(sent < 10 << 20, "it goes on and on");
            tokio::task::yield_now().await;
        }
        serving.await.expect("no panic");
    }

    #[tokio::test]
    async fn texts_of_all_lengths_arrive() {
        let (stream, ours) = duplex(1 << 17);
        let mut ours = WebSocketStream::from_raw_socket(ours, Role::Server, Some(limits())).await;
        let mut client = client(stream).await;
        for len in [0, 1, 125, 126, 127, 255, 256, 65_535, 65_536, 70_000] {
            let text: Utf8Bytes = "x".repeat(len).into();
            send_text(&mut ours, &text).await.expect("sent");
            assert_eq!(client.next().await.expect("a message").expect("no error"), Message::Text(text));
        }
    }
}
