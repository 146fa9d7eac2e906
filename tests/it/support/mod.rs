//! What the tests over real sockets share: a home of their own, a server process over it, and a client that waits, with
//! a bound, for what it is to be told.

pub(crate) mod needs;
pub(crate) mod random;
pub(crate) mod test_home;

use std::fmt::Display;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

/// The server's program.
pub(crate) const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// The user that the tests use for a server without privileges, if they run as root.
pub(crate) const NOBODY: u32 = 65_534;

/// How long anything here is waited for: far more than it takes, even where builds on the same machine go before the
/// server's threads of lower priority.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The first choice of a connection that was let in.
pub(crate) const FIRST_CHOICE: &str = "Please choose 'LOGIN' or 'QUIT'";

/// What one who is turned away is told.
pub(crate) const FULL: &str = "The server is full. Please try again later.";

/// A copy of the example home that the test may change; gone with the last who has it.
#[derive(Clone)]
pub(crate) struct Home {
    folder: Arc<TempDir>,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home::within(&std::env::temp_dir())
    }

    /// One in memory where the system has a place for that: for what would take long on a disk.
    pub(crate) fn in_memory() -> Home {
        let memory = Path::new("/dev/shm");
        match memory.is_dir() {
            true => Home::within(memory),
            false => Home::new(),
        }
    }

    /// If the tests run as root, makes [`NOBODY`] the owner of the home, and so of the server
    /// process, so that the modes of files apply to the server.
    pub(crate) fn give_to_nobody(&self) {
        if geteuid().is_root() {
            change_owner(self.beside(), NOBODY);
        }
    }

    fn within(place: &Path) -> Home {
        let folder = tempfile::tempdir_in(place).expect("a temporary folder can be made");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/home");
        copy(&example, &folder.path().join("home"));
        let folder = Arc::new(folder);
        Home { folder }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The folder that the home lies in, for what the test keeps beside it.
    pub(crate) fn beside(&self) -> &Path {
        self.folder.path()
    }

    /// The path of something that is served, such as `Movies/Joker`.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.path().join("files").join(path)
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::write(self.file(path), content).expect("the test's own file can be written");
    }

    /// A file with holes and no content of so many bytes.
    pub(crate) fn write_sparse(&self, path: &str, length: u64) -> fs::File {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.file(path))
            .expect("the test's own file can be made");
        file.set_len(length).expect("a file with holes can be made");
        file
    }

    /// Adds a line to `Credentials` or `Directories`.
    pub(crate) fn append(&self, file: &str, line: &str) {
        let path = self.path().join(file);
        let mut text = fs::read_to_string(&path).expect("the home's file can be read");
        text.push_str(line);
        text.push('\n');
        fs::write(&path, text).expect("the home's file can be written");
    }

    /// Every name in a served directory, hidden ones too, in order.
    pub(crate) fn names(&self, directory: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.file(directory))
            .expect("the test's own directory can be read")
            .map(|entry| entry.expect("its entries too").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// Copies files and folders, and nothing else: a server that was tried over the example leaves its socket there.
/// Changes the owner of a file, or of a folder and everything in it.
fn change_owner(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).expect("root can change owners");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("the folder can be read") {
            change_owner(&entry.expect("an entry").path(), uid);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder of the copy can be made");
    for entry in fs::read_dir(from).expect("the example home can be read") {
        let entry = entry.expect("its entries too");
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("and their kinds");
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).expect("the example can be copied");
        }
    }
}

#[test]
fn copies_contain_the_listed_files_only() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("home"), folder.path().join("copy"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("Credentials"), "").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(from.join(".tidegate.sock")).unwrap();
    copy(&from, &to);
    let copied: Vec<_> = fs::read_dir(&to).unwrap().collect();
    assert_eq!(copied.len(), 1);
}

/// The sandbox that the tests' servers are to have, by the variable TIDEGATE_SANDBOX, where a test does not say itself.
pub(crate) fn sandbox(options: &[&str]) -> Option<String> {
    let demand = std::env::var("TIDEGATE_SANDBOX").ok()?;
    (!options.contains(&"--sandbox")).then(|| format!("--sandbox={demand}"))
}

/// Who reads the server's log.
#[derive(PartialEq, Eq)]
pub(crate) enum Log {
    Read,
    /// A pipe that nobody empties.
    Starved,
}

/// A server process over a home; killed when dropped, and its log shown when the test has failed.
pub(crate) struct Server {
    child: Child,
    pub(crate) home: Home,
    /// One for each `--listen`, then one for each `--ftp`.
    pub(crate) addresses: Vec<SocketAddr>,
    log: Arc<Mutex<String>>,
    /// Who reads the log, to its end.
    reading: Option<JoinHandle<()>>,
}

