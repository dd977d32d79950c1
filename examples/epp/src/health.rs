//! gRPC health: what probes and load balancers ask.

use std::sync::Arc;
use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::picker::Picker;
use crate::server::EXTERNAL_PROCESSOR;

/// The process answers at all (Endpoint Picker Protocol, "Health Check Services").
const LIVENESS: &str = "liveness";
/// Requests can be taken.
const READINESS: &str = "readiness";

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(200);

/// Keeps what is reported true, for ever.
pub(crate) async fn report(picker: Arc<Picker>, reporter: HealthReporter) {
    reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
    let mut reported = None;
    loop {
        let is_ready = picker.is_ready();
        if reported != Some(is_ready) {
            reported = Some(is_ready);
            let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            // The one without a name is what is asked for where no name is configured.
            for service in ["", READINESS, EXTERNAL_PROCESSOR] {
                reporter.set_service_status(service, status).await;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
