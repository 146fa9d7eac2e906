//! The scenarios: what is asked of the server and what is measured. Each starts a server of its own over files of its own
//! and leaves nothing.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use argh::FromArgs;

use crate::client::dialect::{Dialect, TINY};
use crate::client::latency_probe as probe;
use crate::client::load_generator::{Crowd, News, Next, Reading};
use crate::machine::{self, Pinning};
use crate::measurement::{Row, Window};
use crate::server::process::{Home, Kind, Server, USERS};
use crate::slow_disk::Throttle;

/// Clients that log in at the same time while a crowd gathers: less than a listener's backlog holds.
const LOGINS_AT_ONCE: usize = 256;

/// Time within which a crowd must have gathered.
const GATHERING: Duration = Duration::from_secs(120);

/// How long a load goes on before it is measured.
const WARM_UP: Duration = Duration::from_millis(700);

/// How long a turn of the crowd waits for something to happen.
const WAIT: Duration = Duration::from_millis(100);

/// Sessions that download one file, again and again.
#[derive(FromArgs)]
#[argh(subcommand, name = "download")]
pub(crate) struct Download {
    /// sessions
    #[argh(option, default = "100")]
    sessions: usize,
    /// bytes of the file
    #[argh(option, default = "1048576")]
    size: usize,
    /// seconds of the load
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// downloads for each session, instead of a time; a quick one takes over some of a slow one's
    #[argh(option)]
    times: Option<usize>,
    /// bytes of each client's receive buffer; the kernel's choice if not given
    #[argh(option)]
    receive_buffer: Option<usize>,
    /// let the kernel throw the bytes away instead of reading them
    #[argh(switch)]
    discard: bool,
    /// compare every copy with the file by SHA-256
    #[argh(switch)]
    verify: bool,
}

impl Download {
    pub(crate) fn measure(&self, kind: Kind, pinning: Pinning) -> io::Result<Row> {
        let home = Home::new(None)?;
        let expected = home.add_file("file", self.size)?;
        let server = Server::start(kind, &home, pinning)?;
        let reading = match (self.verify, self.discard) {
            (true, _) => Reading::Verify,
            (false, true) => Reading::Discard,
            (false, false) => Reading::Real,
        };
        let dialect = server.dialect();
        let mut crowd = Crowd::new(server.address(), dialect.clone(), reading)?;
        if let Some(bytes) = self.receive_buffer {
            crowd.set_receive_buffer(bytes);
        }
        let command = dialect.download("file");
        let keys = gather(&mut crowd, &dialect, self.sessions, 0)?;
        for &key in &keys {
            crowd.say(key, &command);
        }

        let (mut times, mut broken, mut lost) = (Vec::new(), 0, 0);
        let mut to_begin = self.times.map(|times| (times - 1) * self.sessions);
        let all = self.times.map(|times| times * self.sessions);
        let mut load = |crowd: &mut Crowd, times: &mut Vec<Duration>| {
            crowd.turn(WAIT, &mut |_, news| match news {
                News::Downloaded { took, digest } => {
                    times.push(took);
                    broken += usize::from(digest.is_some_and(|digest| digest != expected));
                    // Who is quick takes over what the slow ones have not begun.
                    match &mut to_begin {
                        Some(0) => Next::Wait,
                        Some(left) => {
                            *left -= 1;
                            Next::Say(command.clone())
                        }
                        None => Next::Say(command.clone()),
                    }
                }
                News::Refused | News::Closed { .. } => {
                    lost += 1;
                    Next::Wait
                }
                _ => Next::Wait,
            })?;
            match lost {
                0 => Ok(()),
                _ => Err(io::Error::other(format!(
                    "{lost} downloads were cut or refused"
                ))),
            }
        };
        let mut row = Row::default();
        let window;
        let before;
        match all {
            Some(all) => {
                before = crowd.received();
                window = Window::begin(&server)?;
                while times.len() < all && window.elapsed() < GATHERING {
                    load(&mut crowd, &mut times)?;
                }
                if times.len() < all {
                    return Err(io::Error::other(format!(
                        "{} of {all} came in time",
                        times.len()
                    )));
                }
            }
            None => {
                let warm_up = Instant::now();
                while warm_up.elapsed() < WARM_UP {
                    load(&mut crowd, &mut times)?;
                }
                times.clear();
                before = crowd.received();
                window = Window::begin(&server)?;
                while window.elapsed().as_secs_f64() < self.seconds {
                    load(&mut crowd, &mut times)?;
                }
            }
        }
        let (seconds, cpu) = window.end(&server, &mut row)?;
        if broken > 0 {
            return Err(io::Error::other(format!(
                "{broken} copies were not the file"
            )));
        }
        let shares: Vec<u64> = crowd
            .received()
            .iter()
            .zip(before)
            .map(|((_, after), (_, before))| after - before)
            .collect();
        drop(crowd);
        server.stop()?;

        let bytes: u64 = shares.iter().sum();
        let (least, most) = (shares.iter().min(), shares.iter().max());
        let fairness = *least.unwrap_or(&0) as f64 / (*most.unwrap_or(&0)).max(1) as f64;
        let downloads = bytes as f64 / self.size as f64;
        row.add("downloads", times.len() as f64);
        row.add("downloads_a_second", downloads / seconds);
        row.add(
            "mebibytes_a_second",
            bytes as f64 / f64::from(1 << 20) / seconds,
        );
        row.add("server_cpu_microseconds_a_download", cpu * 1e6 / downloads);
        row.add(
            "server_cpu_seconds_a_gibibyte",
            cpu * f64::from(1 << 30) / bytes as f64,
        );
        row.add("least_to_most", fairness);
        row.add_times("download", &mut times);
        Ok(row)
    }
}

