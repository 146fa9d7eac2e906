//! The commands that edit a home, run as a program.

mod commands;
mod crashes;
mod edited_home;
mod mistakes;
mod refusals;
mod reload;
mod terminal;
