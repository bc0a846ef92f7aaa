//! What is exported: families of series with their labels, and their numbers.

use mapring::Histogram;

/// The kind of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Series of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) kind: Kind,
    /// For OTLP, such as `ns` or `By`.
    pub(crate) unit: String,
}

/// The labels of a series, escaped once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels {
    /// As in the text format: `region="/sys/fs/bpf/x",index="3"`.
    pub(crate) text: String,
    pub(crate) pairs: Vec<(String, String)>,
}

impl Labels {
    pub(crate) fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut labels = Self::default();
        pairs.into_iter().for_each(|(name, value)| labels.push(name, value));
        labels
    }

    pub(crate) fn push(&mut self, name: &str, value: String) {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(name);
        self.text.push_str("=\"");
        self.text.push_str(&escaped(&value));
        self.text.push('"');
        self.pairs.push((name.to_owned(), value));
    }

    pub(crate) fn with(&self, name: &str, value: String) -> Self {
        let mut labels = self.clone();
        labels.push(name, value);
        labels
    }
}

/// Text in quotes in the text formats.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Number {
    #[allow(clippy::cast_precision_loss)] // as in Prometheus, where each value is a 64-bit float
    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Self::Unsigned(number) => number as f64,
            Self::Signed(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    pub(crate) fn scaled(self, scale: Option<f64>) -> Self {
        scale.map_or(self, |scale| Self::Float(self.to_f64() * scale))
    }
}

/// A histogram in exponential buckets, as Prometheus and OpenTelemetry have them.
pub(crate) struct Exponential {
    pub(crate) count: u64,
    /// As if each value were the middle of its bucket in the region: at most 6.25 % wrong.
    pub(crate) sum: f64,
    pub(crate) zeros: u64,
    /// In ascending order: bucket `i` counts values up to `2^(i / 8)` that no bucket before it counts.
    pub(crate) buckets: Vec<(i32, u64)>,
}

impl Exponential {
    /// There are `2^SCHEMA` buckets for each power of two, as many as in the region.
    pub(crate) const SCHEMA: i32 = 3;

    /// The buckets in the region are linear between powers of two. Each is counted where its middle is: no value is in
    /// the bucket of a value that differs from it by more than 6.25 %.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // an i32 has every binary logarithm
    pub(crate) fn new(histogram: &Histogram, scale: f64) -> Self {
        let mut new = Self { count: histogram.count(), sum: 0.0, zeros: 0, buckets: Vec::new() };
        for (values, count) in histogram.buckets() {
            if *values.end() == 0 {
                new.zeros = count;
                continue;
            }
            let middle = (*values.start() + (*values.end() - *values.start()) / 2) as f64 * scale;
            new.sum += middle * count as f64;
            let index = (middle.log2() * f64::from(1 << Self::SCHEMA)).ceil() as i32;
            match new.buckets.last_mut() {
                Some((last, sum)) if *last == index => *sum = sum.saturating_add(count),
                _ => new.buckets.push((index, count)),
            }
        }
        new
    }
}

/// Calls `f` with each classic bucket: the largest value that it counts, `2^n - 1`, and the count up to there.
pub(crate) fn classic(histogram: &Histogram, mut f: impl FnMut(u64, u64)) {
    let mut buckets = histogram.buckets().peekable();
    let mut sum = 0_u64;
    for bits in 0..u64::BITS {
        let end = (1_u64 << bits) - 1;
        while let Some((_, count)) = buckets.next_if(|(values, _)| *values.end() <= end) {
            sum = sum.saturating_add(count);
        }
        f(end, sum);
    }
}

/// A name that Prometheus takes, from any text. Other characters become `_`, unless they follow one.
pub(crate) fn name_of(text: &str) -> String {
    let mut name = String::new();
    for c in text.trim_start_matches('.').chars() {
        match c {
            '_' => name.push(c),
            c if c.is_ascii_alphanumeric() => name.push(c),
            _ if name.ends_with('_') => {}
            _ => name.push('_'),
        }
    }
    name
}

/// Whether Prometheus takes it as the name of a metric; of a label with `label`.
pub(crate) fn is_name(text: &str, label: bool) -> bool {
    let first = text.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':' && !label);
    first && rest && !(label && text.starts_with("__"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_valid() {
        assert_eq!((name_of(".data.x-y"), name_of("é\n_[0].x")), ("data_x_y".into(), "__0_x".into()));
        assert!(is_name("a:b_1", false) && is_name("le_2", true));
        for (text, label) in [("", false), ("1a", false), ("a-b", false), ("a:b", true), ("__name__", true)] {
            assert!(!is_name(text, label), "{text}");
        }
        let labels = Labels::of([("a", "x\\y\"\n".to_owned()), ("b", String::new())]);
        assert_eq!(labels.text, r#"a="x\\y\"\n",b="""#);
    }

    #[test]
    fn each_value_is_in_one_bucket_near_it() {
        let mut all = Histogram::new();
        let values: Vec<u64> = (0..64).flat_map(|bits| [1, 2, 3].map(|n| (n << bits) >> 1)).collect();
        values.iter().for_each(|value| all.add(*value));
        let found = Exponential::new(&all, 1.0);
        assert_eq!(found.zeros + found.buckets.iter().map(|(_, n)| n).sum::<u64>(), values.len() as u64);
        assert!(found.buckets.is_sorted_by(|a, b| a.0 < b.0), "each bucket once");
        for value in values.into_iter().filter(|value| *value > 0) {
            let mut one = Histogram::new();
            one.add(value);
            let found = Exponential::new(&one, 1e-9);
            let [(index, 1)] = found.buckets[..] else { panic!("{:?}", found.buckets) };
            let value = value as f64 * 1e-9;
            let (low, high) = ((f64::from(index - 1) / 8.0).exp2(), (f64::from(index) / 8.0).exp2());
            assert!(low < value * 1.0626 && value * 0.9374 <= high, "{value}: {low} to {high}");
        }
    }

    #[test]
    fn classic_buckets_are_cumulative_and_exact() {
        let mut all = Histogram::new();
        [0, 1, 7, 8, 255, 256, u64::MAX].into_iter().for_each(|value| all.add(value));
        let mut found = Vec::new();
        classic(&all, |end, count| found.push((end, count)));
        assert_eq!((found[0], found[1], found[3], found[4]), ((0, 1), (1, 2), (7, 3), (15, 4)));
        assert_eq!((found[8], found[9], found[63]), ((255, 5), (511, 6), (u64::MAX >> 1, 6)));
    }
}
