//! HTTP for probes and scrapers: `/livez`, `/readyz` and `/metrics`, nothing else. A request is a line and some headers,
//! bounded in bytes and time; its connection is closed behind the answer. No data is ever shown.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::health::readiness;
use crate::limits::{
    ACCEPT_PAUSE, HTTP_CONNECTIONS_MAX, HTTP_REQUEST_BYTES, HTTP_WAIT, LINGER, LINGER_BYTES,
};
use crate::metrics::{Format, Metrics};
use crate::shared::Shared;
use crate::tls::serve_hello;

const TEXT: &str = "text/plain; charset=utf-8";

/// What a client is told that does not speak TLS where it has to.
const SPEAK_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 44\r\n\
                           Connection: close\r\n\r\nthis address speaks TLS only; use https://\r\n";

/// What requests come over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Plain,
    Tls,
}

pub(crate) struct HttpServer {
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl HttpServer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let metrics = Arc::new(Metrics::new(Arc::clone(&shared)));
        Self { shared, metrics }
    }

    /// Answers until the runtime ends.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener, over: Over) {
        let server = self;
        // Its own: whoever fills those of another address keeps nobody out here.
        let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // One too many is closed without a word.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                // Nobody is left to be told when this fails.
                let _ = timeout(HTTP_WAIT * 2, async {
                    match over {
                        Over::Plain => server.serve(&mut stream).await,
                        Over::Tls => match serve_hello(&server.shared, stream, SPEAK_TLS).await {
                            Some(mut stream) => server.serve(&mut stream).await,
                            None => Ok(()),
                        },
                    }
                })
                .await;
                drop(place);
            });
        }
    }

    /// One request, one answer.
    async fn serve(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
        let answer = match timeout(HTTP_WAIT, read_request(stream)).await {
            Ok(Ok(request)) => self.answer(&request).await,
            Ok(Err(Unread::Broken)) => return Ok(()),
            Ok(Err(Unread::TooLarge)) => {
                Answer::text("431 Request Header Fields Too Large", "the request is larger than 8 KiB\n")
            }
            Err(_) => Answer::text("408 Request Timeout", "the request did not come whole in 5 seconds\n"),
        };
        let written = timeout(HTTP_WAIT, stream.write_all(&answer.to_bytes())).await;
        written.map_err(|_| io::ErrorKind::TimedOut)??;
        stream.shutdown().await?;
        // What else the client sends is read for a moment, or a reset could overtake the answer.
        let mut rest = stream.take(LINGER_BYTES as u64);
        let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
        Ok(())
    }

    async fn answer(&self, request: &[u8]) -> Answer {
        let answer = match route(request) {
            Err(answer) => answer,
            Ok(Request { route: Route::Live, .. }) => Answer::text("200 OK", "the server answers\n"),
            Ok(Request { route: Route::Ready, .. }) => match readiness(&self.shared) {
                Ok(()) => Answer::text("200 OK", "ready\n"),
                Err(reason) => Answer::text("503 Service Unavailable", format!("not ready: {reason}\n")),
            },
            Ok(Request { route: Route::Metrics, format, .. }) => {
                let metrics = Arc::clone(&self.metrics);
                // It can walk through keys.
                match spawn_blocking(move || metrics.encode(format)).await {
                    Ok(Ok(body)) => Answer { kind: format.content_type(), ..Answer::text("200 OK", body) },
                    _ => Answer::text("500 Internal Server Error", "the metrics cannot be written\n"),
                }
            }
        };
        Answer { is_head: request.starts_with(b"HEAD "), ..answer }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Live,
    Ready,
    Metrics,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    route: Route,
    format: Format,
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
    /// Told of, and not sent.
    is_head: bool,
}

impl Answer {
    fn text(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, kind: TEXT, body: body.into(), is_head: false }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let Self { status, kind, body, is_head } = self;
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let length = body.len();
        let shown = if *is_head { "" } else { body };
        format!(
            "HTTP/1.1 {status}\r\n{allow}Content-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{shown}"
        )
        .into_bytes()
    }
}

