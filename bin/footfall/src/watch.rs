//! `footfall watch`: the live numbers in a terminal, through the dashboard's WebSocket.

mod view;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use console::{Term, truncate_str};
use footfall_shared::service::clock;
use footfall_shared::service::config::Config;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::terminal::{is_screen, note, print_all};
use crate::url::HttpUrl;
use crate::{DIFFERENCE_FOUND, Result};
use view::View;

/// How long connecting may take, the WebSocket's handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After this time without a message the dashboard is asked for a sign of life,
const SILENCE: Duration = Duration::from_secs(5);
/// and after this time it is taken for gone: a cut cable says nothing by itself.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Pause before the first try to connect again; doubled by each further one.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest pause between two tries.
const RETRY_MAX: Duration = Duration::from_secs(8);

/// Shows the live numbers, as the dashboard has them
///
/// In a terminal it is redrawn with every change, as far as there is room; otherwise, with TERM=dumb and with NO_COLOR,
/// there is one line per second. It connects to the WebSocket at dashboard.url, and again when the connection is lost:
/// numbers that are not live any more are marked.
///
/// The exit code is 69 if the dashboard was never reached, and with --once 1 if it says that its numbers are stale.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show the numbers once, then exit
    #[arg(long)]
    once: bool,
    /// Print the dashboard's messages as they come: a snapshot, then what changed
    #[arg(long)]
    json: bool,
}

/// Where the numbers come from.
struct Dashboard<'a> {
    url: HttpUrl,
    token: Option<&'a str>,
}

