//! `mapring export prometheus`, scraped by Debian's Prometheus, and its configuration.

use mapring::{Counters, Gauges, Histograms, Ring, TopKeys};

use super::servers::Prometheus;
use super::{Dir, Kept, Running, get, mapring, path, scrape, until_some, value};

fn config(address: &str) -> String {
    format!(
        "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}\nscrape_configs: \
         [{{ job_name: m, static_configs: [{{ targets: ['{address}'] }}] }}]\n"
    )
}

#[test]
fn prometheus_scrapes_what_was_written() {
    let counters = Counters::create_memfd(3, 2).unwrap();
    let histograms = Histograms::create_memfd(1, 2).unwrap();
    let gauges = Gauges::create_memfd(1, 1).unwrap();
    let ring = Ring::<[u64; 2]>::create_memfd(16, 2).unwrap();
    let keys = TopKeys::create_memfd(64, 1).unwrap();
    counters.writer(0).unwrap().add(1, 40).unwrap();
    counters.writer(1).unwrap().add(1, 2).unwrap();
    let writer = histograms.writer(1).unwrap();
    (0..1000).for_each(|value| writer.add(0, value).unwrap());
    let now = mapring::time::Clock::Monotonic.now();
    for value in [7, 3, 9] {
        gauges.writer(0).unwrap().set_at(0, value, now).unwrap();
    }
    (0..40).for_each(|n| assert_eq!(ring.writer(1).unwrap().push(&[n, n]), Some(n)));
    keys.writer(0).unwrap().add(77, 5);
    let regions = [path(counters.region()), path(histograms.region()), path(gauges.region())];
    let more = [path(&ring.region()), path(keys.region())];
    let mut args = vec!["export", "prometheus", "--listen", "127.0.0.1:0"];
    args.extend(regions.iter().chain(&more).map(String::as_str));
    let mut exporter = Running::mapring(&args);
    let address = exporter.address();

    let text = scrape(&address);
    let at = |region: &str, more: &str| format!("{{region=\"{region}\"{more}}}");
    for (series, expected) in [
        (format!("mapring_counters_total{}", at(&regions[0], ",index=\"1\"")), 42.0),
        (format!("mapring_counters_total{}", at(&regions[0], ",index=\"2\"")), 0.0),
        (format!("mapring_histograms_bucket{}", at(&regions[1], ",le=\"127\"")), 128.0),
        (format!("mapring_histograms_count{}", at(&regions[1], "")), 1000.0),
        (format!("mapring_gauges_min{}", at(&regions[2], "")), 3.0),
        (format!("mapring_gauges_max{}", at(&regions[2], "")), 9.0),
        (format!("mapring_ring_records_total{}", at(&more[0], ",shard=\"1\"")), 40.0),
        (format!("mapring_dropped_total{}", at(&more[0], ",cause=\"no_slot\"")), 0.0),
        (format!("mapring_top_keys_total{}", at(&more[1], ",key=\"77\"")), 5.0),
        (format!("mapring_up{}", at(&more[1], "")), 1.0),
        (format!("mapring_loader_alive{}", at(&more[1], "")), 1.0),
    ] {
        assert_eq!(value(&text, &series), Some(expected), "{series}\n{text}");
    }

    let Some(server) = Prometheus::start(&config(&address), &["--enable-feature=native-histograms"]) else {
        return;
    };
    server.wait_for("up", |up| up == 1.0);
    let labels = server.wait_for("mapring_counters_total{index='1'}", |count| count == 42.0);
    assert_eq!(labels["region"], *regions[0]);
    server.wait_for("mapring_gauges_last", |last| (3.0..=9.0).contains(&last));
    server.wait_for("mapring_ring_records_total{shard='1'}", |count| count == 40.0);
    // A native histogram, because it is one series.
    server.wait_for("histogram_count(mapring_histograms)", |count| count == 1000.0);
    let near = |value: f64, expected: f64| (value - expected).abs() < expected * 0.16;
    for (quantile, expected) in [(0.1, 100.0), (0.5, 500.0), (0.99, 990.0)] {
        server
            .wait_for(&format!("histogram_quantile({quantile}, mapring_histograms)"), |q| near(q, expected));
    }
    server.wait_for("histogram_sum(mapring_histograms)", |sum| (sum - 499_500.0).abs() < 499_500.0 * 0.0625);

    // What is written later is found later.
    counters.writer(0).unwrap().add(1, 58).unwrap();
    server.wait_for("mapring_counters_total{index='1'}", |count| count == 100.0);
    assert_eq!(exporter.interrupt(), Some(0));
    server.wait_for("up", |up| up == 0.0);
}

