//! Configurations of the HTTP peers.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::fixture::UPLOADS;
use crate::server::home::BenchHome;

/// nginx with one worker; `chunk` sets `sendfile_max_chunk`.
pub(crate) fn nginx(
    program: &Path,
    home: &BenchHome,
    port: u16,
    chunk: Option<&str>,
) -> io::Result<Command> {
    let folder = home.path().display();
    let root = home.directory();
    let chunk = chunk.map_or_else(String::new, |bytes| format!("sendfile_max_chunk {bytes};"));
    let config = format!(
        "worker_processes 1; daemon off; pid {folder}/nginx.pid;\n\
         error_log {folder}/nginx.log crit;\n\
         worker_rlimit_nofile 20000;\n\
         events {{ worker_connections 19900; }}\n\
         http {{\n\
           sendfile on; {chunk} tcp_nopush on; access_log off; server_tokens off;\n\
           open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;\n\
           keepalive_requests 1000000000; keepalive_timeout 600s; reset_timedout_connection on;\n\
           send_timeout 600s; client_max_body_size 0; client_body_temp_path {folder}/body;\n\
           proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;\n\
           uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
           server {{\n\
             listen 127.0.0.1:{port} backlog=4096; root {root};\n\
             location /{UPLOADS}/ {{ dav_methods PUT; open_file_cache off; }}\n\
           }}\n\
         }}\n",
        root = root.display()
    );
    let path = home.path().join("nginx.conf");
    fs::write(&path, config)?;
    let mut command = Command::new(program);
    command.arg("-e").arg(home.path().join("nginx.log"));
    command.arg("-c").arg(path);
    Ok(command)
}

/// lighttpd in one process.
pub(crate) fn lighttpd(program: &Path, home: &BenchHome, port: u16) -> io::Result<Command> {
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
         server.max-keep-alive-requests = 1000000000\nserver.max-keep-alive-idle = 600\n\
         server.max-write-idle = 600\nserver.max-read-idle = 600\n\
         server.stat-cache-engine = \"simple\"\n\
         $HTTP[\"url\"] =~ \"^/{UPLOADS}/\" {{ webdav.activate = \"enable\" }}\n",
        root = home.directory().display(),
        folder = home.path().display(),
    );
    let path = home.path().join("lighttpd.conf");
    fs::write(&path, config)?;
    let mut command = Command::new(program);
    command.arg("-D").arg("-f").arg(path);
    Ok(command)
}