impl Server {
    /// ConnectionKind a fresh copy of the example home, on a port of the system's choice unless `options` say where.
    pub(crate) fn start(options: &[&str]) -> Server {
        Server::over(Home::new(), options)
    }

    pub(crate) fn over(home: Home, options: &[&str]) -> Server {
        Server::launch(home, &[TIDEGATE], options, Log::Read)
    }

    /// `program` is the words that stand before `serve`: a shell that sets a limit first, for example.
    pub(crate) fn launch(home: Home, program: &[&str], options: &[&str], log: Log) -> Server {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg("serve").arg(home.path());
        let is_listener = |word: &&&str| ["--listen", "--ftp"].contains(*word);
        let listeners = options.iter().filter(is_listener).count();
        if listeners == 0 {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command
            .args(options)
            .args(sandbox(options))
            .stdin(Stdio::null());
        Server::watch(home, command, listeners.max(1), log)
    }

    /// A server that is started by a command of the test's own, with so many listeners.
    pub(crate) fn watch(home: Home, mut command: Command, listeners: usize, log: Log) -> Server {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server's program can be started");

        let text = Arc::new(Mutex::new(String::new()));
        let reading = (log == Log::Read).then(|| {
            let lines = BufReader::new(child.stderr.take().expect("it is piped"));
            let text = text.clone();
            thread::spawn(move || {
                for line in lines.lines().map_while(Result::ok) {
                    let mut text = text.lock().expect("nobody panics with it");
                    text.push_str(&line);
                    text.push('\n');
                }
            })
        });
        let (told, heard) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = told.send(line);
            }
        });
        let mut server = Server {
            child,
            home,
            addresses: Vec::new(),
            log: text,
            reading,
        };
        for _ in 0..listeners {
            let line = heard
                .recv_timeout(PATIENCE)
                .expect("the server says where it listens");
            let address = line
                .strip_prefix("listening on ")
                .and_then(|rest| {
                    let menu = rest.strip_suffix(" (menu)");
                    menu.or_else(|| rest.strip_suffix(" (ftp)"))
                })
                .unwrap_or_else(|| panic!("not where it listens: {line}"));
            server.addresses.push(address.parse().expect(address));
        }
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// A client that was let in and has logged in.
    pub(crate) fn login(&self, user: &str) -> Client {
        let mut client = self.connect();
        client.login(user);
        client
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("our own child takes signals");
    }

    /// The exit status, once it has ended by itself and its log is read.
    pub(crate) fn status(&mut self) -> i32 {
        let mut status = None;
        eventually("the server ends", || {
            status = self
                .child
                .try_wait()
                .expect("our own child can be waited for");
            status.is_some()
        });
        if let Some(reading) = self.reading.take() {
            reading.join().expect("it does not panic");
        }
        status
            .and_then(|status| status.code())
            .expect("it ends by itself")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("nobody panics with it").clone()
    }

    /// Waits for a line of the log that has all of these words in it.
    pub(crate) fn log_line(&self, words: &[&str]) -> String {
        let mut found = None;
        eventually(&format!("the log has a line with {words:?}"), || {
            found = self
                .log()
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)))
                .map(str::to_owned);
            found.is_some()
        });
        found.expect("it was found")
    }

    /// Open descriptors of the process.
    pub(crate) fn descriptors(&self) -> usize {
        match fs::read_dir(self.proc("fd")) {
            Ok(descriptors) => descriptors.count(),
            // Nobody but root may look into one that has closed itself in, but since Linux 6.2 the size is their number.
            Err(_) => fs::metadata(self.proc("fd")).map_or(0, |found| found.len() as usize),
        }
    }

    /// Processor time of all its threads.
    pub(crate) fn cpu(&self) -> Duration {
        let threads = fs::read_dir(self.proc("task")).expect("our own child has threads");
        let nanoseconds = threads
            .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
            .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok());
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Resident memory in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("our own child has a status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|n| n.parse().ok()).expect("VmRSS in kB")
    }

    /// A file of the process in /proc.
    pub(crate) fn proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.child.id()).into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server that does not start says, and its exit status.
pub(crate) fn refused_start(home: &Path, options: &[&str]) -> (i32, String) {
    let mut child = Command::new(TIDEGATE)
        .arg("serve")
        .arg(home)
        .args(options)
        .args(sandbox(options))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server's program can be started");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("it is our child").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("it has ended");
    let said = String::from_utf8(output.stderr).expect("it says so in UTF-8");
    (output.status.code().expect("it ends by itself"), said)
}

