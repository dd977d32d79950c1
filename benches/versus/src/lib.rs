//! kvroute beside other prefix indexes, on the same work: what `cargo versus` runs.
//!
//! A run is a [`workload`] for one [`subject`], once, in a process of its own ([`child`]); the [`parent`] starts one
//! after the other, subjects in turn, several times over, and makes [`row`]s of the medians. [`change`] is what the
//! workloads are made of, [`measure`] how they are timed.
//!
//! Where subjects do not do the same, `subject::DIFFERENCES` says so, and it is printed under every table.

pub mod change;
pub mod child;
pub mod headline;
pub mod measure;
pub mod options;
pub mod parent;
pub mod record;
pub mod row;
pub mod subject;
pub mod table;
pub mod workload;
