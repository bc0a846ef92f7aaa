//! `mapring export nats` into streams that refuse, forget, have a part already, or say much too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mapring::Ring;
use mapring::abi::Tails;
use mapring::writers::MemfdOptions;
use serde_json::{Value, json};

use super::fake_nats::{Fake, Flood, Flooding, Instead};
use super::nats::{Server, once, push, tickets};
use super::{Running, common, path, until_some};

fn export<'a>(fake: &'a Fake, region: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["export", "nats", "--to", &fake.address, "--stream", "s", "--subject", "r", region];
    [&args[..], more].concat()
}

/// The tickets of a shard in the stream, as those that messages stand for once each, and those lost of them.
fn found(fake: &Fake, shard: usize) -> (u64, u64) {
    tickets(&fake.stream().bodies(&format!("r.{shard}")))
}

#[test]
fn what_the_stream_lacks_of_a_loss_is_published() {
    // Another export has stored a part of the first loss: ten tickets, of which this one knows nothing.
    let fake = Fake::new(None, {
        let mut is_done = false;
        move |stream, message| {
            if message.body["lost"].as_u64() > Some(10) && !is_done {
                is_done = true;
                let begin = message.body["ticket"].as_u64().unwrap();
                let id = message.id.rsplitn(3, '-').nth(2).unwrap();
                let id = format!("{id}-{begin}-{}", begin + 10);
                let body = json!({ "shard": 0, "ticket": begin, "until": begin + 10, "lost": 10 });
                stream.store(&message.subject, &id, body);
            }
            Instead::Nothing
        }
    });
    let ring = Ring::<[u64; 2]>::create_memfd(16, 2).unwrap();
    let region = path(&ring.region());
    push(&ring, 0, 10);
    push(&ring, 1, 10);
    assert!(super::mapring(&export(&fake, &region, &["--once"])).status.success());
    push(&ring, 0, 100);
    push(&ring, 1, 3);
    assert!(super::mapring(&export(&fake, &region, &["--once"])).status.success());
    assert_eq!((found(&fake, 0), found(&fake, 1)), ((110, 84), (13, 0)));
    assert_eq!(fake.stream().bodies("r.0").len(), 10 + 2 + 16);
}

#[test]
fn what_the_stream_has_forgotten_is_published_as_lost() {
    let fake = Fake::new(None, {
        let mut count = 0;
        move |stream, message| {
            count += 1;
            if count == 30 {
                // The server is killed before its disk has the last five messages.
                let all = stream.subjects.get_mut(&message.subject).unwrap();
                all.truncate(all.len() - 5);
                return Instead::Close;
            }
            Instead::Nothing
        }
    });
    let ring = Ring::<[u64; 2]>::create_memfd(64, 1).unwrap();
    let region = path(&ring.region());
    let mut exporter = Running::mapring(&export(&fake, &region, &[]));
    exporter.wait_for("publishing to stream s");
    push(&ring, 0, 29);
    until_some("29 messages", || (found(&fake, 0) == (29, 0)).then_some(()));
    push(&ring, 0, 11);
    until_some("all messages", || (found(&fake, 0).0 == 40).then_some(()));
    assert_eq!(found(&fake, 0), (40, 5));
    exporter.wait_for("5 no longer in the stream, tickets 24 to 28");
    assert_eq!(exporter.interrupt(), Some(0));
}

#[test]
fn a_refusal_that_recurs_is_a_loss_at_its_place() {
    for (code, why) in [(400, "message size exceeds maximum allowed"), (400, "not this one"), (0, "never")] {
        let refused = json!({ "error": { "code": code, "description": why } });
        let fake = Fake::new(None, move |_, message| {
            let is_it = [7, 12].iter().any(|ticket| message.body["ticket"] == *ticket);
            match is_it && message.body["lost"].is_null() {
                true => Instead::Answer(refused.clone()),
                false => Instead::Nothing,
            }
        });
        let ring = Ring::<[u64; 2]>::create_memfd(64, 1).unwrap();
        push(&ring, 0, 20);
        let output = super::mapring(&export(&fake, &path(&ring.region()), &["--once"]));
        let log = common::stderr(&output);
        assert!(output.status.success() && log.contains("shard 0: 1 refused") && log.contains(why), "{log}");
        assert_eq!(found(&fake, 0), (20, 2), "{why}");
        assert!(log.contains("2 lost, and published as lost"), "{log}");
    }
}

