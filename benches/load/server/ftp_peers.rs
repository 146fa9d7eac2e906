//! Configurations of the FTP peers.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::fixture::USERS;
use crate::server::home::BenchHome;

/// The passwords of [`USERS`] as crypt(3) hashes them with DES.
const DES_HASHES: [&str; USERS.len()] = [
    "td/qu1eBDXzUo",
    "tdRH/p5B6cLu2",
    "tdhAkrbUXxLno",
    "tdGMYiZjxdPZA",
];

/// First and last port for data connections, below the ephemeral ports of the system. The peers
/// need a port for each transfer in progress.
const PASSIVE_PORTS: (u16, u16) = (20_000, 29_999);

/// vsftpd in its one-process model, for anonymous users.
pub(crate) fn vsftpd(program: &Path, home: &BenchHome, port: u16) -> io::Result<Command> {
    let empty = home.path().join("empty");
    fs::create_dir_all(&empty)?;
    let config = format!(
        "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\n\
         anonymous_enable=YES\nlocal_enable=NO\nno_anon_password=NO\nanon_root={root}\n\
         one_process_model=YES\nwrite_enable=YES\nanon_upload_enable=YES\n\
         anon_other_write_enable=YES\npasv_min_port={low}\npasv_max_port={high}\n\
         secure_chroot_dir={empty}\nxferlog_enable=NO\nmax_clients=0\nmax_per_ip=0\n\
         seccomp_sandbox=NO\n",
        root = home.files().display(),
        low = PASSIVE_PORTS.0,
        high = PASSIVE_PORTS.1,
        empty = empty.display(),
    );
    let path = home.path().join("vsftpd.conf");
    fs::write(&path, config)?;
    let mut command = Command::new(program);
    command.arg(path);
    Ok(command)
}

/// pure-ftpd with virtual users, since its anonymous users cannot replace a file.
pub(crate) fn pure_ftpd(program: &Path, home: &BenchHome, port: u16) -> io::Result<Command> {
    let path = |name: &str| home.path().join(name);
    let users: String = USERS
        .iter()
        .zip(DES_HASHES)
        .map(|((user, _), hash)| {
            let root = path("files");
            format!(
                "{user}:{hash}:65534:65534::{}/./::::::::::::\n",
                root.display()
            )
        })
        .collect();
    fs::write(path("pure-ftpd.users"), users)?;
    let pure_pw = program.with_file_name("../bin/pure-pw");
    let status = Command::new(pure_pw)
        .arg("mkdb")
        .arg(path("pure-ftpd.pdb"))
        .arg("-f")
        .arg(path("pure-ftpd.users"))
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("pure-pw mkdb failed: {status}")));
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

/// pyftpdlib in one process, with `sendfile`.
pub(crate) fn pyftpdlib(python: &Path, home: &BenchHome, port: u16) -> Command {
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
        root = home.files().display(),
        low = PASSIVE_PORTS.0,
        high = PASSIVE_PORTS.1,
    );
    let mut command = Command::new(python);
    command.arg("-c").arg(script);
    command
}
