//! The scenarios: what is asked of the server, what is measured, and which limit makes the bench fail.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use argh::FromArgs;
use tidegate::protocol::menu_sentence::Sentence;

use crate::crowd::{Crowd, News, Next};
use crate::probe;
use crate::server::{DIRECTORY, Home, Server, USERS};

/// Clients that log in at the same time while a crowd gathers: less than a listener's backlog holds.
const LOGINS_AT_ONCE: usize = 256;

/// Time within which a crowd must have gathered.
const GATHERING: Duration = Duration::from_secs(120);

/// Resident memory of the server for each idle logged-in session.
#[derive(FromArgs)]
#[argh(subcommand, name = "idle")]
pub(crate) struct Idle {
    /// sessions that log in and then do nothing
    #[argh(option, default = "9000")]
    sessions: usize,
    /// most bytes that a session may cost
    #[argh(option)]
    limit: Option<u64>,
}

impl Idle {
    pub(crate) fn run(&self) -> io::Result<()> {
        let home = Home::new()?;
        let server = Server::start(&home)?;
        let mut crowd = Crowd::new(server.address(), false)?;
        // What the first logins make resident once and for all (code, the workers' memory for argon2) is no session's.
        for user in 0..USERS.len() {
            gather(&mut crowd, 16, user)?;
        }
        rest(&mut crowd)?;
        let before = server.resident_bytes()?;
        gather(&mut crowd, self.sessions, 0)?;
        rest(&mut crowd)?;
        let after = server.resident_bytes()?;
        server.stop()?;

        let each = after.saturating_sub(before) / self.sessions as u64;
        println!(
            "idle sessions={} resident_before_bytes={before} resident_after_bytes={after} bytes_a_session={each}",
            self.sessions
        );
        match self.limit {
            Some(limit) if each > limit => Err(io::Error::other(format!(
                "an idle session costs {each} bytes, more than {limit}"
            ))),
            _ => Ok(()),
        }
    }
}

/// Sessions that download one file, all at the same time.
#[derive(FromArgs)]
#[argh(subcommand, name = "download")]
pub(crate) struct Download {
    /// sessions
    #[argh(option, default = "100")]
    sessions: usize,
    /// bytes of the file
    #[argh(option, default = "1048576")]
    size: usize,
    /// downloads for each session; a quick one takes over some of a slow one's
    #[argh(option, default = "1")]
    times: usize,
    /// bytes of each client's receive buffer; the kernel's choice if not given
    #[argh(option)]
    receive_buffer: Option<usize>,
    /// compare every copy with the file by SHA-256
    #[argh(switch)]
    verify: bool,
    /// seconds after which what is still under way has failed
    #[argh(option, default = "300")]
    timeout: u64,
}

impl Download {
    pub(crate) fn run(&self) -> io::Result<()> {
        let home = Home::new()?;
        let expected = home.add_file("file", self.size)?;
        let server = Server::start(&home)?;
        let mut crowd = Crowd::new(server.address(), self.verify)?;
        if let Some(bytes) = self.receive_buffer {
            crowd.set_receive_buffer(bytes);
        }
        let keys = gather(&mut crowd, self.sessions, 0)?;

        let command = download("file");
        let all = self.sessions * self.times;
        let mut to_begin = all - self.sessions;
        let (mut times, mut broken, mut lost) = (Vec::with_capacity(all), 0, 0);
        let cpu = server.cpu_time()?;
        let begun = Instant::now();
        let deadline = begun + Duration::from_secs(self.timeout);
        for &key in &keys {
            crowd.say(key, &command);
        }
        while times.len() < all && lost == 0 && Instant::now() < deadline {
            crowd.turn(Duration::from_millis(100), &mut |_, news| match news {
                News::Downloaded { took, digest } => {
                    times.push(took);
                    broken += usize::from(digest.is_some_and(|digest| digest != expected));
                    // Who is quick takes over what the slow ones have not begun.
                    match to_begin {
                        0 => Next::Wait,
                        _ => {
                            to_begin -= 1;
                            Next::Say(command.clone())
                        }
                    }
                }
                News::Said(Sentence::Refused(_)) | News::Closed { .. } => {
                    lost += 1;
                    Next::Wait
                }
                News::Said(_) => Next::Wait,
            })?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = (server.cpu_time()? - cpu).as_secs_f64();
        server.stop()?;

        let whole = times.len() - broken;
        let gibibytes = (times.len() * self.size) as f64 / (1 << 30) as f64;
        let milliseconds = Percentiles::of(&mut times);
        println!(
            "download sessions={} size={} verified={} downloads={all} whole={whole} broken={broken} \
             lost_connections={lost} seconds={seconds:.3} mebibytes_a_second={:.1} {milliseconds} \
             server_cpu_microseconds_a_download={:.2} server_cpu_seconds_a_gibibyte={:.3}",
            self.sessions,
            self.size,
            self.verify,
            gibibytes * 1024.0 / seconds,
            cpu * 1e6 / whole.max(1) as f64,
            cpu / gibibytes,
        );
        match whole == all && lost == 0 {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "{whole} of {all} downloads came whole"
            ))),
        }
    }
}

