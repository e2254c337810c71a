//! Lines over time as a picture in SVG, written by hand: a picture in the documentation is worth no dependency.

use std::fmt::Write as _;

/// A picture.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What stands above it.
    pub title: String,
    /// What the numbers are in.
    pub unit: &'static str,
    /// The lines.
    pub lines: Vec<Line>,
}

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is.
    pub name: &'static str,
    /// Seconds and numbers, in the order of the seconds.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 300.0;
/// What is around the lines: left, right, above and below.
const MARGINS: [f64; 4] = [60.0, 20.0, 50.0, 35.0];

/// Told apart by most eyes, and on paper.
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// Marks along an axis, at most.
const MAX_MARKS: f64 = 8.0;

impl Plot {
    /// The picture as a file; the numbers begin at nought.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let seconds = points().map(|(seconds, _)| *seconds).fold(1.0, f64::max);
        let top = points().map(|(_, number)| *number).fold(0.0, f64::max);
        let top = if top > 0.0 { top * 1.05 } else { 1.0 };
        let [left, right, above, below] = MARGINS;
        let x = |second: f64| left + second / seconds * (WIDTH - left - right);
        let y = |number: f64| HEIGHT - below - number / top * (HEIGHT - above - below);
        let (start, end, floor) = (x(0.0), x(seconds), y(0.0));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{left}\" y=\"18\" font-size=\"14\">{}, {}</text>\n",
            escaped(&self.title),
            escaped(self.unit),
        );
        let mut mark = |line: String| svg.push_str(&line);
        for number in marks(top) {
            let y = y(number);
            mark(format!(
                "<path d=\"M{start:.1} {y:.1}H{end:.1}\" stroke=\"#ddd\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{number}</text>\n",
                start - 6.0,
                y + 4.0
            ));
        }
        for second in marks(seconds) {
            mark(format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{second} s</text>\n",
                x(second),
                floor + 18.0
            ));
        }
        let mut legend = left;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let mut path = String::new();
            for (second, number) in &line.points {
                let letter = if path.is_empty() { 'M' } else { 'L' };
                write!(path, "{letter}{:.1} {:.1}", x(*second), y(*number))
                    .expect("a string takes all");
            }
            mark(format!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n\
                 <text x=\"{legend:.1}\" y=\"36\" fill=\"{colour}\">{}</text>\n",
                escaped(line.name)
            ));
            legend += 150.0;
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// Round numbers from nought to the end of an axis: one, two or five times a power of ten apart.
fn marks(end: f64) -> impl Iterator<Item = f64> {
    let power = 10_f64.powf((end / MAX_MARKS).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = steps.into_iter().find(|step| end / step <= MAX_MARKS).unwrap_or(end);
    (0..).map(move |idx| round(f64::from(idx) * step)).take_while(move |mark| *mark <= end)
}

/// Without what a sum of binary fractions has at its end.
fn round(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::{Line, Plot, marks};

    #[test]
    fn marks_are_round_and_few() {
        let check = |end: f64, expected: &[f64]| {
            assert_eq!(marks(end).collect::<Vec<_>>(), expected, "{end}");
        };
        check(120.0, &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0]);
        check(0.7, &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]);
        check(43.1, &[0.0, 10.0, 20.0, 30.0, 40.0]);
    }

    #[test]
    fn a_picture_has_its_lines_and_what_they_are() {
        let line = |name, points: &[(f64, f64)]| Line { name, points: points.to_vec() };
        let lines = vec![line("a<b", &[(0.0, 1.0), (10.0, 2.0)]), line("none", &[])];
        let svg = Plot { title: "Two & more".into(), unit: "MB", lines }.svg();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        for part in ["Two &amp; more, MB", "a&lt;b", "M60.0 162.6L780.0 60.2", "none", ">10 s<"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }
}