/// A connection from an address of our own.
pub(crate) fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let from = SocketAddr::new(from.parse::<IpAddr>().expect("an address"), 0);
    let fd: OwnedFd = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .expect("a socket can be had");
    bind(fd.as_raw_fd(), &SockaddrStorage::from(from)).expect("the address is our own");
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).expect("the server listens");
    let stream = TcpStream::from(fd);
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .expect("sockets have such options");
    stream
}

/// One end of a connection; whatever it waits for comes within [`PATIENCE`], or the test has failed.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        Client::over(TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens"))
    }

    pub(crate) fn over(stream: TcpStream) -> Client {
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .and_then(|()| stream.set_nodelay(true))
            .expect("sockets have such options");
        Client {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .get_mut()
            .write_all(bytes.as_ref())
            .expect("the server takes what is sent");
    }

    pub(crate) fn say(&mut self, line: impl Display) {
        self.send(format!("{line}\n"));
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.stream
            .read_until(b'\n', &mut line)
            .expect("a line comes in time");
        assert_eq!(line.pop(), Some(b'\n'), "the connection ended for a line");
        String::from_utf8(line).expect("lines are UTF-8")
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, sentence: &str) {
        assert_eq!(self.line(), sentence);
    }

    /// The next line is the menu.
    #[track_caller]
    pub(crate) fn expect_menu(&mut self) {
        let line = self.line();
        assert!(line.starts_with("Please choose: "), "no menu: {line}");
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream
            .read_exact(&mut bytes)
            .expect("as many bytes come in time");
        bytes
    }

    /// All that still comes before the end, upon which the client closes too. A reset is as good an end as any here.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = self.stream.read_to_end(&mut rest);
        self.close_sending();
        match read {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
                panic!("no end comes in time: {error}")
            }
            _ => rest,
        }
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(
            String::from_utf8_lossy(&self.rest()),
            "",
            "something came before the end"
        );
    }

    /// From the first choice to the menu, as one of the example home's users.
    #[track_caller]
    pub(crate) fn login(&mut self, user: &str) {
        let password = match user {
            "user1" => "1234",
            "user2" => "2345",
            "user3" => "3456",
            "user4" => "4567",
            _ => panic!("the example home has no {user}"),
        };
        self.login_with(user, password);
    }

    #[track_caller]
    pub(crate) fn login_with(&mut self, user: &str, password: &str) {
        self.send(format!("LOGIN\n{user}\n{password}\n"));
        self.expect(FIRST_CHOICE);
        self.expect("Please enter your username");
        self.expect("Username OK, Please enter your password");
        self.expect("Login Successfully");
        self.expect_menu();
    }

    /// Asks for a file and reads its length: the bytes come next.
    #[track_caller]
    pub(crate) fn begin_download(&mut self, path: &str) -> u64 {
        self.say(format_args!("DOWNLOAD FILE {path}"));
        self.length()
    }

    #[track_caller]
    pub(crate) fn length(&mut self) -> u64 {
        let line = self.line();
        line.strip_prefix("LENGTH ")
            .and_then(|length| length.parse().ok())
            .unwrap_or_else(|| panic!("no length: {line}"))
    }

    #[track_caller]
    pub(crate) fn download(&mut self, path: &str) -> Vec<u8> {
        let length = self.begin_download(path);
        let content = self.bytes(length as usize);
        self.expect_menu();
        content
    }

    /// One command and the one line that answers it, the menu behind it.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.say(command);
        let answer = self.line();
        self.expect_menu();
        answer
    }

    #[track_caller]
    pub(crate) fn quit(&mut self) {
        self.say("QUIT");
        self.expect("Connection is terminated. You are logged out.");
        self.expect_end();
    }

    /// Says that nothing more will be said.
    pub(crate) fn close_sending(&self) {
        // The server may have closed first.
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Ends the connection as a process that dies does with unread bytes: by a reset.
    pub(crate) fn reset(self) {
        let at_once = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(self.socket(), sockopt::Linger, &at_once).expect("sockets have it");
    }
}

/// Returns the path by which this binary's `--exact` selects a test of a module.
pub(crate) fn test_path(module: &str, test: &str) -> String {
    let (_crate, module) = module.split_once("::").expect("a module of this binary");
    format!("{module}::{test}")
}

/// Waits until it holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes in which every place differs from its neighbours and from the same place of another seed.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// The one in the middle.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
