//! `tidegate user`: manages the users of a home.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::auth::phc::hash_password;
use crate::cli::failure::Failure;
use crate::cli::output::{print, warn};
use crate::cli::prompt::new_password;
use crate::cli::reload_request::{ReloadOptions, ReloadRequest};
use crate::cli::values;
use crate::config::Home;
use crate::config::edit;
use crate::config::error::EditError;
use crate::domain::user_limits::UserLimits;

/// manage the users of a home
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "user",
    help_triggers("-h", "--help"),
    usage = "<command> [<args>]"
)]
pub(crate) struct UserArgs {
    #[argh(subcommand)]
    command: UserCommand,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
enum UserCommand {
    Add(AddArgs),
    Passwd(PasswdArgs),
    Remove(RemoveArgs),
    List(ListArgs),
    Hash(HashArgs),
}

impl UserArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            UserCommand::Add(args) => args.run(),
            UserCommand::Passwd(args) => args.run(),
            UserCommand::Remove(args) => args.run(),
            UserCommand::List(args) => args.run(),
            UserCommand::Hash(args) => args.run(),
        }
    }
}

/// add a user; reads the password from the terminal, twice
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "add", help_triggers("-h", "--help"))]
struct AddArgs {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// the name of the user
    #[argh(positional, from_str_fn(values::user))]
    user: String,

    /// read the password from the first line of standard input
    #[argh(switch)]
    password_stdin: bool,

    /// make the running server of the home reload it, and wait for the result
    #[argh(switch)]
    reload: bool,

    /// the run directory of that server (default: TIDEGATE_RUN_DIR, or else the home)
    #[argh(option, arg_name = "dir", from_str_fn(values::directory_path))]
    run_dir: Option<PathBuf>,

    /// a pid file of that server, to signal it instead; the result is in its log
    #[argh(option, arg_name = "file")]
    pid_file: Option<PathBuf>,
}

impl AddArgs {
    fn run(self) -> Result<ExitCode, Failure> {
        let reload = ReloadRequest::new(
            &self.home,
            ReloadOptions {
                reload: self.reload,
                run_dir: self.run_dir,
                pid_file: self.pid_file,
            },
            "tidegate user add",
        )?;
        // Checked before the password is read, and again by the edit.
        let (home, _) = Home::load(&self.home)?;
        if home.account(&self.user).is_some() {
            return Err(EditError::UserExists(self.user).into());
        }
        let new = new_password(&self.user, self.password_stdin)?;
        edit::add_user(&self.home, &self.user, &hash_password(&new))?;
        reload.run()
    }
}

/// change the password of a user; reads it from the terminal, twice
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "passwd", help_triggers("-h", "--help"))]
struct PasswdArgs {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// the name of the user
    #[argh(positional, from_str_fn(values::user))]
    user: String,

    /// read the password from the first line of standard input
    #[argh(switch)]
    password_stdin: bool,

    /// make the running server of the home reload it, and wait for the result
    #[argh(switch)]
    reload: bool,

    /// the run directory of that server (default: TIDEGATE_RUN_DIR, or else the home)
    #[argh(option, arg_name = "dir", from_str_fn(values::directory_path))]
    run_dir: Option<PathBuf>,

    /// a pid file of that server, to signal it instead; the result is in its log
    #[argh(option, arg_name = "file")]
    pid_file: Option<PathBuf>,
}

impl PasswdArgs {
    fn run(self) -> Result<ExitCode, Failure> {
        let reload = ReloadRequest::new(
            &self.home,
            ReloadOptions {
                reload: self.reload,
                run_dir: self.run_dir,
                pid_file: self.pid_file,
            },
            "tidegate user passwd",
        )?;
        let (home, _) = Home::load(&self.home)?;
        if home.account(&self.user).is_none() {
            let users = home.accounts().map(|account| account.user.as_str());
            return Err(EditError::no_such_user(&self.home, &self.user, users).into());
        }
        let new = new_password(&self.user, self.password_stdin)?;
        edit::set_hash(&self.home, &self.user, &hash_password(&new))?;
        reload.run()
    }
}

/// remove a user with the user's grants and limits
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "remove", help_triggers("-h", "--help"))]
struct RemoveArgs {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// the name of the user
    #[argh(positional, from_str_fn(values::user))]
    user: String,

    /// make the running server of the home reload it, and wait for the result
    #[argh(switch)]
    reload: bool,

    /// the run directory of that server (default: TIDEGATE_RUN_DIR, or else the home)
    #[argh(option, arg_name = "dir", from_str_fn(values::directory_path))]
    run_dir: Option<PathBuf>,

    /// a pid file of that server, to signal it instead; the result is in its log
    #[argh(option, arg_name = "file")]
    pid_file: Option<PathBuf>,
}

impl RemoveArgs {
    fn run(self) -> Result<ExitCode, Failure> {
        let reload = ReloadRequest::new(
            &self.home,
            ReloadOptions {
                reload: self.reload,
                run_dir: self.run_dir,
                pid_file: self.pid_file,
            },
            "tidegate user remove",
        )?;
        edit::remove_user(&self.home, &self.user)?;
        reload.run()
    }
}

/// list the users with their directories, rights and limits, one per line
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"))]
struct ListArgs {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,
}

impl ListArgs {
    fn run(self) -> Result<ExitCode, Failure> {
        let (home, warnings) = Home::load(&self.home)?;
        let mut text = String::new();
        for account in home.accounts() {
            let _ = writeln!(text, "{}", describe(&home, &account.user));
        }
        let result = print(&text);
        warnings.iter().for_each(|warning| warn(warning));
        result
    }
}

/// Formats a user with directories, rights and limits.
fn describe(home: &Home, user: &str) -> String {
    let access = home.access(user);
    let grants = access.iter().flat_map(|access| &access.grants);
    let grants: Vec<String> = grants
        .map(|grant| format!("{} ({})", grant.name, grant.rights))
        .collect();
    let grants = match &grants[..] {
        [] => "no directories".to_owned(),
        grants => grants.join(", "),
    };
    match home.limits(user) {
        limits if limits == UserLimits::default() => format!("{user}: {grants}"),
        limits => format!("{user}: {grants}; {limits}"),
    }
}

/// replace plain passwords by hashes
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "hash", help_triggers("-h", "--help"))]
struct HashArgs {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// make the running server of the home reload it, and wait for the result
    #[argh(switch)]
    reload: bool,

    /// the run directory of that server (default: TIDEGATE_RUN_DIR, or else the home)
    #[argh(option, arg_name = "dir", from_str_fn(values::directory_path))]
    run_dir: Option<PathBuf>,

    /// a pid file of that server, to signal it instead; the result is in its log
    #[argh(option, arg_name = "file")]
    pid_file: Option<PathBuf>,
}

impl HashArgs {
    fn run(self) -> Result<ExitCode, Failure> {
        let reload = ReloadRequest::new(
            &self.home,
            ReloadOptions {
                reload: self.reload,
                run_dir: self.run_dir,
                pid_file: self.pid_file,
            },
            "tidegate user hash",
        )?;
        let count = edit::hash_plain(&self.home, hash_password)?;
        print(&format!("passwords hashed: {count}\n"))?;
        reload.run()
    }
}
