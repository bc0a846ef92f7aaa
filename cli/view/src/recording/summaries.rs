//! Histograms, gauges and top keys in recordings: their values as words, and decoded. docs/recording.md describes the words.

use mapring::abi::histogram::{BUCKETS, bucket, values};
use mapring::reading::{GaugeReader, GaugeWindow, Ranking};
use mapring::{Histogram, ReadError};

use super::source_kind::SourceKind;
use crate::value::Value;

/// The most keys in a sample of top keys.
pub(super) const KEYS: usize = 20;

/// The words of a sample, if this module knows the kind.
pub(super) fn words(kind: SourceKind) -> Option<usize> {
    match kind {
        SourceKind::Histograms => Some(BUCKETS),
        SourceKind::Gauges => Some(4),
        SourceKind::TopKeys => Some(3 + 3 * KEYS),
        _ => None,
    }
}

pub(super) fn of_histogram(histogram: &Histogram) -> Vec<u64> {
    let mut words = vec![0; BUCKETS];
    for (range, count) in histogram.buckets() {
        words[bucket(*range.start())] = count;
    }
    words
}

/// The words of a sample of this machine's byte order.
pub(super) fn words_in(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}

/// The histogram of these words.
pub(super) fn histogram(words: &[u64]) -> Histogram {
    let mut histogram = Histogram::new();
    for (at, count) in words.iter().take(BUCKETS).enumerate() {
        histogram.add_n(*values(at).start(), *count);
    }
    histogram
}

pub(super) fn of_ranking(ranking: &Ranking) -> Vec<u64> {
    let mut words = vec![ranking.total, ranking.other, ranking.unlisted];
    words.extend(ranking.keys.iter().take(KEYS).flat_map(|key| [key.key, key.count, key.error]));
    words.resize(3 + 3 * KEYS, 0);
    words
}

/// A gauge that is being recorded.
pub(super) struct Gauge {
    pub(super) reader: GaugeReader,
    /// The newest window at the last read.
    pub(super) seen: Option<GaugeWindow>,
}

impl Gauge {
    /// The values since the last read, if there are some.
    pub(super) fn read(&mut self) -> Result<Option<[u64; 4]>, ReadError> {
        let mut since = self.reader.read()?;
        // The newest window of the last read is among these again. It may have new values.
        since.windows.retain(|window| {
            self.seen.is_none_or(|seen| window.ns > seen.ns || (window.ns == seen.ns && *window != seen))
        });
        let (Some(min), Some(max), Some(last)) = (since.min(), since.max(), since.windows.last()) else {
            return Ok(None);
        };
        self.seen = Some(*last);
        Ok(Some([last.ns, min, max, since.missed]))
    }
}

/// Decodes the words of a sample.
pub(super) fn decode(kind: SourceKind, words: &[u64]) -> Value {
    let fields = |names: &[&str]| -> Vec<_> {
        let words = words.iter().copied().chain(std::iter::repeat(0));
        names.iter().zip(words).map(|(name, word)| ((*name).to_owned(), Value::Unsigned(word))).collect()
    };
    Value::Struct(match kind {
        SourceKind::Histograms => {
            let all = words.iter().take(BUCKETS).enumerate().filter(|(_, count)| **count > 0);
            let count = all.clone().fold(0, |sum: u64, (_, count)| sum.saturating_add(*count));
            let list = |(at, count): (usize, &u64)| {
                let range = values(at);
                Value::List([*range.start(), *range.end(), *count].map(Value::Unsigned).into())
            };
            let buckets = Value::List(all.map(list).collect());
            vec![("count".to_owned(), Value::Unsigned(count)), ("buckets".to_owned(), buckets)]
        }
        SourceKind::TopKeys => {
            let keys = words.get(3..).unwrap_or_default().chunks_exact(3).filter(|key| key[1] > 0);
            let names = ["key", "count", "error"].map(str::to_owned);
            let key = |key: &[u64]| {
                let numbers = key.iter().copied().map(Value::Unsigned);
                Value::Struct(names.clone().into_iter().zip(numbers).collect())
            };
            let keys = ("keys".to_owned(), Value::List(keys.map(key).collect()));
            fields(&["total", "other", "unlisted"]).into_iter().chain([keys]).collect()
        }
        _ => fields(&["ns", "min", "max", "missed"]),
    })
}

#[cfg(test)]
mod tests {
    use mapring::{Gauges, TopKeys};

    use super::*;

    #[test]
    fn histograms_are_their_buckets() {
        let mut histogram = Histogram::new();
        for value in [0, 7, 7, 1000, u64::MAX] {
            histogram.add(value);
        }
        let words = of_histogram(&histogram);
        let value = decode(SourceKind::Histograms, &words);
        let buckets: Vec<_> =
            histogram.buckets().map(|(range, n)| (*range.start(), *range.end(), n)).collect();
        assert_eq!(value.json(), serde_json::json!({ "count": 5, "buckets": buckets }));
        assert_eq!(words.len(), words_of(SourceKind::Histograms));
        assert!(super::histogram(&words) == histogram);
        // Words that no histogram has.
        assert_eq!(
            decode(SourceKind::Histograms, &[u64::MAX; 1000]).at("count"),
            Some(&Value::Unsigned(u64::MAX))
        );
        assert_eq!(decode(SourceKind::Histograms, &[]).at("count"), Some(&Value::Unsigned(0)));
    }

    fn words_of(kind: SourceKind) -> usize {
        words(kind).unwrap()
    }

    #[test]
    fn top_keys_are_the_largest() {
        let table = TopKeys::create_memfd(64, 1).unwrap();
        let writer = table.writer(0).unwrap();
        (0..100).for_each(|key| _ = writer.add(key, 10 * key + 1));
        let words = of_ranking(&table.largest(KEYS).unwrap());
        assert_eq!(words.len(), words_of(SourceKind::TopKeys));
        let value = decode(SourceKind::TopKeys, &words).json();
        assert_eq!((&value["total"], value["keys"].as_array().unwrap().len()), (&49_600.into(), KEYS));
        assert_eq!(value["keys"][0], serde_json::json!({ "key": 99, "count": 991, "error": 0 }));
        assert_eq!(decode(SourceKind::TopKeys, &[5]).to_string(), "total=5 other=0 unlisted=0 keys=[]");
    }

    #[test]
    fn a_gauge_is_read_once_for_each_change() {
        let gauges = Gauges::create_memfd(1, 1).unwrap();
        let writer = gauges.writer(0).unwrap();
        let mut gauge = Gauge { reader: gauges.reader(0).unwrap(), seen: None };
        assert_eq!(gauge.read().unwrap(), None);
        let window = |number: u64| (1 << 40) + (number << 20);
        let set = |value, ns| writer.set_at(0, value, ns).unwrap();
        assert!(set(5, window(0)) && set(3, window(1)) && set(9, window(1)));
        assert_eq!(gauge.read().unwrap().map(|[ns, min, max, _]| (ns, min, max)), Some((window(1), 3, 9)));
        assert_eq!(gauge.read().unwrap(), None);
        set(1, window(1));
        assert_eq!(gauge.read().unwrap().map(|[ns, min, max, _]| (ns, min, max)), Some((window(1), 1, 9)));
        set(7, window(3));
        assert_eq!(gauge.read().unwrap().map(|[ns, min, max, _]| (ns, min, max)), Some((window(3), 7, 7)));
    }
}
