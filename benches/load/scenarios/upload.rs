//! Sessions that each upload a file in a loop.

use std::io;
use std::path::Path;
use std::time::Duration;

use argh::FromArgs;

use crate::client::load_generator::LoadGenerator;
use crate::client::message::{ClientEvent, ClientRequest, Reaction, ReadMode};
use crate::client::wire_protocol::WireProtocol;
use crate::metrics::Metrics;
use crate::scenarios::load::{self, Load, TICK_TIMEOUT, connect_clients};
use crate::server::home::BenchHome;
use crate::server::process::ServerProcess;
use crate::server::target::Target;

/// Upload a file per session in a loop, each upload replacing the one before.
#[derive(FromArgs)]
#[argh(subcommand, name = "upload")]
pub(crate) struct Upload {
    /// number of sessions (default: 1)
    #[argh(option, default = "1")]
    sessions: usize,
    /// size of each file in bytes (default: 10485760)
    #[argh(option, default = "10485760")]
    size: u64,
    /// duration of the load in seconds (default: 3)
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// folder for the server's files, such as /dev/shm for memory (default: the folder for
    /// temporary files)
    #[argh(option)]
    folder: Option<String>,
}

impl Upload {
    pub(crate) fn measure(&self, target: &Target) -> io::Result<Metrics> {
        let home = BenchHome::new(self.folder.as_deref().map(Path::new))?;
        let server = ServerProcess::start(target, &home)?;
        let protocol = server.protocol();
        let mut load = UploadLoad {
            clients: LoadGenerator::new(server.address(), protocol.clone(), ReadMode::Buffer)?,
            protocol,
            size: self.size,
            sent_before: 0,
            times: Vec::new(),
        };
        for key in connect_clients(&mut load.clients, self.sessions, 0)? {
            let request = upload_request(&load.protocol, key, self.size);
            load.clients.send(key, &request);
        }
        let window = load::run(&mut load, &server, self.seconds)?;
        let mut metrics = Metrics::default();
        let (seconds, cpu) = window.end(&server, &mut metrics)?;
        let UploadLoad {
            clients,
            sent_before,
            mut times,
            ..
        } = load;
        let gibibytes = (clients.sent() - sent_before) as f64 / f64::from(1 << 30);
        drop(clients);
        server.stop()?;

        metrics.add("uploads", times.len() as f64);
        metrics.add("mebibytes_per_second", gibibytes * 1024.0 / seconds);
        metrics.add("server_cpu_seconds_per_gibibyte", cpu / gibibytes);
        metrics.add_times("upload", &mut times);
        Ok(metrics)
    }
}

struct UploadLoad {
    clients: LoadGenerator,
    protocol: WireProtocol,
    size: u64,
    /// Bytes sent when the window started.
    sent_before: u64,
    times: Vec<Duration>,
}

/// The request of a client to upload its own file.
fn upload_request(protocol: &WireProtocol, key: usize, size: u64) -> ClientRequest {
    protocol.upload(&format!("upload{key}"), size)
}

impl Load for UploadLoad {
    fn tick(&mut self) -> io::Result<()> {
        let mut failed = 0;
        self.clients
            .tick(TICK_TIMEOUT, &mut |key, event| match event {
                // A peer may reply with status 200 and no content.
                ClientEvent::Uploaded { elapsed } | ClientEvent::Downloaded { elapsed, .. } => {
                    self.times.push(elapsed);
                    Reaction::Send(upload_request(&self.protocol, key, self.size))
                }
                ClientEvent::Refused | ClientEvent::Closed { .. } => {
                    failed += 1;
                    Reaction::Wait
                }
                _ => Reaction::Wait,
            })?;
        match failed {
            0 => Ok(()),
            _ => Err(io::Error::other(format!(
                "{failed} uploads were refused or cut off"
            ))),
        }
    }

    fn reset(&mut self) {
        self.times.clear();
        self.sent_before = self.clients.sent();
    }
}
