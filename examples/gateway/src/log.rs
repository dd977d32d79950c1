//! The log on standard error.

use std::io::IsTerminal;

use kvroute_core::Error;
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat, invalid};

/// Starts to write it, for the whole process; to be called once.
///
/// # Errors
///
/// If its filter cannot be read.
pub fn start(config: &LogConfig) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&config.filter);
    let filter = filter.map_err(|error| invalid(format!("gateway.log.filter: {error}")))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
