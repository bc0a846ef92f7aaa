//! The axes of a chart: the positions of values and of ticks.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::chart::Scale;

/// An axis from the first tick to the last, in positions: the results of [`place`].
#[derive(Clone)]
pub(crate) struct Ticks {
    ticks: Vec<(f64, String)>,
    range: Range<f64>,
}

impl Ticks {
    /// An axis with room for all of `values`.
    pub(crate) fn new(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite() && (scale != Scale::Log || *value > 0.0))
            .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low > high { (1.0, 2.0) } else { (low, high) };
        let mut ticks = match scale {
            Scale::Linear => even(high.max(f64::MIN_POSITIVE)),
            Scale::Log => decades(low, high),
            Scale::Log2 => doubles(low, high),
            Scale::Percentile => PERCENTILES.iter().copied().filter(|tick| *tick <= high.max(99.0)).collect(),
        };
        ticks.dedup();
        let at = |value| place(scale, value);
        let ends = match scale {
            // Include values between the last tick and the end of the data.
            Scale::Percentile => at(low).min(at(ticks[0]))..at(high).max(at(ticks[ticks.len() - 1])),
            Scale::Log2 => at(ticks[0]) - 0.15..at(ticks[ticks.len() - 1]) + 0.15,
            _ => at(ticks[0])..at(ticks[ticks.len() - 1]),
        };
        Self { ticks: ticks.iter().map(|&tick| (at(tick), number(tick))).collect(), range: ends }
    }
}

const PERCENTILES: [f64; 7] = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];

/// The position of a value on its axis.
pub(crate) fn place(scale: Scale, value: f64) -> f64 {
    match scale {
        Scale::Linear => value,
        Scale::Log => value.log10(),
        Scale::Log2 => value.log2(),
        Scale::Percentile => -(1.0 - value / 100.0).max(1e-9).log10(),
    }
}

/// From zero, in five to ten steps of 1, 2 or 5 times a power of ten.
fn even(high: f64) -> Vec<f64> {
    let rough = 10_f64.powf((high / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * rough);
    let step = step.into_iter().find(|step| high / step <= 8.0).unwrap_or(10.0 * rough);
    (0..).map(|i| f64::from(i) * step).take_while(|tick| *tick < high + step).collect()
}

/// Powers of ten, with 2 and 5 between them if there are few.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor(), high.log10().ceil());
    let between: &[f64] = if last - first > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let mut all = Vec::new();
    let mut decade = first;
    while decade <= last {
        all.extend(between.iter().map(|factor| factor * 10_f64.powf(decade)));
        decade += 1.0;
    }
    let from = all.iter().rposition(|tick| *tick <= low).unwrap_or(0);
    let to = all.iter().position(|tick| *tick >= high).unwrap_or(all.len() - 1);
    all[from..=to.max((from + 1).min(all.len() - 1))].to_vec()
}

/// Powers of two, at most a dozen.
fn doubles(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log2().floor(), high.log2().ceil());
    let step = ((last - first) / 12.0).ceil().max(1.0);
    (0..).map(|i| first + f64::from(i) * step).take_while(|power| *power <= last).map(f64::exp2).collect()
}

/// A number in short form.
pub(crate) fn number(value: f64) -> String {
    let (value, unit) = match value.abs() {
        1e9.. => (value / 1e9, " G"),
        1e6.. => (value / 1e6, " M"),
        1e4.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = format!("{value:.3}");
    format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

impl Ranged for Ticks {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    #[allow(clippy::cast_possible_truncation)] // pixels
    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Ticks {
    fn format_ext(&self, value: &f64) -> String {
        self.ticks.iter().find(|(at, _)| at == value).map_or_else(String::new, |(_, text)| text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> Vec<String> {
        Ticks::new(scale, values.iter().copied()).ticks.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_numbers_around_the_values() {
        assert_eq!(labels(Scale::Linear, &[3.0, 31.0]), ["0", "5", "10", "15", "20", "25", "30", "35"]);
        assert_eq!(labels(Scale::Log, &[30.0, 900.0]), ["20", "50", "100", "200", "500", "1000"]);
        assert_eq!(
            labels(Scale::Log, &[3.0, 2e6]),
            ["1", "10", "100", "1000", "10 k", "100 k", "1 M", "10 M"]
        );
        assert_eq!(labels(Scale::Log2, &[8.0, 64.0]), ["8", "16", "32", "64"]);
        assert_eq!(labels(Scale::Percentile, &[1.0, 99.9]), ["0", "50", "90", "99", "99.9"]);
    }

    #[test]
    fn an_axis_without_values_is_one_all_the_same() {
        for scale in [Scale::Linear, Scale::Log, Scale::Log2, Scale::Percentile] {
            assert!(labels(scale, &[]).len() > 1, "{scale:?}");
            assert!(labels(scale, &[5.0]).len() > 1, "{scale:?}");
        }
    }

    #[test]
    fn percentiles_are_as_far_apart_as_their_rests() {
        let at = |value| place(Scale::Percentile, value);
        assert!((at(99.0) - at(90.0) - (at(99.9) - at(99.0))).abs() < 1e-9);
    }
}
