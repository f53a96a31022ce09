//! Counters, as Prometheus reads them (text format 0.0.4).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a server has done since it started.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Answers by the first digit of their status.
    answers: [AtomicU64; 6],
    microseconds: AtomicU64,
    bytes: AtomicU64,
    damaged: AtomicU64,
    open: AtomicU64,
    turned_away: AtomicU64,
}

impl Metrics {
    /// A request is over.
    pub fn answered(&self, status: u16, took: Duration) {
        add(&self.answers[usize::from(status / 100).min(5)], 1);
        add(&self.microseconds, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Bytes of a body were sent.
    pub fn sent(&self, bytes: u64) {
        add(&self.bytes, bytes);
    }

    /// A blob was not what its digest says.
    pub fn damaged(&self) {
        add(&self.damaged, 1);
    }

    /// A connection came.
    pub fn connected(&self) {
        add(&self.open, 1);
    }

    /// A connection is over.
    pub fn disconnected(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection was one too many of its address.
    pub fn turned_away(&self) {
        add(&self.turned_away, 1);
    }

    /// All of them.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, about: &str, values: &[(&str, f64)]| {
            let _ = write!(text, "# HELP pannier_{name} {about}\n# TYPE pannier_{name} {kind}\n");
            for (labels, value) in values {
                let _ = writeln!(text, "pannier_{name}{labels} {value}");
            }
        };
        let answers: Vec<(String, f64)> =
            (2..6).map(|class| (format!("{{code=\"{class}xx\"}}"), get(&self.answers[class]))).collect();
        let answers: Vec<(&str, f64)> = answers.iter().map(|(label, n)| (label.as_str(), *n)).collect();
        metric("requests_total", "counter", "Requests that were answered.", &answers);
        let seconds = get(&self.microseconds) / 1e6;
        metric("request_seconds_total", "counter", "Time that answers took, together.", &[("", seconds)]);
        metric("sent_bytes_total", "counter", "Bytes of bodies that were sent.", &[("", get(&self.bytes))]);
        let about = "Bodies that were cut off, or not sent, since they were not what their digest says.";
        metric("damaged_total", "counter", about, &[("", get(&self.damaged))]);
        metric("connections", "gauge", "Connections that are open.", &[("", get(&self.open))]);
        let about = "Connections that were closed at once, since their address had too many.";
        metric("turned_away_total", "counter", about, &[("", get(&self.turned_away))]);
        text
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_written_with_their_kind() {
        let metrics = Metrics::default();
        metrics.answered(206, Duration::from_millis(500));
        metrics.answered(404, Duration::ZERO);
        metrics.sent(7);
        let text = metrics.text();
        for line in [
            "# TYPE pannier_requests_total counter",
            "pannier_requests_total{code=\"2xx\"} 1",
            "pannier_requests_total{code=\"4xx\"} 1",
            "pannier_request_seconds_total 0.5",
            "pannier_sent_bytes_total 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
