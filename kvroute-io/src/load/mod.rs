//! Load reports from the engines' `/metrics`.
//!
//! [`Metrics::parse`] reads a page of vLLM, SGLang, TensorRT-LLM or Triton and takes what a router needs of it;
//! [`Scraper`] fetches pages with bounds on time, size and number; [`phase`] spreads them over the interval. Who asks
//! when is [`fleet`](crate::fleet)'s business.

mod metrics;
mod scrape;
mod text;

pub use metrics::{AdapterUse, CacheInfo, CacheUse, Engine, Metrics, RankMetrics};
pub use scrape::{ScrapeError, Scraper, phase};
