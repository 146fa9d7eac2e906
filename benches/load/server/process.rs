//! The server under load: tidegate, one of its peers, or the bench's own floor; a process over files in a temporary
//! folder, and what the kernel tells of that process and its children.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::client::dialect::{DIRECTORY, Dialect, TINY, UPLOADS};
use crate::machine::{Pinning, stat_fields, threads_time, ticks_to_time};

/// The users of the example home and their passwords, under the hashes of its file `Credentials`.
pub(crate) const USERS: [(&str, &str); 4] = [
    ("user1", "1234"),
    ("user2", "2345"),
    ("user3", "3456"),
    ("user4", "4567"),
];

/// The same passwords as crypt(3) hashes them by DES.
const CHEAP_HASHES: [&str; USERS.len()] = [
    "td/qu1eBDXzUo",
    "tdRH/p5B6cLu2",
    "tdhAkrbUXxLno",
    "tdGMYiZjxdPZA",
];

/// Ports for the data connections of the peers of FTP, one for each that is under way, from the first to the last: below
/// those that the system gives to others.
const PASSIVE_PORTS: (u16, u16) = (20_000, 29_999);

/// How long a server may take to come up, and to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that the bench knows how to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// This package's.
    Tidegate,
    /// An earlier build of it, to compare with.
    Before,
    /// A bare loop around `sendfile` in this program.
    Floor,
    /// nginx with one worker, its open files kept; `sendfile_max_chunk` as it ships.
    Nginx,
    /// The same with `sendfile_max_chunk 256k`.
    NginxChunks,
    /// lighttpd in one process.
    Lighttpd,
    /// This package's, by FTP.
    TidegateFtp,
    /// An earlier build of it, by FTP.
    BeforeFtp,
    /// vsftpd, a process a session, which it has for anonymous users alone.
    Vsftpd,
    /// pure-ftpd, two processes a session.
    PureFtpd,
    /// pyftpdlib, one process.
    Pyftpdlib,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Tidegate => "tidegate",
            Kind::Before => "before",
            Kind::Floor => "floor",
            Kind::Nginx => "nginx",
            Kind::NginxChunks => "nginx-256k",
            Kind::Lighttpd => "lighttpd",
            Kind::TidegateFtp => "tidegate-ftp",
            Kind::BeforeFtp => "before-ftp",
            Kind::Vsftpd => "vsftpd",
            Kind::PureFtpd => "pure-ftpd",
            Kind::Pyftpdlib => "pyftpdlib",
        }
    }

    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Kind::Tidegate | Kind::Before => Dialect::Menu,
            Kind::Floor | Kind::Nginx | Kind::NginxChunks | Kind::Lighttpd => Dialect::HTTP,
            Kind::TidegateFtp | Kind::BeforeFtp | Kind::PureFtpd | Kind::Pyftpdlib => {
                Dialect::Ftp { anonymous: false }
            }
            Kind::Vsftpd => Dialect::Ftp { anonymous: true },
        }
    }

    /// The program that it is, where that is no part of this package.
    pub(crate) fn program(self) -> Option<&'static str> {
        match self {
            Kind::Tidegate | Kind::TidegateFtp | Kind::Before | Kind::BeforeFtp | Kind::Floor => {
                None
            }
            Kind::Nginx | Kind::NginxChunks => Some("/usr/sbin/nginx"),
            Kind::Lighttpd => Some("/usr/sbin/lighttpd"),
            Kind::Vsftpd => Some("/usr/sbin/vsftpd"),
            Kind::PureFtpd => Some(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/target/bench-peers/pure-ftpd/usr/sbin/pure-ftpd"
            )),
            Kind::Pyftpdlib => Some(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/target/bench-peers/pyftpdlib/bin/python"
            )),
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Kind, String> {
        use Kind::*;
        [
            Tidegate,
            Before,
            Floor,
            Nginx,
            NginxChunks,
            Lighttpd,
            TidegateFtp,
            BeforeFtp,
            Vsftpd,
            PureFtpd,
            Pyftpdlib,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
        .ok_or_else(|| format!("there is no server '{name}'"))
    }
}

