//! A router with everything that feeds it.
