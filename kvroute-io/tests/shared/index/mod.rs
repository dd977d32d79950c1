//! The shared index: what a reader is told is what the writer's index would answer; and when Redis is gone, nothing at
//! once.

mod exactness;
mod failures;
mod llmd;
mod measure;
mod support;