/// A small download's time beside greedy ones, with and without failing logins.
#[derive(FromArgs)]
#[argh(subcommand, name = "beside")]
pub(crate) struct Beside {
    /// clients that download a large file in a loop
    #[argh(option, default = "100")]
    greedy: usize,
    /// bytes of the large file
    #[argh(option, default = "10485760")]
    size: usize,
    /// bytes of the small file
    #[argh(option, default = "1024")]
    small: usize,
    /// clients that fail logins without pause, in every second run
    #[argh(option, default = "50")]
    failing: usize,
    /// rounds of two runs, one without and one with the failing logins
    #[argh(option, default = "5")]
    rounds: usize,
    /// seconds of a run
    #[argh(option, default = "5")]
    seconds: u64,
    /// most times that the p99 with failing logins may be of the one without, each the median of the rounds
    #[argh(option)]
    limit: Option<f64>,
}

impl Beside {
    pub(crate) fn run(&self) -> io::Result<()> {
        let home = Home::new()?;
        home.add_file("large", self.size)?;
        home.add_file("small", self.small)?;
        let server = Server::start(&home)?;
        let (mut without, mut with) = (Vec::new(), Vec::new());
        let mut failures = 0;
        for round in 0..self.rounds {
            // A B, B A, A B, …, so that what changes slowly on the machine meets both alike.
            for second in [false, true] {
                if second ^ (round % 2 == 1) {
                    let (p99, failed) = self.measure(&server, self.failing)?;
                    with.push(p99);
                    failures += failed;
                } else {
                    without.push(self.measure(&server, 0)?.0);
                }
            }
        }
        server.stop()?;

        if self.failing > 0 && failures == 0 {
            return Err(io::Error::other(
                "no login failed, so that nothing was shown",
            ));
        }
        let (without, with) = (median(&mut without), median(&mut with));
        let ratio = with / without;
        println!(
            "beside p99_without_milliseconds={without:.3} p99_with_milliseconds={with:.3} ratio={ratio:.2}"
        );
        match self.limit {
            Some(limit) if ratio > limit => Err(io::Error::other(format!(
                "failing logins make a small download's p99 {ratio:.2} times as long, more than {limit}"
            ))),
            _ => Ok(()),
        }
    }

