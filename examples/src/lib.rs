//! What the example programs share: reading captures of real engines and replaying them.

pub mod capture;
pub mod recorded;
pub mod replay;
pub mod simulated;
