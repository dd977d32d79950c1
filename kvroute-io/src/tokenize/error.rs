//! What can go wrong between a request and its token ids.

use std::fmt;

use super::Untokenized;

/// What went wrong and where: the message names the file, the field of the request (`messages[3].content`) or the
/// line of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// Groups of errors a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file of the tokenizer that cannot be read or is not what it should be; an option out of range.
    Tokenizer,
    /// A request that the engine would refuse as well: not JSON, a field missing or of the wrong type.
    Request,
    /// The chat template does not compile, or refuses this conversation, as it would in the engine.
    Template,
    /// A bound of [`TokenizerOptions`](super::TokenizerOptions) was reached: a template that runs for too long, a
    /// text or a request that is too large.
    Limit,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(super) fn tokenizer(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Tokenizer, message)
    }

    pub(super) fn request(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Request, message)
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

impl std::error::Error for Error {}

/// Why a request has no token ids: it is refused, or they cannot be known here.
#[derive(Debug)]
pub(super) enum Failure {
    /// An engine would refuse it too.
    Error(Error),
    /// An engine would not, but what it computes is not known here.
    Untokenized(Untokenized),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Untokenized> for Failure {
    fn from(reason: Untokenized) -> Self {
        Self::Untokenized(reason)
    }
}
