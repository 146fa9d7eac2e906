//! Passwords from the terminal, without echo, or from standard input.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;

use zeroize::Zeroizing;

use crate::auth::phc::check_new_password;
use crate::cli::failure::Failure;
use crate::limits::LINE_BYTES_MAX;

/// Reads a valid new password for `user`: twice from the terminal, or once from standard input.
pub(crate) fn new_password(user: &str, from_stdin: bool) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let new = if from_stdin {
        first_line()?
    } else {
        const ALTERNATIVE: &str = "--password-stdin";
        let new = read_password(&format!("New password for '{user}': "), ALTERNATIVE)?;
        check_new_password(&new).map_err(Failure::new)?;
        if *read_password("Repeat the password: ", ALTERNATIVE)? != *new {
            return Err(Failure::new("the passwords do not match"));
        }
        new
    };
    check_new_password(&new).map_err(|what| match from_stdin {
        true => Failure::new(format!("{what}; it is the first line of standard input")),
        false => Failure::new(what),
    })?;
    Ok(new)
}

/// Reads a password from the controlling terminal, whatever the standard streams are. `alternative`
/// is the option to suggest if there is no terminal.
#[cfg(feature = "client")]
pub(crate) fn read_password(
    prompt: &str,
    alternative: &str,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal};

    let terminal = File::options().read(true).write(true).open("/dev/tty");
    if terminal.is_err() {
        return Err(Failure::new(format!(
            "there is no terminal to read a password from; use {alternative}"
        )));
    }
    // rpassword raises SIGINT for Ctrl-C. The signal is blocked until the terminal echoes again;
    // then it ends the process as usual.
    let interrupt = SigSet::from(Signal::SIGINT);
    let failed = |error: nix::Error| Failure::new(format!("cannot block SIGINT: {error}"));
    let mask = interrupt.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let mask = mask.map_err(failed)?;
    let password = rpassword::prompt_password(prompt);
    mask.thread_set_mask().map_err(failed)?;
    password
        .map(|password| Zeroizing::new(password.into_bytes()))
        .map_err(|error| prompt_failure(&error))
}

#[cfg(feature = "client")]
fn prompt_failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Failure::new("no password was entered"),
        _ => Failure::new(format!("cannot read a password from the terminal: {error}")),
    }
}

#[cfg(not(feature = "client"))]
pub(crate) fn read_password(
    _prompt: &str,
    alternative: &str,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    Err(Failure::new(format!(
        "this build cannot read a password from the terminal; use {alternative}"
    )))
}

/// Reads the first line of standard input, without its end (`\n` or `\r\n`). Reads no byte after
/// it, so that the next process can go on there.
fn first_line() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: io::Error| Failure::new(format!("cannot read standard input: {error}"));
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let mut input = File::from(input);
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
    let mut byte = Zeroizing::new([0]);
    while line.len() < LINE_BYTES_MAX {
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
