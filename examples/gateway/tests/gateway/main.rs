//! The gateway in front of fake pods, through real sockets.

mod client;
mod limits;
mod pod;
mod retries;
mod setup;
mod streaming;
