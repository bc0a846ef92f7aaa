//! `mapring export` as a user runs it: read by real servers that the test starts, and by hostile clients.

mod common;
#[path = "export/fake_nats.rs"]
mod fake_nats;
#[path = "export/http.rs"]
mod http;
#[cfg(feature = "bpf")]
mod loaded;
#[cfg(feature = "bpf")]
#[path = "export/maps.rs"]
mod maps;
#[path = "export/nats.rs"]
mod nats;
#[path = "export/nats_hostile.rs"]
mod nats_hostile;
#[cfg(feature = "bpf")]
#[path = "export/nats_resized.rs"]
mod nats_resized;
#[cfg(feature = "bpf")]
mod nobody;
#[path = "export/otlp.rs"]
mod otlp;
#[path = "export/prometheus.rs"]
mod prometheus;
#[path = "export/servers.rs"]
mod servers;
mod skip;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use self::common::{DEADLINE, Dir, Over, mapring, path, until_some};

/// A process that ends with the test, and the lines that it printed on stderr.
struct Running {
    child: common::Running,
    log: Arc<Mutex<Vec<String>>>,
}

impl Running {
    fn new(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (from, log) = (BufReader::new(child.stderr.take().unwrap()), Arc::new(Mutex::new(Vec::new())));
        let to = log.clone();
        thread::spawn(move || {
            for line in from.lines().map_while(Result::ok) {
                println!("  {line}");
                to.lock().unwrap().push(line);
            }
        });
        Self { child: common::Running(child), log }
    }

    fn mapring(args: &[&str]) -> Self {
        Self::new(&mut common::command(args))
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line with this text.
    fn wait_for(&mut self, text: &str) -> String {
        until_some(&format!("a line with {text:?}"), || {
            let found = self.log().into_iter().find(|line| line.contains(text));
            let ended = self.child.0.try_wait().unwrap().filter(|_| found.is_none());
            assert!(ended.is_none(), "it has ended ({ended:?}): {:?}", self.log());
            found
        })
    }

    /// The address of an exporter.
    fn address(&mut self) -> String {
        let line = self.wait_for("http://");
        line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned()
    }

    /// Sends Ctrl-C.
    fn ask_to_end(&self) {
        let pid = rustix::process::Pid::from_child(&self.child.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    /// Sends Ctrl-C; returns the exit code.
    fn interrupt(mut self) -> Option<i32> {
        self.ask_to_end();
        until_some("its end", || self.child.0.try_wait().unwrap()).code()
    }
}

/// The status and the body of a page, or `None` if the server does not answer.
fn get(address: &str, page: &str, headers: &str) -> Option<(u16, String, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {page} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(answer[..end].to_vec()).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head, answer[end + 4..].to_vec()))
}

/// A connection that stays, as that of Prometheus.
struct Kept(TcpStream);

impl Kept {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(stream)
    }

    fn get(&mut self, headers: &str) -> (String, String) {
        self.ask(headers);
        self.answer()
    }

    fn ask(&mut self, headers: &str) {
        let _ = write!(self.0, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    }

    /// The head and the body of a page; the head is empty if the server has closed the connection.
    fn answer(&mut self) -> (String, String) {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                ended => {
                    assert!(head.is_empty(), "{ended:?}");
                    return (String::new(), String::new());
                }
            }
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.split("Content-Length: ").nth(1).unwrap().lines().next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }
}

/// The values of a text scrape: each line's name with labels, and its number.
fn value(text: &str, series: &str) -> Option<f64> {
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The page of an exporter as text.
fn scrape(address: &str) -> String {
    let (status, _, body) = get(address, "/metrics", "").unwrap();
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{text}");
    text
}
