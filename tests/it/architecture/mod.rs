//! The rules of the source tree, checked on the sources themselves: direction of imports, sizes, words that are confined to
//! one layer, line length, links in the documentation.
//!
//! Unit tests inside `src/` are exempt from the rules about imports and words.

mod documents;
mod imports;
mod prose;
mod sizes;
mod sources;
mod test_names;
mod words;
