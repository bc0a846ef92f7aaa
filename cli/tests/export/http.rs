//! Clients that send nonsense, send or read without end, or come in crowds.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use mapring::Counters;

use super::{DEADLINE, Dir, Kept, Over, Running, get, path, scrape, until_some};

/// An exporter with these limits.
fn exporter(limits: &str) -> (Running, String, Counters) {
    exporter_of(4096, limits)
}

fn exporter_of(counters: usize, limits: &str) -> (Running, String, Counters) {
    let counters = Counters::create_memfd(counters, 1).unwrap();
    let config = Dir::new();
    let file = config.file("c.toml", &format!("[limits]\n{limits}"));
    let region = path(counters.region());
    let mut running =
        Running::mapring(&["export", "prometheus", "--listen", "127.0.0.1:0", "--config", &file, &region]);
    let address = running.address();
    (running, address, counters)
}

/// Sends bytes, and returns all that comes back until the server ends the connection.
fn exchange(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}"),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn nonsense_is_refused() {
    let (running, address, _counters) = exporter("request = \"4K\"");
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], " 404 "),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", " 405 "),
        (b"\x00\x01\x02\x03\r\n\r\n", " 400 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", " 400 "),
        (&[&b"GET /metrics HTTP/1.1\r\n"[..], &b"a: b\r\n".repeat(100), b"\r\n"].concat(), " 431 "),
        (&[&b"GET /metrics HTTP/1.1\r\na: "[..], &[b'x'; 4096]].concat(), " 431 "),
        // A page whose server has given its name this address: it may not read the values.
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example:9750\r\n\r\n", " 421 "),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", " 421 "),
        (b"HEAD /metrics HTTP/1.1\r\nHost: LOCALHOST:1\r\nConnection: close\r\n\r\n", " 200 "),
        (b"HEAD /metrics HTTP/1.1\r\nHost: [::1]:9750\r\nConnection: close\r\n\r\n", " 200 "),
        (b"HEAD /metrics?x=y HTTP/1.1\r\nConnection: close\r\nAccept: \xff\xfe\r\n\r\n", " 200 "),
    ] {
        let answer = exchange(&address, request);
        assert!(answer.lines().next().is_some_and(|line| line.contains(status)), "{request:?}: {answer:?}");
    }
    let head = exchange(&address, b"HEAD /metrics HTTP/1.0\r\n\r\n");
    assert!(head.ends_with("\r\n\r\n"), "{head:?}");
    scrape(&address);
    assert_eq!(running.interrupt(), Some(0));
}

#[test]
fn an_endless_request_and_a_slow_reader_are_cut_off() {
    let (running, address, _counters) = exporter("clients = 2\ntime = \"1s\"");
    // One that sends a byte now and then, and one that sends nothing and reads nothing.
    let mut endless = TcpStream::connect(&address).unwrap();
    let mut silent = TcpStream::connect(&address).unwrap();
    silent.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    until_some("the end of the endless request", || endless.write_all(b"G").err());
    // Both were cut off: there is room for others.
    until_some("room for others", || get(&address, "/metrics", "").filter(|(status, ..)| *status == 200));
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    let _ = silent.read_to_end(&mut Vec::new());
    assert_eq!(running.interrupt(), Some(0));
}

#[test]
fn one_that_never_reads_is_cut_off() {
    // The page is larger than the buffers of a connection.
    let (running, address, _counters) = exporter_of(200_000, "clients = 1\ntime = \"2s\"\nseries = 200_000");
    let mut lazy = TcpStream::connect(&address).unwrap();
    lazy.set_read_timeout(Some(DEADLINE)).unwrap();
    lazy.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    until_some("room for one that asks for less", || {
        let answer = exchange(&address, b"HEAD /metrics HTTP/1.0\r\n\r\n");
        answer.starts_with("HTTP/1.1 200 ").then_some(())
    });
    let mut page = Vec::new();
    let _ = lazy.read_to_end(&mut page);
    let head = String::from_utf8_lossy(&page[..page.len().min(400)]);
    let length = head.split("Content-Length: ").nth(1).unwrap().split('\r').next().unwrap();
    let length: usize = length.parse().unwrap();
    assert!(head.contains(" 200 ") && page.len() < length, "{} of {length} bytes", page.len());
    assert_eq!(running.interrupt(), Some(0));
}

#[test]
fn a_crowd_is_limited() {
    let (running, address, _counters) = exporter("clients = 2\ntime = \"60s\"");
    let mut waiting: Vec<_> = (0..2).map(|_| TcpStream::connect(&address).unwrap()).collect();
    waiting.iter().for_each(|waiting| waiting.set_read_timeout(Some(DEADLINE)).unwrap());
    // The one that has waited longest loses its place, and no other.
    assert_eq!(get(&address, "/metrics", "").unwrap().0, 200);
    assert_eq!(waiting[0].read(&mut [0]).unwrap(), 0);
    waiting[1].write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    waiting[1].read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    assert_eq!(running.interrupt(), Some(0));
}