/// Sessions that upload a file each, again and again, over the one before.
#[derive(FromArgs)]
#[argh(subcommand, name = "upload")]
pub(crate) struct Upload {
    /// sessions
    #[argh(option, default = "1")]
    sessions: usize,
    /// bytes of a file
    #[argh(option, default = "10485760")]
    size: u64,
    /// seconds of the load
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// where the files are made: /dev/shm is memory; the folder for temporary files if not given
    #[argh(option)]
    folder: Option<String>,
}

impl Upload {
    pub(crate) fn measure(&self, kind: Kind, pinning: Pinning) -> io::Result<Row> {
        let home = Home::new(self.folder.as_deref().map(Path::new))?;
        let server = Server::start(kind, &home, pinning)?;
        let dialect = server.dialect();
        let mut crowd = Crowd::new(server.address(), dialect.clone(), Reading::Real)?;
        let words = |key: usize| dialect.upload(&format!("upload{key}"), self.size);
        for key in gather(&mut crowd, &dialect, self.sessions, 0)? {
            crowd.say(key, &words(key));
        }
        let (mut times, mut lost, mut before) = (Vec::new(), 0, 0);
        let mut row = Row::default();
        let mut window = None;
        let begun = Instant::now();
        let window = loop {
            crowd.turn(WAIT, &mut |key, news| match news {
                // A peer may say 200 without content.
                News::Uploaded { took } | News::Downloaded { took, .. } => {
                    times.push(took);
                    Next::Say(words(key))
                }
                News::Refused | News::Closed { .. } => {
                    lost += 1;
                    Next::Wait
                }
                _ => Next::Wait,
            })?;
            if lost > 0 {
                return Err(io::Error::other("an upload failed"));
            }
            match window.take() {
                None if begun.elapsed() > WARM_UP => {
                    times.clear();
                    before = crowd.sent();
                    window = Some(Window::begin(&server)?);
                }
                Some(open) if Window::elapsed(&open).as_secs_f64() >= self.seconds => break open,
                other => window = other,
            }
        };
        let (seconds, cpu) = window.end(&server, &mut row)?;
        let gibibytes = (crowd.sent() - before) as f64 / f64::from(1 << 30);
        drop(crowd);
        server.stop()?;

        row.add("uploads", times.len() as f64);
        row.add("mebibytes_a_second", gibibytes * 1024.0 / seconds);
        row.add("server_cpu_seconds_a_gibibyte", cpu / gibibytes);
        row.add_times("upload", &mut times);
        Ok(row)
    }
}

