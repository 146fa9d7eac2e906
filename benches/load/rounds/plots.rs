//! The plots of a folder of results, as SVG.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::rounds::run::{Spread, Spreads};
use crate::server::kind::ServerKind;

/// A bar chart of one number, grouped by case.
struct BarChart {
    file: &'static str,
    title: &'static str,
    number: &'static str,
    /// Cases with their labels.
    cases: &'static [(&'static str, &'static str)],
    logarithmic: bool,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

const SESSIONS: &[(&str, &str)] = &[
    ("download --sessions 1 --size 10485760", "1"),
    ("download --sessions 10 --size 10485760", "10"),
    ("download --sessions 100 --size 10485760", "100"),
    ("download --sessions 1000 --size 10485760", "1,000"),
];

const SIZES: &[(&str, &str)] = &[
    ("download --sessions 64 --size 1024", "1 KiB, 64"),
    ("download --sessions 1000 --size 1024", "1 KiB, 1,000"),
    ("download --sessions 64 --size 16384", "16 KiB, 64"),
    ("download --sessions 64 --size 65536", "64 KiB, 64"),
];

const BACKGROUND: &[(&str, &str)] = &[
    ("latency", "none"),
    ("latency --greedy 100", "100 greedy"),
    ("latency --slow 1000", "1,000 slow"),
    ("latency --stalled 1000 --greedy 10", "1,000 stalled"),
    ("cold --folder /var/tmp", "cold file"),
];

const CHARTS: &[BarChart] = &[
    BarChart {
        file: "rate.svg",
        title: "Downloads of 10 MiB by number of sessions: MiB per second",
        number: "mebibytes_per_second",
        cases: SESSIONS,
        logarithmic: false,
    },
    BarChart {
        file: "cpu.svg",
        title: "Downloads of 10 MiB by number of sessions: server CPU seconds per GiB",
        number: "server_cpu_seconds_per_gibibyte",
        cases: SESSIONS,
        logarithmic: false,
    },
    BarChart {
        file: "small.svg",
        title: "Small downloads: server CPU microseconds per download",
        number: "server_cpu_microseconds_per_download",
        cases: SIZES,
        logarithmic: false,
    },
    BarChart {
        file: "latency-p50.svg",
        title: "Download of 1 KiB under background load: median, milliseconds",
        number: "small_p50_milliseconds",
        cases: BACKGROUND,
        logarithmic: true,
    },
    BarChart {
        file: "latency-p99.svg",
        title: "Download of 1 KiB under background load: 99th percentile, milliseconds",
        number: "small_p99_milliseconds",
        cases: BACKGROUND,
        logarithmic: true,
    },
    BarChart {
        file: "memory.svg",
        title: "Resident bytes of the server per idle session",
        number: "bytes_per_session",
        cases: &[
            ("idle --sessions 9000", "9,000"),
            ("idle --sessions 200", "200"),
        ],
        logarithmic: true,
    },
];

/// Writes every chart that has numbers.
pub(crate) fn write(folder: &Path, spreads: &Spreads) -> Result<(), Box<dyn Error + Send + Sync>> {
    for chart in CHARTS {
        if spreads.keys().any(|key| chart.contains(key)) {
            chart
                .draw(&folder.join(chart.file), spreads)
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn colour(kind: ServerKind) -> RGBColor {
    match kind {
        ServerKind::Tidegate | ServerKind::TidegateFtp => RGBColor(0, 104, 139),
        ServerKind::Before | ServerKind::BeforeFtp => RGBColor(110, 160, 180),
        ServerKind::Baseline => RGBColor(170, 170, 170),
        ServerKind::Nginx => RGBColor(0, 150, 57),
        ServerKind::NginxChunks => RGBColor(140, 200, 120),
        ServerKind::Lighttpd => RGBColor(214, 126, 44),
        ServerKind::Vsftpd => RGBColor(140, 80, 150),
        ServerKind::PureFtpd => RGBColor(60, 140, 120),
        ServerKind::Pyftpdlib => RGBColor(200, 170, 60),
    }
}

/// The vertical axis, in powers of ten if logarithmic.
struct Axis {
    logarithmic: bool,
    low: f64,
    high: f64,
}

impl Axis {
    /// An axis for medians from `min` and values up to `max`.
    fn new(logarithmic: bool, min: f64, max: f64) -> Axis {
        if !logarithmic {
            return Axis {
                logarithmic,
                low: 0.0,
                high: max * 1.08,
            };
        }
        let low = min.max(1e-3).log10().floor();
        Axis {
            logarithmic,
            low,
            high: max.log10().ceil().max(low + 1.0),
        }
    }

    fn position(&self, value: f64) -> f64 {
        match self.logarithmic {
            true => value.max(10_f64.powf(self.low)).log10(),
            false => value,
        }
    }

    fn label(&self, position: f64) -> String {
        match self.logarithmic {
            true => format!("{}", 10_f64.powf(position)),
            false => format!("{position}"),
        }
    }
}

impl BarChart {
    fn contains(&self, (case, _, number): &(&'static str, ServerKind, String)) -> bool {
        number == self.number && self.cases.iter().any(|(of, _)| of == case)
    }

    fn draw(&self, path: &Path, spreads: &Spreads) -> Result<(), Box<dyn Error>> {
        let shown: Vec<_> = spreads
            .iter()
            .filter(|(key, _)| self.contains(key))
            .collect();
        let mut servers: Vec<ServerKind> =
            shown.iter().map(|((_, server, _), _)| *server).collect();
        servers.sort_unstable();
        servers.dedup();
        let cases: Vec<(&str, &str)> = self
            .cases
            .iter()
            .copied()
            .filter(|(of, _)| spreads.keys().any(|(case, ..)| case == of))
            .collect();
        let min = shown.iter().map(|(_, spread)| spread.median);
        let max = shown.iter().map(|(_, spread)| spread.max);
        let axis = Axis::new(
            self.logarithmic,
            min.fold(f64::INFINITY, f64::min),
            max.fold(0.0, f64::max),
        );
        let area = SVGBackend::new(path, (760, 400)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = self.build_chart(&area, &axis, cases.len())?;
        let width = 0.8 / servers.len() as f64;
        for (nth, server) in servers.iter().enumerate() {
            let bars: Vec<(f64, Spread)> = cases
                .iter()
                .enumerate()
                .filter_map(|(at, (case, _))| {
                    let (_, spread) = shown
                        .iter()
                        .find(|((of, kind, _), _)| of == case && kind == server)?;
                    Some((at as f64 + 0.1 + nth as f64 * width, **spread))
                })
                .collect();
            draw_bars(&mut chart, &axis, *server, width, &bars)?;
        }
        draw_labels(&mut chart, &axis, &cases)?;
        area.present()?;
        Ok(())
    }

    fn build_chart<'a>(
        &self,
        area: &Area<'a>,
        axis: &Axis,
        cases: usize,
    ) -> Result<Chart<'a>, Box<dyn Error>> {
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 16))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..cases as f64, axis.low..axis.high)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_labels(8)
            .y_label_formatter(&|position| axis.label(*position))
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(|error| error.to_string())?;
        Ok(chart)
    }
}

/// Draws the bars of one server at their left edges, with lines from minimum to maximum.
fn draw_bars(
    chart: &mut Chart,
    axis: &Axis,
    server: ServerKind,
    width: f64,
    bars: &[(f64, Spread)],
) -> Result<(), Box<dyn Error>> {
    let style = colour(server).filled();
    let rectangles = bars.iter().map(|(left, spread)| {
        let top = axis.position(spread.median);
        Rectangle::new([(*left, axis.low), (left + width * 0.92, top)], style)
    });
    let lines = bars.iter().map(|(left, spread)| {
        let middle = left + width * 0.46;
        let ends = vec![
            (middle, axis.position(spread.min)),
            (middle, axis.position(spread.max)),
        ];
        PathElement::new(ends, BLACK.stroke_width(1))
    });
    chart
        .draw_series(rectangles)
        .map_err(|error| error.to_string())?
        .label(server.name())
        .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], style));
    chart
        .draw_series(lines)
        .map_err(|error| error.to_string())?;
    Ok(())
}

/// Draws the labels of the cases and the legend.
fn draw_labels(
    chart: &mut Chart,
    axis: &Axis,
    cases: &[(&str, &str)],
) -> Result<(), Box<dyn Error>> {
    for (at, (_, label)) in cases.iter().enumerate() {
        let text = Text::new((*label).to_owned(), (-20, 8), ("sans-serif", 13));
        let element = EmptyElement::at((at as f64 + 0.5, axis.low)) + text;
        chart
            .plotting_area()
            .draw(&element)
            .map_err(|error| error.to_string())?;
    }
    chart
        .configure_series_labels()
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE.mix(0.8))
        .position(SeriesLabelPosition::UpperRight)
        .draw()
        .map_err(|error| error.to_string())?;
    Ok(())
}