#[test]
fn a_connection_stays_until_another_client_needs_its_place() {
    let (running, address, _counters) = exporter("clients = 2\ntime = \"1s\"");
    let mut kept = Kept::new(&address);
    let is_open = |kept: &mut Kept| kept.get("").0.starts_with("HTTP/1.1 200 ");
    assert!(is_open(&mut kept) && is_open(&mut kept));
    // The time of a client is that of a request: between two of them it has not begun.
    let mut silent = TcpStream::connect(&address).unwrap();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert!(is_open(&mut kept));
    // It begins with the first byte of the next request.
    kept.0.write_all(b"G").unwrap();
    assert_eq!(kept.0.read(&mut [0]).unwrap(), 0);
    let mut first = Kept::new(&address);
    assert!(is_open(&mut first));
    let mut second = Kept::new(&address);
    assert!(is_open(&mut second));
    let mut third = Kept::new(&address);
    assert!(is_open(&mut third) && !is_open(&mut first) && is_open(&mut second));
    assert_eq!(running.interrupt(), Some(0));
}

#[test]
fn a_connection_ends_as_the_client_says() {
    let (running, address, _counters) = exporter("");
    let get = "GET /metrics HTTP/1.1\r\n";
    for (requests, log) in [
        (format!("{get}Connection: Keep-Alive, Close\r\n\r\n"), "Connection: close"),
        ("GET /metrics HTTP/1.0\r\n\r\n".to_owned(), "Connection: close"),
        // A body, or another request before the answer.
        (format!("{get}Content-Length: 3\r\n\r\nabc"), "Connection: close"),
        (format!("{get}Transfer-Encoding: chunked\r\n\r\n"), "Connection: close"),
        (format!("{get}\r\n{get}\r\n"), "Connection: close"),
        (format!("{get}\r\nG"), "Connection: close"),
    ] {
        let answer = exchange(&address, requests.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(log), "{requests:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{requests:?}");
    }
    // A request in pieces, and one after it.
    let mut kept = Kept::new(&address);
    for byte in b"HEAD /metrics HTTP/1.1\r\n\r\n" {
        kept.0.write_all(&[*byte]).unwrap();
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        kept.0.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(kept.get("").1.contains("\nmapring_up{"), "no body after the head");
    assert_eq!(running.interrupt(), Some(0));
}

#[test]
fn a_page_has_a_largest_size() {
    let (mut running, address, _counters) = exporter("response = \"4K\"");
    for accept in [
        "text/plain",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ] {
        let (status, _, body) = get(&address, "/metrics", &format!("Accept: {accept}\r\n")).unwrap();
        assert_eq!((status, &body[..]), (500, &b"the values have more than 4096 bytes\n"[..]));
    }
    running.wait_for("raise `response`");
    assert_eq!(running.interrupt(), Some(0));
}

#[test]
fn one_that_asks_late_is_not_slow() {
    let (running, address, _counters) = exporter_of(100_000, "time = \"60s\"\nseries = 100_000");
    let mut late = Kept::new(&address);
    std::thread::sleep(Duration::from_secs(2));
    // It asks after as many that do not read as there are places for pages, and before one more.
    let begin = |kept: &mut Kept| {
        kept.ask("");
        assert_eq!(kept.0.peek(&mut [0]).unwrap(), 1);
    };
    let mut lazy: Vec<_> = (0..9).map(|_| Kept::new(&address)).collect();
    lazy[..8].iter_mut().for_each(begin);
    begin(&mut late);
    begin(&mut lazy[8]);
    assert!(late.answer().0.starts_with("HTTP/1.1 200 "));
    assert_eq!(running.interrupt(), Some(0));
}

#[test]
fn no_client_waits_for_slow_ones() {
    let (running, address, _counters) = exporter_of(100_000, "time = \"60s\"\nseries = 100_000");
    let is_over = AtomicBool::new(false);
    let drops = AtomicU32::new(0);
    // They send a byte now and then, or ask for a page that they do not read, and come back when they are dropped.
    let drip = |begin: &[u8]| {
        while !is_over.load(Ordering::Relaxed) {
            let Ok(mut stream) = TcpStream::connect(&address) else { continue };
            let _ = stream.write_all(begin);
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            while !is_over.load(Ordering::Relaxed) && stream.write_all(b"G").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
            drops.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for at in 0..100 {
            let begin: &[u8] = if at % 4 == 0 { b"GET /metrics HTTP/1.1\r\n\r\n" } else { b"G" };
            scope.spawn(move || drip(begin));
        }
        let _over = Over(&is_over);
        let mut kept = Kept::new(&address);
        for _ in 0..20 {
            scrape(&address);
            // One that is idle gives its place away, and comes back.
            if kept.get("").0.is_empty() {
                kept = Kept::new(&address);
                assert!(kept.get("").0.starts_with("HTTP/1.1 200 "));
            }
        }
        until_some("one that was dropped", || (drops.load(Ordering::Relaxed) > 0).then_some(()));
    });
    assert_eq!(running.interrupt(), Some(0));
}
