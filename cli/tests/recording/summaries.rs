//! Histograms, gauges and top keys in memory files: recorded as they change, shown and converted.

use mapring::{Gauges, Histograms, Region, TopKeys};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Dir, Running, growing, inspect, lines, mapring, path, text, until};

fn samples(file: &str) -> Vec<Value> {
    lines(&mapring(&["inspect", file, "--format", "ndjson"]).stdout)
}

/// Records two samples of a region, which `change` changes in between; returns the file.
fn recorded(dir: &Dir, name: &str, region: &Region, change: impl FnOnce()) -> String {
    let file = dir.path(name);
    let mut recorder = Running::new(&["record", &path(region), "--every", "5ms", "-o", &file]);
    until("the first sample", || samples(&growing(&file)).len() == 1);
    change();
    until("the second sample", || samples(&growing(&file)).len() == 2);
    recorder.signal(Signal::INT);
    assert!(recorder.end().0);
    file
}

#[test]
fn histograms_are_sums_over_all_cpus() {
    let (histograms, dir) = (Histograms::create_memfd(3, 2).unwrap(), Dir::new());
    let writers = [0, 1].map(|shard| histograms.writer(shard).unwrap());
    writers.iter().for_each(|writer| writer.add(2, 5).unwrap());
    let file = recorded(&dir, "waits", histograms.region(), || writers[1].add(2, u64::MAX).unwrap());
    let found = samples(&file);
    assert_eq!(found[0]["value"], json!({ "count": 2, "buckets": [[5, 5, 2]] }));
    let last = &found[1]["value"]["buckets"][1];
    assert_eq!((&found[1]["index"], &found[1]["value"]["count"]), (&json!(2), &json!(3)));
    assert_eq!((&last[1], &last[2]), (&json!(u64::MAX), &json!(1)));
    let source = &inspect(&file)["parts"][0]["source"];
    assert_eq!(
        (&source["kind"], &source["entries"], &source["shards"]),
        (&json!("histograms"), &json!(3), &json!(1))
    );
    let people = text(&mapring(&["inspect", &file]));
    assert!(people.contains("values    count, buckets") && people.contains("2 changed values"), "{people}");
    let drawn = ["last sample of 2: 3 values", "p50 ≤ 5", "  ≥ 4", "2  ####"];
    assert!(drawn.into_iter().all(|part| people.contains(part)), "{people}");
    assert!(people.lines().all(|line| line.chars().count() <= 80), "{people}");
    let csv = text(&mapring(&["inspect", &file, "--format", "csv", "--where", "count > 2"]));
    assert!(csv.starts_with("index,cpu,version,time,count,buckets\n2,,0,"), "{csv}");
    assert!(csv.lines().nth(1).unwrap().contains(",3,\"[[5,5,2],["), "{csv}");
}

#[test]
fn gauges_are_their_extremes_since_the_last_sample() {
    let (gauges, dir) = (Gauges::create_memfd(2, 1).unwrap(), Dir::new());
    let writer = gauges.writer(0).unwrap();
    let now = || mapring::time::Clock::Monotonic.now();
    let ns = now();
    assert!(writer.set_at(1, 7, ns).unwrap() && writer.set_at(1, 70, ns).unwrap());
    let file = recorded(&dir, "depths", gauges.region(), || {
        until("the next window", || writer.set_at(1, 3, now()).unwrap() && now() >> 20 > ns >> 20);
    });
    let found = samples(&file);
    let value = |at: usize| &found[at]["value"];
    assert_eq!((&found[0]["index"], &value(0)["min"], &value(0)["max"]), (&json!(1), &json!(7), &json!(70)));
    assert_eq!((&value(1)["min"], &value(0)["missed"]), (&json!(3), &json!(0)));
    assert!(value(1)["ns"].as_u64() >= value(0)["ns"].as_u64());
}

#[test]
fn top_keys_are_the_largest() {
    let (keys, dir) = (TopKeys::create_memfd(64, 1).unwrap(), Dir::new());
    let writer = keys.writer(0).unwrap();
    (0..30).for_each(|key| assert!(writer.add(key, 1 + key)));
    let file = recorded(&dir, "keys", keys.region(), || assert!(writer.add(u64::MAX, 1000)));
    let found = samples(&file);
    assert_eq!((&found[0]["value"]["total"], &found[1]["value"]["total"]), (&json!(465), &json!(1465)));
    let largest = &found[1]["value"]["keys"];
    assert_eq!(largest[0], json!({ "key": u64::MAX, "count": 1000, "error": 0 }));
    assert_eq!((&largest[1]["key"], largest.as_array().unwrap().len()), (&json!(29), 20));
}