/// The program of [`Kind::Before`].
static BEFORE: OnceLock<PathBuf> = OnceLock::new();

/// Sets the program of [`Kind::Before`], once.
pub(crate) fn compare_with(program: &Path) {
    BEFORE
        .set(program.to_owned())
        .expect("the command line is read once");
}

/// The files that a load goes to, and what the server needs beside them.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    /// A home with the example home's users, who may all read one directory and change another. `parent` is where it is made,
    /// the folder for temporary files if none is given.
    pub(crate) fn new(parent: Option<&Path>) -> io::Result<Home> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let folder = TempDir::with_prefix_in("tidegate-load-", parent)?;
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/home/Credentials");
        fs::copy(example, folder.path().join("Credentials"))?;
        fs::write(
            folder.path().join("Directories"),
            format!("*:{DIRECTORY}:read\n*:{UPLOADS}:read,change:files/{DIRECTORY}/{UPLOADS}\n"),
        )?;
        let home = Home { folder };
        // The peers serve the first directory, and take uploads in the second beneath it.
        fs::create_dir_all(home.directory().join(UPLOADS))?;
        // Those of FTP serve both, where tidegate's users see them.
        let beside = home.folder.path().join("files").join(UPLOADS);
        symlink(Path::new(DIRECTORY).join(UPLOADS), beside)?;
        open_to_all(home.folder.path())?;
        open_to_all(&home.directory().join(UPLOADS))?;
        home.add_file(TINY, 1024)?;
        Ok(home)
    }

    /// Where the files are.
    pub(crate) fn directory(&self) -> PathBuf {
        self.folder.path().join("files").join(DIRECTORY)
    }

    /// Adds a directory that every user may read.
    pub(crate) fn add_directory(&self, name: &str) -> io::Result<PathBuf> {
        let directories = self.folder.path().join("Directories");
        let grants = fs::read_to_string(&directories)?;
        fs::write(directories, format!("{grants}*:{name}:read\n"))?;
        let directory = self.folder.path().join("files").join(name);
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// Adds users `cold0`, `cold1`, … with the password of the first of the [`USERS`], and the price of its hash.
    pub(crate) fn add_users(&self, count: usize) -> io::Result<()> {
        let path = self.folder.path().join("Credentials");
        let mut credentials = fs::read_to_string(&path)?;
        let first = format!("{}:", USERS[0].0);
        let hash = credentials
            .lines()
            .find_map(|line| line.strip_prefix(&first))
            .ok_or_else(|| io::Error::other("the example home has no first user"))?
            .to_owned();
        for number in 0..count {
            credentials += &format!("cold{number}:{hash}\n");
        }
        fs::write(path, credentials)
    }

    /// Adds a file of `size` bytes, of which no stretch is like another, and tells its SHA-256.
    pub(crate) fn add_file(&self, name: &str, size: usize) -> io::Result<[u8; 32]> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut content = Vec::with_capacity(size + 8);
        while content.len() < size {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            content.extend_from_slice(&state.to_le_bytes());
        }
        content.truncate(size);
        fs::write(self.directory().join(name), &content)?;
        Ok(Sha256::digest(&content).into())
    }
}

fn open_to_all(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}

