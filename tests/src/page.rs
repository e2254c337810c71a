//! Questions to a page that Podmeter made, inside this process.

use std::sync::Arc;

use podmeter::{
    agent::Agent,
    config::Config,
    metric::{Histogram, Value},
    page::Page,
};
use tokio::runtime::{Builder, Runtime};

/// An agent as `podmeter run` has it, without the server.
pub struct TestAgent {
    runtime: Runtime,
    agent: Arc<Agent>,
}

/// A page, to be asked for values.
#[derive(Debug)]
pub struct TestPage(Arc<Page>);

impl TestAgent {
    /// Starts one with the configuration.
    #[must_use]
    pub fn start(config: &Config) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("the runtime starts");
        let agent = {
            let _entered = runtime.enter();
            Agent::start(config).expect("the agent starts")
        };
        Self { runtime, agent }
    }

    /// Collects a page.
    #[must_use]
    pub fn collect(&self) -> TestPage {
        TestPage(self.runtime.block_on(self.agent.collect()).expect("there is a page"))
    }
}

impl TestPage {
    /// The value of the one series of a family that has these labels, and maybe others.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<&Value> {
        let family = self.0.families().iter().find(|family| family.desc.name == name)?;
        let has_all = |series: &&podmeter::page::Series| {
            labels.iter().all(|(name, value)| series.labels.get(name) == Some(value))
        };
        let mut found = family.series.iter().filter(has_all);
        let first = found.next()?;
        assert!(found.next().is_none(), "{name} has more than one series with {labels:?}");
        Some(&first.value)
    }

    /// A counter or gauge.
    #[must_use]
    pub fn number(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        match self.value(name, labels)? {
            Value::Number(number) => Some(*number),
            Value::Histogram(_) => panic!("{name} is a histogram"),
        }
    }

    /// A histogram.
    #[must_use]
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Option<&Histogram> {
        match self.value(name, labels)? {
            Value::Histogram(histogram) => Some(histogram),
            Value::Number(_) => panic!("{name} is no histogram"),
        }
    }
}
