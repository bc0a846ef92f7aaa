//! The text formats: Prometheus and OpenMetrics.

use std::io::Write;

use mapring::Histogram;

use super::series::{Exponential, Family, Kind, Labels, Number, Sink, classic, escaped};

pub(super) struct Text {
    out: Vec<u8>,
    /// Series after this number of bytes are not written.
    limit: usize,
    open_metrics: bool,
    name: String,
    digits: itoa::Buffer,
}

impl Text {
    pub(super) fn new(out: Vec<u8>, limit: usize, open_metrics: bool) -> Self {
        Self { out, limit, open_metrics, name: String::new(), digits: itoa::Buffer::new() }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.open_metrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
        self.out
    }

    fn float(&mut self, number: f64) {
        let _ = match number {
            _ if number.is_nan() => self.out.write_all(b"NaN"),
            _ if number.is_infinite() => self.out.write_all(if number > 0.0 { b"+Inf" } else { b"-Inf" }),
            _ => write!(self.out, "{number}"),
        };
    }

    /// A line without its value: the name with `suffix`, and labels.
    fn series(&mut self, suffix: &str, labels: &Labels, le: Option<f64>) {
        self.out.extend_from_slice(self.name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        if !labels.text.is_empty() || le.is_some() {
            self.out.push(b'{');
            self.out.extend_from_slice(labels.text.as_bytes());
            if let Some(le) = le {
                let comma = if labels.text.is_empty() { "" } else { "," };
                self.out.extend_from_slice(comma.as_bytes());
                self.out.extend_from_slice(b"le=\"");
                let from = self.out.len();
                self.float(le);
                // OpenMetrics writes whole numbers with a point.
                if self.open_metrics && self.out[from..].iter().all(u8::is_ascii_digit) {
                    self.out.extend_from_slice(b".0");
                }
                self.out.push(b'"');
            }
            self.out.push(b'}');
        }
        self.out.push(b' ');
    }

    fn unsigned(&mut self, number: u64) {
        self.out.extend_from_slice(self.digits.format(number).as_bytes());
        self.out.push(b'\n');
    }
}

impl Sink for Text {
    fn family(&mut self, family: &Family) {
        self.name.clone_from(&family.name);
        // In OpenMetrics a family of counters is named without `_total`.
        let name = match family.kind {
            Kind::Counter if self.open_metrics => family.name.strip_suffix("_total").unwrap_or(&family.name),
            _ => &family.name,
        };
        let help = match self.open_metrics {
            true => escaped(&family.help),
            false => family.help.replace('\\', "\\\\").replace('\n', "\\n"),
        };
        let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {}\n", family.kind.as_str());
    }

    fn number(&mut self, labels: &Labels, number: Number) {
        if self.out.len() > self.limit {
            return;
        }
        self.series("", labels, None);
        match number {
            Number::Unsigned(number) => return self.unsigned(number),
            Number::Signed(number) => {
                self.out.extend_from_slice(self.digits.format(number).as_bytes());
            }
            Number::Float(number) => self.float(number),
        }
        self.out.push(b'\n');
    }

    #[allow(clippy::cast_precision_loss)] // a bound has few digits that are not zero, or it is scaled
    fn histogram(&mut self, labels: &Labels, histogram: &Histogram, scale: f64) {
        if self.out.len() > self.limit {
            return;
        }
        let mut buckets = Vec::with_capacity(64);
        classic(histogram, |end, count| buckets.push((end as f64 * scale, count)));
        for (end, count) in buckets {
            self.series("_bucket", labels, Some(end));
            self.unsigned(count);
        }
        let Exponential { count, sum, .. } = Exponential::new(histogram, scale);
        self.series("_bucket", labels, Some(f64::INFINITY));
        self.unsigned(count);
        self.series("_sum", labels, None);
        self.float(sum);
        self.out.push(b'\n');
        self.series("_count", labels, None);
        self.unsigned(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(open_metrics: bool) -> String {
        let mut text = Text::new(Vec::new(), usize::MAX, open_metrics);
        let family = |name: &str, kind| Family {
            name: name.into(),
            help: "a \"b\"\n\\".into(),
            kind,
            unit: String::new(),
        };
        text.family(&family("x_total", Kind::Counter));
        text.number(&Labels::of([("i", "1".to_owned())]), Number::Unsigned(u64::MAX));
        text.family(&family("y", Kind::Gauge));
        for number in [Number::Signed(-1), Number::Float(0.5), Number::Float(f64::NAN), Number::Float(1e300)]
        {
            text.number(&Labels::default(), number);
        }
        let mut histogram = Histogram::new();
        [1, 1, 1000].into_iter().for_each(|value| histogram.add(value));
        text.family(&family("h", Kind::Histogram));
        text.histogram(&Labels::default(), &histogram, 1.0);
        String::from_utf8(text.finish()).unwrap()
    }

    #[test]
    fn text_is_as_the_formats_say() {
        let text = written(false);
        assert!(text.starts_with(
            "# HELP x_total a \"b\"\\n\\\\\n# TYPE x_total counter\nx_total{i=\"1\"} 18446744073709551615\n"
        ));
        assert!(text.contains("\ny -1\ny 0.5\ny NaN\ny 1000000"), "{text}");
        assert!(text.contains("h_bucket{le=\"1\"} 2\nh_bucket{le=\"3\"} 2\n"));
        assert!(text.ends_with("h_bucket{le=\"+Inf\"} 3\nh_sum 993\nh_count 3\n"), "{text}");
        let open = written(true);
        assert!(open.starts_with("# HELP x a \\\"b\\\"\\n\\\\\n# TYPE x counter\nx_total{i="), "{open}");
        assert!(open.contains("h_bucket{le=\"1.0\"} 2\n") && open.ends_with("h_count 3\n# EOF\n"));
    }
}
