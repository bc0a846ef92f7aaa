//! A client of NATS JetStream: the few verbs of the text protocol that acknowledged publishing needs.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use mapring_kit::lookup;
use mapring_kit::signals::Interrupted;
use mapring_kit::text::printable;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::interruptible;

/// Where the server is: `nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT]`.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// Without secrets.
    pub(crate) host: String,
    user: Option<(String, Option<String>)>,
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let help = || "write it as nats://HOST:4222, or nats://USER:PASSWORD@HOST:4222".to_owned();
        let rest = text.strip_prefix("nats://").ok_or_else(help)?.trim_end_matches('/');
        let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        if host.is_empty() || host.contains(['/', ' ']) {
            return Err(help());
        }
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:4222") };
        let user = user.map(|user| match user.split_once(':') {
            Some((user, password)) => (user.to_owned(), Some(password.to_owned())),
            None => (user.to_owned(), None),
        });
        Ok(Self { host, user })
    }
}

/// The longest wait for an answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// The longest wait before signals are looked at again.
pub(crate) const STEP: Duration = Duration::from_millis(50);
/// The longest line, and the longest message, that a server may send.
const LINE: usize = 64 << 10;
const MESSAGE: usize = 9 << 20;

/// A connection. No call waits for the server longer than it says, whatever the server sends or does not take.
pub(crate) struct Client<'a> {
    interrupted: &'a Interrupted,
    /// It never blocks.
    stream: TcpStream,
    received: Vec<u8>,
    /// How much of `received` was parsed.
    parsed: usize,
    /// What the server is to get, and how much of it was written.
    out: Vec<u8>,
    written: usize,
    /// Whether `out` has an answer to a PING: one answers all.
    pong: bool,
    inbox: String,
    requests: u64,
    /// The largest message that the server takes.
    pub(crate) max_payload: usize,
}

/// A message to this client.
#[derive(Debug)]
pub(crate) struct Message {
    /// The end of its subject, which this client chose; empty if it is not an answer.
    pub(crate) token: String,
    payload: Vec<u8>,
    no_responders: bool,
}

/// Why the server did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Refused {
    why: String,
    /// As that of HTTP; 0 if the server names none.
    code: u64,
}

impl Refused {
    /// The last message of the stream is another one than expected.
    pub(crate) fn is_of_order(&self) -> bool {
        self.why.contains("wrong last")
    }

    /// The message has too many bytes.
    pub(crate) fn is_of_size(&self) -> bool {
        self.why.contains("exceeds maximum allowed")
    }

    /// The stream never takes a message again.
    pub(crate) fn is_for_good(&self) -> bool {
        self.why.contains("sealed")
    }

