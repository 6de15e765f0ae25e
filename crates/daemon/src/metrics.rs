//! The process's Prometheus registry.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// A handle on what the `metrics` macros recorded. Install it only where [`crate::serve_http`] serves it: without a recorder
/// the macros cost nothing, with one that is never read histograms grow.
#[derive(Clone, Debug)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Makes this process's recorder, or returns the one it has.
    pub fn install() -> Self {
        static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();
        let install = || {
            let recorder = recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("another metrics recorder is installed; /metrics will be empty");
            }
            handle
        };
        Self {
            handle: INSTALLED.get_or_init(install).clone(),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(recorder: &PrometheusRecorder) -> Self {
        Self {
            handle: recorder.handle(),
        }
    }

    /// Everything, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds what was recorded into the buckets; needed now and then even if nobody scrapes.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

pub(crate) fn recorder() -> PrometheusRecorder {
    PrometheusBuilder::new()
        .set_buckets(&BUCKETS)
        .expect("there are buckets")
        .build_recorder()
}

/// Seconds, from a warm fetch to a TLS handshake that fails.
const BUCKETS: [f64; 12] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0,
];