/// Sessions that log in, download 1 KiB (not with FTP) and quit, all said in one segment.
#[derive(FromArgs)]
#[argh(subcommand, name = "login")]
pub(crate) struct Login {
    /// sessions at once
    #[argh(option, default = "64")]
    at_once: usize,
    /// seconds of the load
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// let no password be one that was proved lately
    #[argh(switch)]
    cold: bool,
}

impl Login {
    pub(crate) fn measure(&self, kind: Kind, pinning: Pinning) -> io::Result<Row> {
        let home = Home::new(None)?;
        if self.cold {
            home.add_users(20_000)?;
        }
        let server = Server::start(kind, &home, pinning)?;
        let dialect = server.dialect();
        let mut crowd = Crowd::new(server.address(), dialect.clone(), Reading::Real)?;
        let mut visits = 0;
        let mut visit = || {
            visits += 1;
            let (user, password) = USERS[0];
            match self.cold {
                true => dialect.visit(&format!("cold{visits}"), password, TINY),
                false => dialect.visit(user, password, TINY),
            }
        };
        let (mut times, mut failures, mut visited) = (Vec::new(), 0, 0);
        let mut row = Row::default();
        let mut window = None;
        let begun = Instant::now();
        let window = loop {
            while crowd.len() < self.at_once {
                crowd.open(visit())?;
            }
            crowd.turn(WAIT, &mut |_, news| {
                match news {
                    news if dialect.is_visit(&news) => visited += 1,
                    News::Closed { took, .. } => times.push(took),
                    News::LoginFailed | News::Refused => failures += 1,
                    _ => {}
                }
                Next::Wait
            })?;
            match window.take() {
                None if begun.elapsed() > WARM_UP => {
                    times.clear();
                    visited = 0;
                    window = Some(Window::begin(&server)?);
                }
                Some(open) if Window::elapsed(&open).as_secs_f64() >= self.seconds => break open,
                other => window = other,
            }
        };
        let (seconds, cpu) = window.end(&server, &mut row)?;
        drop(crowd);
        server.stop()?;

        if failures > 0 || visited + self.at_once < times.len() {
            return Err(io::Error::other(format!(
                "{visited} came in of {} sessions, {failures} failures",
                times.len()
            )));
        }
        row.add("sessions_a_second", times.len() as f64 / seconds);
        row.add(
            "server_cpu_microseconds_a_session",
            cpu * 1e6 / times.len() as f64,
        );
        row.add_times("session", &mut times);
        Ok(row)
    }
}

/// Resident memory of the server for each idle logged-in session.
#[derive(FromArgs)]
#[argh(subcommand, name = "idle")]
pub(crate) struct Idle {
    /// sessions that log in and then do nothing
    #[argh(option, default = "9000")]
    sessions: usize,
}

impl Idle {
    pub(crate) fn measure(&self, kind: Kind, pinning: Pinning) -> io::Result<Row> {
        let home = Home::new(None)?;
        let server = Server::start(kind, &home, pinning)?;
        let dialect = server.dialect();
        let mut crowd = Crowd::new(server.address(), dialect.clone(), Reading::Real)?;
        // What the first logins make resident once and for all (code, the workers' memory for argon2) is no session's.
        for user in 0..USERS.len() {
            gather(&mut crowd, &dialect, 16, user)?;
        }
        rest(&mut crowd)?;
        let before = server.resident_bytes()?;
        gather(&mut crowd, &dialect, self.sessions, 0)?;
        rest(&mut crowd)?;
        let mut row = Row::default();
        let window = Window::begin(&server)?;
        rest(&mut crowd)?;
        window.end(&server, &mut row)?;
        let after = server.resident_bytes()?;
        drop(crowd);
        server.stop()?;

        row.add("resident_before_bytes", before as f64);
        row.add("resident_after_bytes", after as f64);
        let each = after.saturating_sub(before) as f64 / self.sessions as f64;
        row.add("bytes_a_session", each.round());
        Ok(row)
    }
}

