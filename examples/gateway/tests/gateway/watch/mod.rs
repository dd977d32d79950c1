//! What people see: metrics, dashboard, status page, traces; in front of simulated engines that publish real events.

mod browser;
mod collector;
mod dashboard;
mod load;
mod metrics;
mod page;
mod prometheus;
mod sim_pod;
mod traces;

pub(crate) use load::fleet;
pub(crate) use sim_pod::SimPod;
