//! What several routers share, over Redis or Valkey.
//!
//! Everything here goes on in tasks of its own. No decision waits for it: what is shared is applied to the router as it
//! comes, and where it does not come, the router decides by what it knows itself.

pub mod connection;
pub mod index;
