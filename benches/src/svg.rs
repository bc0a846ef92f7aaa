//! Charts as SVG, with a white background so that they are readable on any page. The colours (Okabe and Ito's) work for
//! the colour-blind, and the marks work without colours.

use std::error::Error;

use plotters::coord::ranged1d::{Ranged as _, ValueFormatter as _};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use textwrap::{Options, WordSplitter};

use crate::axis::{Ticks, place};
use crate::chart::{Chart, Kind, Scale, Series};
use crate::row::{Measure, Row};
use crate::stats::Spread;

const SIZE: (u32, u32) = (960, 480);
/// Width of the legend, on the right.
const LEGEND: u32 = 270;
const FONT: &str = "-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif";
const INK: RGBColor = RGBColor(36, 41, 47);
const GREY: RGBColor = RGBColor(87, 96, 106);
const GRID: RGBColor = RGBColor(225, 228, 232);
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(120, 94, 60),
    RGBColor(0, 0, 0),
];

fn font(size: u32, colour: RGBColor) -> TextStyle<'static> {
    (FONT, size).into_font().color(&colour)
}

/// Draws a chart.
///
/// # Errors
/// Returns the error of plotters.
pub(crate) fn draw(chart: &Chart) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(chart.title.clone(), (20, 16), font(19, INK)))?;
    let (_, below) = root.split_vertically(42);
    let (plot, legend) = below.split_horizontally(SIZE.0 - LEGEND);

    let points = || chart.series.iter().flat_map(|line| &line.points);
    // The spread of a limit is not shown.
    let spreads = chart.series.iter().flat_map(|line| {
        let of = move |y: &Spread| match line.kind {
            Kind::Measured => [y.low, y.median, y.high],
            _ => [y.median; 3],
        };
        line.points.iter().flat_map(move |(_, y)| of(y))
    });
    let x = Ticks::new(chart.x.scale, points().map(|(x, _)| *x));
    let y = Ticks::new(chart.y.scale, spreads);
    let mut area = ChartBuilder::on(&plot)
        .margin(10)
        .x_label_area_size(52)
        .y_label_area_size(72)
        .build_cartesian_2d(x, y)?;
    area.configure_mesh()
        .axis_style(GREY)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(font(14, GREY))
        .axis_desc_style(font(15, INK))
        .x_desc(&chart.x.label)
        .y_desc(&chart.y.label)
        .draw()?;

    let at = |x: f64, y: f64| (place(chart.x.scale, x), place(chart.y.scale, y));
    let lines = coloured(&chart.series);
    for (_, line, colour) in lines.iter().filter(|(_, line, _)| line.kind == Kind::Measured) {
        let low = line.points.iter().map(|(x, y)| at(*x, y.low));
        let high = line.points.iter().rev().map(|(x, y)| at(*x, y.high));
        area.draw_series([Polygon::new(low.chain(high).collect::<Vec<_>>(), colour.mix(0.13))])?;
    }
    for &(number, line, colour) in &lines {
        let medians: Vec<_> = line.points.iter().map(|(x, y)| at(*x, y.median)).collect();
        if line.kind != Kind::Measured {
            area.draw_series(DashedLineSeries::new(medians, 7, 5, colour.stroke_width(2)))?;
        } else {
            area.draw_series(LineSeries::new(medians.iter().copied(), colour.stroke_width(2)))?;
            if medians.len() <= 16 {
                area.draw_series(medians.into_iter().map(|at| EmptyElement::at(at) + mark(number, colour)))?;
            }
        }
    }
    draw_legend(&legend, lines)?;
    root.present()?;
    drop(legend);
    drop(area);
    drop(plot);
    drop(below);
    drop(root);
    Ok(text)
}

/// Draws every target on one scale: the distance of each row from its target. Left of the line is better than the
/// target.
///
/// # Errors
/// Returns the error of plotters.
pub(crate) fn overview(rows: &[Row]) -> Result<String, Box<dyn Error>> {
    const ROW: i32 = 24;
    const TOP: i32 = 66;
    let rows: Vec<_> = rows.iter().filter_map(|row| Some((row, row.key?, row.target?))).collect();
    let height = TOP + ROW * i32::try_from(rows.len())? + 50;
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, (SIZE.0, u32::try_from(height)?)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new("Targets, and what was reached", (20, 16), font(19, INK)))?;
    let note = "median and 5–95 % of blocks, in parts of the target: left of the line it is met";
    root.draw(&Text::new(note, (20, 42), font(14, GREY)))?;

    let shares: Vec<_> = rows
        .iter()
        .map(|(row, _, target)| {
            let value = row.value();
            [value.low / target, value.median / target, value.high / target]
                .map(|share| share.clamp(0.05, 8.0))
        })
        .collect();
    let ticks = Ticks::new(Scale::Log, shares.iter().flatten().copied().chain([0.1, 2.0]));
    let (left, right, bottom) = (170, 650, height - 44);
    let at = |share: f64| ticks.map(&place(Scale::Log, share), (left, right));
    let (middle, end) = (Pos::new(HPos::Center, VPos::Top), Pos::new(HPos::Right, VPos::Center));
    for tick in ticks.key_points(8) {
        let x = ticks.map(&tick, (left, right));
        let line = PathElement::new([(x, TOP), (x, bottom)], GRID.stroke_width(1));
        root.draw(&line)?;
        root.draw(&Text::new(ticks.format_ext(&tick), (x, bottom + 6), font(13, GREY).pos(middle)))?;
    }
    root.draw(&PathElement::new([(at(1.0), TOP - 4), (at(1.0), bottom)], INK.stroke_width(2)))?;
    for (i, ((row, key, target), [low, median, high])) in rows.iter().zip(&shares).enumerate() {
        let y = TOP + ROW * i32::try_from(i)? + ROW / 2;
        let (colour, number) = if row.met() == Some(true) { (COLOURS[0], 0) } else { (COLOURS[1], 1) };
        root.draw(&Text::new((*key).to_owned(), (left - 12, y), font(14, INK).pos(end)))?;
        root.draw(&PathElement::new([(at(*low), y), (at(*high), y)], colour.mix(0.35).stroke_width(5)))?;
        root.draw(&(EmptyElement::at((at(*median), y)) + mark(number, colour)))?;
        let show = |value: f64| match row.measure {
            Measure::Ratio { .. } if row.value().median < 0.05 => format!("{:.0}×", 1.0 / value),
            Measure::Ratio { .. } => format!("{value:.2}"),
            Measure::Ns => format!("{value:.2} ns"),
        };
        let reached = format!(
            "{} of {}{}",
            show(row.value().median),
            show(*target),
            if number == 0 { "" } else { ": not met" }
        );
        let beside = Pos::new(HPos::Left, VPos::Center);
        root.draw(&Text::new(reached, (right + 16, y), font(14, colour).pos(beside)))?;
    }
    root.present()?;
    drop(root);
    Ok(text)
}

