//! Common parts of the scenarios: connecting clients, warm-up and the measured window.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::latency_probe;
use crate::client::load_generator::LoadGenerator;
use crate::client::message::{ClientEvent, Reaction};
use crate::fixture::USERS;
use crate::measurement_window::MeasurementWindow;
use crate::metrics::Metrics;
use crate::server::process::ServerProcess;

/// Concurrent logins while clients connect. Lower than the backlog of a listener.
const CONNECTING_MAX: usize = 256;

/// Deadline for connecting all clients, and for a load that is bounded by a count.
pub(crate) const LOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Duration of a load before the measured window.
pub(crate) const WARM_UP: Duration = Duration::from_millis(700);

/// How long an idle load is observed.
const IDLE_TIME: Duration = Duration::from_millis(1500);

/// Longest wait of one tick for events.
pub(crate) const TICK_TIMEOUT: Duration = Duration::from_millis(100);

/// A load that runs in ticks.
pub(crate) trait Load {
    /// Waits for events of the clients and reacts to them.
    fn tick(&mut self) -> io::Result<()>;

    /// Discards the counts of the warm-up.
    fn reset(&mut self);
}

/// Runs a load for the warm-up and then for `seconds`. Returns the measured window, still open.
pub(crate) fn run(
    load: &mut dyn Load,
    server: &ServerProcess,
    seconds: f64,
) -> io::Result<MeasurementWindow> {
    warm_up(load)?;
    load.reset();
    let window = MeasurementWindow::start(server)?;
    while window.elapsed().as_secs_f64() < seconds {
        load.tick()?;
    }
    Ok(window)
}

/// Runs a load for the warm-up, then a [`latency_probe`] against it for `seconds`. Returns the
/// probe's download times of the file `small`.
pub(crate) fn measure_latency(
    load: &mut dyn Load,
    server: &ServerProcess,
    seconds: f64,
    metrics: &mut Metrics,
) -> io::Result<Vec<Duration>> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        warm_up(load)?;
        let window = MeasurementWindow::start(server)?;
        let probe = scope.spawn(|| {
            let duration = Duration::from_secs_f64(seconds);
            let times = latency_probe::run(server.address(), server.protocol(), "small", duration);
            is_over.store(true, Ordering::Relaxed);
            times
        });
        let mut result = Ok(());
        while !is_over.load(Ordering::Relaxed) && result.is_ok() {
            result = load.tick();
        }
        window.end(server, metrics)?;
        let times = probe.join().expect("the probe does not panic");
        result.and(times)
    })
}

fn warm_up(load: &mut dyn Load) -> io::Result<()> {
    let started = Instant::now();
    while started.elapsed() < WARM_UP {
        load.tick()?;
    }
    Ok(())
}

/// Connects and logs in `count` clients as user number `user` of [`USERS`]. Returns their keys.
pub(crate) fn connect_clients(
    clients: &mut LoadGenerator,
    count: usize,
    user: usize,
) -> io::Result<Vec<usize>> {
    let (user, password) = USERS[user];
    let protocol = clients.protocol().clone();
    let login = protocol.login(user, password);
    let deadline = Instant::now() + LOAD_TIMEOUT;
    let mut opened = 0;
    let mut keys = Vec::with_capacity(count);
    while keys.len() < count {
        while opened < count && opened - keys.len() < CONNECTING_MAX {
            clients.open(login.clone())?;
            opened += 1;
        }
        let mut failure = None;
        clients.tick(TICK_TIMEOUT, &mut |key, event| {
            match event {
                event if protocol.completes_login(&event) => keys.push(key),
                ClientEvent::Refused => failure = Some("the server refused one"),
                ClientEvent::LoginFailed => failure = Some("a login failed"),
                ClientEvent::Closed { .. } => failure = Some("a connection was closed"),
                _ => {}
            }
            Reaction::Wait
        })?;
        let is_late = Instant::now() > deadline;
        if let Some(reason) = failure.or(is_late.then_some("the deadline passed")) {
            let connected = keys.len();
            return Err(io::Error::other(format!(
                "{connected} of {count} clients connected, then {reason}"
            )));
        }
    }
    Ok(keys)
}

/// Leaves the clients idle for a while. Fails if the server closes one of them.
pub(crate) fn stay_idle(clients: &mut LoadGenerator) -> io::Result<()> {
    let count = clients.len();
    let end = Instant::now() + IDLE_TIME;
    while Instant::now() < end {
        clients.tick(TICK_TIMEOUT, &mut |_, _| Reaction::Wait)?;
    }
    match clients.len() == count {
        true => Ok(()),
        false => Err(io::Error::other("the server closed an idle session")),
    }
}
