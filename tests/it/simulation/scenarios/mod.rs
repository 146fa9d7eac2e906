//! Sequences of events in which defects were found and that random seeds rarely reach.

mod devices;
mod passive_ports;
mod run_queue;
mod sessions;
mod stage;
mod uploads;