/// A line's own mark, around a point.
fn mark(number: usize, colour: RGBColor) -> Polygon<(i32, i32)> {
    let shape: &[(i32, i32)] = match number % 4 {
        0 => &[(-4, -2), (-2, -4), (2, -4), (4, -2), (4, 2), (2, 4), (-2, 4), (-4, 2)],
        1 => &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
        2 => &[(0, -5), (5, 4), (-5, 4)],
        _ => &[(0, -5), (5, 0), (0, 5), (-5, 0)],
    };
    Polygon::new(shape, colour.filled())
}

/// A line, its number, and its colour.
type Coloured<'c> = (usize, &'c Series, RGBColor);

/// Gives each line its own colour, except a model, which has the colour of the line before.
fn coloured(series: &[Series]) -> Vec<Coloured<'_>> {
    let mut number = 0;
    series
        .iter()
        .enumerate()
        .map(|(i, line)| {
            number += usize::from(i > 0 && line.kind != Kind::Model);
            (number, line, COLOURS[number % COLOURS.len()])
        })
        .collect()
}

/// Draws the lines' names beside the chart, the highest line first: the order of their right ends.
fn draw_legend<DB: DrawingBackend>(
    area: &DrawingArea<DB, plotters::coord::Shift>,
    lines: Vec<Coloured<'_>>,
) -> Result<(), Box<dyn Error>>
where
    DB::ErrorType: 'static,
{
    let (mut named, models): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|(_, line, _)| line.kind != Kind::Model);
    let end = |line: &Series| line.points.last().map_or(0.0, |(_, y)| y.median);
    named.sort_by(|(_, a, _), (_, b, _)| end(b).total_cmp(&end(a)));
    // All models have the same name.
    named.extend(models.into_iter().take(1).map(|(number, line, _)| (number, line, GREY)));
    let style = font(14, INK).pos(Pos::new(HPos::Left, VPos::Center));
    let mut y = 24;
    for (number, line, colour) in named {
        if line.kind == Kind::Measured {
            area.draw(&PathElement::new([(8, y), (36, y)], colour.stroke_width(2)))?;
            area.draw(&(EmptyElement::at((22, y)) + mark(number, colour)))?;
        } else {
            let dash = |from| PathElement::new([(from, y), (from + 7, y)], colour.stroke_width(2));
            [8, 19, 30].into_iter().try_for_each(|from| area.draw(&dash(from)))?;
        }
        for part in textwrap::wrap(&line.name, Options::new(30).word_splitter(WordSplitter::NoHyphenation)) {
            area.draw(&Text::new(part, (44, y), style.clone()))?;
            y += 18;
        }
        y += 8;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_its_axes_and_lines() {
        let points =
            |factor: f64| (3..7).map(move |k| (f64::from(1 << k), Spread::of([factor * f64::from(k)])));
        let chart = Chart::new("a", "Cost over size", ("bytes", Scale::Log2), ("ns", Scale::Log))
            .line("ours", points(1.0))
            .line("a peer with a name so long that it takes two lines", points(4.0))
            .model([(8.0, 3.0), (64.0, 20.0)])
            .limit("limit", points(0.5));
        let svg = draw(&chart).unwrap();
        for text in ["Cost over size", "bytes", "ns", "ours", "two lines", "limit", "the model", "16"] {
            assert!(svg.contains(text), "no {text:?} in {svg}");
        }
    }

    #[test]
    fn the_overview_names_every_target() {
        let svg = overview(&[
            Row::new("read", &[2.0], "lookup", &[800.0]).target("cell_read_lookup", 1.0 / 300.0),
            Row::absolute("idle", &[2.5]).target("idle_shard", 2.0),
            Row::new("other", &[2.0], "peer", &[800.0]),
        ]);
        let svg = svg.unwrap();
        for text in ["cell_read_lookup", "400× of 300×", "idle_shard", "2.50 ns of 2.00 ns: not met"] {
            assert!(svg.contains(text), "no {text:?} in {svg}");
        }
        assert!(!svg.contains("other"));
    }

    #[test]
    fn an_empty_chart_can_be_drawn() {
        let chart = Chart::new("a", "Nothing", ("x", Scale::Linear), ("y", Scale::Log));
        assert!(draw(&chart).unwrap().contains("Nothing"));
    }
}
