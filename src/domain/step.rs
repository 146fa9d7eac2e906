//! Work that is done in slices.

/// The result of one slice of work that gives way to other work between slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// The slice is complete and more work is left: call again.
    More,
    /// All of the work is done.
    Done(T),
}
