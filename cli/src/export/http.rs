//! A small HTTP/1.1 server for one page. A client that sends too much, reads too slowly or never ends is cut off.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use super::config::Limits;

/// What a client wants. The reply is the page, or why there is none.
pub(super) struct Ask {
    /// The header `Accept`.
    pub(super) accept: String,
    pub(super) reply: SyncSender<Result<Body, String>>,
}

pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: &'static str,
}

/// The most headers of a request.
const HEADERS: usize = 64;
/// The pause after a connection that could not be accepted, such as without a free descriptor.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves in threads of its own until the process ends; returns the address. Each request for the page goes to `ask`.
pub(super) fn serve(listen: SocketAddr, limits: Limits, ask: SyncSender<Ask>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen)?;
    let address = listener.local_addr()?;
    let accept = move || {
        // Each client holds a clone.
        let clients = Arc::new(());
        loop {
            let Ok((mut stream, _)) = listener.accept() else {
                thread::sleep(PAUSE);
                continue;
            };
            if Arc::strong_count(&clients) > limits.clients {
                // It fits in the empty buffer of the socket.
                let _ = stream.set_nonblocking(true);
                let _ = stream.write_all(&head(503, "text/plain", 0));
                continue;
            }
            let (ask, place) = (ask.clone(), clients.clone());
            let client = move || {
                let mut client = Client { stream, end: Instant::now() + limits.time };
                // It has gone, or was too slow.
                let _ = client.serve(&limits, &ask);
                drop(place);
            };
            // Without a thread the connection is closed.
            let _ = thread::Builder::new().name("mapring-client".to_owned()).spawn(client);
        }
    };
    thread::Builder::new().name("mapring-http".to_owned()).spawn(accept)?;
    Ok(address)
}

struct Client {
    stream: TcpStream,
    /// When it is cut off.
    end: Instant,
}

impl Client {
    fn serve(&mut self, limits: &Limits, ask: &SyncSender<Ask>) -> io::Result<()> {
        let (method, accept) = match self.request(limits.request)? {
            Ok(request) => request,
            Err((status, why)) => return self.refuse(status, why),
        };
        let (reply, replied) = mpsc::sync_channel(1);
        let left = self.left()?;
        if ask.try_send(Ask { accept, reply }).is_err() {
            return self.refuse(503, "too many requests");
        }
        match replied.recv_timeout(left) {
            Ok(Ok(Body { bytes, content_type })) => {
                self.write(&head(200, content_type, bytes.len()))?;
                if method == "GET" {
                    self.write(&bytes)?;
                }
                self.stream.shutdown(Shutdown::Write)
            }
            Ok(Err(why)) => self.refuse(500, &why),
            Err(_) => self.refuse(503, "no answer in time"),
        }
    }

    /// Reads a request.
    fn request(&mut self, most: usize) -> io::Result<Wanted> {
        let mut bytes = Vec::new();
        loop {
            let from = bytes.len();
            bytes.resize(most.min(from + 1024), 0);
            if bytes.len() == from {
                return Ok(Err((431, "the request is too long")));
            }
            self.stream.set_read_timeout(Some(self.left()?))?;
            let count = self.stream.read(&mut bytes[from..])?;
            bytes.truncate(from + count);
            let mut headers = [httparse::EMPTY_HEADER; HEADERS];
            let mut request = httparse::Request::new(&mut headers);
            match request.parse(&bytes) {
                Ok(httparse::Status::Complete(_)) => return Ok(wanted(&request)),
                Ok(httparse::Status::Partial) if count == 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(httparse::Status::Partial) => {}
                Err(httparse::Error::TooManyHeaders) => return Ok(Err((431, "too many headers"))),
                Err(_) => return Ok(Err((400, "not a request of HTTP/1.1"))),
            }
        }
    }

    fn refuse(&mut self, status: u16, why: &str) -> io::Result<()> {
        let text = format!("{why}\n");
        self.write(&head(status, "text/plain; charset=utf-8", text.len()))?;
        self.write(text.as_bytes())?;
        self.stream.shutdown(Shutdown::Write)?;
        // The kernel drops the answer if it closes a connection with unread bytes.
        let mut rest = [0; 4096];
        for _ in 0..16 {
            self.stream.set_read_timeout(Some(self.left()?.min(PAUSE)))?;
            if self.stream.read(&mut rest)? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?))?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The time that the client still has.
    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

/// The method of a request and its header `Accept`, or the status that refuses it and why.
type Wanted = Result<(String, String), (u16, &'static str)>;

fn wanted(request: &httparse::Request<'_, '_>) -> Wanted {
    let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    if !["GET", "HEAD"].contains(&method) {
        return Err((405, "only GET and HEAD"));
    }
    if path.split('?').next() != Some("/metrics") {
        return Err((404, "the values are at /metrics"));
    }
    let accept: Vec<_> = (request.headers.iter())
        .filter(|header| header.name.eq_ignore_ascii_case("accept"))
        .map(|header| String::from_utf8_lossy(header.value))
        .collect();
    Ok((method.to_owned(), accept.join(",")))
}

fn head(status: u16, content_type: &str, length: usize) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        _ => "Service Unavailable",
    };
    let allow = if status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    )
    .into_bytes()
}
