//! One listener for IPv6 and IPv4: IPv4 clients are treated as such.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::support::changes::plain_home;
use crate::support::ftp::{FtpClient, connect_to, read_to_end, serve_ftp_at};
use crate::support::{Client, connect_from, needs};

#[test]
fn an_ipv4_client_of_an_ipv6_listener_uses_ipv4() {
    if !needs::has("IPv6") {
        return;
    }
    let options = [
        "--max-failures=2",
        "--max-per-address=3",
        "--allow-loopback-active",
    ];
    let server = serve_ftp_at(plain_home(), "[::]:0", &options);
    let port = server.address().port();
    let from = |client: &str| {
        let local: SocketAddr = (client.parse::<IpAddr>().expect("an address"), port).into();
        Client::from_stream(connect_from(client, local))
    };
    // IPv4: the log and the replies have no IPv4-mapped address.
    let mut ftp = FtpClient::login_over(from("127.0.0.1"), "user1", "1234");
    server.log_line(&["event=connect", "from=127.0.0.1:"]);
    ftp.send_line("STAT");
    assert_eq!(ftp.read_reply()[1].trim_end(), " Connected from 127.0.0.1");
    let reply = ftp.command("PASV", "227");
    let numbers = reply.split(['(', ')']).nth(1).expect("an address");
    let numbers: Vec<u16> = numbers
        .split(',')
        .map(|n| n.parse().expect("a byte"))
        .collect();
    assert_eq!(numbers[..4], [127, 0, 0, 1], "{reply}");
    let at = SocketAddr::from(([127, 0, 0, 1], numbers[4] << 8 | numbers[5]));
    let mut data = connect_to(at);
    ftp.command("RETR Movies/Joker", "150");
    assert_eq!(read_to_end(&mut data).len(), 4096);
    ftp.expect("226");
    assert_eq!(ftp.retrieve("Movies/Joker").len(), 4096, "EPSV");
    ftp.command("EPSV 2", "522");
    ftp.command("EPRT |2|::1|50000|", "522");
    // IPv6 on the same listener.
    let mut other = FtpClient::login_over(from("::1"), "user1", "1234");
    other.command("PASV", "425");
    other.command("EPSV 1", "522");
    let reply = other.command("EPSV 2", "229");
    let port = reply.split('|').nth(3).expect("a port");
    let at = SocketAddr::from((Ipv6Addr::LOCALHOST, port.parse().expect("a number")));
    let mut data = connect_to(at);
    other.command("RETR Movies/Joker", "150");
    assert_eq!(read_to_end(&mut data).len(), 4096);
    other.expect("226");
    // The login throttle and the limit of sessions know the IPv4 address: mapped addresses share
    // one /64 prefix.
    let mut guesser = FtpClient::login_over(from("127.0.0.2"), "user2", "2345");
    for _ in 0..2 {
        guesser.command("USER user1", "331");
        guesser.command("PASS wrong", "530");
    }
    guesser.command("USER user1", "331");
    guesser.command("PASS 1234", "421");
    let _others: Vec<_> = (3..7)
        .map(|last| FtpClient::login_over(from(&format!("127.0.0.{last}")), "user1", "1234"))
        .collect();
}