/// Clients that come in, begin a download and leave amid it.
#[derive(FromArgs)]
#[argh(subcommand, name = "churn")]
pub(crate) struct Churn {
    /// clients at once
    #[argh(option, default = "64")]
    at_once: usize,
    /// bytes of the file
    #[argh(option, default = "10485760")]
    size: usize,
    /// seconds of the load
    #[argh(option, default = "3.0")]
    seconds: f64,
}

impl Churn {
    pub(crate) fn measure(&self, kind: Kind, pinning: Pinning) -> io::Result<Row> {
        let home = Home::new(None)?;
        home.add_file("file", self.size)?;
        let server = Server::start(kind, &home, pinning)?;
        let dialect = server.dialect();
        let mut crowd = Crowd::new(server.address(), dialect.clone(), Reading::Real)?;
        let (user, password) = USERS[0];
        let visit = dialect.visit(user, password, "file");
        let (mut left, mut lost) = (0, 0);
        let begun = Instant::now();
        let mut row = Row::default();
        let mut window = None;
        let window = loop {
            while crowd.len() < self.at_once {
                crowd.open(visit.clone())?;
            }
            crowd.turn(WAIT, &mut |_, news| match news {
                News::Begun => {
                    left += 1;
                    Next::Leave
                }
                News::Closed { .. } | News::Refused | News::LoginFailed => {
                    lost += 1;
                    Next::Wait
                }
                _ => Next::Wait,
            })?;
            match window.take() {
                None if begun.elapsed() > WARM_UP => {
                    left = 0;
                    window = Some(Window::begin(&server)?);
                }
                Some(open) if Window::elapsed(&open).as_secs_f64() >= self.seconds => break open,
                other => window = other,
            }
        };
        let (seconds, cpu) = window.end(&server, &mut row)?;
        drop(crowd);
        // What is left of them is gone a moment later.
        thread::sleep(Duration::from_millis(500));
        let descriptors = fs::read_dir(format!("/proc/{}/fd", server.process()))?.count();
        row.add("sessions_a_second", f64::from(left) / seconds);
        row.add(
            "server_cpu_microseconds_a_session",
            cpu * 1e6 / f64::from(left),
        );
        row.add("lost", f64::from(lost));
        row.add("descriptors_after", descriptors as f64);
        row.add("resident_after_bytes", server.resident_bytes()? as f64);
        server.stop()?;
        Ok(row)
    }
}

/// A small download's time beside greedy ones, slow ones, stalled ones and failing logins.
#[derive(FromArgs)]
#[argh(subcommand, name = "beside")]
pub(crate) struct Beside {
    /// clients that download a large file in a loop
    #[argh(option, default = "0")]
    greedy: usize,
    /// clients that read that file slowly
    #[argh(option, default = "0")]
    slow: usize,
    /// bytes a second of a slow one
    #[argh(option, default = "65536")]
    rate: usize,
    /// clients that begin to download that file and never read
    #[argh(option, default = "0")]
    stalled: usize,
    /// clients that fail logins without pause
    #[argh(option, default = "0")]
    failing: usize,
    /// clients that list a directory in a loop
    #[argh(option, default = "0")]
    listing: usize,
    /// files of that directory
    #[argh(option, default = "100000")]
    entries: usize,
    /// bytes of the large file
    #[argh(option, default = "10485760")]
    size: usize,
    /// bytes of the small file
    #[argh(option, default = "1024")]
    small: usize,
    /// seconds of the load
    #[argh(option, default = "4.0")]
    seconds: f64,
}

