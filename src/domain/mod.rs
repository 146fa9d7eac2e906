//! The vocabulary shared by all layers. No I/O, and no imports from other layers except limits.

pub mod access;
pub mod byte_size;
pub mod error;
pub mod glob;
pub mod io_reason;
pub mod listing;
pub mod name;
pub mod path;
pub mod quota;
pub mod reload_report;
pub mod request;
pub mod step;
pub mod suggestion;
pub mod user_limits;
