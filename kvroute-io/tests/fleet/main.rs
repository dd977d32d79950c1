//! A fleet, against pods that answer as real ones did, hang, lie, go and come back.

mod documents;
mod kubernetes;
mod learning;
mod life;
mod scale;
mod standalone;
mod streams;
mod support;
