//! The one error type of the crate.

use alloc::string::String;
use core::fmt;

/// What went wrong and where. Every message names the offending thing; nothing was changed when an
/// error is returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// Groups of errors a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or option is out of range, of the wrong shape, or contradicts another.
    InvalidInput,
    /// Bytes of an engine or of a snapshot that are not the format they should be.
    Decode,
    /// A block hash that cannot be reproduced outside the engine.
    NotReproducible,
    /// A pod, or a cache domain, that this router does not know.
    UnknownPod,
    /// Every pod was dropped by a filter, or there is none.
    NoCandidate,
    /// A configured bound was reached.
    Limit,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// The group this error belongs to.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for Error {}