pub(crate) async fn run(config: &Config, args: &Args) -> Result {
    let dashboard =
        Dashboard { url: HttpUrl::parse(config.dashboard.url.as_str())?, token: config.dashboard.token.get() };
    let mut output = Output::new(args);
    if args.once {
        let mut view = View::default();
        return match follow(&dashboard, &mut view, &mut output).await {
            Ok(()) if view.stale().is_some() => Ok(ExitCode::from(DIFFERENCE_FOUND)),
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(why) => Err(Failure::Dependency(format!(
                "the dashboard at {} cannot be watched: {why}; check that it runs and that dashboard.url leads to it",
                config.dashboard.url
            ))),
        };
    }
    let interrupt = Interrupt::listen()?;
    let mut view = View::default();
    let result = tokio::select! {
        () = interrupt.came() => Ok(()),
        error = follow_for_ever(&dashboard, &mut view, &mut output) => Err(error),
    };
    let closed = output.close();
    match result.and(closed) {
        // Nobody reads any more, as with `footfall watch | head`: that is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::file("write the numbers", &error)),
        Ok(()) if !view.has_numbers() => {
            let url = &config.dashboard.url;
            Err(Failure::Dependency(format!("no number was seen: the dashboard was not reached at {url}")))
        }
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Ends only when the numbers cannot be shown.
async fn follow_for_ever(dashboard: &Dashboard<'_>, view: &mut View, output: &mut Output) -> io::Error {
    if let Err(error) = output.open() {
        return error;
    }
    let mut retry = RETRY_FIRST;
    loop {
        let started = Instant::now();
        let why = match follow(dashboard, view, output).await {
            Ok(()) => "the dashboard closed the connection".to_owned(),
            Err(Stopped::Output(error)) => return error,
            Err(Stopped::Connection(why)) => why,
        };
        if started.elapsed() > RETRY_MAX {
            retry = RETRY_FIRST;
        }
        // Jitter, so that all viewers of a restarted dashboard do not come back at once.
        let pause = retry.mul_f64(rand::random_range(0.5..1.0));
        retry = RETRY_MAX.min(retry * 2);
        let sentence = format!("{why}; trying again in {:.1} s", pause.as_secs_f64());
        if let Err(error) = output.disconnected(view, &dashboard.url, &sentence) {
            return error;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Why following came to an end.
enum Stopped {
    Connection(String),
    Output(io::Error),
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connection(why) => f.write_str(why),
            Self::Output(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Shows one connection's messages until it ends, or until enough was shown.
async fn follow(dashboard: &Dashboard<'_>, view: &mut View, output: &mut Output) -> std::result::Result<(), Stopped> {
    let mut socket = connect(dashboard).await.map_err(Stopped::Connection)?;
    let mut heard = Instant::now();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    view.begin();
    loop {
        tokio::select! {
            message = socket.next() => {
                heard = Instant::now();
                let text = match message {
                    Some(Ok(Message::Text(text))) => text,
                    Some(Ok(Message::Close(_))) | None => return Ok(()),
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return Err(Stopped::Connection(error.to_string())),
                };
                view.apply(&text).map_err(Stopped::Connection)?;
                output.message(view, &dashboard.url, &text)?;
                if output.once {
                    return Ok(());
                }
            }
            _ = second.tick() => {
                if heard.elapsed() >= SILENCE_MAX {
                    return Err(Stopped::Connection(format!("nothing was heard for {} s", SILENCE_MAX.as_secs())));
                }
                if heard.elapsed() >= SILENCE {
                    socket.send(Message::Ping(Bytes::new())).await.map_err(|error| Stopped::Connection(error.to_string()))?;
                }
                output.second(view, &dashboard.url)?;
            }
        }
    }
}

async fn connect(dashboard: &Dashboard<'_>) -> std::result::Result<WebSocketStream<TcpStream>, String> {
    let connect = async {
        let stream = TcpStream::connect(&dashboard.url.address).await.map_err(|error| error.to_string())?;
        let mut request =
            dashboard.url.websocket("/realtime").into_client_request().map_err(|error| error.to_string())?;
        if let Some(token) = dashboard.token {
            let bearer = format!("Bearer {token}").parse().map_err(|_| "dashboard.token is not printable ASCII")?;
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.map_err(|error| error.to_string())?;
        Ok(socket)
    };
    tokio::time::timeout(CONNECT_TIMEOUT, connect)
        .await
        .unwrap_or_else(|_| Err(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())))
}

/// Where and how the numbers are shown.
struct Output {
    once: bool,
    form: Form,
}

#[derive(PartialEq, Eq)]
enum Form {
    /// The dashboard's messages.
    Json,
    /// The whole view, redrawn in place.
    Screen,
    /// The whole view, below what was printed before.
    Page,
    /// One line per second.
    Lines,
}

impl Output {
    fn new(args: &Args) -> Self {
        let form = match (args.json, args.once) {
            (true, _) => Form::Json,
            (false, true) => Form::Page,
            (false, false) if is_screen() => Form::Screen,
            (false, false) => Form::Lines,
        };
        Self { once: args.once, form }
    }

    /// The alternate screen, so that what the terminal showed before comes back at the end; no cursor.
    fn open(&self) -> io::Result<()> {
        if self.form == Form::Screen { print_all("\x1b[?1049h\x1b[?25l") } else { Ok(()) }
    }

    fn close(&self) -> io::Result<()> {
        if self.form == Form::Screen { print_all("\x1b[?25h\x1b[?1049l\n") } else { Ok(()) }
    }

    fn message(&self, view: &View, url: &HttpUrl, text: &Utf8Bytes) -> io::Result<()> {
        match self.form {
            Form::Json => print_all(&format!("{text}\n")),
            Form::Screen => draw(view, &live(view, url)),
            Form::Page => print_all(&format!("Footfall, {}\n\n{}", live(view, url), view.page())),
            Form::Lines => Ok(()),
        }
    }

    fn second(&self, view: &View, url: &HttpUrl) -> io::Result<()> {
        match self.form {
            Form::Lines if view.has_numbers() => {
                print_all(&format!("{}  {}\n", clock::rfc3339(clock::unix_ms()), view.line()))
            }
            // The terminal may have another size by now.
            Form::Screen if view.has_numbers() => draw(view, &live(view, url)),
            Form::Json | Form::Screen | Form::Page | Form::Lines => Ok(()),
        }
    }

    fn disconnected(&self, view: &View, url: &HttpUrl, why: &str) -> io::Result<()> {
        match self.form {
            Form::Screen => draw(view, &format!("NOT LIVE: {}: {why}", url.address)),
            Form::Json | Form::Page | Form::Lines => {
                note(format_args!("not live: {}: {why}", url.address));
                Ok(())
            }
        }
    }
}

/// What stands above numbers that have just come: they may be old when they come.
fn live(view: &View, url: &HttpUrl) -> String {
    match view.stale() {
        None => format!("live from {}", url.address),
        Some(_) => format!("NOT LIVE: {} says that its numbers are stale", url.address),
    }
}

/// Draws over what was drawn before.
fn draw(view: &View, title: &str) -> io::Result<()> {
    let (rows, columns) = Term::stdout().size();
    print_all(&screen(view, title, usize::from(rows), usize::from(columns)))
}

/// As many lines as the terminal has, none longer than it is wide: home; each line erases what was there before; then
/// everything below. No line break behind the last one, which would move all up.
fn screen(view: &View, title: &str, rows: usize, columns: usize) -> String {
    let head = [format!("Footfall, {title}"), String::new()];
    let page = view.page_within(rows.saturating_sub(head.len()));
    let lines = head.iter().map(String::as_str).chain(page.lines()).take(rows);
    let lines: Vec<_> = lines.map(|line| truncate_str(line, columns, "\u{2026}")).collect();
    format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_drawn_outside_of_the_terminal() {
        let mut view = View::default();
        let article =
            |number| format!("{{\"article\":\"/\u{8bfb}\u{8005}/{number}\",\"views\":{number},\"readers\":1}}");
        let event = r#"{"at":"noon","name":"ingest","text":"is down","detail":"not heard of"}"#;
        let instance = r#"{"role":"ingest","name":"web1:8000","state":"ready","reason":""}"#;
        let message = format!(
            r#"{{"type":"snapshot","seq":1,"views":9,"top":[{}],"events":[{}],"instances":[{}]}}"#,
            (0..20).map(article).collect::<Vec<_>>().join(","),
            [event; 9].join(","),
            [instance; 3].join(","),
        );
        view.apply(&message).expect("valid");
        for rows in [1, 2, 3, 10, 17, 18, 19, 24, 25, 37, 38, 100] {
            for columns in [1, 2, 20, 80, 200] {
                let screen = screen(&view, "live from here", rows, columns);
                let text = screen.replace("\x1b[H", "").replace("\x1b[K", "").replace("\x1b[J", "");
                let lines: Vec<&str> = text.split("\r\n").collect();
                assert!(lines.len() <= rows, "{} lines on {rows}", lines.len());
                for line in &lines {
                    assert!(console::measure_text_width(line) <= columns, "{line:?} on {columns}");
                    assert!(!line.contains('\n'), "{line:?}");
                }
                if rows >= 24 && columns >= 80 {
                    assert!(
                        text.contains("views") && text.contains("web1:8000") && text.contains("/\u{8bfb}"),
                        "{text}"
                    );
                }
            }
        }
        let drawn = |rows| screen(&view, "live", rows, 80);
        let (all, most) = (drawn(100), drawn(24));
        assert!(all.matches("noon").count() == 5 && all.matches("/\u{8bfb}").count() == 10, "{all}");
        assert_eq!(most.matches("\r\n").count(), 23, "the room is used: {most}");
    }

    #[test]
    fn what_is_stale_is_not_called_live() {
        let mut view = View::default();
        let url = HttpUrl::parse("http://127.0.0.1:8001").expect("valid");
        view.apply(r#"{"type":"snapshot","seq":1,"stale":null}"#).expect("valid");
        assert_eq!(live(&view, &url), "live from 127.0.0.1:8001");
        view.apply(r#"{"type":"update","seq":2,"stale":{"reason":"Redis is gone.","since":"noon"}}"#).expect("valid");
        assert!(live(&view, &url).starts_with("NOT LIVE"));
    }
}
