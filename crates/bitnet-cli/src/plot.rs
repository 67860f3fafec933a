//! Pictures of numbers, as SVG.

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

/// The size of a picture, in pixels.
const SIZE: (u32, u32) = (860, 460);
/// The colours of lines, one after the other: Okabe and Ito's, which the colour-blind can tell apart.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

/// Numbers along an axis.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// The SVG of `lines`; points that are no finite numbers are left out.
///
/// # Errors
/// If there is no point, or the picture cannot be made.
pub(crate) fn lines(title: &str, [x, y]: [&str; 2], lines: &[Line]) -> Result<String> {
    let finite = |point: &&(f64, f64)| point.0.is_finite() && point.1.is_finite();
    let all = || lines.iter().flat_map(|line| &line.points).filter(finite);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let least = all().map(of).reduce(f64::min)?;
        let most = all().map(of).reduce(f64::max)?;
        let room = ((most - least) * 0.05).max(1e-3);
        Some(least - room..most + room)
    };
    let across = range(|point| point.0).context("there is nothing to draw")?;
    let up = range(|point| point.1).context("there is nothing to draw")?;
    let mut svg = String::new();
    draw(&mut svg, title, [x, y], (across, up), lines)
        .map_err(|error| anyhow!("the picture of {title} cannot be drawn: {error}"))?;
    Ok(svg)
}

type Ranges = (std::ops::Range<f64>, std::ops::Range<f64>);
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn draw(svg: &mut String, title: &str, [x, y]: [&str; 2], ranges: Ranges, lines: &[Line]) -> Drawn {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(ranges.0, ranges.1)?;
    let light = RGBColor(225, 225, 225);
    chart
        .configure_mesh()
        .bold_line_style(light)
        .light_line_style(WHITE)
        .x_desc(x)
        .y_desc(y)
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points = line.points.iter().copied();
        let points = points.filter(|(x, y)| x.is_finite() && y.is_finite());
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(light)
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_names_and_points_that_are_none_are_left_out() -> Result<()> {
        let line = |name: &str, points: &[(f64, f64)]| Line {
            name: name.to_owned(),
            points: points.to_vec(),
        };
        let drawn = [
            line("up <&>", &[(0.0, 1.0), (1.0, f64::INFINITY), (2.0, 3.0)]),
            line("down", &[(0.0, 3.0), (2.0, 1.0)]),
        ];
        let svg = lines("two lines", ["time", "height"], &drawn)?;
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in ["two lines", "time", "height", "up &lt;&amp;&gt;", "down"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        // Each in its colour.
        assert!(svg.contains("#0072B2") && svg.contains("#D55E00"), "{svg}");
        assert!(lines("nothing", ["x", "y"], &[line("empty", &[])]).is_err());
        Ok(())
    }
}
