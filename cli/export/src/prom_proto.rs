//! The protobuf format of Prometheus, with native histograms.

use prost::Message;
use prost::encoding::message;

use crate::messages::io::prometheus::client::{
    Bucket, BucketSpan, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use crate::page::Page;
use crate::series::{self, Exponential, Labels, Number, classic};
use crate::sink::{Kept, Paged, Sink, Space};

/// Writes families one after the other, each with its length before it.
pub(crate) struct Protobuf<'a> {
    page: &'a mut Page,
    /// Where the family begins, and where its metrics do.
    from: usize,
    metrics: usize,
    is_counter: bool,
    message: Vec<u8>,
}

/// The number of the field `metric` in `MetricFamily`.
const METRIC: u32 = 4;
/// The bytes of a family's length, however small it is: as many as readers take.
const LENGTH: usize = 5;

impl<'a> Protobuf<'a> {
    pub(crate) fn new(page: &'a mut Page) -> Self {
        Self { page, from: 0, metrics: 0, is_counter: false, message: Vec::new() }
    }

    /// Ends the last family. One without metrics is left out.
    pub(crate) fn end(&mut self) {
        if self.page.len() == self.metrics {
            return self.page.cut(self.from);
        }
        let length = self.page.len() - self.from - LENGTH;
        let digits = |at: usize| (length >> (7 * at)).to_le_bytes()[0] & 0x7f;
        let length = std::array::from_fn(|at| digits(at) | if at + 1 < LENGTH { 0x80 } else { 0 });
        self.page.put_at(self.from, &length as &[u8; LENGTH]);
    }

    fn metric(&mut self, metric: &Metric) {
        if !self.page.is_full() {
            self.message.clear();
            message::encode(METRIC, metric, &mut self.message);
            self.page.put(&self.message);
        }
    }
}

impl Paged for Protobuf<'_> {
    const AFTER: usize = 0;

    fn page(&mut self) -> &mut Page {
        self.page
    }

    fn written(number: Number, space: &mut Space) -> &[u8] {
        space.bytes.clear();
        space.bytes.extend_from_slice(&number.to_f64().to_le_bytes());
        &space.bytes
    }
}

impl Sink for Protobuf<'_> {
    fn family(&mut self, family: &series::Family) {
        self.end();
        let kind = match family.kind {
            series::Kind::Counter => MetricType::Counter,
            series::Kind::Gauge => MetricType::Gauge,
            series::Kind::Histogram => MetricType::Histogram,
        };
        self.is_counter = family.kind == series::Kind::Counter;
        let (name, help) = (Some(family.name.clone()), Some(family.help.clone()));
        let family = MetricFamily { name, help, r#type: Some(kind.into()), metric: Vec::new() };
        self.message = family.encode_to_vec();
        self.from = self.page.len();
        self.page.put(&[0; LENGTH]);
        self.page.put(&self.message);
        self.metrics = self.page.len();
    }

    fn number(&mut self, labels: &Labels, number: Number) {
        let (label, value) = (pairs(labels), Some(number.to_f64()));
        self.metric(&match self.is_counter {
            true => Metric { label, counter: Some(Counter { value }), ..Metric::default() },
            false => Metric { label, gauge: Some(Gauge { value }), ..Metric::default() },
        });
    }

    fn histogram(&mut self, labels: &Labels, histogram: &mapring::Histogram, scale: f64) {
        let histogram = Some(native(histogram, scale));
        self.metric(&Metric { label: pairs(labels), histogram, ..Metric::default() });
    }

    fn numbers(&mut self, series: &[(usize, Labels)], kept: &mut Kept, of: impl Fn(usize) -> Option<Number>) {
        kept.write(self, series, of);
    }
}

fn pairs(labels: &Labels) -> Vec<LabelPair> {
    let pair =
        |(name, value): &(String, String)| LabelPair { name: Some(name.clone()), value: Some(value.clone()) };
    labels.pairs.iter().map(pair).collect()
}

#[allow(clippy::cast_precision_loss)] // a bound has few digits that are not zero, or it is scaled
fn native(histogram: &mapring::Histogram, scale: f64) -> Histogram {
    let exponential = Exponential::new(histogram, scale);
    let mut bucket = Vec::with_capacity(64);
    classic(histogram, |end, count| {
        bucket.push(Bucket { cumulative_count: Some(count), upper_bound: Some(end as f64 * scale) });
    });
    let (mut spans, mut deltas): (Vec<BucketSpan>, Vec<i64>) = (Vec::new(), Vec::new());
    let (mut next, mut before) = (0, 0);
    for (index, count) in exponential.buckets {
        match spans.last_mut() {
            Some(BucketSpan { length: Some(length), .. }) if index == next => *length += 1,
            _ => spans.push(BucketSpan { offset: Some(index - next), length: Some(1) }),
        }
        let count = count.cast_signed();
        deltas.push(count.wrapping_sub(before));
        (next, before) = (index + 1, count);
    }
    Histogram {
        sample_count: Some(exponential.count),
        sample_sum: Some(exponential.sum),
        bucket,
        schema: Some(Exponential::SCHEMA),
        // Values are whole numbers before they are scaled. (A threshold also marks a native histogram that is empty.)
        zero_threshold: Some(0.5 * scale),
        zero_count: Some(exponential.zeros),
        positive_span: spans,
        positive_delta: deltas,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_deltas_say_where_the_buckets_are() {
        let mut histogram = mapring::Histogram::new();
        [0, 1, 1, 1, 2, 1000, 1000].into_iter().for_each(|value| histogram.add(value));
        let native = native(&histogram, 1.0);
        let (mut index, mut at, mut found) = (0, 0, Vec::new());
        let mut count = 0;
        for span in &native.positive_span {
            index += span.offset.unwrap();
            for _ in 0..span.length.unwrap() {
                count += native.positive_delta[at];
                found.push((index, count));
                (index, at) = (index + 1, at + 1);
            }
        }
        // 1000 is counted among 960 to 1023: the middle 991 is at most 2^(80 / 8).
        assert_eq!(found, [(0, 3), (8, 1), (80, 2)]);
        assert_eq!((native.zero_count, native.sample_count, at), (Some(1), Some(7), 3));
    }
}
