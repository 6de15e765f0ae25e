//! A small chart: bars in groups, one group a size, one bar a series, the value over each.

#[path = "../../../crates/bench/src/chart/frame.rs"]
mod frame;

/// One kind of bar.
pub(crate) struct Series {
    pub(crate) name: String,
    /// Size and value.
    pub(crate) points: Vec<(String, f64)>,
}

impl Series {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            points: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, size: impl ToString, value: f64) {
        self.points.push((size.to_string(), value));
    }
}

/// Draws it.
pub(crate) fn svg(title: &str, sizes: &str, unit: &str, series: &[Series]) -> String {
    let groups: Vec<&String> = series.first().map_or(Vec::new(), |one| {
        one.points.iter().map(|(size, _)| size).collect()
    });
    let most = series
        .iter()
        .flat_map(|one| one.points.iter().map(|(_, value)| *value))
        .fold(f64::MIN_POSITIVE, f64::max);
    let group = PLOT_WIDTH / groups.len().max(1) as f64;
    let bar = group * 0.8 / series.len().max(1) as f64;
    let mut out = frame::begin(HEIGHT, LEFT, title, unit);
    for (at, one) in series.iter().enumerate() {
        let colour = frame::colour(at);
        out += &frame::legend(LEFT, 40.0 + 16.0 * at as f64, colour, &one.name);
        for (n, (_, value)) in one.points.iter().enumerate() {
            let height = value / most * PLOT_HEIGHT;
            let x = LEFT + n as f64 * group + group * 0.1 + at as f64 * bar;
            let top = BASE - height;
            out += &format!(
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\">{}</text>\n",
                bar * 0.92,
                x + bar * 0.46,
                top - 3.0,
                short(*value)
            );
        }
    }
    for (n, size) in groups.iter().enumerate() {
        let x = LEFT + (n as f64 + 0.5) * group;
        out += &format!(
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
            BASE + 16.0,
            frame::escaped(size)
        );
    }
    out += &format!(
        "<line x1=\"{LEFT}\" y1=\"{BASE}\" x2=\"{}\" y2=\"{BASE}\" stroke=\"#333333\"/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n</svg>\n",
        LEFT + PLOT_WIDTH,
        LEFT + PLOT_WIDTH / 2.0,
        BASE + 34.0,
        frame::escaped(sizes)
    );
    out
}

fn short(value: f64) -> String {
    match value {
        v if v >= 10_000.0 => format!("{:.1}k", v / 1000.0),
        v if v >= 100.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    }
}

const HEIGHT: f64 = 400.0;
const LEFT: f64 = 30.0;
const PLOT_WIDTH: f64 = 580.0;
const PLOT_HEIGHT: f64 = 240.0;
const BASE: f64 = 350.0;
