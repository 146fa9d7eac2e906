//! File systems that report zero for what they do not know.

use crate::support::changes::plain_home;
use crate::support::ftp::{FtpClient, serve_ftp};

#[test]
fn unknown_lengths_and_free_space_are_not_zero() {
    let home = plain_home();
    home.append("Directories", "user1:Kernel:read:/proc/sys/kernel");
    let server = serve_ftp(home, &["--sandbox", "off"]);
    let mut ftp = FtpClient::login(&server, "user1", "1234");
    // An empty file would look complete.
    let _data = ftp.connect_data();
    ftp.command("RETR Kernel/ostype", "451");
    server.log_line(&["event=fault", "a size of zero"]);
    ftp.command("HASH Kernel/ostype", "451");
    let reply = ftp.command("AVBL Kernel", "550");
    assert_eq!(reply, "550 The free space is unknown.");
    ftp.command("AVBL Movies", "213");
}
