//! The gateway in front of fake pods, through real sockets.

mod client;
mod disaggregated;
mod limits;
mod pod;
mod retries;
mod routing;
mod running;
mod setup;
mod streaming;
mod watch;
