//! Metrics of the `prometheus` crate, made by their descriptions.

use prometheus::{
    CounterVec, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

use crate::metric::Desc;

/// A registry to which metrics are added as they are made.
pub(super) struct Register<'a>(&'a Registry);

impl<'a> Register<'a> {
    pub(super) fn of(registry: &'a Registry) -> Self {
        Self(registry)
    }

    pub(super) fn gauges(&self, desc: &Desc) -> Result<GaugeVec, prometheus::Error> {
        self.add(GaugeVec::new(opts(desc), desc.labels)?)
    }

    pub(super) fn gauge(&self, desc: &Desc) -> Result<Gauge, prometheus::Error> {
        self.add(Gauge::with_opts(opts(desc))?)
    }

    pub(super) fn int_gauges(&self, desc: &Desc) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(opts(desc), desc.labels)?)
    }

    pub(super) fn int_gauge(&self, desc: &Desc) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::with_opts(opts(desc))?)
    }

    pub(super) fn counters(&self, desc: &Desc) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(opts(desc), desc.labels)?)
    }

    pub(super) fn float_counters(&self, desc: &Desc) -> Result<CounterVec, prometheus::Error> {
        self.add(CounterVec::new(opts(desc), desc.labels)?)
    }

    pub(super) fn counter(&self, desc: &Desc) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::with_opts(opts(desc))?)
    }

    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
}

fn opts(desc: &Desc) -> Opts {
    Opts::new(desc.name, desc.help)
}
