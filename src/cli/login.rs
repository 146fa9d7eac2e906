//! The login of the client commands: the password from a file, the environment or the terminal.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::cli::failure::Failure;
use crate::cli::prompt::read_password;
use crate::client::login::RemoteLogin;
use crate::client::remote::Remote;
use crate::client::sanitized::Sanitized;
use crate::domain::io_reason::io_reason;
use crate::limits::LINE_BYTES_MAX;

/// The environment variable with the password.
const VARIABLE: &str = "TIDEGATE_PASSWORD";

/// Returns the login for `remote`. The password is the first line of `password_file`, else the
/// value of TIDEGATE_PASSWORD, else it is read from the terminal.
pub(crate) fn login(
    remote: Remote,
    password_file: Option<&Path>,
    timeout: Duration,
) -> Result<RemoteLogin, Failure> {
    let mut password_source = None;
    let password = match (password_file, std::env::var_os(VARIABLE)) {
        (Some(file), _) => {
            let shown = file.to_string_lossy();
            password_source = Some(Sanitized(&shown).to_string());
            first_line(file)?
        }
        (None, Some(password)) => {
            password_source = Some(VARIABLE.to_owned());
            Zeroizing::new(password.into_encoded_bytes())
        }
        (None, None) => read_password(
            &format!("Password for {remote}: "),
            "--password-file or TIDEGATE_PASSWORD",
        )?,
    };
    Ok(RemoteLogin {
        remote,
        password,
        password_source,
        timeout,
    })
}

fn first_line(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |what: &dyn ToString| {
        let file = file.to_string_lossy();
        Failure::new(format!("{}: {}", Sanitized(&file), what.to_string()))
    };
    let opened = std::fs::File::open(file).map_err(|error| failed(&io_reason(&error)))?;
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
    let read = opened.take(LINE_BYTES_MAX as u64).read_to_end(&mut line);
    read.map_err(|error| match error.kind() {
        ErrorKind::IsADirectory => failed(&"it is a directory; expected a file with a password"),
        _ => failed(&io_reason(&error)),
    })?;
    if let Some(end) = line.iter().position(|&byte| byte == b'\n') {
        line.truncate(end);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    match line.is_empty() {
        true => Err(failed(&"the first line is empty; expected a password")),
        false => Ok(line),
    }
}
