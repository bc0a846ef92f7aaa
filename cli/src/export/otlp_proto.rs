//! The messages of OTLP for metrics, with the field numbers of the public schema (`opentelemetry/proto/metrics/v1` and
//! `collector/metrics/v1` in the opentelemetry-proto repository).

use mapring::Histogram;
use prost::{Message, Oneof};

use super::series::{self, Exponential, Kind, Labels, Number, Sink};

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportMetricsServiceRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportMetricsServiceResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_data_points: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeMetrics {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(super) metrics: Vec<Metric>,
}

/// `InstrumentationScope` of the schema.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AnyValue {
    #[prost(string, optional, tag = "1")]
    pub(super) string_value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) description: String,
    #[prost(string, tag = "3")]
    pub(super) unit: String,
    #[prost(oneof = "Data", tags = "5, 7, 10")]
    pub(super) data: Option<Data>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Data {
    #[prost(message, tag = "5")]
    Gauge(Gauge),
    #[prost(message, tag = "7")]
    Sum(Sum),
    #[prost(message, tag = "10")]
    Histogram(ExponentialHistogram),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Gauge {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<NumberDataPoint>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Sum {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<NumberDataPoint>,
    #[prost(int32, tag = "2")]
    pub(super) aggregation_temporality: i32,
    #[prost(bool, tag = "3")]
    pub(super) is_monotonic: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExponentialHistogram {
    #[prost(message, repeated, tag = "1")]
    pub(super) data_points: Vec<ExponentialHistogramDataPoint>,
    #[prost(int32, tag = "2")]
    pub(super) aggregation_temporality: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NumberDataPoint {
    #[prost(message, repeated, tag = "7")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    pub(super) time_unix_nano: u64,
    #[prost(oneof = "Point", tags = "4, 6")]
    pub(super) value: Option<Point>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(super) enum Point {
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(sfixed64, tag = "6")]
    Int(i64),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExponentialHistogramDataPoint {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "3")]
    pub(super) time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    pub(super) count: u64,
    #[prost(double, optional, tag = "5")]
    pub(super) sum: Option<f64>,
    #[prost(sint32, tag = "6")]
    pub(super) scale: i32,
    #[prost(fixed64, tag = "7")]
    pub(super) zero_count: u64,
    #[prost(message, optional, tag = "8")]
    pub(super) positive: Option<Buckets>,
    #[prost(double, tag = "14")]
    pub(super) zero_threshold: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Buckets {
    #[prost(sint32, tag = "1")]
    pub(super) offset: i32,
    #[prost(uint64, repeated, tag = "2")]
    pub(super) bucket_counts: Vec<u64>,
}

/// Values are sums since the region exists, not since the last push.
const CUMULATIVE: i32 = 2;

/// Collects a request.
pub(super) struct Otlp {
    ns: u64,
    start: u64,
    metrics: Vec<Metric>,
}

impl Otlp {
    /// All values have this time, in nanoseconds since 1970.
    pub(super) fn new(ns: u64) -> Self {
        Self { ns, start: 0, metrics: Vec::new() }
    }

    pub(super) fn finish(mut self, host: String) -> ExportMetricsServiceRequest {
        self.metrics.retain(|metric| match &metric.data {
            Some(Data::Gauge(gauge)) => !gauge.data_points.is_empty(),
            Some(Data::Sum(sum)) => !sum.data_points.is_empty(),
            Some(Data::Histogram(histogram)) => !histogram.data_points.is_empty(),
            None => false,
        });
        let attributes = [("service.name", "mapring".to_owned()), ("host.name", host)];
        let attributes = attributes.map(|(name, value)| attribute(name, &value)).into();
        let scope = Scope { name: "mapring".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics: self.metrics }];
        let resource = Some(Resource { attributes });
        ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics }] }
    }
}

fn attribute(name: &str, value: &str) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { string_value: Some(value.to_owned()) }) }
}