impl Beside {
    pub(crate) fn measure(&self, kind: Kind, pinning: Pinning) -> io::Result<Row> {
        let home = Home::new(None)?;
        home.add_file("large", self.size)?;
        home.add_file("small", self.small)?;
        home.add_users(if self.failing > 0 { 1000 } else { 0 })?;
        if self.listing > 0 {
            let many = home.add_directory("Many")?;
            for number in 0..self.entries {
                fs::write(many.join(format!("file{number:06}")), "")?;
            }
        }
        let server = Server::start(kind, &home, pinning)?;
        let dialect = server.dialect();
        let mut crowd = Crowd::new(server.address(), dialect.clone(), Reading::Real)?;
        let large = dialect.download("large");
        let mut row = Row::default();
        let memory = machine::tcp_memory()?;
        for (count, pace) in [
            (self.stalled, Some(0)),
            (self.slow, Some(self.rate / 10)),
            (self.greedy, None),
        ] {
            for key in gather(&mut crowd, &dialect, count, 0)? {
                crowd.say(key, &large);
                if let Some(pace) = pace {
                    crowd.slow_down(key, pace);
                }
            }
            if pace == Some(0) && count > 0 {
                let begun = Instant::now();
                while begun.elapsed() < 3 * WARM_UP {
                    crowd.turn(WAIT, &mut |_, _| Next::Wait)?;
                }
                let held = machine::tcp_memory()?.saturating_sub(memory) as f64;
                row.add(
                    "tcp_mebibytes_a_stalled",
                    held / f64::from(1 << 20) / count as f64,
                );
            }
        }
        let listing = dialect.list("Many");
        for key in gather(&mut crowd, &dialect, self.listing, 0)? {
            crowd.say(key, &listing);
        }
        // No password is like another, or the server could prove equal logins once.
        let mut attempts = 0;
        let mut fail = || {
            let mut words = dialect.login("user2", "wrong");
            words.text.clear();
            for _ in 0..5 {
                attempts += 1;
                words
                    .text
                    .extend(dialect.login("user2", &format!("wrong{attempts}")).text);
            }
            words
        };
        let mut rightful = 0;
        let all = crowd.len() + self.failing + usize::from(self.failing > 0);
        let mut visitor = None;
        let (mut downloads, mut listings, mut failures, mut cut) = (0, 0, 0, 0);
        let mut logins = Vec::new();
        let mut each = |crowd: &mut Crowd| {
            let mut gone = None;
            crowd.turn(WAIT, &mut |key, news| match news {
                News::Downloaded { .. } if Some(key) != visitor => {
                    downloads += 1;
                    Next::Say(large.clone())
                }
                News::ListingTarget => {
                    listings += 1;
                    Next::Say(listing.clone())
                }
                News::LoginFailed => {
                    failures += 1;
                    Next::Wait
                }
                News::Closed { took, .. } if Some(key) == visitor => {
                    logins.push(took);
                    gone = Some(key);
                    Next::Wait
                }
                News::Closed { amid, .. } => {
                    cut += usize::from(amid);
                    Next::Wait
                }
                _ => Next::Wait,
            })?;
            if cut > 0 {
                return Err(io::Error::other("a download was cut"));
            }
            if gone.is_some() {
                visitor = None;
            }
            if self.failing > 0 && visitor.is_none() {
                // Somebody who knows his password, which was not proved lately.
                rightful += 1;
                let user = format!("cold{}", rightful % 1000);
                visitor = Some(crowd.open(dialect.visit(&user, USERS[0].1, TINY))?);
            }
            // After its fifth failure a client is shown the door, and comes in by it again.
            while crowd.len() < all {
                crowd.open(fail())?;
            }
            Ok(())
        };
        let mut times = beside(
            &server,
            &mut crowd,
            "small",
            self.seconds,
            &mut row,
            &mut each,
        )?;
        drop(crowd);
        server.stop()?;
        row.add("small_downloads", times.len() as f64);
        row.add_times("small", &mut times);
        for (name, count) in [
            ("large_downloads_a_second", downloads),
            ("listings_a_second", listings),
            ("failed_logins_a_second", failures),
        ] {
            if count > 0 {
                row.add(name, f64::from(count) / self.seconds);
            }
        }
        row.add_times("rightful_login", &mut logins);
        Ok(row)
    }
}

/// A small download's time while one client streams a file from a slow disk.
#[derive(FromArgs)]
#[argh(subcommand, name = "cold")]
pub(crate) struct Cold {
    /// bytes a second that the disk gives
    #[argh(option, default = "20971520")]
    rate: u64,
    /// where the files are made, on a disk; the folder for temporary files if not given
    #[argh(option)]
    folder: Option<String>,
    /// seconds of the load
    #[argh(option, default = "4.0")]
    seconds: f64,
}

