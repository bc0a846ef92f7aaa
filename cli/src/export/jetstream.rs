//! A client of NATS JetStream: the few verbs of the text protocol that acknowledged publishing needs.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use crate::regions::text::printable;

/// Where the server is: `nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT]`.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// Without secrets.
    pub(super) host: String,
    user: Option<(String, Option<String>)>,
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
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
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// The longest line, and the longest message, that a server may send.
const LINE: usize = 64 << 10;
const MESSAGE: usize = 9 << 20;

/// A connection.
pub(super) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    /// How much of `received` was parsed.
    parsed: usize,
    inbox: String,
    requests: u64,
    /// The largest message that the server takes.
    pub(super) max_payload: usize,
}

/// A message to this client.
#[derive(Debug)]
pub(super) struct Message {
    /// The end of its subject, which this client chose.
    pub(super) token: String,
    payload: Vec<u8>,
    no_responders: bool,
}

impl Message {
    /// The answer, or what it says is wrong.
    pub(super) fn answer(&self) -> Result<Value, String> {
        if self.no_responders {
            return Err("no stream has this subject, or JetStream is off".to_owned());
        }
        let value: Value = serde_json::from_slice(&self.payload).map_err(|e| format!("an answer: {e}"))?;
        match value["error"].as_object() {
            Some(error) => {
                let text = error.get("description").and_then(Value::as_str).unwrap_or("an error");
                Err(printable(text).into_owned())
            }
            None => Ok(value),
        }
    }
}

impl Client {
    pub(super) fn connect(address: &Address) -> Result<Self> {
        let mut last = None;
        let found = address.host.to_socket_addrs()?;
        let stream = found
            .into_iter()
            .find_map(|to| TcpStream::connect_timeout(&to, ANSWER).map_err(|e| last = Some(e)).ok());
        let stream = match (stream, last) {
            (Some(stream), _) => stream,
            (None, Some(e)) => return Err(e.into()),
            (None, None) => bail!("no such host"),
        };
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(ANSWER))?;
        stream.set_read_timeout(Some(ANSWER))?;
        let inbox = format!("_INBOX.mapring.{}.{}", std::process::id(), crate::export::nanoseconds());
        let mut new =
            Self { stream, received: Vec::new(), parsed: 0, inbox, requests: 0, max_payload: 1 << 20 };
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
        new.stream.write_all(format!("CONNECT {connect}\r\nSUB {inbox}.* 1\r\nPING\r\n").as_bytes())?;
        loop {
            let line = new.line_within(end)?;
            match line.as_str() {
                "PONG" => return Ok(new),
                "PING" => new.stream.write_all(b"PONG\r\n")?,
                line if line.starts_with("-ERR") => {
                    bail!("the server says: {}", printable(&line[4..]).trim())
                }
                _ => {}
            }
        }
    }

    /// Appends a message to `out`. Its answer will have this token.
    pub(super) fn encode(&self, out: &mut Vec<u8>, subject: &str, token: u64, headers: &str, payload: &[u8]) {
        let head = format!("NATS/1.0\r\n{headers}\r\n");
        let line = format!(
            "HPUB {subject} {}.{token} {} {}\r\n{head}",
            self.inbox,
            head.len(),
            head.len() + payload.len()
        );
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Asks JetStream, and waits for the answer. There must be no other messages under way.
    pub(super) fn request(&mut self, api: &str, body: &Value) -> Result<Result<Value, String>> {
        self.requests += 1;
        let (token, body) = (format!("r{}", self.requests), body.to_string());
        let line = format!("PUB $JS.API.{api} {}.{token} {}\r\n{body}\r\n", self.inbox, body.len());
        self.send(line.as_bytes())?;
        let end = Instant::now() + ANSWER;
        loop {
            match self.next(end.saturating_duration_since(Instant::now()))? {
                Some(message) if message.token == token => return Ok(message.answer()),
                Some(_) => {}
                None => ensure!(Instant::now() < end, "no answer in {ANSWER:?}"),
            }
        }
    }

    /// The last message with this subject: its sequence in the stream, and its `Nats-Msg-Id`.
    pub(super) fn last(&mut self, stream: &str, subject: &str) -> Result<Option<(u64, String)>> {
        let answer =
            self.request(&format!("STREAM.MSG.GET.{stream}"), &json!({ "last_by_subj": subject }))?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) if why.contains("no message found") => return Ok(None),
            Err(why) => bail!("stream {stream}: {why}"),
        };
        let message = &answer["message"];
        let headers = message["hdrs"].as_str().unwrap_or_default();
        let headers = base64::engine::general_purpose::STANDARD.decode(headers).unwrap_or_default();
        let headers = String::from_utf8_lossy(&headers).into_owned();
        let id = headers.lines().find_map(|line| line.strip_prefix("Nats-Msg-Id:"));
        let seq = message["seq"].as_u64().context("an answer without a sequence")?;
        Ok(Some((seq, id.unwrap_or_default().trim().to_owned())))
    }

    /// The next message to this client, if one comes within this time.
    pub(super) fn next(&mut self, timeout: Duration) -> Result<Option<Message>> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(message) = self.parse()? {
                return Ok(Some(message));
            }
            let left = end.saturating_duration_since(Instant::now());
            if !self.is_readable(left)? {
                return Ok(None);
            }
            self.receive()?;
        }
    }

    fn is_readable(&self, timeout: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn receive(&mut self) -> Result<()> {
        self.received.drain(..self.parsed);
        self.parsed = 0;
        let mut bytes = [0; 16 << 10];
        let count = self.stream.read(&mut bytes)?;
        ensure!(count > 0, "the server closed the connection");
        self.received.extend_from_slice(&bytes[..count]);
        Ok(())
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
            let left = end.saturating_duration_since(Instant::now());
            ensure!(self.is_readable(left)?, "the server says nothing");
            self.receive()?;
        }
    }

    /// Takes all that is there as a whole, up to a message.
    fn parse(&mut self) -> Result<Option<Message>> {
        loop {
            let from = self.parsed;
            let Some(line) = self.line()? else { return Ok(None) };
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            match words[..] {
                ["PING"] => self.send(b"PONG\r\n")?,
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
                    let token = subject.rsplit('.').next().unwrap_or_default().to_owned();
                    let no_responders = head.starts_with(b"NATS/1.0 503");
                    let message = Message { token, payload: payload.to_vec(), no_responders };
                    self.parsed += length + 2;
                    return Ok(Some(message));
                }
                ["-ERR", ..] => bail!("the server says: {}", printable(&line[4..]).trim()),
                _ => {} // INFO, PONG, +OK
            }
        }
    }
}
