//! The kernel as it is: mio, nix, memmap2, and the only `unsafe` of the house.