#[test]
fn a_full_stream_is_waited_for_and_a_signal_ends_the_wait() {
    let has_room = Arc::new(AtomicBool::new(false));
    let fake = Fake::new(None, {
        let has_room = has_room.clone();
        move |stream, message| {
            if stream.bodies(&message.subject).len() < 5 || has_room.load(Ordering::Relaxed) {
                return Instead::Nothing;
            }
            let full = json!({ "code": 503, "err_code": 10077, "description": "maximum messages exceeded" });
            Instead::Answer(json!({ "error": full }))
        }
    });
    let ring = Ring::<[u64; 2]>::create_memfd(64, 1).unwrap();
    let region = path(&ring.region());
    push(&ring, 0, 20);
    for is_last in [false, true] {
        let mut exporter = Running::mapring(&export(&fake, &region, &["--once"]));
        exporter.wait_for("maximum messages exceeded; waiting");
        if is_last {
            has_room.store(true, Ordering::Relaxed);
            let end = until_some("its end", || exporter.child.0.try_wait().unwrap());
            assert!(end.success());
            let log = exporter.log();
            assert_eq!(log.iter().filter(|line| line.contains("maximum")).count(), 1, "{log:?}");
        } else {
            assert_eq!(exporter.interrupt(), Some(0));
        }
    }
    assert_eq!(found(&fake, 0), (20, 0));
    // All that waited, before each export knew; then one after each pause, which becomes longer; and what was taken.
    assert!(fake.stream().published < 20 + 15 + 15 + 2 * 16, "{} messages", fake.stream().published);
}

#[test]
fn a_flood_holds_up_neither_an_export_nor_a_signal() {
    let ring = Ring::<[u64; 2]>::create_memfd(64, 1).unwrap();
    let region = path(&ring.region());
    push(&ring, 0, 20);
    for what in [Flood::Ok, Flood::Messages, Flood::Pings] {
        // The server works as it should, apart from the flood.
        let flooding = Flooding { what, from: "STREAM.INFO", stops: false };
        let fake = Fake::new(Some(flooding), |_, _| Instead::Nothing);
        let output = super::mapring(&export(&fake, &region, &["--once"]));
        assert!(output.status.success());
        assert_eq!(found(&fake, 0), (20, 0), "{what:?}");
        // It does nothing else any more.
        for from in ["CONNECT", "STREAM.INFO", "MSG.GET", "HPUB"] {
            let flooding = Flooding { what, from, stops: true };
            let fake = Fake::new(Some(flooding), |_, _| Instead::Nothing);
            let exporter = Running::mapring(&export(&fake, &region, &[]));
            until_some("the flood", || fake.floods.load(Ordering::Relaxed).then_some(()));
            // A test of the client shows that no limit of its own ends the wait.
            assert_eq!(exporter.interrupt(), Some(0), "{what:?} {from}");
        }
    }
}