#[test]
fn formats_follow_accept() {
    let counters = Counters::create_memfd(1, 1).unwrap();
    let mut exporter =
        Running::mapring(&["export", "prometheus", "--listen", "127.0.0.1:0", &path(counters.region())]);
    let address = exporter.address();
    let of = |accept: &str| get(&address, "/metrics", &format!("Accept: {accept}\r\n")).unwrap();
    let (_, head, open) = of("application/openmetrics-text;version=1.0.0");
    assert!(head.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(open.ends_with(b"# EOF\n") && !open.starts_with(b"\n"));
    let (_, head, protobuf) =
        of("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited");
    assert!(head.contains("encoding=delimited"), "{head}");
    // After its length, always of five bytes, comes field 1: a name of 22 bytes.
    assert_eq!(&protobuf[5..7], [0x0a, 22]);
    assert_eq!(exporter.interrupt(), Some(0));
}

#[test]
fn each_scrape_has_the_values_of_its_time() {
    let counters = Counters::create_memfd(3, 2).unwrap();
    let (writer, region) = (counters.writer(1).unwrap(), path(counters.region()));
    let mut exporter = Running::mapring(&["export", "prometheus", "--listen", "127.0.0.1:0", &region]);
    let address = exporter.address();
    let (mut kept, mut sums) = (Kept::new(&address), [0; 3]);
    // Some get another number of digits, some only other digits, and some stay.
    for (index, by) in
        [(0, 0), (1, 8), (1, 1), (1, 1), (2, 1), (0, 1), (1, 89), (1, 900), (2, 8), (2, u64::MAX)]
    {
        writer.add(index, by).unwrap();
        sums[index] = u64::wrapping_add(sums[index], by);
        let (head, page) = kept.get("");
        assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("Connection"), "{head}");
        for (index, sum) in sums.iter().enumerate() {
            let line = format!("\nmapring_counters_total{{region=\"{region}\",index=\"{index}\"}} {sum}\n");
            assert!(page.contains(&line), "{line}{page}");
        }
        assert!(page == scrape(&address) && page == kept.get("Accept: text/plain\r\n").1);
        // Another format is written over it.
        let open = "application/openmetrics-text;version=1.0.0";
        assert!(kept.get(&format!("Accept: {open}\r\n")).1.ends_with("\n# EOF\n"));
    }
    assert_eq!(exporter.interrupt(), Some(0));
}

#[test]
fn a_configuration_names_metrics() {
    let counters = Counters::create_memfd(3, 2).unwrap();
    counters.writer(1).unwrap().add(0, 1500).unwrap();
    let (dir, region) = (Dir::new(), path(counters.region()));
    let metric = format!("[[metric]]\nregion = {region:?}\nname = \"calls_total\"\nhelp = \"Calls.\"\n");
    let once =
        |text: &str| mapring(&["export", "prometheus", "--once", "--config", &dir.file("c.toml", text)]);
    let good = once(&format!(
        "{metric}label = \"call\"\nentries = {{ 0 = \"read\", 2 = \"wr\\\"ite\" }}\nlabels = {{ host = \"a\" }}\n\
         by_cpu = true\nscale = 0.001"
    ));
    let text = String::from_utf8(good.stdout).unwrap();
    let labels = format!("region=\"{region}\",host=\"a\"");
    assert!(text.starts_with("# HELP calls_total Calls.\n# TYPE calls_total counter\n"), "{text}");
    assert!(text.contains(&format!("\ncalls_total{{{labels},call=\"read\",cpu=\"1\"}} 1.5\n")), "{text}");
    assert!(text.contains(&format!("\ncalls_total{{{labels},call=\"wr\\\"ite\",cpu=\"0\"}} 0\n")), "{text}");
    for (bad, log) in [
        (format!("{metric}unknown = 1"), "unknown field `unknown`, expected one of `region`, `name`"),
        (format!("{metric}unknown = 1"), "line 5"),
        (format!("{metric}kind = \"histogram\""), "this region has counter or gauge"),
        (format!("{metric}kind = \"gauge\""), "names of counters end with _total"),
        (format!("{metric}entries = {{ 3 = \"x\" }}"), "entries: 3: the region has 3"),
        (format!("{metric}field = \"x\""), "have no fields"),
        (format!("{metric}{metric}"), "two values have this name and these labels"),
        (metric.replace(&region, "/does/not/exist"), "/does/not/exist"),
    ] {
        let output = once(&bad);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{bad}");
        assert!(stderr.starts_with("mapring: ") && stderr.contains(log), "{bad}: {stderr}");
    }
    assert_eq!(mapring(&["export", "prometheus", "--listen", "nowhere"]).status.code(), Some(2));
}

#[test]
fn a_region_that_disappears_is_down_and_one_that_returns_is_up() {
    let counters = Counters::create_memfd(1, 1).unwrap();
    let stays = Counters::create_memfd(1, 1).unwrap();
    let dir = Dir::new();
    let link = dir.0.join("region");
    std::os::unix::fs::symlink(path(counters.region()), &link).unwrap();
    let link = link.to_str().unwrap().to_owned();
    let mut exporter =
        Running::mapring(&["export", "prometheus", "--listen", "127.0.0.1:0", &link, &path(stays.region())]);
    let address = exporter.address();
    let up = format!("mapring_up{{region=\"{link}\"}}");
    assert_eq!(value(&scrape(&address), &up), Some(1.0));
    std::fs::remove_file(&link).unwrap();
    until_some("the region to be down", || (value(&scrape(&address), &up) == Some(0.0)).then_some(()));
    let text = scrape(&address);
    assert!(!text.contains(&format!("mapring_counters_total{{region=\"{link}\"}}")), "{text}");
    assert!(
        text.contains(&format!("mapring_counters_total{{region=\"{}\"}} 0", path(stays.region()))),
        "{text}"
    );
    exporter.wait_for("no longer exported");
    std::os::unix::fs::symlink(path(counters.region()), &link).unwrap();
    until_some("the region to be up", || (value(&scrape(&address), &up) == Some(1.0)).then_some(()));
    assert_eq!(exporter.interrupt(), Some(0));
}
