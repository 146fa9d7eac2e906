//! The plots of a folder of results, as SVG.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::server::process::Kind;

/// Median, least and most, by case, server and number.
type Summary = BTreeMap<(&'static str, Kind, String), (f64, f64, f64)>;

/// A plot of bars: file, title, the number, and the cases with their labels.
struct Bars {
    file: &'static str,
    title: &'static str,
    number: &'static str,
    cases: &'static [(&'static str, &'static str)],
    logarithmic: bool,
}

const LARGE: &[(&str, &str)] = &[
    ("download --sessions 1 --size 10485760", "1"),
    ("download --sessions 10 --size 10485760", "10"),
    ("download --sessions 100 --size 10485760", "100"),
    ("download --sessions 1000 --size 10485760", "1,000"),
];

const SMALL: &[(&str, &str)] = &[
    ("download --sessions 64 --size 1024", "1 KiB, 64"),
    ("download --sessions 1000 --size 1024", "1 KiB, 1,000"),
    ("download --sessions 64 --size 16384", "16 KiB, 64"),
    ("download --sessions 64 --size 65536", "64 KiB, 64"),
];

const BESIDE: &[(&str, &str)] = &[
    ("beside", "alone"),
    ("beside --greedy 100", "100 greedy"),
    ("beside --slow 1000", "1,000 slow"),
    ("beside --stalled 1000 --greedy 10", "1,000 stalled"),
    ("cold --folder /var/tmp", "cold file"),
];

const PLOTS: &[Bars] = &[
    Bars {
        file: "rate.svg",
        title: "Downloads of 10 MiB: MiB a second, over the number of sessions",
        number: "mebibytes_a_second",
        cases: LARGE,
        logarithmic: false,
    },
    Bars {
        file: "cpu.svg",
        title: "Downloads of 10 MiB: CPU seconds of the server a GiB, over the number of sessions",
        number: "server_cpu_seconds_a_gibibyte",
        cases: LARGE,
        logarithmic: false,
    },
    Bars {
        file: "small.svg",
        title: "Small downloads: CPU microseconds of the server each",
        number: "server_cpu_microseconds_a_download",
        cases: SMALL,
        logarithmic: false,
    },
    Bars {
        file: "latency-p50.svg",
        title: "A download of 1 KiB beside others: median, milliseconds",
        number: "small_p50_milliseconds",
        cases: BESIDE,
        logarithmic: true,
    },
    Bars {
        file: "latency-p99.svg",
        title: "A download of 1 KiB beside others: 99th percentile, milliseconds",
        number: "small_p99_milliseconds",
        cases: BESIDE,
        logarithmic: true,
    },
    Bars {
        file: "memory.svg",
        title: "Resident bytes of the server for an idle session",
        number: "bytes_a_session",
        cases: &[
            ("idle --sessions 9000", "9,000"),
            ("idle --sessions 200", "200"),
        ],
        logarithmic: true,
    },
];

/// Writes every plot that there are numbers for.
pub(crate) fn write(folder: &Path, summary: &Summary) -> Result<(), Box<dyn Error + Send + Sync>> {
    for plot in PLOTS {
        if summary.keys().any(|(case, _, number)| {
            *number == plot.number && plot.cases.iter().any(|(of, _)| of == case)
        }) {
            plot.draw(&folder.join(plot.file), summary)
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Tidegate | Kind::TidegateFtp => RGBColor(0, 104, 139),
        Kind::Before | Kind::BeforeFtp => RGBColor(110, 160, 180),
        Kind::Floor => RGBColor(170, 170, 170),
        Kind::Nginx => RGBColor(0, 150, 57),
        Kind::NginxChunks => RGBColor(140, 200, 120),
        Kind::Lighttpd => RGBColor(214, 126, 44),
        Kind::Vsftpd => RGBColor(140, 80, 150),
        Kind::PureFtpd => RGBColor(60, 140, 120),
        Kind::Pyftpdlib => RGBColor(200, 170, 60),
    }
}

impl Bars {
    fn draw(&self, path: &Path, summary: &Summary) -> Result<(), Box<dyn Error>> {
        let mut servers: Vec<Kind> = Vec::new();
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for ((case, server, number), (median, _, top)) in summary {
            if number == self.number && self.cases.iter().any(|(of, _)| of == case) {
                least = least.min(*median);
                most = most.max(*top);
                if !servers.contains(server) {
                    servers.push(*server);
                }
            }
        }
        servers.sort_unstable();
        let cases: Vec<_> = self
            .cases
            .iter()
            .filter(|(of, _)| summary.keys().any(|(case, ..)| case == of))
            .collect();
        // A bar needs a foot: on a logarithmic axis the power of ten below the least.
        let foot = match self.logarithmic {
            true => 10_f64.powf(least.max(1e-3).log10().floor()),
            false => 0.0,
        };
        let shown = |value: f64| match self.logarithmic {
            true => value.max(foot).log10(),
            false => value,
        };
        let (low, high) = match self.logarithmic {
            true => (foot.log10(), most.log10().ceil().max(foot.log10() + 1.0)),
            false => (0.0, most * 1.08),
        };
        let area = SVGBackend::new(path, (760, 400)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 16))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..cases.len() as f64, low..high)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_labels(8)
            .y_label_formatter(&|value| match self.logarithmic {
                true => format!("{}", 10_f64.powf(*value)),
                false => format!("{value}"),
            })
            .light_line_style(TRANSPARENT)
            .draw()?;
        let width = 0.8 / servers.len() as f64;
        for (nth, server) in servers.iter().enumerate() {
            let style = colour(*server).filled();
            let mut shapes: Vec<Rectangle<(f64, f64)>> = Vec::new();
            let mut spreads = Vec::new();
            for (at, (case, _)) in cases.iter().enumerate() {
                let key = (*case, *server, self.number.to_owned());
                let Some((median, bottom, top)) = summary.get(&key) else {
                    continue;
                };
                let left = at as f64 + 0.1 + nth as f64 * width;
                shapes.push(Rectangle::new(
                    [(left, low), (left + width * 0.92, shown(*median))],
                    style,
                ));
                let middle = left + width * 0.46;
                spreads.push(PathElement::new(
                    vec![(middle, shown(*bottom)), (middle, shown(*top))],
                    BLACK.stroke_width(1),
                ));
            }
            chart
                .draw_series(shapes)?
                .label(server.name())
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], style));
            chart.draw_series(spreads)?;
        }
        let labels = cases.iter().enumerate().map(|(at, (_, label))| {
            EmptyElement::at((at as f64 + 0.5, low))
                + Text::new((*label).to_owned(), (-20, 8), ("sans-serif", 13))
        });
        for label in labels {
            chart.plotting_area().draw(&label)?;
        }
        chart
            .configure_series_labels()
            .border_style(BLACK.mix(0.3))
            .background_style(WHITE.mix(0.8))
            .position(SeriesLabelPosition::UpperRight)
            .draw()?;
        area.present()?;
        Ok(())
    }
}