    /// One run beside `failing` clients: the small download's p99 in milliseconds, and how many logins failed.
    fn measure(&self, server: &Server, failing: usize) -> io::Result<(f64, usize)> {
        let mut crowd = Crowd::new(server.address(), false)?;
        let large = download("large");
        for key in gather(&mut crowd, self.greedy, 0)? {
            crowd.say(key, &large);
        }
        // No password is like another, or the server could prove equal logins once.
        let mut attempts = 0;
        let mut fail = || {
            let mut words = Vec::new();
            for _ in 0..5 {
                attempts += 1;
                words.extend(login("user2", &format!("wrong{attempts}")));
            }
            words
        };
        for _ in 0..failing {
            crowd.open(fail())?;
        }

        let (mut downloads, mut failures) = (0, 0);
        let is_over = AtomicBool::new(false);
        let (user, password) = USERS[0];
        let mut times = thread::scope(|scope| {
            let probe = scope.spawn(|| {
                thread::sleep(Duration::from_secs(1)); // the crowd comes up to speed
                let seconds = Duration::from_secs(self.seconds);
                let small = format!("{DIRECTORY}/small");
                let times = probe::run(server.address(), &login(user, password), &small, seconds);
                is_over.store(true, Ordering::Relaxed);
                times
            });
            while !is_over.load(Ordering::Relaxed) {
                let mut cut = 0;
                crowd.turn(Duration::from_millis(100), &mut |_, news| match news {
                    News::Downloaded { .. } => {
                        downloads += 1;
                        Next::Say(large.clone())
                    }
                    News::Said(Sentence::LoginFailed) => {
                        failures += 1;
                        Next::Wait
                    }
                    News::Closed { amid } => {
                        cut += usize::from(amid);
                        Next::Wait
                    }
                    News::Said(_) => Next::Wait,
                })?;
                if cut > 0 {
                    return Err(io::Error::other("a greedy client lost its connection"));
                }
                // After its fifth failure a client is shown the door, and comes in by it again.
                while crowd.len() < self.greedy + failing {
                    crowd.open(fail())?;
                }
            }
            probe.join().expect("the probe does not panic")
        })?;
        let milliseconds = Percentiles::of(&mut times);
        println!(
            "beside greedy={} size={} failing={failing} small={} {milliseconds} small_downloads={} \
             greedy_downloads={downloads} failed_logins={failures}",
            self.greedy,
            self.size,
            self.small,
            times.len(),
        );
        drop(crowd);
        // What the failing ones have left in the server's queue is worked off before the next run.
        thread::sleep(Duration::from_secs(1));
        Ok((milliseconds.p99, failures))
    }
}

/// Brings `count` clients to the menu as one of the [`USERS`], and tells their keys.
fn gather(crowd: &mut Crowd, count: usize, user: usize) -> io::Result<Vec<usize>> {
    let (user, password) = USERS[user];
    let deadline = Instant::now() + GATHERING;
    let mut opened = 0;
    let mut there = Vec::with_capacity(count);
    while there.len() < count {
        while opened < count && opened - there.len() < LOGINS_AT_ONCE {
            crowd.open(login(user, password))?;
            opened += 1;
        }
        let mut refused = None;
        crowd.turn(Duration::from_millis(100), &mut |key, news| {
            match news {
                News::Said(Sentence::Menu) => there.push(key),
                News::Said(Sentence::Goodbye(reason) | Sentence::Refused(reason)) => {
                    refused = Some(reason);
                }
                News::Said(Sentence::LoginFailed) => refused = Some("A login failed."),
                News::Closed { .. } => refused = refused.or(Some("A connection was closed.")),
                _ => {}
            }
            Next::Wait
        })?;
        if let Some(reason) = refused {
            return Err(io::Error::other(format!(
                "after {} logins: {reason}",
                there.len()
            )));
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!(
                "{} of {count} logged in in time",
                there.len()
            )));
        }
    }
    Ok(there)
}

/// Lets a crowd do nothing for a while in which nobody may be lost.
fn rest(crowd: &mut Crowd) -> io::Result<()> {
    let there = crowd.len();
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        crowd.turn(Duration::from_millis(100), &mut |_, _| Next::Wait)?;
    }
    match crowd.len() == there {
        true => Ok(()),
        false => Err(io::Error::other("an idle session was closed")),
    }
}

fn login(user: &str, password: &str) -> Vec<u8> {
    format!("LOGIN\n{user}\n{password}\n").into_bytes()
}

fn download(name: &str) -> Vec<u8> {
    format!("DOWNLOAD FILE {DIRECTORY}/{name}\n").into_bytes()
}

/// How long the fast, the usual and the slow ones took, in milliseconds.
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Percentiles {
    /// Sorts the times. Each percentile is a time that was measured, the first with so many hundredths at or below it.
    fn of(times: &mut [Duration]) -> Percentiles {
        times.sort_unstable();
        let at = |hundredths: usize| {
            let rank = (times.len() * hundredths).div_ceil(100);
            times
                .get(rank.saturating_sub(1))
                .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        Percentiles {
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max: at(100),
        }
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Percentiles { p50, p90, p99, max } = self;
        write!(
            f,
            "p50_milliseconds={p50:.3} p90_milliseconds={p90:.3} p99_milliseconds={p99:.3} max_milliseconds={max:.3}"
        )
    }
}

/// The middle of what was measured; of an even number, the upper of the two.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
