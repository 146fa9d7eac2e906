//! Passwords from a person: asked for on the terminal without echo, or read from standard input.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;

use zeroize::Zeroizing;

use crate::auth::phc::check_new_password;
use crate::cli::Failure;
use crate::limits;

/// A new password for `user`, asked for twice, or once read from standard input, and fit to be one.
pub(crate) fn new_password(user: &str, from_stdin: bool) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let new = if from_stdin {
        first_line()?
    } else {
        const OTHERWISE: &str = "--password-stdin";
        let new = ask(&format!("New password for '{user}': "), OTHERWISE)?;
        check(&new)?;
        if *ask("The same again: ", OTHERWISE)? != *new {
            return Err(Failure::new("the two passwords differ"));
        }
        new
    };
    check(&new)?;
    Ok(new)
}

fn check(password: &[u8]) -> Result<(), Failure> {
    check_new_password(password).map_err(Failure::new)
}

/// A password from the terminal, asked for with `prompt`, whatever the standard streams are. `otherwise` is the option to
/// use where there is none.
#[cfg(feature = "client")]
pub(crate) fn ask(prompt: &str, otherwise: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    use nix::libc;
    use nix::sys::signal::{SigSet, Signal};

    // The prompt takes Ctrl-C as a key and raises SIGINT for it. That waits until the terminal has its echo again, and then
    // ends the program as ever.
    let interrupt = SigSet::from(Signal::SIGINT);
    let unheld = |error: nix::Error| Failure::new(format!("holding SIGINT back: {error}"));
    let held = interrupt.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK);
    let held = held.map_err(unheld)?;
    let answer = rpassword::prompt_password(prompt);
    held.thread_set_mask().map_err(unheld)?;
    match answer {
        Ok(answer) => Ok(Zeroizing::new(answer.into_bytes())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Failure::new("no password was given"))
        }
        // There is no /dev/tty, or it belongs to no terminal of this session.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENOENT)) => {
            Err(Failure::new(format!(
                "there is no terminal to ask for a password on: use {otherwise}"
            )))
        }
        Err(error) => Err(Failure::new(format!("asking for a password: {error}"))),
    }
}

#[cfg(not(feature = "client"))]
pub(crate) fn ask(_prompt: &str, otherwise: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    Err(Failure::new(format!(
        "this build cannot ask for a password: use {otherwise}"
    )))
}

/// The first line of standard input without its end (`\n` or `\r\n`), and not a byte more: what follows is for who reads next.
fn first_line() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: io::Error| Failure::new(format!("standard input: {error}"));
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let mut input = File::from(input);
    let mut line = Zeroizing::new(Vec::with_capacity(limits::LINE_BYTES_MAX));
    let mut byte = Zeroizing::new([0]);
    while line.len() < limits::LINE_BYTES_MAX {
        match input.read(&mut byte[..]) {
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                break;
            }
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(line)
}
