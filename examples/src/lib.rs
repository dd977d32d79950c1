//! What the example programs share: captures of real engines and how they are replayed, simulated demos, and
//! the comparison of policies.

pub mod capture;
pub mod lab;
pub mod recorded;
pub mod replay;
pub mod simulated;
