//! What a scrape of a running Podmeter says.

use podmeter_tests::{exporter::Exporter, http};

/// Its text.
pub(super) struct Page(pub(super) String);

impl Page {
    pub(super) fn of(exporter: &Exporter) -> Self {
        Self::at(&exporter.url("/metrics"))
    }

    pub(super) fn at(url: &str) -> Self {
        Self(http::get(url, &[]).text().to_owned())
    }

    /// The lines of a family that have these labels, and maybe others.
    pub(super) fn lines(&self, family: &str, labels: &[(&str, &str)]) -> Vec<&str> {
        let has = |line: &&str| {
            line.starts_with(&format!("{family}{{"))
                && labels.iter().all(|(name, value)| line.contains(&format!("{name}=\"{value}\"")))
        };
        self.0.lines().filter(has).collect()
    }

    pub(super) fn number(&self, family: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let line = self.lines(family, labels).into_iter().next()?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// The number of a family that has one series without labels.
    pub(super) fn bare(&self, family: &str) -> Option<f64> {
        let line = self.0.lines().find(|line| line.starts_with(&format!("{family} ")))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Whether that is how it stands with the API.
    pub(super) fn is(&self, state: &str) -> bool {
        self.number("podmeter_kubernetes_state", &[("state", state)]) == Some(1.0)
    }
}
