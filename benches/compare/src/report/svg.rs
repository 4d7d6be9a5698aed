//! A plot for the README: one group of bars for each row whose figures are comparable.

use std::fmt::Write;

use super::{Report, Row, Series, Spread};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const LONGEST: f64 = 440.0;
const BAR: f64 = 15.0;
const STEP: f64 = 20.0;
/// Beyond this between the shortest and the longest bar, lengths are logarithms.
const WIDE: f64 = 20.0;

/// GitHub shows an image by itself, so that only the media query knows of the page's colours.
const STYLE: &str = "\
<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.ours { fill: #0969da }
.theirs { fill: #8c959f }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .ours { fill: #4493f8 }
  .theirs { fill: #656c76 }
}
</style>
";

/// Draws what has at least two bars.
pub fn of(report: &Report) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for row in &report.rows {
        let bars = bars(row);
        if bars.len() > 1 {
            y = group(&mut body, y, row, &bars);
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\">\n\
         {STYLE}{body}</svg>\n"
    )
}

/// Those series of a row that are measured in what the first one is.
fn bars(row: &Row) -> Vec<(&Series, f64)> {
    let unit = row.series.first().map(|series| series.unit);
    let alike = row.series.iter().filter(|series| Some(series.unit) == unit);
    alike.filter_map(|series| Some((series, Spread::of(&series.values)?.median))).collect()
}

fn group(body: &mut String, mut y: f64, row: &Row, bars: &[(&Series, f64)]) -> f64 {
    let lengths = Lengths::of(bars);
    let scale = if lengths.least.is_some() { " (logarithmic)" } else { "" };
    let better =
        if bars.iter().any(|(series, _)| series.unit == "MB/s") { "" } else { "; shorter is better" };
    y += 16.0;
    // Writing to a string does not fail.
    let _ = writeln!(
        body,
        "<text class=\"title\" x=\"10\" y=\"{y}\">{}{better}{scale}</text>",
        escape(&row.title)
    );
    y += 8.0;
    for (series, value) in bars {
        let class = if series.who.starts_with("ocipfs") { "ours" } else { "theirs" };
        let (base, end) = (y + BAR - 3.5, lengths.length(*value));
        let digits = if *value < 20.0 { 1 } else { 0 };
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{end:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <text x=\"{:.1}\" y=\"{base}\">{value:.digits$} {}</text>",
            LEFT - 8.0,
            escape(&series.who),
            LEFT + end + 6.0,
            series.unit,
        );
        y += STEP;
    }
    y + 10.0
}

/// How long bars are.
struct Lengths {
    most: f64,
    /// Where a logarithmic bar begins.
    least: Option<f64>,
}

impl Lengths {
    fn of(bars: &[(&Series, f64)]) -> Self {
        let values = || bars.iter().map(|(_, value)| *value);
        let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN_POSITIVE, f64::max));
        let wide = least > 0.0 && most / least > WIDE;
        Self { most, least: wide.then(|| 10f64.powf(least.log10().floor() - 0.3)) }
    }

    fn length(&self, value: f64) -> f64 {
        let share = match self.least {
            Some(least) => (value / least).ln() / (self.most / least).ln(),
            None => value / self.most,
        };
        (share * LONGEST).max(1.0)
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(values: &[(&str, f64)]) -> Report {
        let series = values.iter().map(|(who, value)| {
            let mut series = Series::new(*who, "MB/s");
            series.push(*value);
            series
        });
        let mut report = Report::new();
        report.rows.push(Row::new("get", "A & B", series.collect()));
        report
    }

    #[test]
    fn bars_are_as_long_as_their_figures() {
        let svg = of(&report(&[("ocipfs", 100.0), ("other", 50.0)]));
        assert!(svg.contains("width=\"440.0\"") && svg.contains("width=\"220.0\""), "{svg}");
        assert!(svg.contains("A &amp; B</text>"), "{svg}");
    }

    #[test]
    fn figures_far_apart_are_drawn_as_logarithms() {
        let svg = of(&report(&[("ocipfs", 1000.0), ("other", 3.0)]));
        assert!(svg.contains("(logarithmic)"), "{svg}");
    }

    #[test]
    fn a_bar_alone_is_not_drawn() {
        assert!(!of(&report(&[("ocipfs", 1000.0)])).contains("<rect"));
    }
}
