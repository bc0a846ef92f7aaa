//! A small JetStream of one stream `s`, which does what a real server would not do, or not at the wanted moment.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

/// A message of the stream.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) seq: u64,
    pub(super) id: String,
    pub(super) body: Value,
}

/// The messages of each subject.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) subjects: BTreeMap<String, Vec<Stored>>,
    seq: u64,
    last_id: String,
    /// The number of messages that clients have published.
    pub(super) published: usize,
}

impl Stream {
    pub(super) fn store(&mut self, subject: &str, id: &str, body: Value) -> Value {
        self.seq += 1;
        id.clone_into(&mut self.last_id);
        let stored = Stored { seq: self.seq, id: id.to_owned(), body };
        self.subjects.entry(subject.to_owned()).or_default().push(stored);
        json!({ "stream": "s", "seq": self.seq })
    }

    pub(super) fn bodies(&self, subject: &str) -> Vec<Value> {
        self.subjects.get(subject).into_iter().flatten().map(|message| message.body.clone()).collect()
    }

    fn last(&self, subject: &str) -> Option<&Stored> {
        self.subjects.get(subject)?.last()
    }

    /// What JetStream answers to a message.
    fn take(&mut self, message: &Published) -> Value {
        let wrong =
            |what: String| json!({ "error": { "code": 400, "err_code": 10071, "description": what } });
        let last = self.last(&message.subject).map_or(0, |last| last.seq);
        match &message.expected {
            Expected::Seq(seq) if *seq != last => wrong(format!("wrong last sequence: {last}")),
            Expected::Id(id) if *id != self.last_id => wrong(format!("wrong last msg ID: {}", self.last_id)),
            _ => self.store(&message.subject, &message.id, message.body.clone()),
        }
    }
}

pub(super) struct Published {
    pub(super) subject: String,
    pub(super) id: String,
    pub(super) body: Value,
    expected: Expected,
}

enum Expected {
    Seq(u64),
    Id(String),
}

/// What the server does with a message instead of taking it.
pub(super) enum Instead {
    /// What a real one does.
    Nothing,
    Answer(Value),
    Close,
}

type OnPublish = dyn FnMut(&mut Stream, &Published) -> Instead + Send;

/// What the server sends without end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Flood {
    Ok,
    Messages,
    Pings,
}

/// The server sends a flood once a line with this text arrived, and with `stops` answers no more.
#[derive(Clone, Copy)]
pub(super) struct Flooding {
    pub(super) what: Flood,
    pub(super) from: &'static str,
    pub(super) stops: bool,
}

pub(super) struct Fake {
    pub(super) address: String,
    stream: Arc<Mutex<Stream>>,
    /// Whether the flood has begun.
    pub(super) floods: Arc<AtomicBool>,
}

impl Fake {
    pub(super) fn new(
        flooding: Option<Flooding>,
        on_publish: impl FnMut(&mut Stream, &Published) -> Instead + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("nats://{}", listener.local_addr().unwrap());
        let stream = Arc::new(Mutex::new(Stream::default()));
        let on_publish: Arc<Mutex<Box<OnPublish>>> = Arc::new(Mutex::new(Box::new(on_publish)));
        let floods = Arc::new(AtomicBool::new(false));
        let (of_server, has_begun) = (stream.clone(), floods.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (stream, on_publish) = (of_server.clone(), on_publish.clone());
                let flooding = flooding.map(|flooding| (flooding, has_begun.clone()));
                // An error is the end of the connection.
                thread::spawn(move || serve(&client, flooding, &stream, &on_publish));
            }
        });
        Self { address, stream, floods }
    }

    pub(super) fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap()
    }
}

fn flood(client: &Arc<Mutex<TcpStream>>, what: Flood) {
    let client = client.clone();
    let text = match what {
        Flood::Ok => "+OK\r\n".repeat(2000),
        Flood::Messages => "MSG not.yours 1 2\r\n{}\r\n".repeat(500),
        Flood::Pings => "PING\r\n".repeat(2000),
    };
    thread::spawn(move || while client.lock().unwrap().write_all(text.as_bytes()).is_ok() {});
}

fn serve(
    client: &TcpStream,
    mut flooding: Option<(Flooding, Arc<AtomicBool>)>,
    stream: &Mutex<Stream>,
    on_publish: &Mutex<Box<OnPublish>>,
) -> Option<()> {
    let to = Arc::new(Mutex::new(client.try_clone().ok()?));
    let say = |text: String| to.lock().unwrap().write_all(text.as_bytes()).ok();
    let mut starts = |line: &str| match flooding.take_if(|(now, _)| line.contains(now.from)) {
        Some((now, has_begun)) => {
            flood(&to, now.what);
            has_begun.store(true, Ordering::Relaxed);
            now.stops
        }
        None => false,
    };
    let mut from = BufReader::new(client);
    let stop = || loop {
        thread::sleep(Duration::from_secs(1));
    };
    say("INFO {\"headers\":true,\"max_payload\":1048576}\r\n".to_owned())?;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if starts(&line) {
            stop();
        }
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["PING"] => say("PONG\r\n".to_owned())?,
            ["PUB" | "HPUB", subject, inbox, .., length] => {
                let mut bytes = vec![0; length.parse::<usize>().ok()? + 2];
                from.read_exact(&mut bytes).ok()?;
                let (head, body) =
                    bytes.split_at(if words[0] == "HPUB" { words[3].parse().ok()? } else { 0 });
                let body: Value = serde_json::from_slice(&body[..body.len() - 2]).ok()?;
                let mut stream = stream.lock().unwrap();
                let answer = match words[0] {
                    "PUB" => api(&stream, subject, &body),
                    _ => {
                        stream.published += 1;
                        let message = published(subject, str::from_utf8(head).ok()?, body)?;
                        match on_publish.lock().unwrap()(&mut stream, &message) {
                            Instead::Nothing => stream.take(&message),
                            Instead::Answer(answer) => answer,
                            Instead::Close => return client.shutdown(std::net::Shutdown::Both).ok(),
                        }
                    }
                };
                drop(stream);
                let answer = answer.to_string();
                say(format!("MSG {inbox} 1 {}\r\n{answer}\r\n", answer.len()))?;
            }
            _ => {}
        }
    }
}

fn api(stream: &Stream, subject: &str, body: &Value) -> Value {
    if subject.contains(".STREAM.INFO.") {
        return json!({ "config": { "subjects": ["r.*"] }, "state": { "last_seq": stream.seq } });
    }
    match stream.last(body["last_by_subj"].as_str().unwrap()) {
        None => json!({ "error": { "code": 404, "description": "no message found" } }),
        Some(Stored { seq, id, .. }) => {
            let headers = format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n");
            let headers = base64::engine::general_purpose::STANDARD.encode(headers);
            json!({ "message": { "seq": seq, "hdrs": headers } })
        }
    }
}

fn published(subject: &str, head: &str, body: Value) -> Option<Published> {
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let expected = match header("Nats-Expected-Last-Msg-Id") {
        Some(id) => Expected::Id(id.to_owned()),
        None => Expected::Seq(header("Nats-Expected-Last-Subject-Sequence")?.parse().ok()?),
    };
    Some(Published { subject: subject.to_owned(), id: header("Nats-Msg-Id")?.to_owned(), body, expected })
}
