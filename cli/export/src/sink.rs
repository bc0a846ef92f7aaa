//! The sinks that take series, and where in a page the series of a family are: as long as their numbers have as many bytes as
//! in the page before, only those that have changed are written.

use mapring::Histogram;

use crate::page::Page;
use crate::series::{Family, Labels, Number};

/// Takes families, each with its series.
pub(crate) trait Sink {
    /// Begins a family.
    fn family(&mut self, family: &Family);
    /// The next numbers and histograms began with 0 at this time, in nanoseconds since 1970.
    fn start(&mut self, _ns: u64) {}
    fn number(&mut self, labels: &Labels, number: Number);
    fn histogram(&mut self, labels: &Labels, histogram: &Histogram, scale: f64);
    /// Series with the same labels each time. `kept` stays with them.
    fn numbers(&mut self, series: &[(usize, Labels)], kept: &mut Kept, of: impl Fn(usize) -> Option<Number>) {
        let _ = kept;
        for (at, labels) in series {
            if let Some(number) = of(*at) {
                self.number(labels, number);
            }
        }
    }
}

/// A sink that writes a page, in which each series ends with its number and `AFTER` more bytes.
pub(crate) trait Paged: Sink {
    const AFTER: usize;
    fn page(&mut self) -> &mut Page;
    /// A number as it is in the page.
    fn written(number: Number, space: &mut Space) -> &[u8];
}

/// Space for a number's bytes.
#[derive(Default)]
pub(crate) struct Space {
    pub(crate) digits: itoa::Buffer,
    pub(crate) bytes: Vec<u8>,
}

/// Where the series of one family and region are in a page.
#[derive(Default)]
pub(crate) struct Kept {
    /// The number of the page.
    page: u64,
    from: usize,
    to: usize,
    written: Vec<Written>,
}

/// A number, if there was one, and where its bytes are.
struct Written {
    number: Option<Number>,
    from: usize,
    to: usize,
}

impl Kept {
    /// Writes the series with their numbers.
    pub(crate) fn write<S: Paged>(
        &mut self,
        sink: &mut S,
        series: &[(usize, Labels)],
        of: impl Fn(usize) -> Option<Number>,
    ) {
        let page = sink.page();
        let is_there = self.page == page.before() && self.from == page.len();
        if is_there && self.written.len() == series.len() && self.renew::<S>(page, series, &of) {
            page.take_over(self.to);
        } else {
            self.write_all(sink, series, of);
        }
        self.page = sink.page().number();
    }

    /// Writes the numbers that have changed. Returns false if one has other bytes than there is space for.
    fn renew<S: Paged>(
        &mut self,
        page: &mut Page,
        series: &[(usize, Labels)],
        of: impl Fn(usize) -> Option<Number>,
    ) -> bool {
        let mut space = Space::default();
        series.iter().zip(&mut self.written).all(|((at, _), written)| {
            let before = std::mem::replace(&mut written.number, of(*at));
            match (before, written.number) {
                (before, now) if before == now => true,
                (Some(_), Some(now)) => {
                    let new = S::written(now, &mut space);
                    new.len() == written.to - written.from && page.put_at(written.from, new)
                }
                _ => false,
            }
        })
    }

    fn write_all<S: Paged>(
        &mut self,
        sink: &mut S,
        series: &[(usize, Labels)],
        of: impl Fn(usize) -> Option<Number>,
    ) {
        let mut space = Space::default();
        self.written.clear();
        self.from = sink.page().len();
        for (at, labels) in series {
            let number = of(*at);
            let length = number.map_or(0, |number| S::written(number, &mut space).len());
            if let Some(number) = number {
                sink.number(labels, number);
            }
            let to = sink.page().len().saturating_sub(S::AFTER);
            self.written.push(Written { number, from: to.saturating_sub(length), to });
        }
        self.to = sink.page().len();
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Format;
    use super::super::prom_proto::Protobuf;
    use super::super::series::Kind;
    use super::super::text::Text;
    use super::*;

    /// Writes a page with a family before the series, and one after.
    fn write<S: Paged>(
        sink: &mut S,
        kept: &mut Kept,
        before: &str,
        series: &[(usize, Labels)],
        numbers: &[Option<Number>],
    ) {
        let family = |help: &str| {
            let (name, help, unit) = ("x".to_owned(), help.to_owned(), String::new());
            Family { name, help, kind: Kind::Gauge, unit }
        };
        sink.family(&family(before));
        sink.number(&Labels::default(), Number::Float(0.5));
        sink.family(&family("kept"));
        sink.numbers(series, kept, |at| numbers[at]);
        sink.family(&family("after"));
        sink.number(&Labels::default(), Number::Signed(-1));
    }

    #[test]
    fn a_page_over_another_is_as_a_new_one() {
        use Number::{Float, Signed, Unsigned};
        let series: Vec<_> = (0..3).map(|at| (at, Labels::of([("at", at.to_string())]))).collect();
        let some = |numbers: [Number; 3]| numbers.map(Some);
        let pages = [
            ("a", some([Unsigned(1), Unsigned(22), Unsigned(333)])),
            ("a", some([Unsigned(1), Unsigned(23), Unsigned(999)])),
            ("a", some([Unsigned(9), Unsigned(99), Unsigned(1000)])), // the last one is longer
            ("a", some([Unsigned(10), Unsigned(1), Unsigned(1000)])),
            ("a", some([Unsigned(7), Unsigned(8), Unsigned(12345)])),
            ("a", [Some(Unsigned(10)), None, Some(Signed(-100))]),
            ("a", [None, None, None]),
            ("abc", some([Float(0.5), Float(f64::NAN), Float(f64::INFINITY)])), // at another place
            ("abc", some([Float(1.5), Float(f64::NAN), Float(f64::INFINITY)])),
            ("", some([Float(1.5), Unsigned(1), Unsigned(2)])),
        ];
        let formats = [Format::Text, Format::Protobuf, Format::OpenMetrics];
        // Each format over itself, all over each other, and in two buffers that are used in turns.
        for (formats, buffers) in
            [(&formats[..1], 1), (&formats[1..2], 1), (&formats[..], 1), (&formats[..2], 2)]
        {
            let (mut kept, mut buffers) = (Kept::default(), vec![Page::default(); buffers]);
            let mut count = 0;
            for (before, numbers) in pages.iter().flat_map(|page| [page, page]) {
                for &format in formats {
                    let new = &mut Page::default();
                    let at = count % buffers.len();
                    count += 1;
                    let kept_of_new = &mut Kept::default();
                    for (page, kept) in [(&mut buffers[at], &mut kept), (new, kept_of_new)] {
                        page.begin(count as u64, format, usize::MAX);
                        match format {
                            Format::Protobuf => {
                                let mut sink = Protobuf::new(page);
                                write(&mut sink, kept, before, &series, numbers);
                                sink.end();
                            }
                            _ => {
                                let mut sink = Text::new(page, format == Format::OpenMetrics);
                                write(&mut sink, kept, before, &series, numbers);
                                sink.end();
                            }
                        }
                        assert!(page.end());
                    }
                    assert_eq!(buffers[at].bytes(), new.bytes(), "{count}: {format:?}");
                }
            }
        }
    }
}
