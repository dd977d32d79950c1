//! Subscriptions to the engines' KV events over ZeroMQ.
