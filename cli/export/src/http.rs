//! A small HTTP/1.1 server for one page, in one thread. A client that sends too much, reads too slowly or never ends is
//! cut off. Between two requests a connection costs nothing: it stays open until another client needs its place. Clients
//! that ask at the same time share a page. There are places for a few pages. If a client needs one more, the slowest page
//! gives up its place, and its clients are cut off. But each page has `GRACE` first, whatever others ask for.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, Read, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use mapring_view::shortage::is_short;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::config::Limits;
use crate::format::Format;
use crate::page::Page;

/// Writes the page in this format over an earlier one, or says why there is none.
pub(crate) type Write<'a> = dyn FnMut(Format, &mut Page) -> Result<(), String> + 'a;

/// The content type of a refusal.
const PLAIN: &str = "text/plain; charset=utf-8";
/// The most headers of a request.
const HEADERS: usize = 64;
/// The most pages that clients did not take all of yet.
const PAGES: usize = 8;
/// How long a page keeps its place if others wait for one.
const GRACE: Duration = Duration::from_secs(2);
/// How long an answered client may take to close, and the pause if no connection can be accepted, such as without a free
/// descriptor.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Server {
    listener: TcpListener,
    /// Whether only this machine can connect.
    is_local: bool,
    limits: Limits,
    clients: Vec<Client>,
    /// The last page, for the next one.
    spare: Page,
}

impl Server {
    pub(crate) fn new(listen: SocketAddr, limits: Limits) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let is_local = listener.local_addr()?.ip().is_loopback();
        Ok(Self { listener, is_local, limits, clients: Vec::new(), spare: Page::default() })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits until clients send or take something, a signal arrives, or for this time; serves these clients.
    pub(crate) fn serve(&mut self, timeout: Duration, write: &mut Write<'_>) -> io::Result<()> {
        let first = self.clients.iter().filter_map(|client| client.end).chain(self.next_place()).min();
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
        let mut turn = Turn { now, is_local: self.is_local, limits: &self.limits, spare: &mut self.spare };
        self.clients.retain_mut(|client| {
            let is_ready = of_clients.next() == Some(&true);
            let is_late = client.end.is_some_and(|end| end <= now);
            // An error means that it has gone.
            !is_late && (!is_ready || client.serve(&mut turn).unwrap_or(false))
        });
        self.answer(now, write);
        if ready.last() == Some(&true) {
            self.accept(now);
        }
        Ok(())
    }

    /// Answers the clients that wait, as far as there are places: those that waited longest are first.
    fn answer(&mut self, now: Instant, write: &mut Write<'_>) {
        while let Some((_, format)) = self.clients.iter().filter_map(Client::waits).min()
            && self.makes_room(now)
        {
            let mut page = std::mem::take(&mut self.spare);
            let written = write(format, &mut page).map(|()| (200, format.content_type()));
            let (status, content_type) = written.unwrap_or_else(|why| {
                page = Page::from(format!("{why}\n"));
                (500, PLAIN)
            });
            let page = Rc::new(page);
            let mut turn =
                Turn { now, is_local: self.is_local, limits: &self.limits, spare: &mut self.spare };
            self.clients.retain_mut(|client| match client.does {
                Does::Wait { format: wanted, last } if wanted == format => {
                    client.give(now, status, content_type, page.clone(), last || status != 200);
                    client.serve(&mut turn).unwrap_or(false)
                }
                _ => true,
            });
            turn.keep(page);
        }
    }

    /// Whether there is a place for one more page. The page whose fastest client is the slowest gives its own away.
    fn makes_room(&mut self, now: Instant) -> bool {
        let mut pages = BTreeMap::new();
        for client in self.clients.iter().filter(|client| client.takes()) {
            // All clients of a page have it since the same time.
            let (speed, _) = pages.entry(client.body.number()).or_insert((0, client.since));
            *speed = client.speed(now).max(*speed);
        }
        if pages.len() < PAGES {
            return true;
        }
        let had_its_time = |(_, (_, since)): &(_, (_, Instant))| *since + GRACE <= now;
        let slowest = pages.into_iter().filter(had_its_time).min_by_key(|(_, (speed, _))| *speed);
        if let Some((page, _)) = slowest {
            self.clients.retain(|client| !client.takes() || client.body.number() != page);
        }
        slowest.is_some()
    }

    /// When a page loses its place, if a client waits for one.
    fn next_place(&self) -> Option<Instant> {
        let is_awaited = self.clients.iter().any(|client| client.waits().is_some());
        let taken = self.clients.iter().filter(|client| is_awaited && client.takes());
        taken.map(|client| client.since + GRACE).min()
    }

    /// Ends the connection of a client; returns whether there was one. An idle client has sent nothing since its last
    /// answer, and is the first; then come those that have not asked, that have no page yet, and that take it slowest.
    fn end_slowest(&mut self, now: Instant) -> bool {
        let of = |(at, client): (usize, &Client)| {
            let has_asked = client.takes() || client.waits().is_some();
            (client.end.is_some(), has_asked, client.speed(now), client.since, at)
        };
        let slowest = self.clients.iter().enumerate().map(of).min();
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
                if !self.end_slowest(now) {
                    thread::sleep(PAUSE);
                }
                return;
            }
            Err(_) => return, // It has gone.
        };
        if self.clients.len() >= self.limits.clients {
            self.end_slowest(now);
        }
        self.clients.push(Client {
            stream,
            since: now,
            end: Some(now + self.limits.time),
            does: Does::Ask,
            request: Vec::new(),
            head: Vec::new(),
            wants_body: true,
            body: Rc::default(),
            length: 0,
            sent: 0,
        });
    }
}

