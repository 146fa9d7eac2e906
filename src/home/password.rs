//! Passwords: PHC hashes made and proved, and what was proved lately. The only file that handles them.
