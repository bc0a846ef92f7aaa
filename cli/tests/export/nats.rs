//! `mapring export nats`, into streams of a real server: killed, restarted, shared with others, and too slow.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use base64::Engine;
use mapring::Ring;
use serde_json::{Value, json};

use super::servers::installed;
use super::{DEADLINE, Dir, Running, mapring, path, until_some};

/// nats-server with JetStream, which can be killed and started again.
pub(super) struct Server {
    port: String,
    running: Option<Running>,
    dir: Dir,
}

impl Server {
    pub(super) fn start() -> Option<Self> {
        installed("nats-server")?;
        let mut new = Self { port: "-1".to_owned(), running: None, dir: Dir::new() };
        new.run();
        let port_in = |line: String| line.rsplit(':').next().map(str::to_owned);
        let line = new.running.as_mut().unwrap().wait_for("Listening for client connections on");
        new.port = port_in(line).unwrap();
        Some(new)
    }

    fn run(&mut self) {
        let mut command = installed("nats-server").unwrap();
        command.args(["-js", "-a", "127.0.0.1", "-p", &self.port, "-sd"]).arg(self.dir.0.join("store"));
        let mut running = Running::new(&mut command);
        running.wait_for("Server is ready");
        self.running = Some(running);
    }

    pub(super) fn address(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Creates the stream `s`, which takes `r.*` and `other`.
    pub(super) fn with_stream(self, more: Value) -> Self {
        self.configure("CREATE", &more);
        self
    }

    pub(super) fn update(&self, more: &Value) {
        self.configure("UPDATE", more);
    }

    fn configure(&self, how: &str, more: &Value) {
        let mut config = json!({ "name": "s", "subjects": ["r.*", "other"], "storage": "file" });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = Client::new(self).ask(&format!("$JS.API.STREAM.{how}.s"), &config);
        assert!(answer["error"].is_null(), "{answer}");
    }

    /// The arguments of an export of this region.
    pub(super) fn export<'a>(&self, region: &'a str, to: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let args = ["export", "nats", "--to", to, "--stream", "s", "--subject", "r", region];
        [&args[..], more].concat()
    }

    /// All messages of the stream that the exporter published, by subject.
    pub(super) fn messages(&self) -> BTreeMap<String, Vec<Value>> {
        let mut client = Client::new(self);
        let last = client.ask("$JS.API.STREAM.INFO.s", &json!({}))["state"]["last_seq"].as_u64().unwrap();
        let mut found = BTreeMap::<_, Vec<_>>::new();
        for seq in 1..=last {
            let answer = client.ask("$JS.API.STREAM.MSG.GET.s", &json!({ "seq": seq }));
            let message = &answer["message"];
            let subject = message["subject"].as_str().unwrap().to_owned();
            let data = message["data"].as_str().unwrap_or_default();
            let data = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
            if subject != "other" {
                found.entry(subject).or_default().push(serde_json::from_slice(&data).unwrap());
            }
        }
        found
    }
}

/// A connection of the test's own.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(server: &Server) -> Self {
        let stream =
            until_some("a connection", || TcpStream::connect(format!("127.0.0.1:{}", server.port)).ok());
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut new = Self(BufReader::new(stream));
        new.0.get_mut().write_all(b"CONNECT {\"verbose\":false}\r\nSUB test.inbox 1\r\n").unwrap();
        new
    }

    fn ask(&mut self, subject: &str, body: &Value) -> Value {
        let body = body.to_string();
        let text = format!("PUB {subject} test.inbox {}\r\n{body}\r\n", body.len());
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the server closed the connection");
            if let Some(length) = line.strip_prefix("MSG ").and_then(|rest| rest.trim().rsplit(' ').next()) {
                let mut bytes = vec![0; length.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut bytes).unwrap();
                return serde_json::from_slice(&bytes).unwrap();
            }
            if line.starts_with("PING") {
                self.0.get_mut().write_all(b"PONG\r\n").unwrap();
            }
        }
    }
}

/// Checks that messages stand for each ticket once, in order, from 0; returns the number of tickets, and of those lost.
pub(super) fn tickets(messages: &[Value]) -> (u64, u64) {
    let (mut next, mut lost) = (0, 0);
    for message in messages {
        assert_eq!(message["ticket"], next, "a gap or a duplicate: {message}");
        next = message["until"].as_u64().unwrap_or(next + 1);
        lost += message["lost"].as_u64().unwrap_or(0);
    }
    (next, lost)
}

pub(super) fn push(ring: &Ring<[u64; 2]>, shard: usize, count: u64) {
    let writer = ring.writer(shard).unwrap();
    (0..count).for_each(|number| assert!(writer.push(&[number, 7]).is_some()));
}

