//! What an encoding must be able to write so that a block can be hashed over it.

/// Writes the objects of a pre-image, one after the other. The names are Python's, because the
/// pre-images are vLLM's.
pub(super) trait Preimage {
    fn null(&mut self);
    fn unsigned(&mut self, number: u64);
    fn signed(&mut self, number: i64);
    fn bytes(&mut self, bytes: &[u8]);
    fn text(&mut self, text: &str);
    /// A string literal of vLLM's source: one object wherever it occurs.
    fn constant(&mut self, text: &'static str);
    /// Begins a tuple of `len` items; [`close`](Self::close) ends it.
    fn open(&mut self, len: usize);
    /// Ends a tuple of `len` items.
    fn close(&mut self, len: usize);
}