/// What clients need that are served.
struct Turn<'a> {
    now: Instant,
    is_local: bool,
    limits: &'a Limits,
    spare: &'a mut Page,
}

impl Turn<'_> {
    /// Keeps a page for the next one, if no client takes it any more.
    fn keep(&mut self, page: Rc<Page>) {
        let page = Rc::into_inner(page);
        if let Some(page) = page.filter(|page| page.number() >= self.spare.number()) {
            *self.spare = page;
        }
    }
}

struct Client {
    stream: TcpStream,
    /// When it connected, or since when it asks, waits for an answer, takes it, or is idle.
    since: Instant,
    /// When it is cut off; `None` between two requests.
    end: Option<Instant>,
    does: Does,
    request: Vec<u8>,
    /// The answer, how many bytes of it the client gets, and how many it has.
    head: Vec<u8>,
    wants_body: bool,
    body: Rc<Page>,
    length: usize,
    sent: usize,
}

/// What is awaited of a client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Ask,
    /// Nothing: the answer needs a place for its page.
    Wait {
        format: Format,
        last: bool,
    },
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

    /// Since when it waits for a page, and the format.
    fn waits(&self) -> Option<(Instant, Format)> {
        if let Does::Wait { format, .. } = self.does { Some((self.since, format)) } else { None }
    }

    /// The bytes of an answer that it took in a second; 0 if it has none yet.
    fn speed(&self, now: Instant) -> u128 {
        let sent = if self.takes() { self.sent as u128 } else { 0 };
        sent * 1_000_000 / now.saturating_duration_since(self.since).as_micros().max(1)
    }

    fn awaits(&self) -> PollFlags {
        match self.does {
            Does::Ask | Does::Close => PollFlags::IN,
            Does::Wait { .. } => PollFlags::empty(),
            Does::Take { .. } => PollFlags::OUT,
        }
    }

    /// Goes on with a client that is ready; returns whether it stays.
    fn serve(&mut self, turn: &mut Turn<'_>) -> io::Result<bool> {
        let done = match self.does {
            Does::Ask => self.read(turn),
            Does::Wait { .. } => Ok(false), // It has gone.
            Does::Take { last } => self.send(turn, last),
            Does::Close => self.stream.read(&mut [0; 4096]).map(|count| count > 0),
        };
        match done {
            Err(e) if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&e.kind()) => Ok(true),
            done => done,
        }
    }

    /// Reads more of a request. If it is whole, a page is awaited, or it is refused.
    fn read(&mut self, turn: &mut Turn<'_>) -> io::Result<bool> {
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
            Ok(httparse::Status::Complete(length)) => {
                wanted(&request, turn.is_local).map(|format| (length, format))
            }
            Err(httparse::Error::TooManyHeaders) => Err((431, "too many headers".to_owned())),
            Err(_) => Err((400, "not a request of HTTP/1.1".to_owned())),
        };
        self.wants_body = request.method != Some("HEAD");
        match parsed {
            Ok((length, format)) => {
                // A client that sends more before it has the answer gets no other one.
                let last = is_last(&request) || length < self.request.len();
                (self.since, self.does) = (turn.now, Does::Wait { format, last });
                Ok(true)
            }
            Err((status, why)) => {
                self.give(turn.now, status, PLAIN, Rc::new(Page::from(format!("{why}\n"))), true);
                self.send(turn, true)
            }
        }
    }

    /// Begins an answer. However late the client asked, it is not slow at taking.
    fn give(&mut self, now: Instant, status: u16, content_type: &str, body: Rc<Page>, last: bool) {
        let length = body.bytes().len();
        self.head = head(status, content_type, length, last);
        self.length = self.head.len() + if self.wants_body { length } else { 0 };
        (self.body, self.sent) = (body, 0);
        (self.since, self.does) = (now, Does::Take { last });
    }

    fn send(&mut self, turn: &mut Turn<'_>, last: bool) -> io::Result<bool> {
        while self.sent < self.length {
            let (head, body) = (self.head.len().min(self.sent), self.sent.saturating_sub(self.head.len()));
            let end = self.length - self.head.len();
            let rest = [IoSlice::new(&self.head[head..]), IoSlice::new(&self.body.bytes()[body..end])];
            match self.stream.write_vectored(&rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => self.sent += count,
            }
        }
        turn.keep(std::mem::take(&mut self.body));
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

/// The format for a request for the page, or the status that refuses it and why.
fn wanted(request: &httparse::Request<'_, '_>, is_local: bool) -> Result<Format, (u16, String)> {
    let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    if !["GET", "HEAD"].contains(&method) {
        return Err((405, "only GET and HEAD".to_owned()));
    }
    // A page in a browser of this machine asks with its own name, which its server has given this address.
    if is_local && !values(request, "host").all(is_of_this_machine) {
        return Err((421, "this address has no such name: use localhost, or the address".to_owned()));
    }
    if path.split('?').next() != Some("/metrics") {
        return Err((404, "the values are at /metrics".to_owned()));
    }
    let accept: Vec<_> = values(request, "accept").map(String::from_utf8_lossy).collect();
    Ok(Format::chosen(&accept.join(",")))
}

/// Whether the value of a `Host` header is an address, or `localhost`.
fn is_of_this_machine(host: &[u8]) -> bool {
    let host = String::from_utf8_lossy(host);
    let is_port = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit());
    let name = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(&*host, |(name, _)| name);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
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
        421 => "Misdirected Request",
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
