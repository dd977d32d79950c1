//! Subscriptions to the engines' KV events over ZeroMQ.
//!
//! Data in: what engines publish (vLLM 0.9 and later, SGLang 0.4.10 and later: `[topic, number, payload]`). Data out:
//! batches applied to a [`Router`](kvroute_core::Router), complete and in order, or a view that was dropped because
//! it could not be kept so.
//!
//! - A [`Subscriber`] owns a few threads; each polls the sockets of many pods.
//! - A [`Stream`] is one pod's: where its batches come from, and where lost ones can be asked for again.
//!   Engines bind and we connect, or the other way round; then many pods share one bound endpoint and are told apart
//!   by topic.
//! - Whenever batches may be missing (a late start, a gap in the numbers, a new connection, an overflow) they are asked
//!   for at the engine's replay socket, from the last applied one on: that its bytes are the same tells that the
//!   engine did not restart. What is published meanwhile is held in a bounded queue. What cannot be replayed costs the
//!   pod's view: lost removals would credit it for ever.
//! - Overflow rule: what does not fit into the queue is dropped, the newest first, counted, and asked for again as soon
//!   as the replay under way has ended.
//! - [`Subscriber::status`] tells lag and loss as numbers; nothing is dropped without being counted there or in the
//!   router's own counters.
//!
//! Publishers are not trusted: messages that are too large, malformed, or of an unknown topic are counted and
//! cost their own pod at most. One thing libzmq does not bound: a peer that sends frames of one message without end
//! fills memory at the rate at which it sends.

mod follower;
mod message;
mod options;
mod replay;
mod rooms;
mod status;
mod stream;
mod subscriber;
mod subscription;
mod worker;

pub use options::SubscriberOptions;
pub use status::{EndpointStatus, StreamCounters, StreamStatus, SubscriberStatus};
pub use stream::{Mode, Stream, SubscribeError, rank_endpoint};
pub use subscriber::Subscriber;
