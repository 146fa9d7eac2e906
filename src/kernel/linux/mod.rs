//! The Linux kernel, through mio, nix and memmap2.

mod attributes;
mod call_timer;
pub mod external;
mod ffi;
mod file;
mod kernel_impl;
mod mounts;
mod poll;
mod socket;
mod unnamed_files;

pub use crate::kernel::linux::ffi::{
    Map, add_landlock_rule, end_by_broken_pipe, own_inherited, receive_descriptors,
};
pub use crate::kernel::linux::file::{File, is_local};
pub use crate::kernel::linux::kernel_impl::{Linux, raise_descriptor_limit};

#[cfg(test)]
mod tests;
