//! `tidegate user`: accounts added, changed, removed, listed and hashed.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::auth::phc::hash_password;
use crate::cli::reload::Reload;
use crate::cli::{Failure, prompt, say, values, warn};
use crate::config::Home;
use crate::config::edit;
use crate::config::error::EditError;
use crate::domain::user_limits::UserLimits;

/// add, change, remove and list the users of a home
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "user",
    help_triggers("-h", "--help"),
    usage = "<command> [<args>]"
)]
pub(crate) struct User {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
enum Command {
    Add(Add),
    Passwd(Passwd),
    Remove(Remove),
    List(List),
    Hash(Hash),
}

impl User {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::Add(command) => command.run(),
            Command::Passwd(command) => command.run(),
            Command::Remove(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Hash(command) => command.run(),
        }
    }
}

/// add a user; his password is asked for on the terminal, twice
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "add", help_triggers("-h", "--help"))]
struct Add {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// his name
    #[argh(positional, from_str_fn(values::user))]
    user: String,

    /// read the password from the first line of standard input
    #[argh(switch)]
    password_stdin: bool,

    /// tell the home's server to take the change up
    #[argh(switch)]
    reload: bool,

    /// where that server keeps its process id, if not in the home
    #[argh(option, arg_name = "file")]
    pid_file: Option<PathBuf>,
}

impl Add {
    fn run(self) -> Result<ExitCode, Failure> {
        let reload = Reload::new(&self.home, self.reload, self.pid_file, "tidegate user add")?;
        // Nobody types a password twice to learn that it was in vain; the edit asks again, under its lock.
        let (home, _) = Home::load(&self.home)?;
        if home.account(&self.user).is_some() {
            return Err(EditError::UserExists(self.user).into());
        }
        let new = prompt::new_password(&self.user, self.password_stdin)?;
        edit::add_user(&self.home, &self.user, &hash_password(&new))?;
        reload.run()
    }
}

/// give a user another password, which is asked for on the terminal, twice
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "passwd", help_triggers("-h", "--help"))]
struct Passwd {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// his name
    #[argh(positional, from_str_fn(values::user))]
    user: String,

    /// read the password from the first line of standard input
    #[argh(switch)]
    password_stdin: bool,

    /// tell the home's server to take the change up
    #[argh(switch)]
    reload: bool,

    /// where that server keeps its process id, if not in the home
    #[argh(option, arg_name = "file")]
    pid_file: Option<PathBuf>,
}

impl Passwd {
    fn run(self) -> Result<ExitCode, Failure> {
        let reload = Reload::new(
            &self.home,
            self.reload,
            self.pid_file,
            "tidegate user passwd",
        )?;
        let (home, _) = Home::load(&self.home)?;
        if home.account(&self.user).is_none() {
            return Err(EditError::NoSuchUser(self.user).into());
        }
        let new = prompt::new_password(&self.user, self.password_stdin)?;
        edit::set_hash(&self.home, &self.user, &hash_password(&new))?;
        reload.run()
    }
}

/// remove a user together with his grants
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "remove", help_triggers("-h", "--help"))]
struct Remove {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// his name
    #[argh(positional, from_str_fn(values::user))]
    user: String,

    /// tell the home's server to take the change up
    #[argh(switch)]
    reload: bool,

    /// where that server keeps its process id, if not in the home
    #[argh(option, arg_name = "file")]
    pid_file: Option<PathBuf>,
}

impl Remove {
    fn run(self) -> Result<ExitCode, Failure> {
        let reload = Reload::new(
            &self.home,
            self.reload,
            self.pid_file,
            "tidegate user remove",
        )?;
        edit::remove_user(&self.home, &self.user)?;
        reload.run()
    }
}

/// list the users with their directories, rights and limits, a user a line
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"))]
struct List {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,
}

impl List {
    fn run(self) -> Result<ExitCode, Failure> {
        let (home, warnings) = Home::load(&self.home)?;
        let mut text = String::new();
        for access in home
            .accounts()
            .filter_map(|account| home.access(&account.user))
        {
            let grants: Vec<String> = access
                .grants
                .iter()
                .map(|grant| format!("{} ({})", grant.name, grant.rights))
                .collect();
            let grants = match &grants[..] {
                [] => "no directories".to_owned(),
                grants => grants.join(", "),
            };
            let user = &access.user;
            let limits = match home.limits(user) {
                limits if limits == UserLimits::default() => String::new(),
                limits => format!("; {limits}"),
            };
            let _ = writeln!(text, "{user}: {grants}{limits}");
        }
        let done = say(&text);
        warnings.iter().for_each(|warning| warn(warning));
        done
    }
}

/// turn the passwords that stand in plain into hashes
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "hash", help_triggers("-h", "--help"))]
struct Hash {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// tell the home's server to take the change up
    #[argh(switch)]
    reload: bool,

    /// where that server keeps its process id, if not in the home
    #[argh(option, arg_name = "file")]
    pid_file: Option<PathBuf>,
}

impl Hash {
    fn run(self) -> Result<ExitCode, Failure> {
        let reload = Reload::new(&self.home, self.reload, self.pid_file, "tidegate user hash")?;
        let count = edit::hash_plain(&self.home, hash_password)?;
        say(&format!("passwords hashed: {count}\n"))?;
        reload.run()
    }
}
