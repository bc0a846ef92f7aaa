//! Values as the messages of OTLP for metrics.

use mapring::Histogram;

use crate::messages::otlp::{
    AggregationTemporality, AnyValue, ExponentialHistogram, ExponentialHistogramDataPoint,
    ExportMetricsServiceRequest, Gauge, InstrumentationScope, KeyValue, Metric, NumberDataPoint, Resource,
    ResourceMetrics, ScopeMetrics, Sum, exponential_histogram_data_point::Buckets, metric::Data,
    number_data_point::Value,
};
use crate::series::{self, Exponential, Kind, Labels, Number};
use crate::sink::Sink;

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// Collects a request.
pub(crate) struct Otlp {
    ns: u64,
    start: u64,
    metrics: Vec<Metric>,
}

impl Otlp {
    /// All values have this time, in nanoseconds since 1970.
    pub(crate) fn new(ns: u64) -> Self {
        Self { ns, start: 0, metrics: Vec::new() }
    }

    pub(crate) fn finish(mut self, host: String) -> ExportMetricsServiceRequest {
        self.metrics.retain(|metric| match &metric.data {
            Some(Data::Gauge(gauge)) => !gauge.data_points.is_empty(),
            Some(Data::Sum(sum)) => !sum.data_points.is_empty(),
            Some(Data::ExponentialHistogram(histogram)) => !histogram.data_points.is_empty(),
            None => false,
        });
        let attributes = [("service.name", "mapring".to_owned()), ("host.name", host)];
        let attributes = attributes.map(|(name, value)| attribute(name, &value)).into();
        let scope = InstrumentationScope {
            name: "mapring".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
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
            Kind::Histogram => Data::ExponentialHistogram(ExponentialHistogram {
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
            Number::Signed(number) => Value::AsInt(number),
            Number::Unsigned(number) => i64::try_from(number)
                .map_or_else(|_| Value::AsDouble(Number::Unsigned(number).to_f64()), Value::AsInt),
            Number::Float(number) => Value::AsDouble(number),
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
        if let Some(Data::ExponentialHistogram(all)) =
            self.metrics.last_mut().and_then(|metric| metric.data.as_mut())
        {
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
        let [Metric { data: Some(Data::ExponentialHistogram(found)), .. }] = &metrics[..] else {
            panic!("{metrics:?}")
        };
        let point = &found.data_points[0];
        let positive = point.positive.as_ref().unwrap();
        assert_eq!((point.count, point.zero_count, positive.offset), (5, 1, -1));
        // 1 is at index 0, 2 at 8 and 1000 at 80 of Prometheus.
        let filled: Vec<_> = positive.bucket_counts.iter().enumerate().filter(|(_, n)| **n > 0).collect();
        assert_eq!(filled, [(0, &2), (8, &1), (80, &1)]);
    }
}
