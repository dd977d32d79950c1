//! Generated workloads for the benchmarks.
