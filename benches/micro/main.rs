//! Cost of the pure parts: the line splitter, a step of the menu, a download through the event loop
//! over the simulated kernel, and the listing of a large directory. `cargo bench --bench micro`.
//!
//! `count N` makes N downloads over the simulated kernel and nothing else.
//! `scripts/count-instructions` runs that under callgrind.

mod simulated_server;

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use tidegate::domain::access::{Grant, Rights};
use tidegate::domain::listing::{ListingFormat, ListingTarget};
use tidegate::domain::path::GrantedPath;
use tidegate::kernel::Kernel;
use tidegate::kernel::sim::{Sim, SimEntry};
use tidegate::limits::LISTING_BYTES_MAX;
use tidegate::protocol::line::{LineSplit, split};
use tidegate::protocol::listing::append;
use tidegate::protocol::menu::session::MenuSession;
use tidegate::protocol::session::Session;
use tidegate::protocol::step::Input;
use tidegate::storage::{EntryDetail, EntryReader};

use simulated_server::SimulatedServer;

/// Files in the listed directory.
const ENTRIES: usize = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [count, number, ..] = arguments.as_slice()
        && count == "count"
    {
        let mut server = SimulatedServer::new();
        for _ in 0..number.parse().expect("a number of downloads") {
            server.download();
        }
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    lines(&mut criterion);
    menu(&mut criterion);
    event_loop(&mut criterion);
    listing(&mut criterion);
    criterion.final_summary();
}

fn lines(criterion: &mut Criterion) {
    let text = b"DOWNLOAD FILE Movies/Joker\n".repeat(100);
    let mut group = criterion.benchmark_group("lines");
    group.throughput(Throughput::Elements(100));
    group.bench_function("split 100", |bencher| {
        bencher.iter(|| {
            let mut at = 0;
            while let LineSplit::Line { line, used } = split(black_box(&text[at..])) {
                black_box(line);
                at += used;
            }
            at
        });
    });
    group.finish();
}

fn menu(criterion: &mut Criterion) {
    let mut session = Session::Menu(MenuSession::new());
    let mut out = Vec::new();
    session.step(Input::Begin, &mut out);
    criterion.bench_function("menu: unknown command", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(session.step(Input::Line(black_box(b"DANCE")), &mut out))
        });
    });
}

fn event_loop(criterion: &mut Criterion) {
    let mut server = SimulatedServer::new();
    criterion.bench_function(
        "event loop: download of 1 KiB, simulated kernel",
        |bencher| {
            bencher.iter(|| server.download());
        },
    );
}

/// The text of a listing, as a worker makes it.
fn list(sim: &Sim, target: &ListingTarget, format: ListingFormat) -> Vec<u8> {
    let detail = match format.needs_only_names() {
        true => EntryDetail::Kind,
        false => EntryDetail::Status,
    };
    let mut reader =
        EntryReader::open(sim, target, detail, LISTING_BYTES_MAX).expect("the directory exists");
    let now = sim.unix_time();
    let mut text = Vec::with_capacity(reader.name_bytes());
    while let Some(entry) = reader.next_entry() {
        append(&mut text, format, &entry, now);
    }
    text
}

fn listing(criterion: &mut Criterion) {
    let sim = Sim::new(1);
    for number in 0..ENTRIES {
        sim.put(
            &format!("/srv/Many/file{number:05}"),
            SimEntry::File(Vec::new()),
        );
    }
    let grant = Grant {
        name: "Many".into(),
        rights: Rights {
            read: true,
            upload: false,
            change: false,
            hidden: false,
            quota: None,
        },
        path: PathBuf::from("/srv/Many"),
    };
    let place = GrantedPath {
        grant: Arc::new(grant),
        relative: String::new(),
    };
    let listed = ListingTarget::Directory(place);
    let mut group = criterion.benchmark_group("listing");
    group.sample_size(20);
    for (name, form) in [
        ("names", ListingFormat::Names),
        ("details", ListingFormat::Details),
    ] {
        group.bench_function(format!("10,000 entries, {name}"), |bencher| {
            bencher.iter(|| {
                let text = list(&sim, black_box(&listed), form);
                text.len()
            });
        });
    }
    group.finish();
}