impl Cold {
    pub(crate) fn measure(&self, kind: Kind, pinning: Pinning) -> io::Result<Row> {
        let home = Home::new(self.folder.as_deref().map(Path::new))?;
        home.add_file("small", 1024)?;
        let size = self.rate as usize * (self.seconds as usize + 4);
        home.add_file("cold", size)?;
        let cold = home.directory().join("cold");
        let server = Server::start(kind, &home, pinning)?;
        let throttle = Throttle::new(&cold, self.rate)?;
        throttle.evict()?;
        throttle.hold(server.process())?;
        let dialect = server.dialect();
        let mut crowd = Crowd::new(server.address(), dialect.clone(), Reading::Real)?;
        for key in gather(&mut crowd, &dialect, 1, 0)? {
            crowd.say(key, &dialect.download("cold"));
        }
        let mut row = Row::default();
        let mut each = |crowd: &mut Crowd| crowd.turn(WAIT, &mut |_, _| Next::Wait);
        let mut times = beside(
            &server,
            &mut crowd,
            "small",
            self.seconds,
            &mut row,
            &mut each,
        )?;
        let streamed: u64 = crowd.received().iter().map(|(_, bytes)| bytes).sum();
        drop(crowd);
        throttle.lift()?;
        server.stop()?;
        row.add("streamed_mebibytes", (streamed / (1 << 20)) as f64);
        row.add_times("small", &mut times);
        Ok(row)
    }
}

/// Lets a probe download a small file beside a crowd that `each` keeps going.
fn beside(
    server: &Server,
    crowd: &mut Crowd,
    small: &str,
    seconds: f64,
    row: &mut Row,
    each: &mut dyn FnMut(&mut Crowd) -> io::Result<()>,
) -> io::Result<Vec<Duration>> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let begun = Instant::now();
        while begun.elapsed() < WARM_UP {
            each(crowd)?;
        }
        let window = Window::begin(server)?;
        let probe = scope.spawn(|| {
            let duration = Duration::from_secs_f64(seconds);
            let times = probe::run(server.address(), server.dialect(), small, duration);
            is_over.store(true, Ordering::Relaxed);
            times
        });
        let mut outcome = Ok(());
        while !is_over.load(Ordering::Relaxed) && outcome.is_ok() {
            outcome = each(crowd);
        }
        window.end(server, row)?;
        let times = probe.join().expect("the probe does not panic");
        outcome.and(times)
    })
}

/// Lets `count` clients come in as one of the [`USERS`], and tells their keys.
fn gather(
    crowd: &mut Crowd,
    dialect: &Dialect,
    count: usize,
    user: usize,
) -> io::Result<Vec<usize>> {
    let (user, password) = USERS[user];
    let login = dialect.login(user, password);
    let deadline = Instant::now() + GATHERING;
    let mut opened = 0;
    let mut there = Vec::with_capacity(count);
    while there.len() < count {
        while opened < count && opened - there.len() < LOGINS_AT_ONCE {
            crowd.open(login.clone())?;
            opened += 1;
        }
        let mut refused = None;
        crowd.turn(WAIT, &mut |key, news| {
            match news {
                news if dialect.is_login(&news) => there.push(key),
                News::Refused => refused = Some("one was refused"),
                News::LoginFailed => refused = Some("a login failed"),
                News::Closed { .. } => refused = Some("a connection was closed"),
                _ => {}
            }
            Next::Wait
        })?;
        let late = Instant::now() > deadline;
        if let Some(why) = refused.or(late.then_some("no more came in time")) {
            let there = there.len();
            return Err(io::Error::other(format!(
                "{there} of {count} came in, then {why}"
            )));
        }
    }
    Ok(there)
}

/// Lets a crowd do nothing for a while in which nobody may be lost.
fn rest(crowd: &mut Crowd) -> io::Result<()> {
    let there = crowd.len();
    let end = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < end {
        crowd.turn(WAIT, &mut |_, _| Next::Wait)?;
    }
    match crowd.len() == there {
        true => Ok(()),
        false => Err(io::Error::other("an idle session was closed")),
    }
}