    /// The stream, or its server, takes no message now: it is full, for example.
    pub(crate) fn is_for_now(&self) -> bool {
        const STATES: [&str; 5] =
            ["maximum messages", "maximum bytes", "resource", "insufficient", "unavailable"];
        (500..600).contains(&self.code) || STATES.iter().any(|state| self.why.contains(state))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Refused {}

impl Message {
    /// The answer, or what it says is wrong.
    pub(crate) fn answer(&self) -> Result<Value, Refused> {
        let refused = |why: &str, code| Refused { why: printable(why).into_owned(), code };
        if self.no_responders {
            return Err(refused("no stream has this subject, or JetStream is off", 503));
        }
        let value: Value =
            serde_json::from_slice(&self.payload).map_err(|e| refused(&format!("an answer: {e}"), 500))?;
        match value["error"].as_object() {
            Some(error) => {
                let text = error.get("description").and_then(Value::as_str).unwrap_or("an error");
                Err(refused(text, error.get("code").and_then(Value::as_u64).unwrap_or_default()))
            }
            None => Ok(value),
        }
    }
}

/// A connection to the first address of the host that takes it.
fn connected(host: &str) -> Result<TcpStream> {
    let mut last = None;
    let stream = lookup::addresses(host)?
        .into_iter()
        .find_map(|to| TcpStream::connect_timeout(&to, ANSWER).map_err(|e| last = Some(e)).ok());
    match (stream, last) {
        (Some(stream), _) => Ok(stream),
        (None, Some(e)) => Err(e.into()),
        (None, None) => bail!("no such host"),
    }
}

impl<'a> Client<'a> {
    pub(crate) fn connect(address: &Address, interrupted: &'a Interrupted) -> Result<Self> {
        let host = address.host.clone();
        let stream = interruptible(interrupted, move || connected(&host))??;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let inbox = format!("_INBOX.mapring.{}.{}", std::process::id(), crate::nanoseconds());
        let mut new = Self {
            interrupted,
            stream,
            received: Vec::new(),
            parsed: 0,
            out: Vec::new(),
            written: 0,
            pong: false,
            inbox,
            requests: 0,
            max_payload: 1 << 20,
        };
        let end = Instant::now() + ANSWER;
        let info = new.line_within(end)?;
        let info = info.strip_prefix("INFO ").context("not a NATS server")?;
        let info: Value = serde_json::from_str(info).context("INFO")?;
        ensure!(info["headers"] == true, "the server takes no headers: NATS 2.2 or later is needed");
        ensure!(info["tls_required"] != true, "the server wants TLS: connect to a leaf node on this machine");
        let most = info["max_payload"].as_u64().and_then(|most| usize::try_from(most).ok());
        new.max_payload = most.unwrap_or(new.max_payload);
        let mut connect = json!({ "verbose": false, "pedantic": false, "headers": true, "no_responders": true,
            "name": "mapring", "lang": "rust", "version": env!("CARGO_PKG_VERSION"), "protocol": 1 });
        match &address.user {
            Some((user, Some(password))) => {
                (connect["user"], connect["pass"]) = (json!(user), json!(password))
            }
            Some((token, None)) => connect["auth_token"] = json!(token),
            None => {}
        }
        let inbox = &new.inbox;
        let text = format!("CONNECT {connect}\r\nSUB {inbox}.* 1\r\nPING\r\n");
        new.out.extend_from_slice(text.as_bytes());
        loop {
            let line = new.line_within(end)?;
            match line.as_str() {
                "PONG" => return Ok(new),
                "PING" => new.answer_ping(),
                line if line.starts_with("-ERR") => {
                    bail!("the server says: {}", printable(&line[4..]).trim())
                }
                _ => {}
            }
        }
    }

    /// Takes a message that the server is to get. Its answer will have this token.
    pub(crate) fn publish(&mut self, subject: &str, token: u64, headers: &str, payload: &[u8]) {
        let (inbox, length) = (&self.inbox, headers.len() + payload.len());
        let line = format!("HPUB {subject} {inbox}.{token} {} {length}\r\n{headers}", headers.len());
        self.out.extend_from_slice(line.as_bytes());
        self.out.extend_from_slice(payload);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Asks JetStream, and waits for the answer. There must be no other messages under way.
    pub(crate) fn request(&mut self, api: &str, body: &Value) -> Result<Result<Value, Refused>> {
        self.requests += 1;
        let (token, body) = (format!("r{}", self.requests), body.to_string());
        let line = format!("PUB $JS.API.{api} {}.{token} {}\r\n{body}\r\n", self.inbox, body.len());
        self.out.extend_from_slice(line.as_bytes());
        let end = Instant::now() + ANSWER;
        loop {
            match self.next(STEP)? {
                Some(message) if message.token == token => return Ok(message.answer()),
                _ => self.go_on(end)?,
            }
        }
    }

    /// An error if the user wants to end, or after this time.
    fn go_on(&self, end: Instant) -> Result<()> {
        ensure!(!self.interrupted.is_set(), "interrupted");
        ensure!(Instant::now() < end, "no answer in {ANSWER:?}");
        Ok(())
    }

    /// The last message with this subject: its sequence in the stream, and its `Nats-Msg-Id`.
    pub(crate) fn last(&mut self, stream: &str, subject: &str) -> Result<Option<(u64, String)>> {
        let answer =
            self.request(&format!("STREAM.MSG.GET.{stream}"), &json!({ "last_by_subj": subject }))?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) if e.why.contains("no message found") => return Ok(None),
            Err(e) => bail!("stream {stream}: {e}"),
        };
        let message = &answer["message"];
        let headers = message["hdrs"].as_str().unwrap_or_default();
        let headers = base64::engine::general_purpose::STANDARD.decode(headers).unwrap_or_default();
        let headers = String::from_utf8_lossy(&headers).into_owned();
        let id = headers.lines().find_map(|line| line.strip_prefix("Nats-Msg-Id:"));
        let seq = message["seq"].as_u64().context("an answer without a sequence")?;
        Ok(Some((seq, id.unwrap_or_default().trim().to_owned())))
    }

    /// The next message to this client, if one comes within this time. Meanwhile the server gets what it is to get.
    pub(crate) fn next(&mut self, timeout: Duration) -> Result<Option<Message>> {
        let end = Instant::now() + timeout;
        let mut left = timeout;
        loop {
            if let Some(message) = self.parse()? {
                return Ok(Some(message));
            }
            self.exchange(left)?;
            if left.is_zero() {
                return self.parse();
            }
            left = end.saturating_duration_since(Instant::now());
        }
    }

    /// Waits until the server sends or takes something, at most for this time, and takes or sends some of it.
    fn exchange(&mut self, timeout: Duration) -> Result<()> {
        let is_out = self.written < self.out.len();
        let wanted = if is_out { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = [PollFd::new(&self.stream, wanted)];
        match poll(&mut fds, Some(&Timespec::try_from(timeout).map_err(io::Error::other)?)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        let ready = fds[0].revents();
        if ready.contains(PollFlags::OUT) && is_out {
            // In words: a closed connection is not the closed pipe with which the whole command ends well.
            let written = later(self.stream.write(&self.out[self.written..])).map_err(|e| anyhow!("{e}"))?;
            self.written += written.unwrap_or_default();
            if self.written == self.out.len() {
                self.out.clear();
                (self.written, self.pong) = (0, false);
            }
        }
        if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.received.drain(..self.parsed);
            self.parsed = 0;
            let mut bytes = [0; 16 << 10];
            let count = later(self.stream.read(&mut bytes))?;
            ensure!(count != Some(0), "the server closed the connection");
            self.received.extend_from_slice(&bytes[..count.unwrap_or_default()]);
        }
        Ok(())
    }

    fn answer_ping(&mut self) {
        if !std::mem::replace(&mut self.pong, true) {
            self.out.extend_from_slice(b"PONG\r\n");
        }
    }

    /// Takes a line, if it is there as a whole.
    fn line(&mut self) -> Result<Option<String>> {
        let rest = &self.received[self.parsed..];
        let Some(length) = rest.windows(2).position(|two| two == b"\r\n") else {
            ensure!(rest.len() <= LINE, "the server sent a line of more than {LINE} bytes");
            return Ok(None);
        };
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.parsed += length + 2;
        Ok(Some(line))
    }

    fn line_within(&mut self, end: Instant) -> Result<String> {
        loop {
            if let Some(line) = self.line()? {
                return Ok(line);
            }
            self.exchange(STEP)?;
            self.go_on(end)?;
        }
    }

    /// Takes all that is there as a whole, up to a message.
    fn parse(&mut self) -> Result<Option<Message>> {
        loop {
            let from = self.parsed;
            let Some(line) = self.line()? else { return Ok(None) };
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            match words[..] {
                ["PING"] => self.answer_ping(),
                ["MSG" | "HMSG", subject, _, .., length] => {
                    let length: usize = length.parse().context("the length of a message")?;
                    ensure!(length <= MESSAGE, "a message of {length} bytes");
                    if self.received.len() < self.parsed + length + 2 {
                        self.parsed = from; // when more is there
                        return Ok(None);
                    }
                    let bytes = &self.received[self.parsed..self.parsed + length];
                    let heads =
                        if words[0] == "HMSG" { words[words.len() - 2].parse().unwrap_or(0) } else { 0 };
                    let (head, payload) = bytes.split_at(length.min(heads));
                    let token =
                        subject.strip_prefix(self.inbox.as_str()).and_then(|rest| rest.strip_prefix('.'));
                    let token = token.unwrap_or_default().to_owned();
                    let no_responders = head.starts_with(b"NATS/1.0 503");
                    let message = Message { token, payload: payload.to_vec(), no_responders };
                    self.parsed += length + 2;
                    return Ok(Some(message));
                }
                // Any white space can come before it.
                ["-ERR", ..] => {
                    bail!(
                        "the server says: {}",
                        printable(line.trim_start().trim_start_matches("-ERR")).trim()
                    )
                }
                _ => {} // INFO, PONG, +OK
            }
        }
    }
}

/// What can't be done now is `None`.
fn later(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Err(e) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&e.kind()) => Ok(None),
        done => done.map(Some),
    }
}

#[cfg(test)]
mod tests;