/// What a whole request asks for, or the answer that refuses it.
fn route(request: &[u8]) -> Result<Request, Answer> {
    let bad = || Answer::text("400 Bad Request", "this is no HTTP request\n");
    let text = std::str::from_utf8(request).map_err(|_| bad())?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (method, target, version, words.next())
    else {
        return Err(bad());
    };
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) || !target.starts_with('/')
    {
        return Err(bad());
    }
    let headers: Option<Vec<(&str, &str)>> =
        lines.take_while(|line| !line.is_empty()).map(|line| line.split_once(':')).collect();
    let headers = headers.ok_or_else(bad)?;
    let route = match target.split('?').next().unwrap_or_default() {
        "/livez" => Route::Live,
        "/readyz" => Route::Ready,
        "/metrics" => Route::Metrics,
        _ => return Err(Answer::text("404 Not Found", "there are /livez, /readyz and /metrics\n")),
    };
    if !matches!(method, "GET" | "HEAD") {
        return Err(Answer::text("405 Method Not Allowed", "only GET and HEAD are answered\n"));
    }
    let accepts_open_metrics = headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("accept") && value.contains("application/openmetrics-text")
    });
    let format = if accepts_open_metrics { Format::OpenMetrics } else { Format::Prometheus };
    Ok(Request { route, format })
}

/// Why there is no request.
#[derive(Debug, PartialEq, Eq)]
enum Unread {
    /// The client has gone before its request was whole.
    Broken,
    TooLarge,
}

/// Reads up to the empty line behind the headers. A body is never read: there is none that would be used.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Unread> {
    let mut request = Vec::with_capacity(1 << 10);
    loop {
        let room = HTTP_REQUEST_BYTES - request.len();
        match (&mut *stream).take(room as u64).read_buf(&mut request).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(Unread::Broken),
        }
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            request.truncate(end + 4);
            return Ok(request);
        }
        if request.len() >= HTTP_REQUEST_BYTES {
            return Err(Unread::TooLarge);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str) -> &'static str {
        route(request.as_bytes()).map_or_else(|answer| answer.status, |_| "200 OK")
    }

    #[test]
    fn three_pages_are_known_and_two_methods() {
        for page in ["/livez", "/readyz", "/metrics", "/metrics?x=1"] {
            assert_eq!(status(&format!("GET {page} HTTP/1.1\r\nHost: a\r\n\r\n")), "200 OK");
            assert_eq!(status(&format!("HEAD {page} HTTP/1.0\r\n\r\n")), "200 OK");
            assert_eq!(status(&format!("POST {page} HTTP/1.1\r\n\r\n")), "405 Method Not Allowed");
        }
        for page in ["/", "/livez/", "/metrics/..", "/%6divez"] {
            assert_eq!(status(&format!("GET {page} HTTP/1.1\r\n\r\n")), "404 Not Found");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for request in [
            "\r\n\r\n",
            "GET\r\n\r\n",
            "GET /livez\r\n\r\n",
            "GET /livez HTTP/2.0\r\n\r\n",
            "GET /livez HTTP/1.1 x\r\n\r\n",
            "GET  /livez HTTP/1.1\r\n\r\n",
            "get /livez HTTP/1.1\r\n\r\n",
            "GET livez HTTP/1.1\r\n\r\n",
            "GET /livez HTTP/1.1\r\nno header\r\n\r\n",
            "*1\r\n$4\r\nPING\r\n\r\n",
        ] {
            assert_eq!(status(request), "400 Bad Request", "{request:?}");
        }
        assert_eq!(route(b"GET /\xff HTTP/1.1\r\n\r\n").unwrap_err().status, "400 Bad Request");
    }

    #[test]
    fn a_scraper_gets_the_format_it_asks_for() {
        let format = |header: &str| {
            route(format!("GET /metrics HTTP/1.1\r\n{header}\r\n\r\n").as_bytes()).unwrap().format
        };
        assert_eq!(format("Accept: */*"), Format::Prometheus);
        assert_eq!(
            format("ACCEPT: application/openmetrics-text;version=1.0.0,text/plain"),
            Format::OpenMetrics
        );
    }

    #[test]
    fn an_answer_to_head_has_a_length_and_no_body() {
        let answer = Answer { is_head: true, ..Answer::text("200 OK", "ready\n") };
        let text = String::from_utf8(answer.to_bytes()).unwrap();
        assert!(text.contains("Content-Length: 6\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }
}