/// A running server; dropped, it is killed.
pub(crate) struct Server {
    kind: Kind,
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a server over `home`, pinned to its processor, and waits until it listens.
    pub(crate) fn start(kind: Kind, home: &Home, pinning: Pinning) -> io::Result<Server> {
        let (mut command, port) = match kind {
            Kind::Tidegate | Kind::TidegateFtp => {
                let mut command = tidegate(kind, home, env!("CARGO_BIN_EXE_tidegate").as_ref());
                // All clients come from one address, and some of them fail logins without end.
                command.args(["--max-failures", "0"]);
                (command, None)
            }
            Kind::Before | Kind::BeforeFtp => {
                let program = BEFORE
                    .get()
                    .ok_or_else(|| io::Error::other("no '--before PROGRAM'"))?;
                (tidegate(kind, home, program), None)
            }
            Kind::Floor => (floor(home)?, None),
            _ => {
                // The peers cannot say which port the system chose, so that one which was free a moment ago has to do.
                let free = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
                let command = match kind {
                    Kind::Nginx => nginx(home, free.port(), None)?,
                    Kind::NginxChunks => nginx(home, free.port(), Some("256k"))?,
                    Kind::Lighttpd => lighttpd(home, free.port())?,
                    Kind::PureFtpd => pure_ftpd(home, free.port())?,
                    Kind::Pyftpdlib => pyftpdlib(home, free.port())?,
                    _ => vsftpd(home, free.port())?,
                };
                (command, Some(free))
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        pinning.to_server()?;
        let child = command.spawn();
        pinning.to_clients()?;
        let mut child = child.map_err(|error| {
            let program = command.get_program().to_string_lossy().into_owned();
            io::Error::new(
                error.kind(),
                format!("{program} cannot be started: {error}"),
            )
        })?;
        let stdout = child.stdout.take().expect("standard output is piped");
        // From here on a return kills the child.
        let mut server = Server {
            kind,
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        server.address = match port {
            None => listening_on(stdout)?,
            Some(address) => {
                wait_for(|| Ok(TcpStream::connect(address).ok().map(drop)))?;
                address
            }
        };
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it speaks.
    pub(crate) fn dialect(&self) -> Dialect {
        self.kind.dialect()
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that are resident now, of it and its children; what they share counts once (`Pss` of
    /// proc_pid_smaps(5)).
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let mut kibibytes = 0;
        for process in self.processes()? {
            let Ok(rollup) = fs::read_to_string(format!("/proc/{process}/smaps_rollup")) else {
                continue; // it has ended meanwhile
            };
            kibibytes += rollup
                .lines()
                .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB"))
                .and_then(|kibibytes| kibibytes.parse::<u64>().ok())
                .ok_or_else(|| io::Error::other("smaps_rollup has no line Pss"))?;
        }
        Ok(kibibytes * 1024)
    }

    /// CPU time that it and its children have had so far: of those that live in nanoseconds (the first number of
    /// /proc/PID/task/TID/schedstat), of those that have ended in ticks (proc_pid_stat(5)).
    pub(crate) fn cpu_time(&self) -> io::Result<Duration> {
        let mut time = Duration::ZERO;
        let mut ended = 0;
        for process in self.processes()? {
            time += threads_time(process);
            if let Ok((_, fields)) = stat_fields(process) {
                ended += fields.get(16 - 4..18 - 4).map_or(0, |f| f.iter().sum());
            }
        }
        Ok(time + ticks_to_time(ended)?)
    }

    /// Its process, and those that descend from it.
    fn processes(&self) -> io::Result<Vec<u32>> {
        let mut processes = vec![self.child.id()];
        if self.kind.program().is_none() {
            return Ok(processes);
        }
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            if let Some(process) = name.to_str().and_then(|name| name.parse().ok())
                && let Ok((_, fields)) = stat_fields(process)
                && let Some(parent) = fields.first()
            {
                parents.push((process, *parent as u32));
            }
        }
        let mut at = 0;
        while let Some(parent) = processes.get(at).copied() {
            processes.extend(
                parents
                    .iter()
                    .filter(|(_, of)| *of == parent)
                    .map(|(process, _)| process),
            );
            at += 1;
        }
        Ok(processes)
    }

    /// Asks it to stop and waits until it has.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let status = wait_for(|| self.child.try_wait())
            .map_err(|_| io::Error::other("the server does not stop"))?;
        // A peer may say of its own orderly end that it was told to.
        match status.success() || self.kind.program().is_some() {
            true => Ok(()),
            false => Err(io::Error::other(format!("the server ended: {status}"))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Asks until there is an answer or the patience is over.
fn wait_for<T>(mut ask: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::other("the server does not come up"))
}

/// The address in the line that a server of this package says once it listens.
fn listening_on(stdout: impl io::Read + Send + 'static) -> io::Result<SocketAddr> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = tell.send(line);
    });
    let line = told
        .recv_timeout(PATIENCE)
        .map_err(|_| io::Error::other("the server does not say that it listens"))?;
    line.strip_prefix("listening on ")
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| io::Error::other(format!("the server did not start: it said {line:?}")))
}

fn tidegate(kind: Kind, home: &Home, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("serve").arg(home.folder.path()).args([
        "--log-level",
        "error",
        "--max-sessions",
        "100000",
    ]);
    match kind.dialect() {
        Dialect::Menu => command.args(["--listen", "127.0.0.1:0"]),
        // A few are enough here, and each is a descriptor that no session gets.
        _ => command.args(["--ftp", "127.0.0.1:0", "--passive-ports", "20000-20499"]),
    };
    command
}

fn floor(home: &Home) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("floor").arg(home.directory());
    Ok(command)
}

fn nginx(home: &Home, port: u16, chunk: Option<&str>) -> io::Result<Command> {
    let folder = home.folder.path().display();
    let root = home.directory();
    let chunk = chunk.map_or_else(String::new, |bytes| format!("sendfile_max_chunk {bytes};"));
    let config = format!(
        "worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log crit;\n\
         worker_rlimit_nofile 20000;\n\
         events {{ worker_connections 19900; }}\n\
         http {{\n\
           sendfile on; {chunk} tcp_nopush on; access_log off; server_tokens off;\n\
           open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;\n\
           keepalive_requests 1000000000; keepalive_timeout 600s; reset_timedout_connection on;\n\
           send_timeout 600s; client_max_body_size 0; client_body_temp_path {folder}/body;\n\
           proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
           server {{\n\
             listen 127.0.0.1:{port} backlog=4096; root {root};\n\
             location /{UPLOADS}/ {{ dav_methods PUT; open_file_cache off; }}\n\
           }}\n\
         }}\n",
        root = root.display()
    );
    let path = home.folder.path().join("nginx.conf");
    fs::write(&path, config)?;
    let mut command = Command::new(Kind::Nginx.program().expect("a peer"));
    command.arg("-e").arg(home.folder.path().join("nginx.log"));
    command.arg("-c").arg(path);
    Ok(command)
}

