//! `mapring export otlp`, received by VictoriaMetrics, and by servers that refuse, fail and go away.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use mapring::{Counters, Histograms};

use super::servers::Prometheus;
use super::{DEADLINE, Running, mapring, path, until_some};

#[test]
fn a_real_receiver_stores_what_was_written() {
    let Some(server) = Prometheus::victoria() else { return };
    let counters = Counters::create_memfd(2, 2).unwrap();
    let histograms = Histograms::create_memfd(1, 1).unwrap();
    counters.writer(1).unwrap().add(1, 42).unwrap();
    let writer = histograms.writer(0).unwrap();
    (0..1000).for_each(|value| writer.add(0, value).unwrap());
    let to = format!("http://{}/opentelemetry/v1/metrics", server.address);
    let (first, second) = (path(counters.region()), path(histograms.region()));
    let exporter = Running::mapring(&["export", "otlp", "--to", &to, "--every", "200ms", &first, &second]);
    let labels = server.wait_for("mapring_counters_total{index='1'}", |count| count == 42.0);
    assert_eq!((&labels["region"], &labels["service.name"]), (&first.as_str().into(), &"mapring".into()));
    server.wait_for("mapring_histograms_count", |count| count == 1000.0);
    server.wait_for("histogram_quantile(0.5, mapring_histograms_bucket)", |q| (q - 500.0).abs() < 80.0);
    server.wait_for(&format!("mapring_up{{region='{first}'}}"), |up| up == 1.0);
    counters.writer(0).unwrap().add(1, 58).unwrap();
    server.wait_for("mapring_counters_total{index='1'}", |count| count == 100.0);
    assert_eq!(exporter.interrupt(), Some(0));
}

/// A server for one exporter, and its URL: one that ends may leave a push behind, which isn't the next one's.
fn server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
    (listener, to)
}

/// Answers one push on this listener; returns its head and the length of its body.
fn answer(listener: &TcpListener, status: &str) -> (String, usize) {
    let (head, body) = answer_with(listener, status, b"");
    (head, body.len())
}

/// The same with a body; returns the head and the body of the push.
fn answer_with(listener: &TcpListener, status: &str, body: &[u8]) -> (String, Vec<u8>) {
    listener.set_nonblocking(true).unwrap();
    let (mut stream, _) = until_some("a push", || listener.accept().ok());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let push = read_request(&mut stream);
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").unwrap();
    stream.write_all(body).unwrap();
    push
}

fn read_request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

#[test]
fn a_server_that_goes_away_is_reported_and_found_again() {
    let counters = Counters::create_memfd(1, 1).unwrap();
    // No other server of these tests takes this address meanwhile.
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = listener.local_addr().unwrap();
    let to = format!("http://{address}/v1/metrics");
    let mut exporter =
        Running::mapring(&["export", "otlp", "--to", &to, "--every", "100ms", &path(counters.region())]);
    let (head, length) = answer(&listener, "200 OK");
    assert!(head.starts_with("post /v1/metrics ") && head.contains("application/x-protobuf"), "{head}");
    assert!(length > 0);
    answer(&listener, "503 Busy");
    exporter.wait_for("HTTP status 503; next push in 1s");
    answer(&listener, "503 Busy\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT");
    answer(&listener, "400 Nonsense");
    exporter.wait_for("HTTP status 400");
    drop(listener);
    exporter.wait_for("efused");
    let listener = TcpListener::bind(address).unwrap();
    answer(&listener, "200 OK");
    exporter.wait_for("takes values again");
    assert_eq!(exporter.interrupt(), Some(0));
}

/// The first time of all pairs of field 2 and field 3 of a push, both times, and the second.
fn times(push: &[u8]) -> Vec<(u64, u64)> {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let pairs = push.windows(18).filter(|bytes| bytes[0] == 0x11 && bytes[9] == 0x19);
    pairs.map(|bytes| (number(&bytes[1..9]), number(&bytes[10..]))).collect()
}

#[test]
fn sums_begin_when_their_region_was_created() {
    let before = nanoseconds();
    let (counters, histograms) =
        (Counters::create_memfd(1, 1).unwrap(), Histograms::create_memfd(1, 1).unwrap());
    let after = nanoseconds();
    let (first, second) = (path(counters.region()), path(histograms.region()));
    let mut starts = Vec::new();
    // Also those of another exporter are the same.
    for _ in 0..2 {
        let (listener, to) = server();
        let exporter =
            Running::mapring(&["export", "otlp", "--to", &to, "--every", "100ms", &first, &second]);
        for _ in 0..2 {
            let found = times(&answer_with(&listener, "200 OK", b"").1);
            // The counters, the histogram, and what programs dropped of both.
            assert_eq!(found.len(), 4, "{found:?}");
            assert!(found.iter().all(|(start, time)| start <= time), "{found:?}");
            starts.extend(found.into_iter().map(|(start, _)| start));
        }
        drop(exporter);
    }
    // The clocks are compared twice, and may differ by some microseconds.
    let about = before - 10_000_000..after + 10_000_000;
    assert!(starts.iter().all(|start| about.contains(start)), "{starts:?} {about:?}");
    assert_eq!(starts[..4], starts[4..8]);
}

fn nanoseconds() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

#[test]
fn what_a_server_rejects_slows_nothing_and_its_warnings_are_told() {
    let counters = Counters::create_memfd(1, 1).unwrap();
    let (listener, to) = server();
    let region = path(counters.region());
    let mut exporter = Running::mapring(&["export", "otlp", "--to", &to, "--every", "100ms", &region]);
    // `partial_success` with `rejected_data_points` 3 and a message, then without a number.
    let rejected = b"\x0a\x09\x08\x03\x12\x05no \x1b3".as_slice();
    let warning = b"\x0a\x07\x12\x05do it".as_slice();
    let other = b"\x0a\x09\x08\x03\x12\x05no \x1b4".as_slice();
    for body in [warning, rejected, other, rejected] {
        (0..3).for_each(|_| drop(answer_with(&listener, "200 OK", body)));
    }
    answer(&listener, "200 OK");
    exporter.wait_for("takes all values again");
    let log = exporter.log();
    let count = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!(
        (
            count("3 values were rejected: no \\u{1b}3"),
            count("values were rejected"),
            count("a warning: do it")
        ),
        (1, 1, 1),
        "{log:?}"
    );
    assert_eq!(exporter.interrupt(), Some(0));
    for (body, code) in [(rejected, 1), (warning, 0)] {
        let (listener, to) = server();
        let mut exporter = Running::mapring(&["export", "otlp", "--once", "--to", &to, &region]);
        answer_with(&listener, "200 OK", body);
        assert_eq!(until_some("its end", || exporter.child.0.try_wait().unwrap()).code(), Some(code));
    }
}

#[test]
fn once_fails_if_there_is_no_server() {
    let counters = Counters::create_memfd(1, 1).unwrap();
    let free = "127.0.0.1:1";
    let region = path(counters.region());
    let output =
        mapring(&["export", "otlp", "--once", "--to", &format!("http://{free}/v1/metrics"), &region]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && log.contains(free), "{log}");
    for bad in ["https://127.0.0.1/v1/metrics", "127.0.0.1:4318", "http:///x"] {
        assert_eq!(mapring(&["export", "otlp", "--to", bad, &region]).status.code(), Some(2), "{bad}");
    }
}
