//! Reads lines from the user, with editing, a history and completion.

use std::rc::Rc;

use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};

use crate::client::connect::completion::{InputKind, LineCompleter};
use crate::client::error::ClientError;
use crate::client::login::RemoteLogin;
use crate::client::sanitized::Sanitized;

/// Reads lines from the terminal, or from standard input if that is not a terminal.
pub(super) struct LineEditor {
    editor: Editor<LineCompleter, DefaultHistory>,
}

impl LineEditor {
    pub(super) fn new(login: Rc<RemoteLogin>) -> Result<LineEditor, ClientError> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .build();
        let mut editor = Editor::with_config(config).map_err(local_error)?;
        editor.set_helper(Some(LineCompleter::new(login)));
        Ok(LineEditor { editor })
    }

    /// Reads a line; `None` at the end of input. `directory` is the chosen directory, shown as the
    /// prompt. Ctrl-C discards a command; for other kinds of input it returns an empty line.
    pub(super) fn read_line(
        &mut self,
        kind: InputKind,
        directory: Option<&str>,
    ) -> Result<Option<String>, ClientError> {
        if let Some(completer) = self.editor.helper_mut() {
            completer.set_context(kind, directory.map(str::to_owned));
        }
        let prompt = match directory {
            Some(directory) => format!("{}> ", Sanitized(directory)),
            None => "> ".to_owned(),
        };
        loop {
            return match self.editor.readline(&prompt) {
                Ok(line) => {
                    if kind == InputKind::Command {
                        self.editor.add_history_entry(&line).map_err(local_error)?;
                    }
                    Ok(Some(line))
                }
                Err(ReadlineError::Eof) => Ok(None),
                Err(ReadlineError::Interrupted) if kind == InputKind::Command => continue,
                Err(ReadlineError::Interrupted) => Ok(Some(String::new())),
                Err(error) => Err(local_error(error)),
            };
        }
    }
}

fn local_error(error: ReadlineError) -> ClientError {
    ClientError::Local(error.to_string())
}
