//! Where a password must not turn up.

use std::fs;

use crate::support::{Home, Server};

#[test]
fn no_password_turns_up_in_the_log_the_arguments_or_what_a_client_is_told() {
    let home = Home::new();
    home.append("Credentials", "visitor:plain:sesame-OPEN-1234");
    let server = Server::over(home, &["--log-level", "debug"]);
    let mut told = String::new();
    // Right, wrong, unasked for, at the wrong prompt's command, and cut off.
    for dialogue in [
        "LOGIN\nvisitor\nsesame-OPEN-1234\nSHOW DIRECTORIES\nHELP\nQUIT\n",
        "LOGIN\nvisitor\nWRONG-secret\nLOGIN\nuser1\nWRONG-secret\nQUIT\n",
        "sesame-OPEN-1234\nLOGIN visitor sesame-OPEN-1234\nPASS sesame-OPEN-1234\nQUIT\n",
        "LOGIN\nvisitor\nsesame-OPEN-1234",
    ] {
        let mut client = server.connect();
        client.send(dialogue);
        client.close_sending();
        told.push_str(&String::from_utf8(client.rest()).unwrap());
    }
    server.log_line(&["session=4", "event=end"]);
    let arguments = fs::read(server.proc("cmdline")).unwrap();
    told.push_str(&String::from_utf8_lossy(&arguments));
    told.push_str(&server.log());
    assert!(told.contains("event=login-failed") && told.contains("Login Successfully"));
    for secret in ["sesame", "WRONG", "argon2id"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}
