//! The integration tests: one binary, so that it is linked once.

mod accounts;
mod architecture;
mod attacks;
#[cfg(feature = "client")]
mod client;
mod dialogues;
mod downloads;
mod ftp;
mod ftp_data;
mod ftp_dialogue;
mod ftp_seeds;
mod house;
mod life;
mod limits;
mod logs;
mod menu_client;
mod menu_seeds;
mod model;
mod needs;
mod netcat;
mod random;
mod sandbox;
mod simulation;
mod sockets;
mod supervision;
mod support;
mod tidy;
mod uploads;
mod world;
