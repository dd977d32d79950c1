//! Subscriptions, against publishers that come late, lose, restart, hang and lie. What a router knows in the end
//! is compared with one that was given the same batches directly, or with the engine's own answers.

mod gaps;
mod hostile;
mod publisher;
mod pyzmq;
mod restarts;
mod scale;
mod shared;
mod support;
