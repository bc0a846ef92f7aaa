//! The protobuf format of Prometheus, with native histograms. The field numbers are those of its public schema
//! (`io/prometheus/client/metrics.proto` in Prometheus's client_model repository).

use mapring::Histogram;
use prost::Message;

use super::series::{self, Exponential, Labels, Number, Sink, classic};

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) help: Option<String>,
    /// 0 counter, 1 gauge, 4 histogram.
    #[prost(int32, optional, tag = "3")]
    pub(super) r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub(super) metric: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub(super) gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    pub(super) counter: Option<Value>,
    #[prost(message, optional, tag = "7")]
    pub(super) histogram: Option<Native>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

/// `Gauge` and `Counter` of the schema.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
}

/// `Histogram` of the schema.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Native {
    #[prost(uint64, optional, tag = "1")]
    pub(super) sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    pub(super) schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub(super) zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    pub(super) zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    pub(super) positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub(super) positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    pub(super) cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) upper_bound: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    pub(super) offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    pub(super) length: Option<u32>,
}

/// Writes families one after the other, each with its length before it.
pub(super) struct Protobuf {
    out: Vec<u8>,
    /// Families after this number of bytes are not written.
    limit: usize,
    family: MetricFamily,
}

impl Protobuf {
    pub(super) fn new(out: Vec<u8>, limit: usize) -> Self {
        Self { out, limit, family: MetricFamily::default() }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.write();
        self.out
    }

    fn write(&mut self) {
        if !self.family.metric.is_empty() && self.out.len() <= self.limit {
            // A vector has room for any message.
            let _ = self.family.encode_length_delimited(&mut self.out);
        }
    }
}

impl Sink for Protobuf {
    fn family(&mut self, family: &series::Family) {
        self.write();
        self.family.name = Some(family.name.clone());
        self.family.help = Some(family.help.clone());
        self.family.r#type = Some(match family.kind {
            series::Kind::Counter => 0,
            series::Kind::Gauge => 1,
            series::Kind::Histogram => 4,
        });
        self.family.metric.clear();
    }

    fn number(&mut self, labels: &Labels, number: Number) {
        let value = Some(Value { value: Some(number.to_f64()) });
        let mut metric = Metric { label: pairs(labels), ..Metric::default() };
        *if self.family.r#type == Some(0) { &mut metric.counter } else { &mut metric.gauge } = value;
        self.family.metric.push(metric);
    }

    fn histogram(&mut self, labels: &Labels, histogram: &Histogram, scale: f64) {
        let histogram = Some(native(histogram, scale));
        self.family.metric.push(Metric { label: pairs(labels), histogram, ..Metric::default() });
    }
}

fn pairs(labels: &Labels) -> Vec<LabelPair> {
    let pair =
        |(name, value): &(String, String)| LabelPair { name: Some(name.clone()), value: Some(value.clone()) };
    labels.pairs.iter().map(pair).collect()
}

#[allow(clippy::cast_precision_loss)] // a bound has few digits that are not zero, or it is scaled
fn native(histogram: &Histogram, scale: f64) -> Native {
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
    Native {
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
        let mut histogram = Histogram::new();
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
