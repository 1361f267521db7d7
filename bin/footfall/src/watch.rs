//! `footfall watch`: the live numbers in a terminal, through the dashboard's WebSocket.

mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use footfall_shared::clock;
use footfall_shared::config::Config;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

use crate::Result;
use crate::failure::Failure;
use crate::terminal::{note, print_all};
use crate::url::HttpUrl;
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
/// In a terminal it is redrawn with every change; otherwise there is one line per second. It connects to the WebSocket
/// at dashboard.url, and again when the connection is lost: numbers that are not live any more are marked.
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
        return match follow(&dashboard, &mut View::default(), &mut output).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(why) => Err(Failure::Dependency(format!(
                "the dashboard at {} cannot be watched: {why}; check that it runs and that dashboard.url leads to it",
                config.dashboard.url
            ))),
        };
    }
    let refused = |error| Failure::file("watch for signals", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    output.open();
    let result = tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        error = follow_for_ever(&dashboard, &mut output) => Err(error),
    };
    output.close();
    match result {
        // Nobody reads any more, as with `footfall watch | head`: that is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::file("write the numbers", &error)),
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Ends only when the numbers cannot be shown.
async fn follow_for_ever(dashboard: &Dashboard<'_>, output: &mut Output) -> io::Error {
    let mut view = View::default();
    let mut retry = RETRY_FIRST;
    loop {
        let started = Instant::now();
        let why = match follow(dashboard, &mut view, output).await {
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
        if let Err(error) = output.disconnected(&view, &dashboard.url, &sentence) {
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
                output.second(view)?;
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
            (false, false) if io::stdout().is_terminal() => Form::Screen,
            (false, false) => Form::Lines,
        };
        Self { once: args.once, form }
    }

    /// The alternate screen, so that what the terminal showed before comes back at the end; no cursor.
    fn open(&self) {
        if self.form == Form::Screen {
            let _ = print_all("\x1b[?1049h\x1b[?25l");
        }
    }

    fn close(&self) {
        if self.form == Form::Screen {
            let _ = print_all("\x1b[?25h\x1b[?1049l\n");
        }
    }

    fn message(&self, view: &View, url: &HttpUrl, text: &Utf8Bytes) -> io::Result<()> {
        match self.form {
            Form::Json => print_all(&format!("{text}\n")),
            Form::Screen | Form::Page => self.draw(view, &format!("live from {}", url.address)),
            Form::Lines => Ok(()),
        }
    }

    fn second(&self, view: &View) -> io::Result<()> {
        if self.form == Form::Lines && view.has_numbers() {
            print_all(&format!("{}  {}\n", clock::rfc3339(clock::unix_ms()), view.line()))?;
        }
        Ok(())
    }

    fn disconnected(&self, view: &View, url: &HttpUrl, why: &str) -> io::Result<()> {
        match self.form {
            Form::Screen => self.draw(view, &format!("NOT LIVE: {}: {why}", url.address)),
            Form::Json | Form::Page | Form::Lines => {
                note(format_args!("not live: {}: {why}", url.address));
                Ok(())
            }
        }
    }

    fn draw(&self, view: &View, title: &str) -> io::Result<()> {
        let text = format!("Footfall, {title}\n\n{}", view.page());
        if self.form == Form::Screen {
            // Home; each line erases what was there before; then everything below.
            print_all(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))
        } else {
            print_all(&text)
        }
    }
}
