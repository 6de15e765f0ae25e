//! How every chart begins: the lines that `landfast-bench` draws, and the bars of `tests/examples/bench`, which includes this file.

/// The head of the picture, its ground and its title.
pub(crate) fn begin(height: f64, left: f64, title: &str, unit: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n<text x=\"{left}\" y=\"20\" font-size=\"15\">{} ({})</text>\n",
        escaped(title),
        escaped(unit)
    )
}

/// A row of the legend, its text on this height.
pub(crate) fn legend(left: f64, y: f64, colour: &str, name: &str) -> String {
    format!(
        "<rect x=\"{left}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{}\" y=\"{y}\">{}</text>\n",
        y - 9.0,
        left + 16.0,
        escaped(name)
    )
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Of the series, in turn.
pub(crate) fn colour(series: usize) -> &'static str {
    COLOURS[series % COLOURS.len()]
}

const WIDTH: f64 = 640.0;
const COLOURS: [&str; 6] = ["#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2"];
