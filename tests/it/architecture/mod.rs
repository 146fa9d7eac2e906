//! Rules of the source tree: the direction of imports, sizes, words confined to one layer, names of
//! tests, line lengths, and links in the documentation.
//!
//! Unit tests inside `src/` are exempt from the rules about imports and words.

mod documents;
mod imports;
mod prose;
mod sizes;
mod sources;
mod test_names;
mod words;