/// A record that no message of the stream can have: its tail has 400 bytes.
#[test]
fn a_record_that_is_too_large_for_the_stream_is_a_loss() {
    let Some(server) = Server::start() else { return };
    let server = server.with_stream(json!({ "max_msg_size": 400 }));
    let tails = Tails::new(512, 1 << 16).unwrap();
    let ring = Ring::<[u64; 2]>::create_memfd_with(64, 1, MemfdOptions::default().tails(tails)).unwrap();
    let writer = ring.writer(0).unwrap();
    for n in 0..12 {
        let tail = if n == 2 { [b'x'; 400].to_vec() } else { b"short".to_vec() };
        assert!(writer.push_with_tail(&[n, 7], &tail).is_some());
    }
    let log = once(&server, &path(&ring.region()), &[]);
    assert!(log.contains("shard 0: 1 larger than the stream takes, tickets 2 to 2"), "{log}");
    let messages = &server.messages()["r.0"];
    assert_eq!((messages.len(), tickets(messages)), (12, (12, 1)));
    assert_eq!(messages[2], json!({ "shard": 0, "ticket": 2, "until": 3, "lost": 1 }));
    assert!(once(&server, &path(&ring.region()), &[]).contains("0 records published"));
}

#[test]
fn what_a_sealed_or_full_stream_does_not_take_is_not_said_to_be_in_it() {
    let Some(server) = Server::start() else { return };
    let server = server.with_stream(json!({ "max_msgs": 3, "discard": "new" }));
    let ring = Ring::<[u64; 2]>::create_memfd(8, 1).unwrap();
    let (region, to) = (path(&ring.region()), server.address());
    push(&ring, 0, 8);
    let mut exporter = Running::mapring(&server.export(&region, &to, &[]));
    exporter.wait_for("maximum messages exceeded; waiting");
    push(&ring, 0, 20); // laps of the ring: what waits to be published is followed by a loss
    exporter.ask_to_end();
    until_some("what is missing", || {
        exporter.log().into_iter().find(|line| line.contains("not acknowledged: "))
    });
    let log = exporter.log();
    assert!(log.iter().any(|line| line.contains("3 records published, none lost")), "{log:?}");

    server.update(&json!({ "max_msgs": 1000, "discard": "new", "sealed": true }));
    for more in [&["--once"][..], &[]] {
        let output = super::mapring(&server.export(&region, &to, more));
        let log = common::stderr(&output);
        assert!(!output.status.success() && log.contains("stream s takes no more messages"), "{log}");
        assert!(log.contains("0 records published, none lost"), "{log}");
        assert!(log.contains(", and that 1") && log.contains(" are lost"), "{log}");
    }
}

#[test]
fn a_stream_that_becomes_full_gets_the_rest_when_it_has_room() {
    let Some(server) = Server::start() else { return };
    let server = server.with_stream(json!({ "max_msgs": 8, "discard": "new" }));
    let ring = Ring::<[u64; 2]>::create_memfd(64, 2).unwrap();
    let (region, to) = (path(&ring.region()), server.address());
    push(&ring, 0, 10);
    push(&ring, 1, 10);
    let mut exporter = Running::mapring(&server.export(&region, &to, &["--once"]));
    exporter.wait_for("stream s: maximum messages exceeded; waiting, with 12 messages");
    server.update(&json!({ "max_msgs": 1000, "discard": "new" }));
    until_some("its end", || exporter.child.0.try_wait().unwrap());
    let found = server.messages();
    let of = |subject: &str| tickets(&Vec::<Value>::clone(&found[subject]));
    assert_eq!((of("r.0"), of("r.1")), ((10, 0), (10, 0)));
}

#[test]
fn a_record_is_not_lost_while_the_stream_takes_not_even_its_loss() {
    let Some(server) = Server::start() else { return };
    let server = server.with_stream(json!({ "max_msg_size": 100 }));
    let ring = Ring::<[u64; 2]>::create_memfd(64, 1).unwrap();
    ring.writer(0).unwrap().push(&[1, 2]).unwrap();
    let (region, to) = (path(&ring.region()), server.address());
    let mut exporter = Running::mapring(&server.export(&region, &to, &[]));
    exporter.wait_for("--max-msg-size");
    server.update(&json!({ "max_msg_size": 4096 }));
    until_some("the record", || server.messages().get("r.0").map(drop));
    assert_eq!(tickets(&server.messages()["r.0"]), (1, 0));
    assert_eq!(exporter.interrupt(), Some(0));
}
