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

/// Answers one push on this listener; returns its head and the length of its body.
fn answer(listener: &TcpListener, status: &str) -> (String, usize) {
    listener.set_nonblocking(true).unwrap();
    let (mut stream, _) = until_some("a push", || listener.accept().ok());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let (head, length) = read_request(&mut stream);
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    (head, length)
}

fn read_request(stream: &mut TcpStream) -> (String, usize) {
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
    (head, length)
}

#[test]
fn a_server_that_goes_away_is_reported_and_found_again() {
    let counters = Counters::create_memfd(1, 1).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let to = format!("http://{address}/v1/metrics");
    let mut exporter =
        Running::mapring(&["export", "otlp", "--to", &to, "--every", "100ms", &path(counters.region())]);
    let (head, length) = answer(&listener, "200 OK");
    assert!(head.starts_with("post /v1/metrics ") && head.contains("application/x-protobuf"), "{head}");
    assert!(length > 0);
    answer(&listener, "503 Busy");
    exporter.wait_for("HTTP status 503; next push in 1s");
    answer(&listener, "400 Nonsense");
    exporter.wait_for("HTTP status 400");
    drop(listener);
    exporter.wait_for("efused");
    let listener = TcpListener::bind(address).unwrap();
    answer(&listener, "200 OK");
    exporter.wait_for("takes values again");
    assert_eq!(exporter.interrupt(), Some(0));
}

#[test]
fn once_fails_if_there_is_no_server() {
    let counters = Counters::create_memfd(1, 1).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let region = path(counters.region());
    let output =
        mapring(&["export", "otlp", "--once", "--to", &format!("http://{free}/v1/metrics"), &region]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains(&free.to_string()), "{said}");
    for bad in ["https://127.0.0.1/v1/metrics", "127.0.0.1:4318", "http:///x"] {
        assert_eq!(mapring(&["export", "otlp", "--to", bad, &region]).status.code(), Some(2), "{bad}");
    }
}
