//! What the example programs share: captures of real engines and how they are replayed, simulated demos, the
//! comparison of policies, and decision logs under other policies.

pub mod capture;
pub mod lab;
pub mod live;
pub mod recorded;
pub mod replay;
pub mod simulated;
pub mod whatif;