fn attributes(labels: &Labels) -> Vec<KeyValue> {
    labels.pairs.iter().map(|(name, value)| attribute(name, value)).collect()
}

impl Sink for Otlp {
    fn family(&mut self, family: &series::Family) {
        let data = match family.kind {
            Kind::Counter => {
                Data::Sum(Sum { aggregation_temporality: CUMULATIVE, is_monotonic: true, ..Sum::default() })
            }
            Kind::Gauge => Data::Gauge(Gauge::default()),
            Kind::Histogram => Data::Histogram(ExponentialHistogram {
                aggregation_temporality: CUMULATIVE,
                ..ExponentialHistogram::default()
            }),
        };
        self.metrics.push(Metric {
            name: family.name.clone(),
            description: family.help.clone(),
            unit: family.unit.clone(),
            data: Some(data),
        });
    }

    fn start(&mut self, ns: u64) {
        self.start = ns.min(self.ns);
    }

    fn number(&mut self, labels: &Labels, number: Number) {
        let value = match number {
            Number::Signed(number) => Point::Int(number),
            Number::Unsigned(number) => i64::try_from(number)
                .map_or_else(|_| Point::Double(Number::Unsigned(number).to_f64()), Point::Int),
            Number::Float(number) => Point::Double(number),
        };
        let point = NumberDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: 0,
            time_unix_nano: self.ns,
            value: Some(value),
        };
        match self.metrics.last_mut().and_then(|metric| metric.data.as_mut()) {
            Some(Data::Gauge(gauge)) => gauge.data_points.push(point),
            Some(Data::Sum(sum)) => {
                sum.data_points.push(NumberDataPoint { start_time_unix_nano: self.start, ..point });
            }
            _ => {}
        }
    }

    fn histogram(&mut self, labels: &Labels, histogram: &Histogram, scale: f64) {
        let exponential = Exponential::new(histogram, scale);
        let first = exponential.buckets.first().map_or(0, |(index, _)| *index);
        let mut bucket_counts = Vec::new();
        for (index, count) in exponential.buckets {
            let at = usize::try_from(index - first).unwrap_or_default();
            bucket_counts.resize(at, 0);
            bucket_counts.push(count);
        }
        let point = ExponentialHistogramDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: self.start,
            time_unix_nano: self.ns,
            count: exponential.count,
            sum: Some(exponential.sum),
            scale: Exponential::SCHEMA,
            zero_count: exponential.zeros,
            // Bucket 0 begins at 1 in OTLP, and ends at 1 in Prometheus.
            positive: Some(Buckets { offset: first - 1, bucket_counts }),
            zero_threshold: 0.5 * scale,
        };
        if let Some(Data::Histogram(all)) = self.metrics.last_mut().and_then(|metric| metric.data.as_mut()) {
            all.data_points.push(point);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_begin_at_the_offset() {
        let mut histogram = Histogram::new();
        [0, 1, 1, 2, 1000].into_iter().for_each(|value| histogram.add(value));
        let mut otlp = Otlp::new(7);
        let family =
            |kind| series::Family { name: "h".into(), help: String::new(), kind, unit: String::new() };
        otlp.family(&family(Kind::Gauge));
        otlp.family(&family(Kind::Histogram));
        otlp.histogram(&Labels::default(), &histogram, 1.0);
        let request = otlp.finish("host".to_owned());
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let [Metric { data: Some(Data::Histogram(found)), .. }] = &metrics[..] else { panic!("{metrics:?}") };
        let point = &found.data_points[0];
        let positive = point.positive.as_ref().unwrap();
        assert_eq!((point.count, point.zero_count, positive.offset), (5, 1, -1));
        // 1 is at index 0, 2 at 8 and 1000 at 80 of Prometheus.
        let filled: Vec<_> = positive.bucket_counts.iter().enumerate().filter(|(_, n)| **n > 0).collect();
        assert_eq!(filled, [(0, &2), (8, &1), (80, &1)]);
    }
}
