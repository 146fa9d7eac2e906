//! Places where passwords must not appear, and timing of failed logins.

use std::fs;
use std::time::Instant;

use crate::support::{Client, Home, Server, median};

#[test]
fn passwords_appear_in_no_log_argument_or_message() {
    let home = Home::new();
    home.append("Credentials", "visitor:plain:sesame-OPEN-1234");
    let options = [
        "--log-level",
        "debug",
        "--listen",
        "127.0.0.1:0",
        "--ftp",
        "127.0.0.1:0",
    ];
    let server = Server::with_home(home, &options);
    let mut output = String::new();
    // The password is correct, wrong, sent as a command, and incomplete.
    for dialogue in [
        "LOGIN\nvisitor\nsesame-OPEN-1234\nSHOW DIRECTORIES\nHELP\nQUIT\n",
        "LOGIN\nvisitor\nWRONG-secret\nLOGIN\nuser1\nWRONG-secret\nQUIT\n",
        "sesame-OPEN-1234\nLOGIN visitor sesame-OPEN-1234\nPASS sesame-OPEN-1234\nQUIT\n",
        "LOGIN\nvisitor\nsesame-OPEN-1234",
        "LOGIN\nsesame-OPEN-1234\nQUIT\n",
    ] {
        let mut client = server.connect();
        client.send(dialogue);
        client.close_sending();
        output.push_str(&String::from_utf8(client.read_to_end()).unwrap());
    }
    // The same over FTP, and in other commands.
    for dialogue in [
        "USER visitor\r\nPASS sesame-OPEN-1234\r\nPASS sesame-OPEN-1234\r\nSTAT\r\nQUIT\r\n",
        "USER visitor\r\nPASS WRONG-secret\r\nPASS WRONG-secret\r\nQUIT\r\n",
        "PASS sesame-OPEN-1234\r\nACCT sesame-OPEN-1234\r\nAUTH WRONG-secret\r\nSITE WRONG-secret\r\nsesame-OPEN-1234\r\nQUIT\r\n",
        "USER visitor\r\nPASS sesame-OPEN-1234",
        "USER sesame-OPEN-1234\r\nPASS visitor\r\nQUIT\r\n",
    ] {
        let mut client = Client::connect(server.addresses[1]);
        client.send(dialogue);
        client.close_sending();
        output.push_str(&String::from_utf8(client.read_to_end()).unwrap());
    }
    server.log_line(&["session=10", "event=end"]);
    let arguments = fs::read(server.proc_file("cmdline")).unwrap();
    output.push_str(&String::from_utf8_lossy(&arguments));
    output.push_str(&server.log());
    assert!(output.contains("event=login-failed") && output.contains("Login Successfully"));
    assert!(
        output.contains("\n230 ") && output.contains("\n530 "),
        "{output}"
    );
    for secret in ["sesame", "WRONG", "argon2id"] {
        assert!(!output.contains(secret), "{secret} in {output}");
    }
}

#[test]
fn unknown_users_and_wrong_passwords_take_the_same_time() {
    let home = Home::new();
    // Cheap hashes that match no guess.
    let hash = |cost| format!("$argon2id$v=19${cost}$c2FsdCBzYWx0${}", "A".repeat(43));
    let (hashed, cheap) = (hash("m=4096,t=1,p=1"), hash("m=64,t=1,p=1"));
    let records = format!("hashed:{hashed}\nbare:{hashed}\ncheap:{cheap}\nplain:plain:secret\n");
    fs::write(home.path().join("Credentials"), records).unwrap();
    fs::write(
        home.path().join("Directories"),
        "hashed:Movies:read\nplain:Movies:read\n",
    )
    .unwrap();
    let options = ["--ftp", "127.0.0.1:0", "--max-failures", "0"];
    let server = Server::with_home(home, &options);
    let users = ["hashed", "bare", "cheap", "plain", "nobody"];
    let mut times = [const { Vec::new() }; 5];
    for round in 0..200 {
        // A connection allows four failures. The first user differs between rounds.
        let mut client = server.connect();
        client.read_line();
        for number in 0..4 {
            let at = (round * 4 + number) % users.len();
            client.send(format!("USER {}\r\n", users[at]));
            let prompt = client.read_line();
            assert!(prompt.starts_with("331 "), "{prompt}");
            let start = Instant::now();
            client.send(format!("PASS wrong {round}\r\n"));
            let reply = client.read_line();
            times[at].push(start.elapsed());
            assert!(reply.starts_with("530 "), "{reply}");
        }
    }
    let medians = times.map(median);
    let (least, most) = (medians.iter().min().unwrap(), medians.iter().max().unwrap());
    // Without the hash, a response takes a twentieth of the time.
    assert!(*most < 2 * *least, "{users:?}: {medians:?}");
}
