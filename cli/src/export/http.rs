//! A small HTTP/1.1 server for one page, in one thread. A client that sends too much, reads too slowly or never ends is
//! cut off. Between two requests a connection costs nothing: it stays open until another client needs its place. No client
//! waits for a slow one: where there is no place, the slowest loses its own.

use std::io::{self, IoSlice, Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::config::Limits;
use super::page::Page;
use crate::regions::shortage::is_short;

/// Writes the page over an earlier one, in a format that a client with this header `Accept` takes. Returns its content
/// type, or why there is none.
pub(super) type Write<'a> = dyn FnMut(&str, &mut Page) -> Result<&'static str, String> + 'a;

/// The most headers of a request.
const HEADERS: usize = 64;
/// The most clients that have a page and did not take all of it yet.
const PAGES: usize = 8;
/// How long an answered client may take to close, and the pause if no connection can be accepted, such as without a free
/// descriptor.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Server {
    listener: TcpListener,
    limits: Limits,
    clients: Vec<Client>,
    /// The last page, for the next one.
    spare: Page,
}

impl Server {
    pub(super) fn new(listen: SocketAddr, limits: Limits) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, limits, clients: Vec::new(), spare: Page::default() })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits until clients send or take something, a signal arrives, or for this time; serves these clients.
    pub(super) fn serve(&mut self, timeout: Duration, write: &mut Write<'_>) -> io::Result<()> {
        let first = self.clients.iter().filter_map(|client| client.end).min();
        let timeout = first.map_or(timeout, |end| timeout.min(end.saturating_duration_since(Instant::now())));
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        let of_clients = self.clients.iter().map(|client| PollFd::new(&client.stream, client.awaits()));
        let mut fds: Vec<_> = of_clients.chain([PollFd::new(&self.listener, PollFlags::IN)]).collect();
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut of_clients = ready.iter();
        let now = Instant::now();
        let mut turn = Turn { now, limits: &self.limits, spare: &mut self.spare, write };
        self.clients.retain_mut(|client| {
            let is_ready = of_clients.next() == Some(&true);
            let is_late = client.end.is_some_and(|end| end <= now);
            // An error means that it has gone.
            !is_late && (!is_ready || client.serve(&mut turn).unwrap_or(false))
        });
        while self.clients.iter().filter(|client| client.takes()).count() > PAGES {
            self.end_slowest(now, Client::takes);
        }
        if ready.last() == Some(&true) {
            self.accept(now);
        }
        Ok(())
    }

    /// Ends the connection of a client; returns whether there was one. An idle client has sent nothing since its last
    /// answer, and is the first; then come those that got least in their time.
    fn end_slowest(&mut self, now: Instant, among: impl Fn(&Client) -> bool) -> bool {
        let of = |(at, client): (usize, &Client)| (client.end.is_some(), client.speed(now), client.since, at);
        let slowest = self.clients.iter().enumerate().filter(|(_, client)| among(client)).map(of).min();
        slowest.map(|(.., at)| self.clients.remove(at)).is_some()
    }

    fn accept(&mut self, now: Instant) {
        let accepted = self.listener.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        let stream = match accepted {
            Ok(stream) => stream,
            Err(e) if is_short(&e) => {
                if !self.end_slowest(now, |_| true) {
                    thread::sleep(PAUSE);
                }
                return;
            }
            Err(_) => return, // It has gone.
        };
        if self.clients.len() >= self.limits.clients {
            self.end_slowest(now, |_| true);
        }
        self.clients.push(Client {
            stream,
            since: now,
            end: Some(now + self.limits.time),
            does: Does::Ask,
            request: Vec::new(),
            head: Vec::new(),
            body: Page::default(),
            length: 0,
            sent: 0,
        });
    }
}

/// What clients need that are served.
struct Turn<'a, 'w> {
    now: Instant,
    limits: &'a Limits,
    spare: &'a mut Page,
    write: &'a mut Write<'w>,
}

struct Client {
    stream: TcpStream,
    /// When it connected, or since when it asks, takes an answer, or is idle.
    since: Instant,
    /// When it is cut off; `None` between two requests.
    end: Option<Instant>,
    does: Does,
    request: Vec<u8>,
    /// The answer, how many bytes of it the client gets, and how many it has.
    head: Vec<u8>,
    body: Page,
    length: usize,
    sent: usize,
}

/// What is awaited of a client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Ask,
    Take {
        last: bool,
    },
    /// It has the last answer. The kernel drops it if a connection is closed with unread bytes.
    Close,
}

impl Client {
    fn takes(&self) -> bool {
        matches!(self.does, Does::Take { .. })
    }

