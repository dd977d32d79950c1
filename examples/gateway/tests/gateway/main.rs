//! The gateway in front of fake pods, through real sockets.

mod captures;
mod chaos;
mod client;
mod demo;
mod deploy;
mod disaggregated;
mod limits;
mod pod;
mod retries;
mod routing;
mod running;
mod setup;
mod shared;
mod shared_index;
mod streaming;
mod watch;
