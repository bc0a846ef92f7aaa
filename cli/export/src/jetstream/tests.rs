//! The client beside servers that answer badly, or not at all.

use std::net::{Shutdown, TcpListener};

use super::*;

#[test]
fn a_closed_connection_is_no_closed_pipe() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::parse(&format!("nats://{}", listener.local_addr().unwrap())).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"INFO {\"headers\":true}\r\nPONG\r\n").unwrap();
        stream
    });
    let interrupted = Interrupted::new().unwrap();
    let mut client = Client::connect(&address, &interrupted).unwrap();
    // Then a write fails with EPIPE.
    client.stream.shutdown(Shutdown::Write).unwrap();
    let error = client.request("INFO", &json!({})).unwrap_err();
    assert!(error.to_string().contains("pipe") && !mapring_kit::exit::is_closed_pipe(&error), "{error}");
    drop(server.join().unwrap());
}

/// A server that says this, and then sends an endless flood that answers nothing.
fn flooding(first: &'static str) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::parse(&format!("nats://{}", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(first.as_bytes()).unwrap();
        let flood = "+OK\r\nMSG not.yours 1 2\r\n{}\r\nPING\r\n".repeat(500);
        while stream.write_all(flood.as_bytes()).is_ok() {}
    });
    address
}

/// Its own limit would end a wait with other words.
#[test]
fn no_flood_keeps_a_wait_from_seeing_a_signal() {
    let interrupted = Interrupted::new().unwrap();
    let mut client = Client::connect(&flooding("INFO {\"headers\":true}\r\nPONG\r\n"), &interrupted).unwrap();
    interrupted.set();
    assert_eq!(client.request("INFO", &json!({})).unwrap_err().to_string(), "interrupted");
    let error = Client::connect(&flooding("INFO {\"headers\":true}\r\n"), &interrupted).err();
    assert_eq!(error.unwrap().to_string(), "interrupted");
}