pub(super) fn once(server: &Server, region: &str, more: &[&str]) -> String {
    let to = server.address();
    let output = mapring(&server.export(region, &to, &[&["--once"], more].concat()));
    assert!(output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn each_record_is_published_once() {
    let Some(server) = Server::start().map(|server| server.with_stream(json!({}))) else { return };
    let ring = Ring::<[u64; 2]>::create_memfd(64, 2).unwrap();
    let region = path(&ring.region());
    push(&ring, 0, 30);
    push(&ring, 1, 20);
    assert!(once(&server, &region, &[]).contains("50 records published, none lost"));
    let tail = mapring(&["tail", &region, "--no-follow", "--json"]);
    let printed: Vec<Value> = str::from_utf8(&tail.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let found = server.messages();
    for (shard, count) in [(0, 30), (1, 20)] {
        let messages = &found[&format!("r.{shard}")];
        assert_eq!(tickets(messages), (count, 0));
        let of_shard: Vec<_> = printed.iter().filter(|record| record["shard"] == shard).cloned().collect();
        assert_eq!(*messages, of_shard);
    }
    assert!(once(&server, &region, &[]).contains("0 records published"));
    // Many more than fit are lost, and the stream says so.
    push(&ring, 0, 100);
    let log = once(&server, &region, &["--pending", "3"]);
    assert!(log.contains("36 lost, and published as lost"), "{log}");
    let found = server.messages();
    assert_eq!((tickets(&found["r.0"]), tickets(&found["r.1"])), ((130, 36), (20, 0)));
    assert_eq!(found["r.0"].len(), 30 + 1 + 64);
}

#[test]
fn nothing_is_missing_or_twice_when_the_server_and_the_exporter_are_killed() {
    // Duplicates are not remembered: positions alone must prevent them.
    let window = json!({ "duplicate_window": 100_000_000 });
    let Some(mut server) = Server::start().map(|server| server.with_stream(window)) else { return };
    let ring = Ring::<[u64; 2]>::create_memfd(256, 2).unwrap();
    let (region, to) = (path(&ring.region()), server.address());
    let args = server.export(&region, &to, &["--pending", "32"]);
    let mut exporter = Running::mapring(&args);
    exporter.wait_for("publishing to stream s");
    for round in 0..6 {
        for _ in 0..50 {
            push(&ring, 0, 5);
            push(&ring, 1, 3);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        match round {
            1 | 4 => {
                // It is killed in the middle of these.
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        for _ in 0..100 {
                            push(&ring, 1, 6);
                            std::thread::sleep(std::time::Duration::from_micros(200));
                        }
                    });
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    server.running = None;
                });
                exporter.wait_for("trying again");
                server.run();
            }
            2 | 3 => {
                drop(exporter); // killed
                push(&ring, 0, 500);
                exporter = Running::mapring(&args);
                exporter.wait_for("publishing to stream s");
            }
            _ => {}
        }
    }
    // The last record of each shard makes what was lost before it known.
    let (ends, mut found) = ([6 * 250 + 2 * 500, 6 * 150 + 2 * 600], BTreeMap::new());
    until_some("all records", || {
        found = server.messages();
        let is_there =
            |shard: usize| found.get(&format!("r.{shard}")).map_or(0, |all| tickets(all).0) == ends[shard];
        (is_there(0) && is_there(1)).then_some(())
    });
    assert_eq!(exporter.interrupt(), Some(0));
    for shard in 0..2 {
        let all = &found[&format!("r.{shard}")];
        let (end, lost) = tickets(all);
        let records = all.iter().filter(|message| message["lost"].is_null()).count() as u64;
        assert_eq!(records + lost, end, "shard {shard}");
    }
    // 500 records in a row do not fit.
    assert!(found["r.0"].iter().any(|message| message["lost"].as_u64() > Some(0)));
}

#[test]
fn other_publishers_in_the_stream_do_no_harm() {
    let Some(server) = Server::start().map(|server| server.with_stream(json!({}))) else { return };
    let ring = Ring::<[u64; 2]>::create_memfd(4096, 2).unwrap();
    let (region, to) = (path(&ring.region()), server.address());
    let exporters = [0, 1].map(|_| Running::mapring(&server.export(&region, &to, &["--pending", "16"])));
    let mut other = Client::new(&server);
    for _ in 0..50 {
        push(&ring, 0, 20);
        push(&ring, 1, 20);
        for _ in 0..20 {
            assert!(other.ask("other", &json!({}))["seq"].as_u64() > Some(0));
        }
    }
    until_some("all records", || {
        let found = server.messages();
        let all = |subject| found.get(subject).map_or((0, 0), |all| tickets(all)) == (1000, 0);
        (all("r.0") && all("r.1")).then_some(())
    });
    exporters.into_iter().for_each(|exporter| assert_eq!(exporter.interrupt(), Some(0)));
}

#[test]
fn wrong_streams_and_servers_are_named() {
    let ring = Ring::<[u64; 2]>::create_memfd(16, 1).unwrap();
    let region = path(&ring.region());
    let common = ["export", "nats", "--stream", "s", "--once", &region];
    for bad in ["http://x", "nats://", "nats://a/b"] {
        assert_eq!(mapring(&[&common[..], &["--subject", "r", "--to", bad]].concat()).status.code(), Some(2));
    }
    for bad in ["a b", "a.*", "", "a..b", ">"] {
        assert_eq!(mapring(&[&common[..], &["--subject", bad]].concat()).status.code(), Some(2), "{bad}");
    }
    let refused = |to: &str, subject: &str, log: &str| {
        let output = mapring(&[&common[..], &["--subject", subject, "--to", to]].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && stderr.contains(log), "{stderr}");
    };
    refused("nats://127.0.0.1:1", "r", "127.0.0.1:1: ");
    let Some(server) = Server::start() else { return };
    refused(&server.address(), "r", "stream s: stream not found");
    let server = server.with_stream(json!({}));
    refused(&server.address(), "x", "does not take x.*");
    assert!(once(&server, &region, &[]).contains("0 records published"));
}