    /// The bytes of an answer that it took in a second; 0 if it has none yet.
    fn speed(&self, now: Instant) -> u128 {
        let sent = if self.takes() { self.sent as u128 } else { 0 };
        sent * 1_000_000 / now.saturating_duration_since(self.since).as_micros().max(1)
    }

    fn awaits(&self) -> PollFlags {
        if self.takes() { PollFlags::OUT } else { PollFlags::IN }
    }

    /// Goes on with a client that is ready; returns whether it stays.
    fn serve(&mut self, turn: &mut Turn<'_, '_>) -> io::Result<bool> {
        let done = match self.does {
            Does::Ask => self.read(turn),
            Does::Take { last } => self.send(turn, last),
            Does::Close => self.stream.read(&mut [0; 4096]).map(|count| count > 0),
        };
        match done {
            Err(e) if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&e.kind()) => Ok(true),
            done => done,
        }
    }

    /// Reads more of a request, and answers it if it is whole.
    fn read(&mut self, turn: &mut Turn<'_, '_>) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        let count = self.stream.read(&mut bytes)?;
        if self.end.is_none() {
            (self.since, self.end) = (turn.now, Some(turn.now + turn.limits.time));
        }
        self.request.extend_from_slice(&bytes[..count]);
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = match request.parse(&self.request) {
            _ if self.request.len() > turn.limits.request => Err((431, "the request is too long".to_owned())),
            Ok(httparse::Status::Partial) => return Ok(count > 0),
            Ok(httparse::Status::Complete(length)) => wanted(&request).map(|accept| (length, accept)),
            Err(httparse::Error::TooManyHeaders) => Err((431, "too many headers".to_owned())),
            Err(_) => Err((400, "not a request of HTTP/1.1".to_owned())),
        };
        let answer = parsed.and_then(|(length, accept)| {
            self.body = std::mem::take(turn.spare);
            let content_type = (turn.write)(&accept, &mut self.body).map_err(|why| (500, why))?;
            // A client that sends more before it has the answer gets no other one.
            Ok((200, is_last(&request) || length < self.request.len(), content_type))
        });
        let (status, last, content_type) = answer.unwrap_or_else(|(status, why)| {
            self.body = Page::from(format!("{why}\n"));
            (status, true, "text/plain; charset=utf-8")
        });
        let length = self.body.bytes().len();
        self.head = head(status, content_type, length, last);
        self.length = self.head.len() + if request.method == Some("HEAD") { 0 } else { length };
        self.sent = 0;
        // However late it asked, it is not slow at taking.
        self.since = turn.now;
        self.does = Does::Take { last };
        self.send(turn, last)
    }

    fn send(&mut self, turn: &mut Turn<'_, '_>, last: bool) -> io::Result<bool> {
        while self.sent < self.length {
            let (head, body) = (self.head.len().min(self.sent), self.sent.saturating_sub(self.head.len()));
            let end = self.length - self.head.len();
            let rest = [IoSlice::new(&self.head[head..]), IoSlice::new(&self.body.bytes()[body..end])];
            match self.stream.write_vectored(&rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => self.sent += count,
            }
        }
        let page = std::mem::take(&mut self.body);
        if page.number() >= turn.spare.number() {
            *turn.spare = page;
        }
        self.request.clear();
        if last {
            self.stream.shutdown(Shutdown::Write)?;
            self.end = self.end.map(|end| end.min(turn.now + PAUSE));
            self.does = Does::Close;
        } else {
            (self.since, self.end) = (turn.now, None);
            self.does = Does::Ask;
        }
        Ok(true)
    }
}

/// The header `Accept` of a request for the page, or the status that refuses it and why.
fn wanted(request: &httparse::Request<'_, '_>) -> Result<String, (u16, String)> {
    let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    if !["GET", "HEAD"].contains(&method) {
        return Err((405, "only GET and HEAD".to_owned()));
    }
    if path.split('?').next() != Some("/metrics") {
        return Err((404, "the values are at /metrics".to_owned()));
    }
    let accept: Vec<_> = values(request, "accept").map(String::from_utf8_lossy).collect();
    Ok(accept.join(","))
}

/// Whether the connection ends after this request.
fn is_last(request: &httparse::Request<'_, '_>) -> bool {
    let has_body =
        ["content-length", "transfer-encoding"].iter().any(|name| values(request, name).next().is_some());
    let closes = |value: &[u8]| value.to_ascii_lowercase().windows(5).any(|word| word == b"close");
    request.version != Some(1) || has_body || values(request, "connection").any(closes)
}

/// The values of the headers with this name.
fn values<'a>(request: &'a httparse::Request<'_, '_>, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    (request.headers.iter())
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

fn head(status: u16, content_type: &str, length: usize, last: bool) -> Vec<u8> {
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
    let close = if last { "Connection: close\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{allow}{close}\r\n"
    )
    .into_bytes()
}
