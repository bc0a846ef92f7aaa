//! The data of charts.

use serde_json::{Value, json};

use crate::Spread;

/// The scale of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By powers of ten.
    Log,
    /// By powers of two.
    Log2,
    /// Percentiles, in per cent: 90, 99 and 99.9 are equally far apart. The last point of a curve must be below 100.
    Percentile,
}

/// An axis of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) scale: Scale,
}

/// The kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A measurement.
    Measured,
    /// A physical limit.
    Limit,
    /// A model of the line before it.
    Model,
}

/// One line of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, Spread)>,
    pub(crate) kind: Kind,
}

/// A chart, drawn as `<id>.svg`.
#[derive(Clone, Debug)]
pub struct Chart {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
}

impl Chart {
    /// A chart without lines. The `id` is a file name: letters, digits and dashes.
    pub fn new(id: &str, title: &str, x: (&str, Scale), y: (&str, Scale)) -> Self {
        let axis = |(label, scale): (&str, Scale)| Axis { label: label.to_owned(), scale };
        Self { id: id.to_owned(), title: title.to_owned(), x: axis(x), y: axis(y), series: Vec::new() }
    }

    /// Adds a line with the measurements at each x. Ours must come first, for the first colour.
    #[must_use]
    pub fn line(self, name: &str, points: impl IntoIterator<Item = (f64, Spread)>) -> Self {
        self.with(name, points.into_iter().collect(), Kind::Measured)
    }

    /// Adds a dashed line for a limit that is not a peer.
    #[must_use]
    pub fn limit(self, name: &str, points: impl IntoIterator<Item = (f64, Spread)>) -> Self {
        self.with(name, points.into_iter().collect(), Kind::Limit)
    }

    /// Adds a model of the line before: dashed, in the same colour.
    #[must_use]
    pub fn model(self, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let points = points.into_iter().map(|(x, y)| (x, Spread::of([y]))).collect();
        self.with("dashed: the model", points, Kind::Model)
    }

    fn with(mut self, name: &str, points: Vec<(f64, Spread)>, kind: Kind) -> Self {
        self.series.push(Series { name: name.to_owned(), points, kind });
        self
    }

    pub(crate) fn json(&self) -> Value {
        let axis = |axis: &Axis| json!({ "label": axis.label, "scale": format!("{:?}", axis.scale) });
        let point = |(x, y): &(f64, Spread)| json!([x, y.median, y.low, y.high]);
        let series = self.series.iter().map(
            |line| json!({ "name": line.name, "kind": format!("{:?}", line.kind), "points": line.points.iter().map(point).collect::<Vec<_>>() }),
        );
        json!({
            "id": self.id,
            "title": self.title,
            "x": axis(&self.x),
            "y": axis(&self.y),
            "series": series.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_x_median_low_high() {
        let spread = Spread::of((0..=100).map(f64::from));
        let chart = Chart::new("size", "Cost", ("bytes", Scale::Log2), ("ns", Scale::Linear));
        let json = chart.line("ours", [(8.0, spread)]).json();
        assert_eq!(json["series"][0]["points"][0], json!([8.0, 50.0, 5.0, 95.0]));
        assert_eq!(json["x"]["scale"], "Log2");
    }
}
