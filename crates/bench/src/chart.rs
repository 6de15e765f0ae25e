//! Growth as a picture: both axes logarithmic, so that what is proportional to the size is a straight line like the dashed one.

mod frame;

/// One kind of figure: sizes and values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What is drawn. What is not above zero has no place on such axes and is left out.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) sizes: String,
    pub(crate) unit: String,
    pub(crate) series: Vec<Series>,
}

impl Chart {
    pub(crate) fn svg(&self) -> String {
        let points = || {
            self.series
                .iter()
                .flat_map(|one| one.points.iter().copied())
                .filter(drawable)
        };
        let (x, y) = (
            Axis::over(points().map(|p| p.0)),
            Axis::over(points().map(|p| p.1)),
        );
        let at = |(size, value): (f64, f64)| {
            (
                LEFT + x.share(size) * PLOT_WIDTH,
                BASE - y.share(value) * PLOT_HEIGHT,
            )
        };
        let mut out = frame::begin(HEIGHT, LEFT, &self.title, &self.unit);
        out += &self.grid(x, y);
        if let Some(first) = points().next() {
            // From the first point up in proportion, as far as the picture goes.
            let factor = (x.most / first.0).min(y.most / first.1);
            let ((x1, y1), (x2, y2)) = (at(first), at((first.0 * factor, first.1 * factor)));
            out += &format!(
                "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#999999\" stroke-dasharray=\"4 4\"/>\n"
            );
        }
        for (n, one) in self.series.iter().enumerate() {
            out += &drawn(n, one, at);
        }
        out + "</svg>\n"
    }

    /// Powers of ten, and the sizes that were measured.
    fn grid(&self, x: Axis, y: Axis) -> String {
        let mut out = String::new();
        let mut value = y.least;
        while value <= y.most * 1.001 {
            let at = BASE - y.share(value) * PLOT_HEIGHT;
            out += &format!(
                "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                LEFT + PLOT_WIDTH,
                LEFT - 6.0,
                at + 4.0,
                short(value)
            );
            value *= 10.0;
        }
        let mut sizes: Vec<f64> = self
            .series
            .iter()
            .flat_map(|one| one.points.iter().map(|p| p.0))
            .collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        for size in sizes.into_iter().filter(|size| *size > 0.0) {
            out += &format!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                LEFT + x.share(size) * PLOT_WIDTH,
                BASE + 16.0,
                short(size)
            );
        }
        out + &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{} (dashed: in proportion)</text>\n",
            LEFT + PLOT_WIDTH / 2.0,
            BASE + 34.0,
            frame::escaped(&self.sizes)
        )
    }
}

fn drawn(n: usize, one: &Series, at: impl Fn((f64, f64)) -> (f64, f64)) -> String {
    let colour = frame::colour(n);
    let mut out = frame::legend(LEFT, 36.0 + 15.0 * n as f64, colour, &one.name);
    let drawable: Vec<_> = one.points.iter().copied().filter(drawable).collect();
    let path: Vec<_> = drawable
        .iter()
        .map(|point| at(*point))
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    out += &format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
        path.join(" ")
    );
    for point in drawable {
        let (x, y) = at(point);
        out += &format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\">{}</text>\n",
            y - 7.0,
            short(point.1)
        );
    }
    out
}

/// Whole powers of ten around the values.
#[derive(Clone, Copy, Debug)]
struct Axis {
    least: f64,
    most: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), v| {
            (low.min(v), high.max(v))
        });
        if low > high {
            return Self {
                least: 1.0,
                most: 10.0,
            };
        }
        let least = 10_f64.powf(low.log10().floor());
        let most = 10_f64.powf(high.log10().ceil()).max(least * 10.0);
        Self { least, most }
    }

    fn share(self, value: f64) -> f64 {
        (value / self.least).log10() / (self.most / self.least).log10()
    }
}

fn drawable((size, value): &(f64, f64)) -> bool {
    *size > 0.0 && *value > 0.0 && size.is_finite() && value.is_finite()
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", trimmed(v / 1e6)),
        v if v >= 1e4 => format!("{}k", trimmed(v / 1e3)),
        v => trimmed(v),
    }
}

/// Three digits are enough to see.
fn trimmed(value: f64) -> String {
    let decimals = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 0.1 => 2,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const PLOT_WIDTH: f64 = 550.0;
const PLOT_HEIGHT: f64 = 250.0;
const BASE: f64 = 370.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proportional_lies_on_a_straight_line() {
        let (x, y) = (
            Axis::over([10.0, 1000.0].into_iter()),
            Axis::over([3.0, 300.0].into_iter()),
        );
        let rise =
            |from: f64, to: f64| (y.share(to * 0.3) - y.share(from * 0.3)) / (x.share(to) - x.share(from));
        assert!((rise(10.0, 100.0) - rise(100.0, 1000.0)).abs() < 1e-9);
        assert_eq!((x.least, x.most), (10.0, 1000.0));
    }

    #[test]
    fn nothing_and_zero_draw_an_empty_picture_and_names_are_escaped() {
        let mut chart = Chart {
            name: "a".to_owned(),
            title: "<b>".to_owned(),
            sizes: "agents".to_owned(),
            unit: "ms".to_owned(),
            series: vec![Series::default()],
        };
        assert!(chart.svg().contains("&lt;b&gt;") && !chart.svg().contains("NaN"));
        chart.series[0].points = vec![(0.0, 5.0), (10.0, 0.0)];
        let svg = chart.svg();
        assert!(
            !svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<circle"),
            "{svg}"
        );
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0123, "0.0123"),
            (1.0, "1"),
            (12.34, "12.3"),
            (5000.0, "5000"),
            (100_000.0, "100k"),
            (2_500_000.0, "2.5M"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }
}