fn lighttpd(home: &Home, port: u16) -> io::Result<Command> {
    let config = format!(
        "server.modules = ( \"mod_webdav\" )\n\
         server.document-root = \"{root}\"\n\
         server.bind = \"127.0.0.1\"\nserver.port = {port}\n\
         server.errorlog = \"{folder}/lighttpd.log\"\n\
         server.upload-dirs = ( \"{folder}\" )\n\
         server.network-backend = \"sendfile\"\n\
         server.event-handler = \"linux-sysepoll\"\n\
         server.max-fds = 20000\nserver.max-connections = 19000\n\
         server.listen-backlog = 4096\n\
         server.max-keep-alive-requests = 1000000000\n\
         server.max-keep-alive-idle = 600\nserver.max-write-idle = 600\nserver.max-read-idle = 600\n\
         server.stat-cache-engine = \"simple\"\n\
         $HTTP[\"url\"] =~ \"^/{UPLOADS}/\" {{ webdav.activate = \"enable\" }}\n",
        root = home.directory().display(),
        folder = home.folder.path().display(),
    );
    let path = home.folder.path().join("lighttpd.conf");
    fs::write(&path, config)?;
    let mut command = Command::new(Kind::Lighttpd.program().expect("a peer"));
    command.arg("-D").arg("-f").arg(path);
    Ok(command)
}

