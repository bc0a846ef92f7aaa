//! The text formats: Prometheus and OpenMetrics.

use std::io::Write;

use mapring::Histogram;

use crate::page::Page;
use crate::series::{Exponential, Family, Kind, Labels, Number, classic, escaped};
use crate::sink::{Kept, Paged, Sink, Space};

pub(crate) struct Text<'a> {
    page: &'a mut Page,
    open_metrics: bool,
    name: String,
    space: Space,
}

impl<'a> Text<'a> {
    pub(crate) fn new(page: &'a mut Page, open_metrics: bool) -> Self {
        Self { page, open_metrics, name: String::new(), space: Space::default() }
    }

    pub(crate) fn end(self) {
        if self.open_metrics {
            self.page.put(b"# EOF\n");
        }
    }

    /// A line without its number: the name with `suffix`, and labels.
    fn series(&mut self, suffix: &str, labels: &Labels, le: Option<f64>) {
        self.page.put(self.name.as_bytes());
        self.page.put(suffix.as_bytes());
        if !labels.text.is_empty() || le.is_some() {
            self.page.put(b"{");
            self.page.put(labels.text.as_bytes());
            if let Some(le) = le {
                let comma = if labels.text.is_empty() { "" } else { "," };
                self.page.put(comma.as_bytes());
                self.page.put(b"le=\"");
                let le = Self::written(Number::Float(le), &mut self.space);
                self.page.put(le);
                // OpenMetrics writes whole numbers with a point.
                if self.open_metrics && le.iter().all(u8::is_ascii_digit) {
                    self.page.put(b".0");
                }
                self.page.put(b"\"");
            }
            self.page.put(b"}");
        }
        self.page.put(b" ");
    }

    fn line(&mut self, suffix: &str, labels: &Labels, le: Option<f64>, number: Number) {
        self.series(suffix, labels, le);
        self.page.put(Self::written(number, &mut self.space));
        self.page.put(b"\n");
    }
}

impl Paged for Text<'_> {
    const AFTER: usize = "\n".len();

    fn page(&mut self) -> &mut Page {
        self.page
    }

    fn written(number: Number, space: &mut Space) -> &[u8] {
        match number {
            Number::Unsigned(number) => space.digits.format(number).as_bytes(),
            Number::Signed(number) => space.digits.format(number).as_bytes(),
            Number::Float(f64::INFINITY) => b"+Inf",
            Number::Float(f64::NEG_INFINITY) => b"-Inf",
            Number::Float(number) => {
                space.bytes.clear();
                let _ = write!(space.bytes, "{number}");
                &space.bytes
            }
        }
    }
}

impl Sink for Text<'_> {
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
        let _ = write!(self.page, "# HELP {name} {help}\n# TYPE {name} {}\n", family.kind.as_str());
    }

    fn number(&mut self, labels: &Labels, number: Number) {
        if !self.page.is_full() {
            self.line("", labels, None, number);
        }
    }

    fn numbers(&mut self, series: &[(usize, Labels)], kept: &mut Kept, of: impl Fn(usize) -> Option<Number>) {
        kept.write(self, series, of);
    }

    #[allow(clippy::cast_precision_loss)] // a bound has few digits that are not zero, or it is scaled
    fn histogram(&mut self, labels: &Labels, histogram: &Histogram, scale: f64) {
        if self.page.is_full() {
            return;
        }
        let mut buckets = Vec::with_capacity(64);
        classic(histogram, |end, count| buckets.push((end as f64 * scale, count)));
        for (end, count) in buckets {
            self.line("_bucket", labels, Some(end), Number::Unsigned(count));
        }
        let Exponential { count, sum, .. } = Exponential::new(histogram, scale);
        self.line("_bucket", labels, Some(f64::INFINITY), Number::Unsigned(count));
        self.line("_sum", labels, None, Number::Float(sum));
        self.line("_count", labels, None, Number::Unsigned(count));
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Format;
    use super::*;

    fn written(open_metrics: bool) -> String {
        let mut page = Page::default();
        page.begin(1, Format::Text, usize::MAX);
        let mut text = Text::new(&mut page, open_metrics);
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
        text.end();
        assert!(page.end());
        String::from_utf8(page.bytes().to_vec()).unwrap()
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
