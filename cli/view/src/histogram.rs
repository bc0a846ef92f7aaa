//! Histograms as text.

use std::collections::BTreeMap;

use mapring::Histogram;

use mapring_kit::text::{grouped, wrapped};

/// The percentiles that are shown, and the largest value that each may be.
pub(crate) fn percentiles(histogram: &Histogram) -> impl Iterator<Item = (f64, u64)> + '_ {
    [50.0, 90.0, 99.0, 99.9, 100.0].into_iter().filter_map(|p| Some((p, *histogram.percentile(p)?.end())))
}

/// The number of values and their mean, percentiles, and bars, in lines of at most `width` columns.
pub(crate) fn drawn(histogram: &Histogram, width: usize) -> String {
    let mean = histogram.mean().unwrap_or_default();
    let percentiles: Vec<_> =
        percentiles(histogram).map(|(p, most)| format!("p{p} ≤ {}", grouped(most))).collect();
    let mut text = format!("{} values, mean {mean:.0}\n", grouped(histogram.count()));
    for line in wrapped(&percentiles.join(", "), width - 2) {
        text += &format!("  {line}\n");
    }
    text + &bars(histogram, width)
}

/// A bar for each power of two, in lines of at most `width` columns.
fn bars(histogram: &Histogram, width: usize) -> String {
    let mut rows = BTreeMap::<u32, u64>::new();
    for (range, count) in histogram.buckets() {
        let row = rows.entry(u64::BITS - range.start().leading_zeros()).or_default();
        *row = row.saturating_add(count);
    }
    let most = rows.values().copied().max().unwrap_or_default().max(1);
    let (Some((&first, _)), Some((&last, _))) = (rows.first_key_value(), rows.last_key_value()) else {
        return String::new();
    };
    let low = |bits: u32| if bits == 0 { 0 } else { 1_u64 << (bits - 1) };
    let names: Vec<_> = (first..=last).map(|bits| format!("≥ {}", grouped(low(bits)))).collect();
    let name = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let count = grouped(most).len();
    let room = width.saturating_sub(name + count + 6).max(1);
    let mut text = String::new();
    for (bits, label) in (first..=last).zip(names) {
        let value = rows.get(&bits).copied().unwrap_or_default();
        let bar = (u128::from(value) * room as u128).div_ceil(u128::from(most));
        let bar = "#".repeat(usize::try_from(bar).unwrap_or_default());
        let line = format!("  {label:<name$}  {:>count$}  {bar}", grouped(value));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