fn vsftpd(home: &Home, port: u16) -> io::Result<Command> {
    let empty = home.folder.path().join("empty");
    fs::create_dir_all(&empty)?;
    let config = format!(
        "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\n\
         anonymous_enable=YES\nlocal_enable=NO\nno_anon_password=NO\nanon_root={root}\n\
         one_process_model=YES\nwrite_enable=YES\nanon_upload_enable=YES\nanon_other_write_enable=YES\n\
         pasv_min_port={low}\npasv_max_port={high}\n\
         secure_chroot_dir={empty}\nxferlog_enable=NO\nmax_clients=0\nmax_per_ip=0\nseccomp_sandbox=NO\n",
        root = home.folder.path().join("files").display(),
        low = PASSIVE_PORTS.0,
        high = PASSIVE_PORTS.1,
        empty = empty.display(),
    );
    let path = home.folder.path().join("vsftpd.conf");
    fs::write(&path, config)?;
    let mut command = Command::new(Kind::Vsftpd.program().expect("a peer"));
    command.arg(path);
    Ok(command)
}

fn pure_ftpd(home: &Home, port: u16) -> io::Result<Command> {
    let program = Kind::PureFtpd.program().expect("a peer");
    let path = |name: &str| home.folder.path().join(name);
    // Anonymous users could not replace a file. These pay next to nothing for their hashes (DES, crypt(3)).
    let users: String = USERS
        .iter()
        .zip(CHEAP_HASHES)
        .map(|((user, _), hash)| {
            let root = path("files");
            format!(
                "{user}:{hash}:65534:65534::{}/./::::::::::::\n",
                root.display()
            )
        })
        .collect();
    fs::write(path("pure-ftpd.users"), users)?;
    let made = Command::new(program.replace("sbin/pure-ftpd", "bin/pure-pw"))
        .arg("mkdb")
        .arg(path("pure-ftpd.pdb"))
        .arg("-f")
        .arg(path("pure-ftpd.users"))
        .status()?;
    if !made.success() {
        return Err(io::Error::other("pure-pw makes no users"));
    }
    let mut command = Command::new(program);
    command
        .args(["-4", "-E", "-H", "-A", "-f", "none", "-c", "100000"])
        .args(["-C", "100000", "-u", "1"])
        .args(["-p", &format!("{}:{}", PASSIVE_PORTS.0, PASSIVE_PORTS.1)])
        .args(["-S", &format!("127.0.0.1,{port}")])
        .arg("-l")
        .arg(format!("puredb:{}", path("pure-ftpd.pdb").display()));
    Ok(command)
}

fn pyftpdlib(home: &Home, port: u16) -> io::Result<Command> {
    let users: String = USERS
        .iter()
        .map(|(user, password)| {
            format!("authorizer.add_user('{user}', '{password}', root, perm='elradfmw')\n")
        })
        .collect();
    let script = format!(
        "import logging\n\
         from pyftpdlib.authorizers import DummyAuthorizer\n\
         from pyftpdlib.handlers import FTPHandler\n\
         from pyftpdlib.servers import FTPServer\n\
         logging.basicConfig(level=logging.ERROR)\n\
         root = '{root}'\n\
         authorizer = DummyAuthorizer()\n\
         {users}\
         FTPHandler.authorizer = authorizer\n\
         FTPHandler.use_sendfile = True\n\
         FTPHandler.passive_ports = range({low}, {high} + 1)\n\
         server = FTPServer(('127.0.0.1', {port}), FTPHandler, backlog=4096)\n\
         server.max_cons = 100000\n\
         server.max_cons_per_ip = 0\n\
         server.serve_forever()\n",
        root = home.folder.path().join("files").display(),
        low = PASSIVE_PORTS.0,
        high = PASSIVE_PORTS.1,
    );
    let mut command = Command::new(Kind::Pyftpdlib.program().expect("a peer"));
    command.arg("-c").arg(script);
    Ok(command)
}
