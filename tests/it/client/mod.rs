//! The client commands, run as a program.

mod connect;
mod help;
mod hostile;
mod interrupted;
mod listings;
mod mistakes;
mod relay;
mod replies;
mod run;
mod scripted_server;
mod terminal;
mod transfers;
