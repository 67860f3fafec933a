//! Bar charts as SVG, light and dark: one row per bar, grouped by place, on a logarithmic axis where values differ
//! by more than a factor of 30.

use super::Chart;
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 180.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 64.0;
const BAR: f64 = 14.0;
const GAP: f64 = 3.0;
const BETWEEN: f64 = 10.0;
const SERIES: [[&str; 2]; 6] = [
    ["#2563eb", "#60a5fa"],
    ["#d97706", "#fbbf24"],
    ["#059669", "#34d399"],
    ["#7c3aed", "#a78bfa"],
    ["#dc2626", "#f87171"],
    ["#475569", "#94a3b8"],
];

/// Which colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Theme {
    /// Dark on white.
    Light,
    /// Light on black.
    Dark,
    /// As the reader's system prefers.
    Both,
}

/// Values to lengths.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    fn of(chart: &Chart) -> Self {
        let values = chart.bars.iter().map(|bar| bar.value);
        let values = values.chain(chart.line.iter().map(|(value, _)| *value));
        let values: Vec<f64> = values.filter(|v| v.is_finite() && *v > 0.0).collect();
        let high = values.iter().copied().fold(1e-9, f64::max);
        let low = values.iter().copied().fold(high, f64::min);
        let logarithmic = high / low > 30.0;
        Self {
            low: if logarithmic { low / 2.0 } else { 0.0 },
            high,
            logarithmic,
        }
    }

    /// Where a value ends, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            value / self.high
        };
        if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

/// The chart as an SVG document.
pub(super) fn svg(chart: &Chart, theme: Theme) -> String {
    let mut series: Vec<&str> = Vec::new();
    let mut places: Vec<&str> = Vec::new();
    for bar in &chart.bars {
        if !series.contains(&bar.series.as_str()) {
            series.push(&bar.series);
        }
        if !places.contains(&bar.place.as_str()) {
            places.push(&bar.place);
        }
    }
    let scale = Scale::of(chart);
    let axis = WIDTH - LEFT - RIGHT;
    let mut body = String::new();
    let mut y = TOP;
    for place in places {
        let bars: Vec<_> = chart.bars.iter().filter(|bar| bar.place == place).collect();
        let middle = y + (bars.len() as f64 * (BAR + GAP) - GAP) / 2.0 + 4.0;
        let name = escape(place);
        put(
            &mut body,
            format_args!(
                r#"<text class="ink" x="{:.0}" y="{middle:.1}" text-anchor="end">{name}</text>"#,
                LEFT - 8.0
            ),
        );
        for bar in bars {
            let color = series.iter().position(|s| *s == bar.series).unwrap_or(0) % SERIES.len();
            let length = (scale.share(bar.value) * axis).max(1.0);
            let text = y + BAR - 3.0;
            put(
                &mut body,
                format_args!(
                    r#"<rect class="s{color}" x="{LEFT}" y="{y:.1}" width="{length:.1}" height="{BAR}" rx="2"/>"#
                ),
            );
            put(
                &mut body,
                format_args!(
                    r#"<text class="dim" x="{:.1}" y="{text:.1}">{}</text>"#,
                    LEFT + length + 5.0,
                    number(bar.value)
                ),
            );
            y += BAR + GAP;
        }
        y += BETWEEN;
    }
    if let Some((value, label)) = &chart.line {
        let x = LEFT + scale.share(*value) * axis;
        put(
            &mut body,
            format_args!(
                r#"<line class="mark" x1="{x:.1}" x2="{x:.1}" y1="{:.0}" y2="{:.0}"/>"#,
                TOP - 6.0,
                y - BETWEEN
            ),
        );
        put(
            &mut body,
            format_args!(
                r#"<text class="dim" x="{x:.1}" y="{:.0}" text-anchor="middle">{}</text>"#,
                y + 4.0,
                escape(label)
            ),
        );
        y += 12.0;
    }
    let mut legend = String::new();
    if series.len() > 1 {
        let mut x = LEFT;
        for (index, name) in series.iter().enumerate() {
            let color = index % SERIES.len();
            put(
                &mut legend,
                format_args!(
                    r#"<rect class="s{color}" x="{x:.0}" y="36" width="10" height="10" rx="2"/>"#
                ),
            );
            put(
                &mut legend,
                format_args!(
                    r#"<text class="dim" x="{:.0}" y="45">{}</text>"#,
                    x + 14.0,
                    escape(name)
                ),
            );
            x += 30.0 + 6.6 * name.chars().count() as f64;
        }
    }
    let kind = if scale.logarithmic {
        ", logarithmic"
    } else {
        ""
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>{style}</style>\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"22\">{title} ({unit}{kind})</text>\n\
         {legend}{body}</svg>\n",
        height = y + 10.0,
        title = escape(&chart.title),
        unit = escape(&chart.unit),
        style = style(theme),
    )
}

/// Appends a line; writing to a string cannot fail.
fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").ok();
}

fn style(theme: Theme) -> String {
    let colors = |dark: usize| {
        let [paper, ink, dim] = [
            ["#ffffff", "#0f172a", "#475569"],
            ["#0f172a", "#f1f5f9", "#94a3b8"],
        ][dark];
        let mut rules = format!(
            ".paper{{fill:{paper}}}.ink,.title{{fill:{ink}}}.dim{{fill:{dim}}}.mark{{stroke:{dim}}}"
        );
        for (index, series) in SERIES.iter().enumerate() {
            put(
                &mut rules,
                format_args!(".s{index}{{fill:{}}}", series[dark]),
            );
        }
        rules
    };
    let shared = "text{font:12px system-ui,sans-serif}.title{font-weight:600;font-size:14px}.mark{stroke-dasharray:4 3}";
    match theme {
        Theme::Light => format!("{shared}{}", colors(0)),
        Theme::Dark => format!("{shared}{}", colors(1)),
        Theme::Both => format!(
            "{shared}{}@media (prefers-color-scheme:dark){{{}}}",
            colors(0),
            colors(1)
        ),
    }
}

/// A value in three or four digits.
fn number(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 1e6 => format!("{:.2}M", value / 1e6),
        magnitude if magnitude >= 1e4 => format!("{:.1}k", value / 1e3),
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Text for XML and HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_bar_for_each_value_and_escapes_names() {
        let mut chart = Chart::new("n", "a < b & \"c\"", "ns");
        chart.line = Some((25.0, "25 ns".into()));
        chart.bar("64", "x", 10.0);
        chart.bar("64", "y", 20_000.0);
        chart.bar("128", "x", f64::NAN);
        for theme in [Theme::Light, Theme::Dark, Theme::Both] {
            let svg = svg(&chart, theme);
            // One for each bar, two in the legend, one behind all.
            assert_eq!(svg.matches("<rect").count(), 3 + 2 + 1);
            assert!(svg.contains("a &lt; b &amp; &quot;c&quot; (ns, logarithmic)"));
            assert!(!svg.contains("NaN\" height"));
            assert_eq!(svg.contains("prefers-color-scheme"), theme == Theme::Both);
        }
    }
}
